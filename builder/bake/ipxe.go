package bake

import (
	"strings"

	"github.com/kiln-os/kiln/internal/nodefs"
)

// ipxeRoot is the root's URL in boot.ipxe: that of the script's own directory.
const ipxeRoot = "${kiln-url}" + nodefs.LiveRoot

// ipxe is a script for iPXE. It loads everything from where it was itself loaded from, so a copied directory works
// anywhere; who chains it may set kiln-url to another place, and kiln-args to further kernel arguments.
func ipxe(version, commandLine string) string {
	return strings.NewReplacer("VERSION", version, "COMMANDLINE", commandLine, "KERNEL", FileKernel, "INITRAMFS", FileInitramfs).Replace(`#!ipxe
# kiln VERSION, live. Serve the directory of this file by HTTP and chain it. A script that chains it may set
#   kiln-args  further kernel arguments, as in: set kiln-args ip=dhcp kiln.identity=http://10.0.0.1/identity.yaml
#   kiln-url   the directory with the other files, ending in /, when this one comes from elsewhere (by TFTP, say)
isset ${kiln-url} || set kiln-url ${cwduri}
echo Starting kiln VERSION from ${kiln-url}
kernel ${kiln-url}KERNEL initrd=INITRAMFS COMMANDLINE ${kiln-args} || goto failed
initrd --name INITRAMFS ${kiln-url}INITRAMFS || goto failed
boot || goto failed
:failed
echo kiln could not be started from ${kiln-url}; starting again in a minute
sleep 60
reboot
`)
}

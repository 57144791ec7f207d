package profile

import (
	"path"
	"strings"

	"github.com/kiln-os/kiln/internal/document"
)

// hidden are the directories that something is mounted over on a running node: a file baked there would never be seen.
var hidden = map[string]string{
	"/var":  "the state partition is mounted there; let tmpfiles.d make it, with a file below /usr/lib/tmpfiles.d",
	"/run":  "it is empty at every boot; let tmpfiles.d make it, with a file below /usr/lib/tmpfiles.d",
	"/tmp":  "it is empty at every boot; put the file below /usr",
	"/dev":  "devices appear there; put the file below /usr",
	"/proc": "the kernel's files appear there; put the file below /usr",
	"/sys":  "the kernel's files appear there; put the file below /usr",
	"/boot": "the boot loader's files are made by the build; put the file below /usr",
}

func checkFiles(p *document.Problems, files map[string]string) {
	for _, name := range sortedKeys(files) {
		field := "files." + name
		first, _, nested := strings.Cut(strings.TrimPrefix(name, "/"), "/")
		switch why, bad := hidden["/"+first]; {
		case !path.IsAbs(name) || path.Clean(name) != name || !nested:
			p.Add(field, "is not a plain absolute path of a file; want one as in /etc/sysctl.d/90-node.conf")
		case bad:
			p.Add(field, "lies below /%s: %s", first, why)
		case first != "etc" && first != "usr" && first != "opt" && first != "srv":
			p.Add(field, "lies outside the image's tree; want a path below /etc, /usr, /opt or /srv")
		case strings.HasPrefix(name, "/usr/lib/kiln/"):
			p.Add(field, "lies below /usr/lib/kiln, which belongs to the build; put the file elsewhere below /usr")
		}
	}
	for _, name := range sortedKeys(files) {
		for dir := path.Dir(name); dir != "/" && dir != "."; dir = path.Dir(dir) {
			if _, both := files[dir]; both {
				p.Add("files."+name, "lies below %s, which is a file too; rename one of them", dir)
			}
		}
	}
}

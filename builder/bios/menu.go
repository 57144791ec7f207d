package bios

import (
	"fmt"
	"slices"
	"strings"
)

// Entry is one line of GRUB's menu.
type Entry struct {
	// Title is shown; no apostrophe.
	Title string
	// Kernel and Initramfs are paths from the root of the filesystem that GRUB was started from.
	Kernel, Initramfs string
	// CommandLine is the kernel's. GRUB puts BOOT_IMAGE=PATH before it.
	CommandLine string
}

// Menu renders grub.cfg. The first entry is started at once, the next when that cannot be loaded, and after all of them the
// machine starts again. Holding shift shows the menu, where nothing can be edited: nobody has the password of a user that
// does not exist. That keeps the root hash in the command line what the build made it.
func Menu(entries []Entry) string {
	var out strings.Builder
	out.WriteString("# Written by kiln. Updates replace this file whole.\nset superusers=nobody\nexport superusers\nset default=0\nset timeout=0\nset gfxpayload=text\n")
	if baud := serialSpeed(entries); baud != "" {
		// A machine without such a port goes on with its screen alone.
		fmt.Fprintf(&out, "if serial --unit=0 --speed=%s; then\n  terminal_input console serial\n  terminal_output console serial\nfi\n", baud)
	}
	var fallback []string
	for i := range entries {
		fallback = append(fallback, fmt.Sprint(i+1))
	}
	fmt.Fprintf(&out, "set fallback='%s'\n", strings.Join(fallback, " "))
	for _, e := range entries {
		fmt.Fprintf(&out, "menuentry '%s' --unrestricted {\n  echo 'Starting %s ...'\n  linux %s %s\n  initrd %s\n}\n", e.Title, e.Title, e.Kernel, quoted(e.CommandLine), e.Initramfs)
	}
	out.WriteString("menuentry 'Start the machine again' --unrestricted {\n  echo 'Nothing could be started; starting again in a minute.'\n  sleep 60\n  reboot\n}\n")
	return out.String()
}

// quoted protects each argument from GRUB, which would replace $ and end a command at ; or {.
func quoted(commandLine string) string {
	var words []string
	for _, word := range strings.Fields(commandLine) {
		words = append(words, "'"+strings.ReplaceAll(word, "'", `'\''`)+"'")
	}
	return strings.Join(words, " ")
}

// serialSpeed is the speed of the first serial port when a kernel of the menu writes to it, "" when none does.
func serialSpeed(entries []Entry) string {
	for _, e := range entries {
		for word := range strings.FieldsSeq(e.CommandLine) {
			options, ok := strings.CutPrefix(word, "console=ttyS0")
			if !ok || options != "" && options[0] != ',' {
				continue
			}
			speed := strings.TrimLeft(options, ",")
			if end := strings.IndexFunc(speed, func(r rune) bool { return r < '0' || r > '9' }); end >= 0 {
				speed = speed[:end]
			}
			// What the kernel takes when nothing is said, and what GRUB's serial ports do.
			if !slices.Contains([]string{"9600", "19200", "38400", "57600", "115200"}, speed) {
				speed = "9600"
			}
			return speed
		}
	}
	return ""
}

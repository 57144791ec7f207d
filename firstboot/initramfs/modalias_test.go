package initramfs

import (
	"reflect"
	"testing"
)

func TestMatchAlias(t *testing.T) {
	for _, c := range []struct {
		pattern, text string
		want          bool
	}{
		{"virtio:d00000002v*", "virtio:d00000002v00001AF4", true},
		{"virtio:d00000002v*", "virtio:d00000008v00001AF4", false},
		{"pci:v*d*sv*sd*bc01sc06i01*", "pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01", true},
		{"pci:v*d*sv*sd*bc01sc06i01*", "pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i02", false},
		{"scsi:t-0x00*", "scsi:t-0x00", true},
		{"scsi:t_0x00*", "scsi:t-0x00", true}, // - and _ are the same
		{"cpu:type:x86,ven*fam*mod*:feature:*0089*", "cpu:type:x86,ven0000fam0006mod003A:feature:,0000,0089,009C", true},
		{"usb:v0[1-3]*", "usb:v02p", true},
		{"usb:v0[1-3]*", "usb:v04p", false},
		{"usb:v0[!1-3]*", "usb:v04p", true},
		{"usb:v0[!1-3]*", "usb:v02p", false},
		{"a[-_]c", "a-c", true},
		{"of:N*T*Cvendor,x/y", "of:NaTbCvendor,x/y", true},
		{"*a*b", "xxaxxbxxab", true}, // a star gives way more than once
		{"*a*b", "xxaxxbx", false},
		{"a?c", "abc", true},
		{"a?c", "ac", false},
		{"", "", true},
		{"", "a", false},
		{"***", "", true},
		{"ab", "a", false},
		{"a[b", "a[b", true}, // a bracket that is never closed stands for itself
	} {
		if got := matchAlias(c.pattern, c.text); got != c.want {
			t.Errorf("matchAlias(%q, %q) = %v", c.pattern, c.text, got)
		}
	}
}

func TestModulesFor(t *testing.T) {
	aliases := parseAliases(`# Aliases extracted from modules themselves.
alias pci:v00008086d*sv*sd*bc01sc06i01* ahci
alias pci:v*d*sv*sd*bc01sc06i01* ahci
alias pci:v*d*sv*sd*bc01* generic
broken line
alias fs-squashfs squashfs
`)
	got := modulesFor(aliases, "pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01")
	if want := []string{"ahci", "generic"}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := modulesFor(aliases, "acpi:PNP0303:"); got != nil {
		t.Errorf("a device that no module drives got %v", got)
	}
}

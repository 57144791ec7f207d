package plan_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/kiln-os/kiln/builder/plan"
)

func TestFirmware(t *testing.T) {
	for _, row := range []struct {
		format, firmware string
		starts           []string
		want             string
	}{
		{"disk", "", []string{"uefi"}, ""},
		{"disk", "firmware: [uefi]", []string{"uefi"}, ""},
		{"pxe", "firmware: [uefi, bios]", []string{"uefi", "bios"}, ""},
		{"iso", "firmware: [bios, uefi]", []string{"bios", "uefi"}, ""},
		{"disk", "firmware: [bios]", nil, "i.yaml: firmware: has no uefi, which every image starts from; want [uefi] or [uefi, bios]"},
		{"disk", "firmware: [uefi, coreboot]", nil, `i.yaml: firmware[1]: unknown "coreboot"; want uefi or bios`},
		{"disk", "firmware: [uefi, bios, uefi]", nil, "i.yaml: firmware[2]: uefi is there already; leave it out"},
		{"iso", "", nil, "i.yaml: firmware: an ISO image starts from both kinds of firmware; want [uefi, bios]"},
	} {
		t.Run(row.format+" "+row.firmware, func(t *testing.T) {
			text := strings.NewReplacer("platform: qemu", "platform: metal", "format: disk", "format: "+row.format+"\n"+row.firmware).Replace(imageText)
			image, err := plan.ParseImage("i.yaml", []byte(text))
			if row.want != "" {
				if err == nil || err.Error() != row.want {
					t.Errorf("error is %v\nwant %s", err, row.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(image.Starts(), row.starts) || image.BIOS() != slices.Contains(row.starts, "bios") || image.Live() != (row.format != "disk") {
				t.Errorf("starts %v, BIOS %v, live %v", image.Starts(), image.BIOS(), image.Live())
			}
		})
	}
}

// What a live system is told beside a disk's own arguments.
func TestLiveCommandLine(t *testing.T) {
	p := plan.Plan{Image: plan.Image{Platform: "metal", KernelArguments: []string{"quiet"}}}
	if got, want := p.LiveCommandLine("ab", "medium", "cd"), p.CommandLine("ab")+" kiln.root=medium kiln.install.sha256=cd"; got != want {
		t.Errorf("command line is %q; want %q", got, want)
	}
}

// An image may not say itself where its root is, or what the installer may trust.
func TestLiveArgumentsAreTheBuilds(t *testing.T) {
	for _, argument := range []string{"kiln.root=medium", "kiln.install.sha256=00"} {
		text := strings.Replace(imageText, "kind: Image", "kind: Image\nkernelArguments: ["+argument+"]", 1)
		if strings.Contains(imageText, "kernelArguments:") {
			text = strings.Replace(imageText, "kernelArguments:", "kernelArguments: ["+argument+"]\n#", 1)
		}
		if _, err := plan.ParseImage("i.yaml", []byte(text)); err == nil || !strings.Contains(err.Error(), "is not an image's to set") {
			t.Errorf("%s: error is %v", argument, err)
		}
	}
}

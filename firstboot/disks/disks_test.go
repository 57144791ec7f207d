package disks

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// tree writes files below a directory; a value that begins with "-> " is a link.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		target, isLink := strings.CutPrefix(text, "-> ")
		var err error
		if isLink {
			err = os.Symlink(target, path)
		} else {
			err = os.WriteFile(path, []byte(text), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// What the kernel shows of a virtio disk, a SATA disk, an NVMe disk, a USB stick and things that are no disks.
func machine(t *testing.T) (sys, dev string) {
	t.Helper()
	root := tree(t, map[string]string{
		"sys/block/vda/size": "41943040\n", "sys/block/vda/serial": "state-1\n", "sys/block/vda/ro": "0\n", "sys/block/vda/device/vendor": "0x1af4\n",
		"sys/block/sda/size": "1953525168\n", "sys/block/sda/removable": "0\n", "sys/block/sda/device": "-> ../../devices/pci0/ata1/0:0:0:0",
		"sys/devices/pci0/ata1/0:0:0:0/vendor": "ATA     \n", "sys/devices/pci0/ata1/0:0:0:0/model": "SAMSUNG MZ7L31T9\n",
		"sys/devices/pci0/ata1/0:0:0:0/vpd_pg80": "\x00\x80\x00\x14      S6KMNE0T", "sys/devices/pci0/ata1/0:0:0:0/wwid": "naa.5002538F01234567\n",
		"sys/block/nvme0n1/size": "7501476528\n", "sys/block/nvme0n1/wwid": "eui.0025385b\n", "sys/block/nvme0n1/ro": "1\n",
		"sys/block/nvme0n1/device/serial": "S4YN  \n", "sys/block/nvme0n1/device/model": "Fast/Disk   9\n",
		"sys/block/sdb/size": "62533296\n", "sys/block/sdb/removable": "1\n", "sys/block/sdb/device": "-> ../../devices/pci0/usb2/2-1/host6/6:0:0:0",
		"sys/devices/pci0/usb2/2-1/idVendor": "0781\n", "sys/devices/pci0/usb2/2-1/serial": "4C53\n",
		"sys/devices/pci0/usb2/2-1/host6/6:0:0:0/vendor": "SanDisk \n", "sys/devices/pci0/usb2/2-1/host6/6:0:0:0/model": "Ultra\n",
		"sys/block/loop0/size": "8\n", "sys/block/sr0/size": "999\n", "sys/block/dm-0/size": "999\n", "sys/block/mmcblk0boot0/size": "8192\n",
		"sys/block/sdc/size":         "0\n", // a card reader without a card
		"dev/disk/by-id/ata-SAMSUNG": "-> ../../sda", "dev/disk/by-path/pci-1": "-> ../../sda", "dev/disk/by-id/odd": "-> /elsewhere/sda",
	})
	return filepath.Join(root, "sys"), filepath.Join(root, "dev")
}

func TestList(t *testing.T) {
	sys, dev := machine(t)
	want := []Disk{
		{Path: dev + "/nvme0n1", Serial: "S4YN", WWN: "eui.0025385b", Model: "Fast/Disk 9", Size: 7501476528 * 512, ReadOnly: true},
		{Path: dev + "/sda", Links: []string{dev + "/disk/by-id/ata-SAMSUNG", dev + "/disk/by-path/pci-1"}, Serial: "S6KMNE0T",
			WWN: "naa.5002538F01234567", Model: "SAMSUNG MZ7L31T9", Size: 1953525168 * 512},
		{Path: dev + "/sdb", Serial: "4C53", Model: "SanDisk Ultra", Size: 62533296 * 512, Removable: true},
		{Path: dev + "/vda", Serial: "state-1", Size: 20 << 30},
	}
	if have := List(sys, dev); !reflect.DeepEqual(have, want) {
		t.Errorf("have\n%+v\nwant\n%+v", have, want)
	}
	if have := List(filepath.Join(sys, "nowhere"), dev); len(have) != 0 {
		t.Errorf("without sysfs: have %v", have)
	}
}

// fleet is a machine as List would return it.
func fleet() []Disk {
	return []Disk{
		{Path: "/dev/nvme0n1", Serial: "S4YN", WWN: "eui.0025385b", Model: "Fast/Disk 9", Size: 3840 << 30, ReadOnly: true},
		{Path: "/dev/sda", Links: []string{"/dev/disk/by-path/pci-1"}, Serial: "S6KMNE0T", WWN: "naa.5002538F01234567", Model: "SAMSUNG MZ7L31T9", Size: 1 << 40},
		{Path: "/dev/sdb", Serial: "S6KMNE0U", WWN: "naa.5002538F01234568", Model: "SAMSUNG MZ7L31T9", Size: 1 << 40},
		{Path: "/dev/sdc", Serial: "4C53", Model: "SanDisk Ultra", Size: 30 << 30, Removable: true},
	}
}

func TestPick(t *testing.T) {
	all := []string{"path:/dev/nvme0n1 serial:S4YN wwn:eui.0025385b model:Fast/Disk_9 size:3840GiB (read-only)", "path:/dev/sda",
		"path:/dev/sdb", "path:/dev/sdc serial:4C53 model:SanDisk_Ultra size:30GiB (removable)"}
	tests := []struct {
		rule, want string
		// wantErr is the beginning of the message; all disks have to follow.
		wantErr string
	}{
		{rule: "path:/dev/sda", want: "/dev/sda"},
		{rule: "path:/dev/disk/by-path/pci-1", want: "/dev/sda"},
		{rule: "serial:s6kmne0u", want: "/dev/sdb"},
		{rule: "serial:*0T", want: "/dev/sda"},
		{rule: "wwn:0x5002538f01234568", want: "/dev/sdb"},
		{rule: "model:sandisk_ultra", want: "/dev/sdc"},
		{rule: "model:SanDisk Ultra", want: "/dev/sdc"},
		{rule: "model:SAMSUNG*,serial:*U", want: "/dev/sdb"},
		{rule: "size:<100GiB", want: "/dev/sdc"},
		{rule: "size:<=30GiB", want: "/dev/sdc"},
		{rule: "size:30GiB", want: "/dev/sdc"},
		{rule: "size:=30GiB", want: "/dev/sdc"},
		{rule: "size:==30GiB", want: "/dev/sdc"},
		{rule: "size:>1GiB, size:<31GiB", want: "/dev/sdc"},
		{rule: "path:/dev/sd", wantErr: "no disk fits the rule path:/dev/sd; the machine's disks:"},
		{rule: "serial:S6", wantErr: "no disk fits"},
		{rule: "wwn:0x1", wantErr: "no disk fits"},
		{rule: "size:>=1TiB", wantErr: "3 disks fit the rule size:>=1TiB (/dev/nvme0n1, /dev/sda, /dev/sdb), and none is chosen by chance; add a condition; the machine's disks:"},
		{rule: "model:fast*9", wantErr: "the disk that fits the rule model:fast*9, /dev/nvme0n1, is read-only"},
	}
	for _, tt := range tests {
		t.Run(tt.rule, func(t *testing.T) {
			rule, err := ParseRule(tt.rule)
			if err != nil {
				t.Fatal(err)
			}
			have, err := Pick(rule, fleet())
			if tt.wantErr == "" {
				if err != nil || have.Path != tt.want {
					t.Fatalf("have %s, %v; want %s", have.Path, err, tt.want)
				}
				return
			}
			if err == nil {
				t.Fatalf("have %s and no error", have.Path)
			}
			if !strings.HasPrefix(err.Error(), tt.wantErr) {
				t.Errorf("message: %v\nwant it to begin with %s", err, tt.wantErr)
			}
			for _, line := range all {
				if !strings.Contains(err.Error(), line) {
					t.Errorf("message lacks %q:\n%v", line, err)
				}
			}
		})
	}
}

func TestNoRuleAndNoDisk(t *testing.T) {
	if have, err := Pick(Rule{}, fleet()); err == nil {
		t.Errorf("without a rule: have %v", have)
	}
	rule, err := ParseRule("size:>1GiB")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Pick(rule, nil); err == nil || !strings.Contains(err.Error(), "no disk at all") {
		t.Errorf("without a disk: have %v", err)
	}
}

func TestParseRule(t *testing.T) {
	for text, want := range map[string][]string{
		"":                          {"the rule is empty"},
		"/dev/sda":                  {`"/dev/sda" is no condition`, "want path:"},
		"first":                     {`"first" is no condition`},
		"path:sda,size:big,foo:bar": {`path: "sda" is no device`, `size: "big" is not a size`, `"foo" is unknown`},
		"path:/dev/../etc/passwd":   {"is no device"},
		"serial:":                   {`"serial:" is no condition`},
		"model:[":                   {"is no pattern"},
		"size:>=100GB":              {"not a size", "KiB, MiB, GiB or TiB"},
		"serial:a,":                 {`"" is no condition`},
	} {
		rule, err := ParseRule(text)
		if err == nil || !rule.IsZero() {
			t.Errorf("%q: have %s, %v", text, rule, err)
			continue
		}
		for _, part := range want {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%q: message lacks %q: %v", text, part, err)
			}
		}
	}
	rule, err := ParseRule("model:A B*, size:>=1GiB")
	if err != nil || rule.String() != "model:A B*,size:>=1GiB" {
		t.Errorf("have %q, %v", rule, err)
	}
}

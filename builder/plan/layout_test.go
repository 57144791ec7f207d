package plan_test

import (
	"regexp"
	"testing"

	"github.com/kiln-os/kiln/builder/plan"
	"github.com/kiln-os/kiln/internal/document"
)

func TestLayout(t *testing.T) {
	p := plan.Plan{Image: plan.Image{Disk: plan.Disk{ESP: 256 * document.MiB, Root: document.GiB, Verity: 16 * document.MiB, StateMinimum: 4 * document.GiB}}}
	layout := p.Layout()
	const mib = 1 << 20
	want := []plan.Partition{
		{Label: "esp", TypeGUID: plan.TypeESP, Offset: 1 * mib, Size: 256 * mib, Content: plan.ContentESP},
		{Label: "root-a", TypeGUID: plan.TypeRoot, Offset: 257 * mib, Size: 1024 * mib, ReadOnly: true, Content: plan.ContentRoot},
		{Label: "root-a-verity", TypeGUID: plan.TypeRootVerity, Offset: 1281 * mib, Size: 16 * mib, ReadOnly: true, Content: plan.ContentVerity},
		{Label: "root-b", TypeGUID: plan.TypeRoot, Offset: 1297 * mib, Size: 1024 * mib, ReadOnly: true, Content: plan.ContentEmpty},
		{Label: "root-b-verity", TypeGUID: plan.TypeRootVerity, Offset: 2321 * mib, Size: 16 * mib, ReadOnly: true, Content: plan.ContentEmpty},
	}
	if len(layout.Partitions) != len(want) {
		t.Fatalf("%d partitions; want %d", len(layout.Partitions), len(want))
	}
	for i := range want {
		if layout.Partitions[i] != want[i] {
			t.Errorf("partition %d is\n%+v; want\n%+v", i, layout.Partitions[i], want[i])
		}
	}
	if layout.Size != 2338*document.MiB || layout.MinimumDisk() != 6434*document.MiB {
		t.Errorf("size %s, minimum disk %s; want 2338MiB and 6434MiB", layout.Size, layout.MinimumDisk())
	}
}

// GRUB's core image comes first, and the EFI system partition, which it reads, second.
func TestLayoutForBIOS(t *testing.T) {
	image := plan.Image{Firmware: []string{plan.FirmwareUEFI, plan.FirmwareBIOS}, Disk: plan.Disk{ESP: 256 * document.MiB, Root: document.GiB, Verity: 16 * document.MiB}}
	with := plan.Plan{Image: image}.Layout()
	image.Firmware = nil
	without := plan.Plan{Image: image}.Layout()
	const mib = 1 << 20
	first := plan.Partition{Label: "bios", TypeGUID: plan.TypeBIOS, Offset: mib, Size: mib, Content: plan.ContentBIOS}
	if with.Partitions[0] != first {
		t.Errorf("the first partition is %+v; want %+v", with.Partitions[0], first)
	}
	for i, p := range without.Partitions {
		p.Offset += mib
		if with.Partitions[i+1] != p {
			t.Errorf("partition %d is %+v; want %+v", i+1, with.Partitions[i+1], p)
		}
	}
	if with.Size != without.Size+document.MiB {
		t.Errorf("sizes are %s and %s", with.Size, without.Size)
	}
}

// Whatever the sizes, partitions are aligned, follow each other, and leave room for both tables.
func TestLayoutNeverOverlaps(t *testing.T) {
	for _, size := range []document.Size{1, 7, 64, 1000, 1 << 20} {
		p := plan.Plan{Image: plan.Image{Disk: plan.Disk{ESP: size * document.MiB, Root: (size + 3) * document.MiB, Verity: 2 * document.MiB}}}
		layout := p.Layout()
		end := int64(document.MiB)
		for _, part := range layout.Partitions {
			if part.Offset < end || part.Offset%int64(document.MiB) != 0 {
				t.Errorf("%s begins at %d, before %d or off a MiB", part.Label, part.Offset, end)
			}
			end = part.Offset + part.Size
		}
		if int64(layout.Size)-end < int64(document.MiB) {
			t.Errorf("no room for the second table: %d of %d", end, layout.Size)
		}
	}
}

func TestTypesAreGUIDs(t *testing.T) {
	guid := regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)
	for _, text := range []string{plan.TypeESP, plan.TypeRoot, plan.TypeRootVerity, plan.TypeState, plan.TypeBIOS} {
		if !guid.MatchString(text) {
			t.Errorf("%q is not a GUID", text)
		}
	}
}

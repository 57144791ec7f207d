package install

import (
	"bytes"
	"context"
	"fmt"
	"strings"

	"github.com/kiln-os/kiln/firstboot/carried"
	"github.com/kiln-os/kiln/internal/document"
	"github.com/kiln-os/kiln/internal/nodefs"
)

// typeESP is the type of an EFI system partition.
const typeESP = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"

// edge is how much at both ends of a disk has to be empty for the disk to be blank: every partition table, volume manager
// and filesystem has something there.
const edge = 1 << 20

// holding is what a disk holds.
type holding struct {
	// record is what an installer of ours left; nil without one.
	record *record
	// joined tells that there is a state partition with firstboot's journal: the disk is a node's that has begun to live.
	joined bool
	// unclear says why that cannot be told, when there is a state partition that cannot be read.
	unclear string
	// data describes what else is there; empty on a blank disk.
	data string
	// carried is what the partition holds that carries the identity; nil without one.
	carried []byte
}

// stateReader tells whether partition number of the disk at path is a state partition with firstboot's journal.
type stateReader func(ctx context.Context, disk string, number int) (bool, error)

// look finds out what a disk holds. It writes nothing, but for what a mount of the state partition replays.
func look(ctx context.Context, t *Target, hasJournal stateReader) (holding, error) {
	var h holding
	var err error
	if h.record, err = readRecord(t); err != nil {
		return h, err
	}
	entries, _, err := readTable(t)
	if err != nil {
		return h, err
	}
	if at, ok := labelled(entries, nodefs.LabelInstall); ok && at.size == carried.Size {
		h.carried = alignedBuffer(carried.Size)
		if err := readFull(t, h.carried, at.offset); err != nil {
			return h, fmt.Errorf("reading the carried identity: %w", err)
		}
	}
	if state, ok := labelled(entries, nodefs.LabelState); ok {
		if h.joined, err = hasJournal(ctx, t.Path, state.number); err != nil {
			h.unclear = err.Error()
		}
	}
	h.data, err = describe(t, entries)
	return h, err
}

// describe says what is on the disk besides a record of ours; "" when both ends are empty.
func describe(t *Target, entries []entry) (string, error) {
	head, tail, err := edges(t)
	if err != nil {
		return "", err
	}
	if len(entries) > 0 {
		return partitions(entries), nil
	}
	for _, s := range signatures() {
		if bytes.HasPrefix(head[min(s.offset, len(head)):], []byte(s.magic)) {
			return s.name, nil
		}
	}
	if empty(head) && empty(tail) {
		return "", nil
	}
	return "bytes that are none of kiln's at its beginning or end", nil
}

// edges reads both ends of the disk, without the records.
func edges(t *Target) (head, tail []byte, err error) {
	n := min(edge, t.Size)
	head, tail = alignedBuffer(int(n)), alignedBuffer(int(n))
	if err := readFull(t, head, 0); err != nil {
		return nil, nil, fmt.Errorf("looking at the disk: %w", err)
	}
	if err := readFull(t, tail, t.Size-n); err != nil {
		return nil, nil, fmt.Errorf("looking at the disk: %w", err)
	}
	if n >= recordOffset+recordSlots*recordSize {
		records := head[recordOffset:][:recordSlots*recordSize]
		for i := range records {
			records[i] = head[0]
		}
	}
	return head, tail, nil
}

// empty tells whether all bytes are zeros, or all ones as erased flash has them.
func empty(b []byte) bool {
	return len(b) == 0 || (b[0] == 0 || b[0] == 0xff) && bytes.Count(b, b[:1]) == len(b)
}

type signature struct {
	offset      int
	magic, name string
}

// signatures name what is common, for messages only: whatever has no name here is refused as well.
func signatures() []signature {
	return []signature{
		{1080, "\x53\xef", "an ext filesystem"}, {0, "XFSB", "an XFS filesystem"}, {65600, "_BHRfS_M", "a Btrfs filesystem"},
		{0, "LUKS\xba\xbe", "an encrypted volume (LUKS)"}, {536, "LVM2 001", "a volume of LVM"}, {4096, "\xfc\x4e\x2b\xa9", "a member of a RAID"},
		{4086, "SWAPSPACE2", "swap space"}, {3, "NTFS    ", "an NTFS filesystem"}, {82, "FAT32", "a FAT filesystem"},
		{32769, "CD001", "a CD image (ISO 9660)"}, {0, "hsqs", "a squashfs"}, {510, "\x55\xaa", "an MBR partition table or a boot sector"},
	}
}

func partitions(entries []entry) string {
	var names []string
	for _, e := range entries {
		names = append(names, fmt.Sprintf("%q (%s)", e.label, document.Size(e.size)))
	}
	return fmt.Sprintf("a partition table with %s", strings.Join(names, ", "))
}

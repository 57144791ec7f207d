package install

import (
	"encoding/hex"
	"fmt"
	"path"
	"regexp"
	"strings"
	"unicode/utf16"

	"github.com/kiln-os/kiln/internal/document"
)

var (
	hashForm = regexp.MustCompile(`^[0-9a-f]{64}$`)
	guidForm = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)
)

// maxPartitions is how many entries a partition table has room for.
const maxPartitions = 128

// Validate reports everything that is wrong with the manifest; file is its name for messages.
func (m Manifest) Validate(file string) error {
	p := &document.Problems{File: file}
	checkHash(p, "rootHash", m.RootHash)
	checkBlob(p, "esp", m.ESP)
	checkBlob(p, "root", m.Root)
	checkBlob(p, "verity", m.Verity)
	if m.BIOS != nil {
		checkBlob(p, "bios", *m.BIOS)
	}
	if m.BootCode != nil {
		checkBlob(p, "bootCode", *m.BootCode)
		if m.BootCode.Size > BootCodeSize {
			p.Add("bootCode.size", "is %d bytes; the disk's first sector has room for %d", m.BootCode.Size, BootCodeSize)
		}
	}
	m.checkDisk(p)
	return p.Err()
}

func checkHash(p *document.Problems, field, text string) {
	if !hashForm.MatchString(text) {
		p.Add(field, "%q is no SHA-256; want 64 hexadecimal digits in lower case", text)
	}
}

func checkBlob(p *document.Problems, field string, b Blob) {
	// A name, not a path: what the manifest names lies beside it, and nowhere else on the medium or server.
	if b.File == "" || path.Base(b.File) != b.File || strings.HasPrefix(b.File, ".") || strings.ContainsAny(b.File, "?#%\\ ") {
		p.Add(field+".file", "%q is no name of a file beside %s; want one as in root.img", b.File, File)
	}
	if b.Size <= 0 || b.Size > int64(document.MaxSize) {
		p.Add(field+".size", "is %d; want a number of bytes above 0 and up to %s", b.Size, document.MaxSize)
	}
	checkHash(p, field+".sha256", b.SHA256)
}

func (m Manifest) checkDisk(p *document.Problems) {
	checkGUID(p, "disk.id", m.Disk.ID)
	if len(m.Disk.Partitions) > maxPartitions-1 {
		p.Add("disk.partitions", "are %d; want at most %d, so that the node can add its own", len(m.Disk.Partitions), maxPartitions-1)
	}
	seen := map[string]string{}
	end := int64(Grain)
	for i, partition := range m.Disk.Partitions {
		field := fmt.Sprintf("disk.partitions[%d]", i)
		m.checkPartition(p, field, partition)
		if partition.Offset < end {
			p.Add(field+".offset", "is %d; partition %s may begin at %d at the earliest, where nothing else lies", partition.Offset, partition.Label, end)
		}
		end = max(end, partition.End())
		for _, unique := range []struct{ name, value string }{{"id", partition.ID}, {"label", partition.Label}, {"content", partition.Content}} {
			key := unique.name + " " + unique.value
			if other := seen[key]; other != "" && unique.value != "" {
				p.Add(field+"."+unique.name, "%q is that of %s too", unique.value, other)
			}
			seen[key] = field
		}
	}
	if m.Disk.Size > int64(document.MaxSize) || end > m.Disk.Size-Grain {
		p.Add("disk.size", "is %d; the partitions end at %d, and the table's backup takes %d more", m.Disk.Size, end, Grain)
	}
	m.checkContents(p, seen)
	m.checkRootHash(p)
}

func (m Manifest) checkPartition(p *document.Problems, field string, partition Partition) {
	if units := len(utf16.Encode([]rune(partition.Label))); units == 0 || units > 36 {
		p.Add(field+".label", "%q has %d characters; want 1 to 36", partition.Label, units)
	}
	checkGUID(p, field+".type", partition.Type)
	checkGUID(p, field+".id", partition.ID)
	if partition.Offset%Grain != 0 {
		p.Add(field+".offset", "is %d; want whole MiB", partition.Offset)
	}
	// The bound on the offset keeps the sum of both from overflowing.
	if partition.Size%Grain != 0 || partition.Size <= 0 || partition.Size > int64(document.MaxSize) || partition.Offset > int64(document.MaxSize) {
		p.Add(field+".size", "is %d; want whole MiB", partition.Size)
	}
	switch partition.Content {
	case ContentNone, ContentState:
	default:
		if blob, ok := m.Blob(partition.Content); !ok {
			p.Add(field+".content", "%q is nothing that the manifest has; want esp, root, verity, bios, state, or leave it out", partition.Content)
		} else if blob.Size > partition.Size {
			p.Add(field+".size", "is %d; its content, %s, has %d bytes", partition.Size, partition.Content, blob.Size)
		}
	}
}

func checkGUID(p *document.Problems, field, text string) {
	if !guidForm.MatchString(strings.ToLower(text)) {
		p.Add(field, "%q is no GUID", text)
	}
}

// checkContents sees to it that everything which the manifest has goes somewhere; seen has a key for each content.
func (m Manifest) checkContents(p *document.Problems, seen map[string]string) {
	for _, content := range []string{ContentESP, ContentRoot, ContentVerity, ContentBIOS} {
		if _, has := m.Blob(content); has && seen["content "+content] == "" {
			p.Add("disk.partitions", "none has the content %s", content)
		}
	}
}

// checkRootHash compares the root hash with the partitions that it names (Discoverable Partitions Specification: its first
// and its last 128 bits), by which the initramfs finds them.
func (m Manifest) checkRootHash(p *document.Problems) {
	raw, err := hex.DecodeString(m.RootHash)
	if err != nil || len(raw) != 32 {
		return
	}
	for content, want := range map[string][]byte{ContentRoot: raw[:16], ContentVerity: raw[16:]} {
		partition, ok := m.Disk.With(content)
		if have := strings.ToLower(strings.ReplaceAll(partition.ID, "-", "")); ok && have != hex.EncodeToString(want) {
			p.Add("disk.partitions", "the partition with the content %s has the ID %s, which is not of the root hash", content, partition.ID)
		}
	}
}

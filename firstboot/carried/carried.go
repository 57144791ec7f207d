// Package carried is the identity that an installer leaves for the first boot of the system that it installed. It lies as
// plain bytes on a partition of its own, without a filesystem: no journal and no free block keeps a copy of a secret that
// was overwritten in place, which is what happens once the node is a member.
package carried

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/kiln-os/kiln/internal/nodefs"
)

const (
	// Size is the partition's size in bytes.
	Size = 4 << 20
	// Type is the partition's type, kiln's own: nothing mounts it or takes it for free.
	Type = "9a1c52a6-0d0b-4b0e-8b6e-5f6b696c6e01"

	magic = "kiln identity v1\n"
	// head is where the text begins: behind magic, length and digest.
	head = 4096
)

// ErrNone says that the partition carries nothing: it never did, or the node has become a member and forgotten it.
var ErrNone = errors.New("nothing is carried")

// Document is what is carried.
type Document struct {
	// From names the place where the installer found it, for people.
	From string `json:"from"`
	// Files are the identity as it was found, by the names that a partition labelled KILN has: identity.yaml or config.ign.
	Files map[string][]byte `json:"files"`
}

type header struct {
	Length int    `json:"length"`
	SHA256 []byte `json:"sha256"`
}

// Encode is the partition's whole content. Without files it is empty: all zeros.
func Encode(d Document) ([]byte, error) {
	raw := make([]byte, Size)
	if len(d.Files) == 0 {
		return raw, nil
	}
	text, err := json.Marshal(d)
	if err != nil {
		return nil, fmt.Errorf("carrying the identity: %w", err)
	}
	if len(text) > Size-head {
		return nil, fmt.Errorf("carrying the identity: it has %d bytes with all that belongs to it; at most %d can be carried", len(text), (Size-head)/4*3)
	}
	sum := sha256.Sum256(text)
	top, err := json.Marshal(header{Length: len(text), SHA256: sum[:]})
	if err != nil {
		return nil, err
	}
	copy(raw, magic)
	copy(raw[len(magic):], top)
	copy(raw[head:], text)
	return raw, nil
}

// Decode reads what Encode made. ErrNone says that there is nothing; every other error that it is damaged.
func Decode(partition io.ReaderAt) (Document, error) {
	var d Document
	top := make([]byte, head)
	if _, err := partition.ReadAt(top, 0); err != nil {
		return d, fmt.Errorf("reading the carried identity: %w", err)
	}
	rest, ok := bytes.CutPrefix(top, []byte(magic))
	if !ok {
		return d, ErrNone
	}
	var h header
	if err := json.Unmarshal(bytes.TrimRight(rest, "\x00"), &h); err != nil || h.Length < 0 || h.Length > Size-head {
		return d, errors.New("reading the carried identity: it is damaged; install the machine again")
	}
	text := make([]byte, h.Length)
	if _, err := partition.ReadAt(text, head); err != nil {
		return d, fmt.Errorf("reading the carried identity: %w", err)
	}
	if sum := sha256.Sum256(text); !bytes.Equal(sum[:], h.SHA256) || json.Unmarshal(text, &d) != nil {
		return d, errors.New("reading the carried identity: its checksum is wrong; install the machine again")
	}
	return d, nil
}

// Device is the partition on the disk that the node booted from; "" when it has none. RootDevice is the partition with the
// root, as in /dev/vda2: another disk may carry the identity of another machine.
func Device(root nodefs.Root, rootDevice string) string {
	partition, err := filepath.EvalSymlinks(root.Path("/sys/class/block/" + filepath.Base(rootDevice)))
	if rootDevice == "" || err != nil {
		return ""
	}
	siblings, _ := filepath.Glob(filepath.Join(filepath.Dir(partition), "*/uevent"))
	for _, sibling := range siblings {
		text, err := os.ReadFile(sibling)
		if err != nil {
			continue
		}
		lines := strings.Split(string(text), "\n")
		if !slices.Contains(lines, "PARTNAME="+nodefs.LabelInstall) {
			continue
		}
		for _, line := range lines {
			if name, ok := strings.CutPrefix(line, "DEVNAME="); ok {
				return root.Path("/dev/" + name)
			}
		}
	}
	return ""
}

// Read reads what the partition at device carries.
func Read(device string) (Document, error) {
	file, err := os.Open(device)
	if err != nil {
		return Document{}, fmt.Errorf("reading the carried identity: %w", err)
	}
	defer file.Close()
	return Decode(file)
}

// Scrub overwrites the partition at device with zeros, and returns when they are on the disk. One that is empty already is
// left alone. What a flash disk keeps of overwritten blocks is out of reach.
func Scrub(device string) error {
	file, err := os.OpenFile(device, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("removing the carried identity: %w", err)
	}
	defer file.Close()
	// The text first: with the head gone, another run would not look for more.
	for _, part := range [][2]int64{{head, Size}, {0, head}} {
		if err := zero(file, part[0], part[1]); err != nil {
			return fmt.Errorf("removing the carried identity: %w", err)
		}
	}
	return nil
}

func zero(file *os.File, from, to int64) error {
	have := make([]byte, to-from)
	n, err := file.ReadAt(have, from)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if empty := make([]byte, n); !bytes.Equal(have[:n], empty) {
		if _, err := file.WriteAt(empty, from); err != nil {
			return err
		}
	}
	return file.Sync()
}

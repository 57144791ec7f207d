package payload

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path"
	"sort"
	"strings"
	"sync"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/kiln-os/kiln/internal/release"
)

// tarLayer is a layer that is not compressed: its digest is its diffID. The tar is made anew at each reading; its
// digest is taken once, at the first question for it.
type tarLayer struct {
	open func() (io.ReadCloser, error)
	// check, when set, refuses an unexpected digest (hex).
	check func(sha256 string) error
	// media is the media type when it is not that of a layer.
	media types.MediaType

	once   sync.Once
	digest v1.Hash
	size   int64
	err    error
}

// Digest is the SHA-256 of the tar.
func (l *tarLayer) Digest() (v1.Hash, error) { l.once.Do(l.measure); return l.digest, l.err }

// DiffID is the digest, because nothing is compressed.
func (l *tarLayer) DiffID() (v1.Hash, error) { return l.Digest() }

// Size is the tar's length in bytes.
func (l *tarLayer) Size() (int64, error) { l.once.Do(l.measure); return l.size, l.err }

// MediaType is that of an uncompressed OCI layer unless the layer says otherwise.
func (l *tarLayer) MediaType() (types.MediaType, error) {
	if l.media != "" {
		return l.media, nil
	}
	return types.OCIUncompressedLayer, nil
}

// Compressed opens the tar: what the digest is of.
func (l *tarLayer) Compressed() (io.ReadCloser, error) { return l.open() }

// Uncompressed opens the tar.
func (l *tarLayer) Uncompressed() (io.ReadCloser, error) { return l.open() }

func (l *tarLayer) measure() {
	stream, err := l.open()
	if err != nil {
		l.err = err
		return
	}
	defer stream.Close()
	hash := sha256.New()
	if l.size, l.err = io.Copy(hash, stream); l.err != nil {
		return
	}
	l.digest = v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(hash.Sum(nil))}
	if l.check != nil {
		l.err = l.check(l.digest.Hex)
	}
}

// opener opens bytes in memory.
func opener(data []byte) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }
}

// entry is one member of a layer's tar: content is in file, or in data.
type entry struct {
	header tar.Header
	file   string
	data   []byte
}

// fileLayer is the layer of an image's own files, their directories, and /tmp.
func fileLayer(image release.ContainerImage, binaries map[string]Binary, at time.Time) (*tarLayer, error) {
	members := map[string]entry{}
	if len(image.Packages) == 0 {
		members["tmp/"] = directory("tmp/", 0o1777, at)
	}
	for _, file := range image.Files {
		binary, ok := binaries[file.Binary]
		if !ok {
			return nil, fmt.Errorf("finding %s: no source of the release builds it", file.Binary)
		}
		name := strings.TrimPrefix(path.Clean(file.Path), "/")
		for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
			members[dir+"/"] = directory(dir+"/", 0o755, at)
		}
		members[name] = entry{file: binary.Path, header: tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o755, Size: binary.Size, ModTime: at}}
	}
	entries := make([]entry, 0, len(members))
	for _, member := range members {
		entries = append(entries, member)
	}
	sort.Slice(entries, func(i, j int) bool { return entries[i].header.Name < entries[j].header.Name })
	return &tarLayer{open: func() (io.ReadCloser, error) {
		reader, writer := io.Pipe()
		go func() { writer.CloseWithError(writeEntries(writer, entries)) }()
		return reader, nil
	}}, nil
}

func directory(name string, mode int64, at time.Time) entry {
	return entry{header: tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: mode, ModTime: at}}
}

// writeEntries writes a tar of the entries in their order.
func writeEntries(w io.Writer, entries []entry) error {
	archive := tar.NewWriter(w)
	for _, member := range entries {
		header := member.header
		if err := archive.WriteHeader(&header); err != nil {
			return fmt.Errorf("writing %s: %w", header.Name, err)
		}
		if err := writeContent(archive, member); err != nil {
			return fmt.Errorf("writing %s: %w", header.Name, err)
		}
	}
	return archive.Close()
}

func writeContent(w io.Writer, member entry) error {
	if member.file == "" {
		_, err := w.Write(member.data)
		return err
	}
	file, err := os.Open(member.file)
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = io.Copy(w, file)
	return err
}

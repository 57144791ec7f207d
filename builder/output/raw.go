package output

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"os"
)

// raw is a target that is the disk as it is, sparse.
type raw struct {
	file   *os.File
	at     int64
	digest digest
	// summing computes the digest, on another processor than the writing.
	summing *behind
}

// CreateRaw begins a sparse file with the disk as it is.
func CreateRaw(path string) (Target, error) {
	r, err := createRaw(path)
	return r, err
}

func createRaw(path string) (*raw, error) {
	file, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	r := &raw{file: file, digest: digest{sha256.New()}}
	r.summing = inBackground(r.digest)
	return r, nil
}

// Write implements Sink.
func (r *raw) Write(data []byte) (int, error) {
	if _, err := r.summing.Write(data); err != nil {
		return 0, err
	}
	n, err := r.file.WriteAt(data, r.at)
	r.at += int64(n)
	return n, err
}

// Skip implements Sink: zeros become a hole.
func (r *raw) Skip(size int64) error {
	r.at += size
	return r.summing.Skip(size)
}

// Close implements Target; the file gets its size, a hole at its end included.
func (r *raw) Close() (string, error) {
	err := errors.Join(r.summing.Close(), r.file.Truncate(r.at), r.file.Close())
	return r.digest.text(), err
}

// digest is a Sink that computes the SHA-256 of the disk.
type digest struct{ hash.Hash }

// Skip implements Sink.
func (d digest) Skip(size int64) error {
	var zeros [Grain]byte
	for ; size > 0; size -= Grain {
		d.Hash.Write(zeros[:min(size, Grain)])
	}
	return nil
}

func (d digest) text() string { return hex.EncodeToString(d.Sum(nil)) }

// packedFile is a file that is written from its begin to its end, and digested on the way.
type packedFile struct {
	file   *os.File
	digest digest
	// at is how many bytes the file has.
	at int64
}

func createPacked(path string) (*packedFile, error) {
	file, err := os.Create(path)
	return &packedFile{file: file, digest: digest{sha256.New()}}, err
}

// Write appends.
func (f *packedFile) Write(data []byte) (int, error) {
	f.digest.Write(data)
	n, err := f.file.Write(data)
	f.at += int64(n)
	return n, err
}

func (f *packedFile) close() (string, error) { return f.digest.text(), f.file.Close() }

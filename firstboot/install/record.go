package install

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// States of an installation.
const (
	// began: the disk is to be written, and may still hold all that it held before.
	began = "began"
	// writing: the tables that were there before are gone; what is there now is ours and not whole.
	writing = "writing"
	// finished: the disk is whole and was read back.
	finished = "finished"
)

// The record lies between the partition table and the first partition, where no partition can be, twice: a power cut
// while one is written leaves the other. It has to be found without a table and without a manifest, so it never moves.
const (
	recordOffset = 512 << 10
	recordSize   = 4096
	recordSlots  = 2
	recordMagic  = "kiln installation v1\n"
)

// record is what an installer keeps on the disk about itself. It holds no secret.
type record struct {
	// Sequence counts the writes: the higher one of two counts.
	Sequence int    `json:"sequence"`
	State    string `json:"state"`
	// Manifest is the SHA-256 of install.json, and Image its name for people.
	Manifest string `json:"manifest"`
	Image    string `json:"image,omitempty"`
	// Node and Cluster are the identity's; empty when the disk was installed without one.
	Node    string `json:"node,omitempty"`
	Cluster string `json:"cluster,omitempty"`
	// Wipe is the word that let this installation destroy what the disk held.
	Wipe string `json:"wipe,omitempty"`
	// Time is when the record was written, by a clock that may have been wrong.
	Time time.Time `json:"time"`
}

// readRecord reads the newest whole record; nil when there is none.
func readRecord(t *Target) (*record, error) {
	if t.Size < recordOffset+recordSlots*recordSize {
		return nil, nil
	}
	raw := make([]byte, recordSlots*recordSize)
	if err := readFull(t, raw, recordOffset); err != nil {
		return nil, fmt.Errorf("reading the record of an installation: %w", err)
	}
	var newest *record
	for slot := range recordSlots {
		if r := parseRecord(raw[slot*recordSize:][:recordSize]); r != nil && (newest == nil || r.Sequence > newest.Sequence) {
			newest = r
		}
	}
	return newest, nil
}

// parseRecord reads magic, SHA-256 of the text, text; nil when that is not what is there.
func parseRecord(raw []byte) *record {
	rest, ok := bytes.CutPrefix(raw, []byte(recordMagic))
	if !ok {
		return nil
	}
	text := bytes.TrimRight(rest[sha256.Size:], "\x00")
	if sum := sha256.Sum256(text); !bytes.Equal(sum[:], rest[:sha256.Size]) {
		return nil
	}
	var r record
	if json.Unmarshal(text, &r) != nil {
		return nil
	}
	return &r
}

// write puts r on the disk as the next of the records there.
func (r record) write(t *Target) error {
	last, err := readRecord(t)
	if err != nil {
		return err
	}
	r.Sequence = 1
	if last != nil {
		r.Sequence = last.Sequence + 1
	}
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if len(recordMagic)+sha256.Size+len(text) > recordSize {
		return errors.New("writing the record of the installation: a name in it is too long")
	}
	raw := make([]byte, recordSize)
	sum := sha256.Sum256(text)
	copy(raw, recordMagic)
	copy(raw[len(recordMagic):], sum[:])
	copy(raw[len(recordMagic)+sha256.Size:], text)
	if err := put(t, piece{recordOffset + int64(r.Sequence%recordSlots)*recordSize, raw}); err != nil {
		return fmt.Errorf("writing the record of the installation: %w", err)
	}
	return nil
}

// put writes a piece and waits until it is on the medium.
func put(t *Target, p piece) error {
	if _, err := t.Storage.WriteAt(p.bytes, p.offset); err != nil {
		return fmt.Errorf("writing %d bytes at %d of %s: %w", len(p.bytes), p.offset, t.Path, err)
	}
	if err := t.Storage.Sync(); err != nil {
		return fmt.Errorf("writing to %s: %w", t.Path, err)
	}
	return nil
}

// readFull fills p from the disk.
func readFull(t *Target, p []byte, offset int64) error {
	n, err := t.Storage.ReadAt(p, offset)
	if n == len(p) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("%d bytes at %d of %s: %w", len(p), offset, t.Path, err)
}

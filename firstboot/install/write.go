package install

import (
	"context"
	"errors"
	"fmt"
	"io"

	manifest "github.com/kiln-os/kiln/internal/install"
)

// chunk is how much is written at once: enough for a disk to be as fast as it can, a whole number of any sectors.
const chunk = 4 << 20

// Stream is bytes on their way to a disk.
type Stream struct {
	// Name is for messages.
	Name   string
	Reader io.Reader
	// Offset and Size are in bytes; the last sector is filled up with zeros.
	Offset, Size int64
	// Progress hears how many bytes are written.
	Progress func(done int64)
}

// buffer is a chunk between the two ends of a stream.
type buffer struct {
	bytes []byte
	n     int
	err   error
}

// Copy reads and writes at the same time, and returns when all is on the medium. Nothing is digested here, which would be
// slower than good disks are: all of it is read back, and that is what counts.
func (s Stream) Copy(ctx context.Context, t *Target) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	filled, free := make(chan buffer), make(chan []byte, 3)
	for range cap(free) {
		free <- alignedBuffer(chunkOf(s.Size))
	}
	go s.fill(ctx, filled, free)
	done := int64(0)
	for b := range filled {
		if b.err != nil {
			return fmt.Errorf("reading %s: %w", s.Name, b.err)
		}
		padded := int((int64(b.n) + t.Sector - 1) / t.Sector * t.Sector)
		clear(b.bytes[b.n:padded])
		if _, err := t.Storage.WriteAt(b.bytes[:padded], s.Offset+done); err != nil {
			return fmt.Errorf("writing %s to %s: %w", s.Name, t.Path, err)
		}
		done += int64(b.n)
		s.Progress(done)
		free <- b.bytes
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := t.Storage.Sync(); err != nil {
		return fmt.Errorf("writing %s to %s: %w", s.Name, t.Path, err)
	}
	return nil
}

// chunkOf is the size of a buffer for a stream of n bytes: no more than all of it, in whole sectors of any size.
func chunkOf(n int64) int {
	return int(min(chunk, (n+memoryAlignment-1)/memoryAlignment*memoryAlignment))
}

// fill reads chunks until the size is reached.
func (s Stream) fill(ctx context.Context, filled chan<- buffer, free <-chan []byte) {
	defer close(filled)
	send := func(b buffer) bool {
		select {
		case filled <- b:
			return b.err == nil
		case <-ctx.Done():
			return false
		}
	}
	for left := s.Size; left > 0; {
		var b buffer
		select {
		case b.bytes = <-free:
		case <-ctx.Done():
			return
		}
		b.n, b.err = io.ReadFull(s.Reader, b.bytes[:min(left, chunk)])
		if errors.Is(b.err, io.EOF) || errors.Is(b.err, io.ErrUnexpectedEOF) {
			b.err = fmt.Errorf("%w: after %d of %d bytes", errShort, s.Size-left+int64(b.n), s.Size)
		}
		left -= int64(b.n)
		if !send(b) {
			return
		}
	}
	var more [1]byte
	if n, _ := io.ReadFull(s.Reader, more[:]); n > 0 {
		send(buffer{err: fmt.Errorf("it has more than the %d bytes that %s says", s.Size, manifest.File)})
	}
}

// zero makes the bytes from one offset to another zeros.
func zero(t *Target, from, to int64) error {
	zeros := alignedBuffer(1 << 20)
	for from < to {
		n := min(to-from, int64(len(zeros)))
		if _, err := t.Storage.WriteAt(zeros[:n], from); err != nil {
			return fmt.Errorf("clearing %d bytes at %d of %s: %w", n, from, t.Path, err)
		}
		from += n
	}
	return nil
}

package output

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/diskfs/go-diskfs/backend/file"
	"golang.org/x/sys/unix"
)

// Grain is the unit of a stream in bytes: that much of the disk at a time is either data or nothing but zeros. Which of
// the two is decided by the bytes, never by the holes of a host's filesystem, so that every format has the same bytes
// wherever it is made. It is also the grain of a VMDK.
const Grain = 64 << 10

// Sink takes a disk from its first byte to its last. Each call adds a whole number of grains.
type Sink interface {
	// Write adds data. The bytes are only there during the call.
	Write(data []byte) (int, error)
	// Skip adds size zero bytes: all that lie between two grains of data, or at the end.
	Skip(size int64) error
}

// Stream gives the disk to sinks, all at once, straight from the partitions' contents. It refuses partitions that overlap,
// lie outside the disk or are smaller than their content: go-diskfs checks none of that.
func (d Disk) Stream(sinks ...Sink) error {
	if err := d.check(); err != nil {
		return err
	}
	tables, err := d.tables()
	if err != nil {
		return fmt.Errorf("writing the partition table: %w", err)
	}
	defer tables.Close()
	s := &stream{sinks: sinks, buffer: make([]byte, Grain)}
	if err := s.copy(tables, 0, reserved); err != nil {
		return err
	}
	for _, p := range d.Partitions {
		s.zeros(p.Offset - s.at)
		if err := s.partition(p); err != nil {
			return fmt.Errorf("writing partition %s: %w", p.Label, err)
		}
	}
	s.zeros(d.Size - reserved - s.at)
	return errors.Join(s.copy(tables, d.Size-reserved, reserved), s.flush())
}

// tables is a file in memory as large as the disk that holds nothing but both partition tables.
func (d Disk) tables() (*os.File, error) {
	fd, err := unix.MemfdCreate("partition-table", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	memory := os.NewFile(uintptr(fd), "partition-table")
	writable, err := file.New(memory, false).Writable()
	if err == nil {
		err = errors.Join(memory.Truncate(d.Size), d.table().Write(writable, d.Size))
	}
	if err == nil {
		_, err = memory.WriteAt(d.BootCode, 0) // behind it the disk's signature, and the protective table
	}
	if err != nil {
		return nil, errors.Join(err, memory.Close())
	}
	return memory, nil
}

// stream is a disk on its way; at is the offset that it has come to.
type stream struct {
	sinks  []Sink
	at     int64
	buffer []byte
	// skipped are the zeros before at that no sink knows of yet: they hear of all between two grains of data at once.
	skipped int64
}

func (s *stream) partition(p Partition) error {
	end := s.at + p.Size
	if p.Content != "" {
		source, err := os.Open(p.Content)
		if err != nil {
			return err
		}
		defer source.Close()
		size, err := source.Seek(0, io.SeekEnd)
		if err != nil {
			return err
		}
		if err := s.copy(source, 0, size); err != nil {
			return err
		}
	}
	s.zeros(end - s.at)
	return nil
}

// copy adds size bytes of a file from offset on, filled up with zeros to a whole grain. Holes are not read.
func (s *stream) copy(source *os.File, offset, size int64) error {
	for end := offset + size; offset < end; {
		data, err := unix.Seek(int(source.Fd()), offset, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			data = end
		} else if err != nil {
			return err
		}
		if hole := (min(data, end) - offset) / Grain * Grain; hole > 0 {
			offset += hole
			s.zeros(hole)
			continue
		}
		n, err := source.ReadAt(s.buffer[:min(Grain, end-offset)], offset)
		if err != nil && (!errors.Is(err, io.EOF) || n == 0) {
			return err
		}
		clear(s.buffer[n:])
		if err := s.grain(); err != nil {
			return err
		}
		offset += int64(n)
	}
	return nil
}

func (s *stream) grain() error {
	if isZero(s.buffer) {
		s.zeros(Grain)
		return nil
	}
	if err := s.flush(); err != nil {
		return err
	}
	s.at += Grain
	for _, sink := range s.sinks {
		if _, err := sink.Write(s.buffer); err != nil {
			return err
		}
	}
	return nil
}

func (s *stream) zeros(size int64) {
	s.at += size
	s.skipped += size
}

func (s *stream) flush() error {
	size := s.skipped
	if s.skipped = 0; size == 0 {
		return nil
	}
	for _, sink := range s.sinks {
		if err := sink.Skip(size); err != nil {
			return err
		}
	}
	return nil
}

// isZero compares data with itself, one byte on: the runtime does that many bytes at a time.
func isZero(data []byte) bool {
	return len(data) == 0 || data[0] == 0 && bytes.Equal(data[1:], data[:len(data)-1])
}

// extent is a range of the disk that holds data.
type extent struct{ offset, size int64 }

// extents is a Sink that only notes where data lies.
type extents struct {
	list []extent
	at   int64
}

// Write implements Sink.
func (e *extents) Write(data []byte) (int, error) {
	if last := len(e.list) - 1; last >= 0 && e.list[last].offset+e.list[last].size == e.at {
		e.list[last].size += int64(len(data))
	} else {
		e.list = append(e.list, extent{e.at, int64(len(data))})
	}
	e.at += int64(len(data))
	return len(data), nil
}

// Skip implements Sink.
func (e *extents) Skip(size int64) error {
	e.at += size
	return nil
}

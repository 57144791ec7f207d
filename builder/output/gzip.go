package output

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"io"
	"sync"

	"github.com/klauspost/compress/flate"
)

// gzipChunk is how much is compressed at a time.
const gzipChunk = 1 << 20

// parallelGzip compresses on all processors into one gzip member (RFC 1952): chunks that are each deflated by themselves
// and end on a whole byte make one stream.
type parallelGzip struct {
	out     *ordered
	writers sync.Pool
	chunk   []byte
	crc     uint32
	size    uint32
}

// newGzip begins the stream: no name, no time, an unknown system, for the same bytes everywhere.
func newGzip(out io.Writer) (*parallelGzip, error) {
	z := &parallelGzip{out: newOrdered(out)}
	z.writers.New = func() any {
		// It fails only for a level that does not exist.
		w, _ := flate.NewWriter(nil, flate.BestSpeed)
		return w
	}
	return z, z.out.add(func() piece { return piece{data: []byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255}} })
}

// Write compresses data, which may change afterwards.
func (z *parallelGzip) Write(data []byte) (int, error) {
	z.crc = crc32.Update(z.crc, crc32.IEEETable, data)
	z.size += uint32(len(data))
	z.chunk = append(z.chunk, data...)
	if len(z.chunk) < gzipChunk {
		return len(data), nil
	}
	return len(data), z.flush()
}

func (z *parallelGzip) flush() error {
	chunk := z.chunk
	z.chunk = make([]byte, 0, gzipChunk+Grain)
	return z.out.add(func() piece {
		data, err := z.deflate(chunk)
		return piece{data: data, err: err}
	})
}

// deflate ends with an empty stored block, which fills up the last byte, and without the mark of the last block.
func (z *parallelGzip) deflate(chunk []byte) ([]byte, error) {
	packed := bytes.NewBuffer(make([]byte, 0, len(chunk)+1024))
	w := z.writers.Get().(*flate.Writer)
	defer z.writers.Put(w)
	w.Reset(packed)
	if _, err := w.Write(chunk); err != nil {
		return nil, err
	}
	err := w.Flush()
	return packed.Bytes(), err
}

// end adds the last block, an empty one with fixed codes, and the trailer.
func (z *parallelGzip) end() error {
	if err := z.flush(); err != nil {
		return err
	}
	tail := binary.LittleEndian.AppendUint32([]byte{3, 0}, z.crc)
	tail = binary.LittleEndian.AppendUint32(tail, z.size)
	return z.out.add(func() piece { return piece{data: tail} })
}

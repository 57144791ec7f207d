package output

import (
	"encoding/binary"

	"github.com/klauspost/compress/zstd"
)

// zstdChunk is how much data becomes one frame.
const zstdChunk = 4 << 20

// zstdCopy is a target that compresses with zstd. Data and zeros become frames of their own (RFC 8878, section 3.1:
// frames may follow each other), so that gigabytes of zeros cost kilobytes and no computing.
type zstdCopy struct {
	file    *packedFile
	out     *ordered
	encoder *zstd.Encoder
	chunk   []byte
}

// CreateZstd begins a zstd-compressed copy of the disk. The level is the fastest: what is worth compressing in a root has
// been compressed.
func CreateZstd(path string) (Target, error) {
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderCRC(true))
	if err != nil {
		return nil, err
	}
	file, err := createPacked(path)
	if err != nil {
		return nil, err
	}
	return &zstdCopy{file: file, out: newOrdered(file), encoder: encoder}, nil
}

// Write implements Sink.
func (z *zstdCopy) Write(data []byte) (int, error) {
	if z.chunk == nil {
		z.chunk = make([]byte, 0, zstdChunk)
	}
	z.chunk = append(z.chunk, data...)
	if len(z.chunk) < zstdChunk {
		return len(data), nil
	}
	return len(data), z.flush()
}

// Skip implements Sink.
func (z *zstdCopy) Skip(size int64) error {
	if err := z.flush(); err != nil {
		return err
	}
	return z.out.add(func() piece { return piece{data: zeroFrame(size)} })
}

func (z *zstdCopy) flush() error {
	if len(z.chunk) == 0 {
		return nil
	}
	chunk := z.chunk
	z.chunk = nil
	return z.out.add(func() piece { return piece{data: z.encoder.EncodeAll(chunk, nil)} })
}

// Close implements Target.
func (z *zstdCopy) Close() (string, error) { return z.out.closeAll(z.file, z.flush()) }

// Numbers of RFC 8878, section 3.1.1.
const (
	zstdMagic = 0xfd2fb528
	// zstdWindow is the descriptor of a window of 128 KiB, the largest size of a block.
	zstdWindow   = (17 - 10) << 3
	zstdBlock    = 128 << 10
	zstdBlockRLE = 1
)

// zeroFrame is a zstd frame of size zero bytes, more than none: blocks that say "this byte, so many times".
func zeroFrame(size int64) []byte {
	frame := binary.LittleEndian.AppendUint32(nil, zstdMagic)
	frame = append(frame, 0, zstdWindow)
	for size > 0 {
		n := min(size, zstdBlock)
		size -= n
		header := uint32(n)<<3 | zstdBlockRLE<<1
		if size == 0 {
			header |= 1 // the last block
		}
		frame = append(frame, byte(header), byte(header>>8), byte(header>>16), 0)
	}
	return frame
}

package output

import (
	"encoding/binary"
	"fmt"
	"time"
)

// gce is a target for Google Compute Engine: a gzip-compressed tar in the old GNU format with one sparse file, disk.raw
// ("Import disks manually": tar --format=oldgnu -Sczf). The map of a sparse file comes before its data.
type gce struct {
	file *packedFile
	zip  *parallelGzip
	data int64
}

// CreateGCE begins the archive of disk d; age is the time of the file in it.
func CreateGCE(path string, d Disk, age time.Time) (Target, error) {
	where := &extents{}
	if err := d.Stream(where); err != nil {
		return nil, err
	}
	file, err := createPacked(path)
	if err != nil {
		return nil, err
	}
	zip, err := newGzip(file)
	g := &gce{file: file, zip: zip}
	if err == nil {
		_, err = zip.Write(sparseHeader("disk.raw", d.Size, age, where.list))
	}
	return g, err
}

// Write implements Sink.
func (g *gce) Write(data []byte) (int, error) {
	g.data += int64(len(data))
	return g.zip.Write(data)
}

// Skip implements Sink: the map tells of zeros.
func (g *gce) Skip(int64) error { return nil }

// Close implements Target; two empty blocks end a tar, and GNU tar fills it up to 20.
func (g *gce) Close() (string, error) {
	_, err := g.zip.Write(make([]byte, tarEnd))
	if err == nil {
		err = g.zip.end()
	}
	return g.zip.out.closeAll(g.file, err)
}

// Places in the header of the old GNU format (tar's manual, "Basic Tar Format", struct oldgnu_header and sparse_header).
const (
	tarBlock    = 512
	tarEnd      = 2 * tarBlock
	tarSparse   = 386
	tarExtended = 482
	tarRealSize = 483
	// mapInHeader and mapInBlock are how many entries of the map the header and each block behind it have.
	mapInHeader = 4
	mapInBlock  = 21
	mapEntry    = 24
)

// sparseHeader is the header of a sparse file of size bytes, and its map.
func sparseHeader(name string, size int64, age time.Time, data []extent) []byte {
	var stored int64
	for _, e := range data {
		stored += e.size
	}
	if n := len(data); n == 0 || data[n-1].offset+data[n-1].size < size {
		data = append(data, extent{size, 0}) // a hole at the end
	}
	h := make([]byte, tarBlock)
	copy(h, name)
	copy(h[100:], "0000644\x000000000\x000000000\x00")
	number(h[124:136], stored)
	number(h[136:148], age.Unix())
	copy(h[148:], "        ") // the checksum, while it is computed
	h[156] = 'S'
	copy(h[257:], "ustar  \x00")
	number(h[tarRealSize:tarRealSize+12], size)
	rest := sparseMap(h[tarSparse:], data, mapInHeader)
	h[tarExtended] = extended(rest)
	var sum int
	for _, b := range h {
		sum += int(b)
	}
	copy(h[148:], fmt.Sprintf("%06o\x00 ", sum))
	for len(rest) > 0 {
		block := make([]byte, tarBlock)
		rest = sparseMap(block, rest, mapInBlock)
		block[mapInBlock*mapEntry] = extended(rest)
		h = append(h, block...)
	}
	return h
}

// sparseMap writes up to most entries and returns those that are left.
func sparseMap(to []byte, data []extent, most int) []extent {
	n := min(most, len(data))
	for i, e := range data[:n] {
		number(to[i*mapEntry:i*mapEntry+12], e.offset)
		number(to[i*mapEntry+12:(i+1)*mapEntry], e.size)
	}
	return data[n:]
}

// extended tells whether another block of the map follows.
func extended(rest []extent) byte {
	if len(rest) > 0 {
		return 1
	}
	return 0
}

// number writes n as eleven octal digits, or from 8 GiB on in GNU's binary form.
func number(field []byte, n int64) {
	if n < 1<<33 {
		copy(field, fmt.Sprintf("%011o\x00", n))
		return
	}
	binary.BigEndian.PutUint64(field[4:], uint64(n))
	field[0] = 0x80
}

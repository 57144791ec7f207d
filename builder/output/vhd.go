package output

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// vhd is a target that is a fixed virtual hard disk: the raw disk and a footer (Virtual Hard Disk Image Format
// Specification 1.0, Microsoft, 2006). Azure takes no other kind, and wants a size of whole MiB.
type vhd struct {
	*raw
	id  string
	age time.Time
}

// CreateVHD begins a fixed VHD; id is its UUID, age when it was made.
func CreateVHD(path, id string, age time.Time) (Target, error) {
	r, err := createRaw(path)
	return vhd{r, id, age}, err
}

// Close implements Target; the footer comes last.
func (v vhd) Close() (string, error) {
	footer, err := vhdFooter(v.at, v.id, v.age)
	if err == nil {
		_, err = v.Write(footer)
	}
	sum, closed := v.raw.Close()
	return sum, errors.Join(err, closed)
}

// vhdEpoch is from when the format counts seconds.
var vhdEpoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// vhdFooter is the last sector of the file for a disk of size bytes.
func vhdFooter(size int64, guid string, age time.Time) ([]byte, error) {
	if size%(1<<20) != 0 {
		return nil, fmt.Errorf("a VHD of %d bytes is not a whole number of MiB, which Azure wants", size)
	}
	id, err := parseGUID(guid)
	if err != nil {
		return nil, err
	}
	f := make([]byte, 0, Sector)
	big := binary.BigEndian
	f = append(f, "conectix"...)
	f = big.AppendUint32(f, 2)       // features: the reserved bit
	f = big.AppendUint32(f, 0x10000) // format 1.0
	f = big.AppendUint64(f, ^uint64(0))
	f = big.AppendUint32(f, uint32(age.Sub(vhdEpoch).Seconds()))
	// Readers take the size for some creators, QEMU among them, from the geometry, which is less exact; not for this one.
	f = append(f, "win "...)
	f = big.AppendUint32(f, 0x60001)
	f = append(f, "Wi2k"...)
	f = big.AppendUint64(f, uint64(size))
	f = big.AppendUint64(f, uint64(size))
	cylinders, heads, sectors := vhdGeometry(size / Sector)
	f = big.AppendUint16(f, cylinders)
	f = append(f, heads, sectors)
	f = big.AppendUint32(f, 2) // fixed
	checksum := len(f)
	f = big.AppendUint32(f, 0)
	f = append(f, id...)
	f = f[:Sector] // not in a saved state; the rest is reserved
	var sum uint32
	for _, b := range f {
		sum += uint32(b)
	}
	big.PutUint32(f[checksum:], ^sum)
	return f, nil
}

// vhdGeometry is the specification's appendix, "CHS Calculation".
func vhdGeometry(total int64) (cylinders uint16, heads, sectors byte) {
	total = min(total, 65535*16*255)
	if total >= 65535*16*63 {
		return uint16(total / 255 / 16), 16, 255
	}
	perTrack, h := int64(17), int64(0)
	cylinderHeads := total / perTrack
	if h = max((cylinderHeads+1023)/1024, 4); cylinderHeads >= h*1024 || h > 16 {
		perTrack, h = 31, 16
		cylinderHeads = total / perTrack
	}
	if cylinderHeads >= h*1024 {
		perTrack, h = 63, 16
		cylinderHeads = total / perTrack
	}
	return uint16(cylinderHeads / h), byte(h), byte(perTrack)
}

package output

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"

	"github.com/klauspost/compress/zlib"
)

// Numbers of the streamOptimized form (VMware, Virtual Disk Format 5.0, "Hosted Sparse Extents" and "Stream-Optimized
// Compressed Sparse Extents").
const (
	vmdkMagic = 0x564d444b
	// vmdkFlags: new lines can be tested, grains are compressed, markers between them.
	vmdkFlags = 1 | 1<<16 | 1<<17
	// vmdkTable is how many grains a grain table has.
	vmdkTable = 512
	// vmdkDescriptor is the room for the descriptor, in sectors behind the header.
	vmdkDescriptor = 20
	// vmdkAtEnd stands in the first header for the place of the grain directory, which only the footer knows.
	vmdkAtEnd = ^uint64(0)

	markerTable, markerDirectory, markerFooter = 1, 2, 3
)

// vmdk is a target that is a streamOptimized VMDK: compressed grains in the order of the disk, each behind a marker, a
// table after every 512 of them, the directory of the tables at the end. What is nothing but zeros is not there.
type vmdk struct {
	file    *packedFile
	out     *ordered
	writers sync.Pool
	// at is the next grain's number on the disk.
	at, size int64
	head     []byte
	// table holds the sectors of the grains of the table under way, directory those of the tables.
	table     [vmdkTable]uint32
	directory []uint32
}

// CreateVMDK begins a VMDK for a disk of size bytes; id, a GUID, stands for its content.
func CreateVMDK(path string, size int64, id string) (Target, error) {
	descriptor, err := vmdkText(filepath.Base(path), size, id)
	if err != nil {
		return nil, err
	}
	file, err := createPacked(path)
	if err != nil {
		return nil, err
	}
	v := &vmdk{file: file, out: newOrdered(file), size: size}
	v.writers.New = func() any {
		// It fails only for a level that does not exist.
		w, _ := zlib.NewWriterLevel(nil, zlib.BestSpeed)
		return w
	}
	v.head = vmdkHeader(size, vmdkAtEnd)
	start := make([]byte, Grain) // the overhead is a whole grain
	copy(start, v.head)
	copy(start[Sector:], descriptor)
	return v, v.out.add(func() piece { return piece{data: start} })
}

// Write implements Sink.
func (v *vmdk) Write(data []byte) (int, error) {
	for begin := 0; begin < len(data); begin += Grain {
		grain, number := bytes.Clone(data[begin:begin+Grain]), v.at
		err := v.out.add(func() piece {
			packed, err := v.grain(number, grain)
			return piece{data: packed, err: err, placed: func() error {
				v.table[number%vmdkTable] = v.sector()
				return nil
			}}
		})
		if err != nil {
			return begin, err
		}
		if err := v.step(); err != nil {
			return begin, err
		}
	}
	return len(data), nil
}

// Skip implements Sink.
func (v *vmdk) Skip(size int64) error {
	for ; size > 0; size -= Grain {
		if err := v.step(); err != nil {
			return err
		}
	}
	return nil
}

// step goes on to the next grain, and writes the table of those before where it is full.
func (v *vmdk) step() error {
	v.at++
	if v.at%vmdkTable != 0 && v.at*Grain < v.size {
		return nil
	}
	return v.out.add(func() piece { return piece{placed: v.writeTable} })
}

// grain is a grain's marker and its bytes, compressed, up to a whole sector.
func (v *vmdk) grain(number int64, data []byte) ([]byte, error) {
	packed := bytes.NewBuffer(make([]byte, 12, Grain+1024))
	w := v.writers.Get().(*zlib.Writer)
	defer v.writers.Put(w)
	w.Reset(packed)
	if _, err := w.Write(data); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	out := packed.Bytes()
	binary.LittleEndian.PutUint64(out, uint64(number*Grain/Sector))
	binary.LittleEndian.PutUint32(out[8:], uint32(len(out)-12))
	return pad(out), nil
}

// sector is the number of the file's next sector.
func (v *vmdk) sector() uint32 { return uint32(v.file.at / Sector) }

func (v *vmdk) writeTable() error {
	if v.table == [vmdkTable]uint32{} {
		v.directory = append(v.directory, 0)
		return nil
	}
	v.directory = append(v.directory, v.sector()+1)
	err := v.marked(markerTable, littleWords(v.table[:]))
	clear(v.table[:])
	return err
}

// marked writes metadata behind a marker.
func (v *vmdk) marked(kind uint32, data []byte) error {
	marker := make([]byte, Sector)
	binary.LittleEndian.PutUint64(marker, uint64(len(data)/Sector))
	binary.LittleEndian.PutUint32(marker[12:], kind)
	_, err := v.file.Write(append(marker, data...))
	return err
}

// finish writes the directory, the footer with its place, and the marker of the end.
func (v *vmdk) finish() error {
	if v.at*Grain != v.size {
		return fmt.Errorf("a VMDK for %d bytes was given %d", v.size, v.at*Grain)
	}
	place := uint64(v.sector()) + 1
	if err := v.marked(markerDirectory, pad(littleWords(v.directory))); err != nil {
		return err
	}
	if err := v.marked(markerFooter, vmdkHeader(v.size, place)); err != nil {
		return err
	}
	_, err := v.file.Write(make([]byte, Sector))
	return err
}

// Close implements Target.
func (v *vmdk) Close() (string, error) {
	err := v.out.close()
	if err == nil {
		err = v.finish()
	}
	sum, closed := v.file.close()
	return sum, errors.Join(err, closed)
}

// vmdkHeader is the first sector of the file, and with the directory's place the footer.
func vmdkHeader(size int64, directory uint64) []byte {
	little := binary.LittleEndian
	h := little.AppendUint32(nil, vmdkMagic)
	h = little.AppendUint32(h, 3)
	h = little.AppendUint32(h, vmdkFlags)
	for _, n := range []uint64{uint64(size / Sector), Grain / Sector, 1, vmdkDescriptor} {
		h = little.AppendUint64(h, n)
	}
	h = little.AppendUint32(h, vmdkTable)
	for _, n := range []uint64{0, directory, Grain / Sector} {
		h = little.AppendUint64(h, n)
	}
	h = append(h, 0, '\n', ' ', '\r', '\n') // shut down cleanly; what a transfer as text would spoil
	h = little.AppendUint16(h, 1)           // deflate
	return pad(h)
}

// vmdkText is the descriptor. The geometry is that of a large SCSI disk.
func vmdkText(name string, size int64, id string) (string, error) {
	if size%Grain != 0 {
		return "", fmt.Errorf("a VMDK of %d bytes is not a whole number of grains of %d", size, Grain)
	}
	content := strings.ReplaceAll(id, "-", "")
	if len(content) != 32 {
		return "", fmt.Errorf("%q is not a GUID", id)
	}
	text := fmt.Sprintf(`# Disk DescriptorFile
version=1
CID=%s
parentCID=ffffffff
createType="streamOptimized"

# Extent description
RW %d SPARSE "%s"

# The Disk Data Base
#DDB

ddb.adapterType = "lsilogic"
ddb.geometry.cylinders = "%d"
ddb.geometry.heads = "255"
ddb.geometry.sectors = "63"
ddb.longContentID = "%s"
ddb.virtualHWVersion = "13"
`, content[24:], size/Sector, name, size/Sector/255/63, content)
	if len(text) > vmdkDescriptor*Sector {
		return "", fmt.Errorf("the VMDK's descriptor has no room for the name %q", name)
	}
	return text, nil
}

func littleWords(words []uint32) []byte {
	var data []byte
	for _, w := range words {
		data = binary.LittleEndian.AppendUint32(data, w)
	}
	return data
}

// pad fills data up with zeros to a whole sector.
func pad(data []byte) []byte {
	if rest := len(data) % Sector; rest > 0 {
		data = append(data, make([]byte, Sector-rest)...)
	}
	return data
}

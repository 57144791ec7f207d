package output

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"text/template"
	"time"
)

// OVA is a virtual appliance: a tar with a description of the machine (OVF 1.1, DMTF DSP0243), the digests and the disk.
type OVA struct {
	// Name is the machine's.
	Name string
	// Version says what is in it.
	Version string
	// VMDK is the disk's file, Sum its SHA-256, Capacity the disk's size in bytes.
	VMDK     string
	Sum      string
	Capacity int64
	// Epoch is every file's time.
	Epoch time.Time
}

//go:embed machine.ovf.tmpl
var ovfText string

// Names in the archive.
const (
	ovaDescription = "kiln.ovf"
	ovaDigests     = "kiln.mf"
	ovaDisk        = "disk.vmdk"
)

// Write makes the archive path and returns its SHA-256.
func (o OVA) Write(path string) (sum string, err error) {
	disk, err := os.Open(o.VMDK)
	if err != nil {
		return "", err
	}
	defer disk.Close()
	info, err := disk.Stat()
	if err != nil {
		return "", err
	}
	description, err := o.describe(info.Size())
	if err != nil {
		return "", err
	}
	inside := digest{sha256.New()}
	inside.Write(description)
	digests := fmt.Sprintf("SHA256(%s)= %s\nSHA256(%s)= %s\n", ovaDescription, inside.text(), ovaDisk, o.Sum)
	file, err := createPacked(path)
	if err != nil {
		return "", err
	}
	archive := tar.NewWriter(file)
	// The description has to be the first file, its digests the second (DSP0243, section 6.2).
	err = errors.Join(
		o.add(archive, ovaDescription, int64(len(description)), bytes.NewReader(description)),
		o.add(archive, ovaDigests, int64(len(digests)), bytes.NewReader([]byte(digests))),
		o.add(archive, ovaDisk, info.Size(), disk),
		archive.Close(),
	)
	sum, closed := file.close()
	return sum, errors.Join(err, closed)
}

func (o OVA) add(archive *tar.Writer, name string, size int64, content io.Reader) error {
	err := archive.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: size, ModTime: o.Epoch, Format: tar.FormatUSTAR})
	if err != nil {
		return err
	}
	_, err = io.CopyBuffer(struct{ io.Writer }{archive}, struct{ io.Reader }{content}, make([]byte, 1<<20))
	return err
}

func (o OVA) describe(size int64) ([]byte, error) {
	t, err := template.New(ovaDescription).Parse(ovfText)
	if err != nil {
		return nil, err
	}
	var text bytes.Buffer
	err = t.Execute(&text, map[string]any{"Name": o.Name, "Version": o.Version, "Disk": ovaDisk, "Size": size, "Capacity": o.Capacity})
	return text.Bytes(), err
}

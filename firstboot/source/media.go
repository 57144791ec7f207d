package source

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kiln-os/kiln/internal/document"
)

// How long a device may take to appear: a disk of the machine is there before systemd, a USB stick may take some seconds
// longer. Where the network may have the identity, too, every boot from there would wait in vain.
const (
	deviceWait = 5 * time.Second
	briefWait  = 2 * time.Second
)

// medium is a filesystem on a device of the machine.
type medium struct {
	name string
	// devices are where it may be, in order, and what says that for people.
	devices []string
	what    string
	// read takes what it holds from where it is mounted.
	read func(directory string) (Found, error)
}

// labelled is a filesystem, or a partition, with a label. FAT may have it in upper case only.
func labelled(name, label string, read func(directory string) (Found, error)) medium {
	d := medium{name: name, what: "filesystem or partition with the label " + label, read: read}
	for _, by := range []string{"by-label", "by-partlabel"} {
		for _, written := range slices.Compact([]string{label, strings.ToUpper(label)}) {
			d.devices = append(d.devices, "/dev/disk/"+by+"/"+written)
		}
	}
	return d
}

func (m Machine) medium(d medium) Source {
	return Source{Name: d.name, Offline: true, Appears: deviceWait, Find: func(context.Context) (Found, error) {
		for _, place := range d.devices {
			device := m.Root.Path(place)
			if _, err := os.Stat(device); err != nil {
				continue
			}
			mount := m.Mount
			if mount == nil {
				mount = m.kernelMount
			}
			directory, done, err := mount(device)
			if err != nil {
				return Found{}, err
			}
			defer done()
			return d.read(directory)
		}
		return Found{}, fmt.Errorf("%w: there is no %s", errNotYet, d.what)
	}}
}

// mountDirectory is where a medium is mounted while it is read.
const mountDirectory = "/run/kiln/identity"

// kernelMount mounts read-only, without replaying a journal: what carries the identity is never written to.
func (m Machine) kernelMount(device string) (string, func(), error) {
	directory := m.Root.Path(mountDirectory)
	if err := os.MkdirAll(directory, 0o700); err != nil {
		return "", nil, err
	}
	flags := uintptr(unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC)
	var refused []string
	for _, try := range []struct{ filesystem, options string }{{"vfat", ""}, {"iso9660", ""}, {"udf", ""}, {"ext4", "noload"}, {"squashfs", ""}} {
		err := unix.Mount(device, directory, try.filesystem, flags, try.options)
		if err == nil {
			return directory, func() { _ = unix.Unmount(directory, unix.MNT_DETACH) }, nil
		}
		if errors.Is(err, unix.ENOMEDIUM) {
			return "", nil, fmt.Errorf("%w: %s has no medium", errNotYet, device)
		}
		refused = append(refused, fmt.Sprintf("as %s: %s", try.filesystem, err))
	}
	return "", nil, fmt.Errorf("mounting %s: %s", device, strings.Join(refused, ", "))
}

// readAny reads the first of names that is there, in directory; a device may write names in upper case.
func readAny(directory string, names ...string) (text []byte, name string, err error) {
	for _, name := range names {
		text, err := readLimited(filepath.Join(directory, name))
		if err == nil || !errors.Is(err, fs.ErrNotExist) {
			return text, name, err
		}
	}
	return nil, "", fs.ErrNotExist
}

// about reads what the first of names in directory says of the machine; nothing when none is there.
func about(medium, directory string, parse func(text []byte) (Metadata, error), names ...string) (Metadata, error) {
	text, file, err := readAny(directory, names...)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Metadata{}, nil
	case err != nil:
		return Metadata{}, err
	}
	metadata, err := parse(text)
	if err != nil {
		return Metadata{}, document.Problem{File: medium + ", " + file, Text: err.Error() + "; make the medium again"}
	}
	return metadata, nil
}

// readLimited reads a file of at most maxBytes.
func readLimited(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxBytes {
		return nil, document.Problem{File: path, Text: fmt.Sprintf("has %d bytes; an identity has at most %d", info.Size(), maxBytes)}
	}
	return os.ReadFile(path)
}

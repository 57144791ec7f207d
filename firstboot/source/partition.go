package source

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kiln-os/kiln/internal/nodefs"
)

// Waiting for the device: a disk of the machine is there before systemd, a USB stick may take some seconds longer.
const (
	deviceWait = 5 * time.Second
	devicePoll = 50 * time.Millisecond
)

// partition reads an identity from a filesystem or partition labelled KILN: identity.yaml, or else config.ign.
func (m Machine) partition() Source {
	name := "partition labelled " + nodefs.LabelIdentity
	return Source{Name: name, Find: func(ctx context.Context) ([]byte, error) {
		device, err := m.waitForDevice(ctx)
		if err != nil {
			return nil, err
		}
		mount := m.Mount
		if mount == nil {
			mount = m.kernelMount
		}
		directory, done, err := mount(device)
		if err != nil {
			return nil, err
		}
		defer done()
		return m.readDirectory(name, directory)
	}}
}

func (m Machine) waitForDevice(ctx context.Context) (string, error) {
	places := []string{"/dev/disk/by-label/" + nodefs.LabelIdentity, "/dev/disk/by-partlabel/" + nodefs.LabelIdentity}
	for deadline := time.Now().Add(deviceWait); ; {
		for _, place := range places {
			if _, err := os.Stat(m.Root.Path(place)); err == nil {
				return m.Root.Path(place), nil
			}
		}
		if time.Now().After(deadline) {
			return "", nothing("no device appeared within %s at %s", deviceWait, strings.Join(places, " or "))
		}
		select {
		case <-ctx.Done():
			return "", context.Cause(ctx)
		case <-time.After(devicePoll):
		}
	}
}

// readDirectory takes the identity from a mounted filesystem; name begins messages about it.
func (m Machine) readDirectory(name, directory string) ([]byte, error) {
	text, err := readLimited(filepath.Join(directory, nodefs.IdentityFile))
	switch {
	case err == nil && m.Whole:
		return nil, nothing("it holds %s, and no Ignition config", nodefs.IdentityFile)
	case err == nil || !errors.Is(err, fs.ErrNotExist):
		return text, err
	}
	raw, err := readLimited(filepath.Join(directory, nodefs.IgnitionFile))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nothing("it holds neither %s nor %s", nodefs.IdentityFile, nodefs.IgnitionFile)
	case err != nil:
		return nil, err
	}
	return m.fromConfig(name+", "+nodefs.IgnitionFile, raw)
}

// kernelMount mounts read-only, without replaying a journal: what carries the identity is never written to.
func (m Machine) kernelMount(device string) (string, func(), error) {
	directory := m.Root.Path("/run/kiln/identity")
	if err := os.MkdirAll(directory, 0o700); err != nil {
		return "", nil, err
	}
	flags := uintptr(unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC)
	var refused []string
	for _, try := range []struct{ filesystem, options string }{{"vfat", ""}, {"iso9660", ""}, {"ext4", "noload"}, {"squashfs", ""}} {
		err := unix.Mount(device, directory, try.filesystem, flags, try.options)
		if err == nil {
			return directory, func() { _ = unix.Unmount(directory, unix.MNT_DETACH) }, nil
		}
		refused = append(refused, fmt.Sprintf("as %s: %s", try.filesystem, err))
	}
	return "", nil, fmt.Errorf("mounting %s: %s", device, strings.Join(refused, ", "))
}

package initramfs

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/kiln-os/kiln/firstboot/initramfs/network"
	"github.com/kiln-os/kiln/firstboot/source"
	"github.com/kiln-os/kiln/internal/cluster"
	"github.com/kiln-os/kiln/internal/nodefs"
)

// offlineWait is how long disks may take to appear on which an identity may be. Those of the machine are there when the
// network card is.
const offlineWait = 2 * time.Second

// offlineRoot is a directory that looks to the sources like the root of a booted node: udev's names of filesystems, and the
// credentials that systemd is given, are there.
const offlineRoot = "/run/kiln/offline"

// offlineNetwork is the network of an identity that is on the machine already, and where it was found. What is wrong with an
// identity firstboot will say, and stop over; here the boot goes on without it, so that it can.
func (b *boot) offlineNetwork(ctx context.Context) (network.Config, string) {
	// Without QEMU there is nothing for it.
	_ = b.modules.load("qemu_fw_cfg")
	defer os.RemoveAll(offlineRoot)
	if err := b.dressOffline(offlineRoot); err != nil {
		b.console.complain("network: looking for an identity on the machine: %s", err)
	}
	sources, err := source.ForPlatform(b.params.Platform, source.Machine{Root: nodefs.Root(offlineRoot), Runner: b.commands})
	if err != nil {
		return network.Config{}, ""
	}
	for _, s := range sources {
		if !s.Offline {
			continue
		}
		found, err := s.Find(ctx)
		if errors.Is(err, source.ErrNothing) {
			continue
		}
		var id cluster.Identity
		if err == nil {
			id, _, err = cluster.ParseIdentityOnNode(s.Name, found.Text)
		}
		if err != nil {
			b.console.complain("network: %s: %s", s.Name, err)
			continue
		}
		b.console.say("network: an identity is on the machine: %s", s.Name)
		return network.FromIdentity(id.Node.Network), s.Name
	}
	return network.Config{}, ""
}

// dressOffline makes the directory root.
func (b *boot) dressOffline(root string) error {
	for deadline := time.Now().Add(offlineWait); len(b.devices.list()) == 0 && time.Now().Before(deadline); time.Sleep(pollInterval) {
		b.coldplug.plug()
	}
	if err := os.MkdirAll(root, 0o700); err != nil {
		return err
	}
	errs := []error{os.Symlink(b.sys, filepath.Join(root, "sys"))}
	for _, device := range b.filesystems() {
		file, err := os.Open(device)
		if err != nil {
			continue
		}
		if label := labelOf(file); label != "" {
			errs = append(errs, linkDevice(root, "by-label", label, device))
		}
		file.Close()
	}
	for _, d := range b.devices.list() {
		for _, e := range d.table.entries {
			if device := d.devices[e.number]; device != "" && e.label != "" {
				errs = append(errs, linkDevice(root, "by-partlabel", e.label, device))
			}
		}
	}
	table, err := os.ReadFile(filepath.Join(b.sys, "firmware/dmi/tables/DMI"))
	if err == nil {
		errs = append(errs, writeCredential(root, oemStrings(table)))
	}
	return errors.Join(errs...)
}

// linkDevice names a device as udev does. The first of a name stays; names with a slash are nobody's here.
func linkDevice(root, by, name, device string) error {
	dir := filepath.Join(root, "dev/disk", by)
	if strings.Contains(name, "/") {
		return nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := os.Symlink(device, filepath.Join(dir, name)); !errors.Is(err, os.ErrExist) {
		return err
	}
	return nil
}

// writeCredential puts the identity among SMBIOS strings where systemd would (systemd.io/CREDENTIALS).
func writeCredential(root string, texts []string) error {
	for _, text := range texts {
		value, plain := strings.CutPrefix(text, "io.systemd.credential:"+nodefs.CredentialIdentity+"=")
		coded, binary := strings.CutPrefix(text, "io.systemd.credential.binary:"+nodefs.CredentialIdentity+"=")
		raw := []byte(value)
		if binary {
			var err error
			if raw, err = base64.StdEncoding.DecodeString(coded); err != nil {
				return fmt.Errorf("reading the credential %s of SMBIOS: %w", nodefs.CredentialIdentity, err)
			}
		}
		if !plain && !binary {
			continue
		}
		path := filepath.Join(root, nodefs.SystemCredentials, nodefs.CredentialIdentity)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		return os.WriteFile(path, raw, 0o600)
	}
	return nil
}

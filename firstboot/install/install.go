// Package install writes a live set to a disk of the machine and boots it: steps of firstboot that run in a live system
// instead of a bootstrap.
//
// A power cut at any moment leaves a disk that holds what it held before, an unfinished installation that the next run
// takes up, or a whole disk. The order sees to that: a record says that an installation begins; the tables that were there
// before are made unreadable; the record says that what is there is ours now; everything is written and read back; and
// only then is there a partition table, backup first. The record on the disk is also how a machine that its firmware boots
// from the network again knows that it is installed.
package install

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/kiln-os/kiln/firstboot/carried"
	"github.com/kiln-os/kiln/firstboot/disks"
	"github.com/kiln-os/kiln/internal/document"
	manifest "github.com/kiln-os/kiln/internal/install"
	"github.com/kiln-os/kiln/internal/nodefs"
	"github.com/kiln-os/kiln/internal/step"
)

// Request says what to install, where, and for whom.
type Request struct {
	// Rule picks the disk.
	Rule disks.Rule
	// Wipe is the word that lets what is on the disk be destroyed; empty does not.
	Wipe string
	// Boot is how to boot the disk: BootAuto and the others.
	Boot string
	// SHA256 is the digest of install.json, 64 hexadecimal digits.
	SHA256 string
	// Node and Cluster are the identity's names; empty without an identity.
	Node, Cluster string
	// Carry is what the installed system gets as its identity.
	Carry carried.Document
}

// Installer is what the steps touch: a real machine, or files in a test.
type Installer struct {
	Request Request
	Source  Source
	// Disks lists the machine's disks.
	Disks func() []disks.Disk
	// Open opens a disk; with write, for nobody else.
	Open func(path string, write bool) (*Target, error)
	// HasJournal tells whether a partition is the state of a node that has begun to live.
	HasJournal func(ctx context.Context, disk string, number int) (bool, error)
	Firmware   Firmware
	Loader     Loader
	// Say tells how far a step is.
	Say func(step, text string)
	Now func() time.Time

	manifest manifest.Manifest
	disk     disks.Disk
	what     string
	why      string
	carry    []byte
	bootCode []byte
	// how is the way out of the live system.
	how string
	// written has the parts that are on the disk, so that a step that runs again goes on behind them.
	written map[string]bool
}

// Looking is what comes first: it changes nothing, and decides what is done.
func (i *Installer) Looking() step.List {
	return step.List{
		{Name: "install-set", Does: "reads " + manifest.File + " from " + i.Source.String(), Run: i.readSet},
		{Name: "install-disk", Does: "picks the disk by the rule " + i.Request.Rule.String() + ", looks at what it holds and decides what to do with it", Run: i.pickDisk},
	}
}

// Doing is what follows, once Looking has decided.
func (i *Installer) Doing() step.List {
	var list step.List
	switch i.what {
	case doWrite:
		list = step.List{
			{Name: "install-write", Does: "writes everything but the partition table", Run: i.writeParts},
			{Name: "install-verify", Does: "reads everything back and compares it with " + manifest.File + " and the root hash", Run: i.verifyParts},
			{Name: "install-table", Does: "writes the partition table: from here on the disk boots", Run: i.writeTable},
		}
	case doCarry:
		list = step.List{{Name: "install-identity", Does: "gives the installed system the identity of now", Run: i.replaceCarried}}
	}
	return append(list, step.Step{Name: "install-boot", Does: "makes the firmware prefer the disk, and the installed kernel ready", Run: i.prepareBoot})
}

// All is every step of a whole installation, for people.
func (i *Installer) All() step.List {
	list := i.Looking()
	i.what = doWrite
	return append(list, i.Doing()...)
}

// Result says what has become of the disk, for people.
func (i *Installer) Result() string {
	name := i.Request.Node
	if name == "" {
		name = "the image, without an identity"
	}
	return fmt.Sprintf("%s holds %s; %s", i.disk.Path, name, ending(i.Request.Boot))
}

func (i *Installer) readSet(ctx context.Context) (string, error) {
	if i.Request.SHA256 == "" {
		return "", document.Problem{File: "kernel command line", Field: nodefs.ParamInstallSHA256,
			Text: "is missing; boot the live set with its own kernel command line"}
	}
	var err error
	if i.manifest, err = readManifest(ctx, i.Source, i.Request.SHA256); err != nil {
		return "", err
	}
	if i.carry, err = carried.Encode(i.Request.Carry); err != nil {
		return "", err
	}
	i.written = map[string]bool{}
	return fmt.Sprintf("%s, %s to write", i.manifest.Image, document.Size(i.bytes())), nil
}

// bytes is how much there is to write.
func (i *Installer) bytes() int64 {
	total := int64(len(i.carry))
	for _, p := range i.manifest.Disk.Partitions {
		if blob, ok := i.manifest.Blob(p.Content); ok {
			total += blob.Size
		}
	}
	return total
}

func (i *Installer) pickDisk(ctx context.Context) (string, error) {
	var err error
	if i.disk, err = disks.Pick(i.Request.Rule, i.Disks()); err != nil {
		return "", fmt.Errorf("picking the disk: %w", err)
	}
	t, err := i.Open(i.disk.Path, false)
	if err != nil {
		return "", err
	}
	defer t.Close()
	if err := i.fits(t); err != nil {
		return "", err
	}
	h, err := look(ctx, t, i.HasJournal)
	if err != nil {
		return "", err
	}
	if i.what, i.why, err = decide(h, i.wanted()); err != nil {
		return "", fmt.Errorf("%s: %w", i.disk, err)
	}
	return fmt.Sprintf("%s: %s; %s", i.disk, i.why, map[string]string{
		doWrite: "writing it", doCarry: "replacing the identity it carries", doBoot: "leaving it as it is"}[i.what]), nil
}

// fits compares the disk with what is to lie on it.
func (i *Installer) fits(t *Target) error {
	need := max(i.manifest.Disk.Size, i.whole().End()+manifest.Grain)
	if t.Size < need {
		return document.Problem{File: "install", Field: "disk", Text: fmt.Sprintf("%s has %s, and the image needs %s; choose a larger disk", i.disk.Path, document.Size(t.Size), document.Size(need))}
	}
	if manifest.Grain%t.Sector != 0 {
		return document.Problem{File: "install", Field: "disk", Text: fmt.Sprintf("%s has sectors of %d bytes, which do not divide 1 MiB; choose another disk", i.disk.Path, t.Sector)}
	}
	return nil
}

func (i *Installer) wanted() wanted {
	r := i.Request
	return wanted{manifest: r.SHA256, carry: i.carry, node: r.Node, cluster: r.Cluster, wipe: r.Wipe}
}

// whole is the partition table with the partition that carries the identity, behind all others.
func (i *Installer) whole() manifest.Disk {
	disk := i.manifest.Disk
	id := sha256.Sum256([]byte(nodefs.LabelInstall + " " + disk.ID))
	// Version 8 (RFC 9562): custom.
	id[6], id[8] = id[6]&0x0f|0x80, id[8]&0x3f|0x80
	disk.Partitions = append(append([]manifest.Partition{}, disk.Partitions...), manifest.Partition{
		Label: nodefs.LabelInstall, Type: carried.Type, Offset: disk.End(), Size: carried.Size,
		ID: fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:16]),
	})
	return disk
}

// carriedAt is where the carried identity lies.
func (i *Installer) carriedAt() int64 { return i.manifest.Disk.End() }

// record is what the disk keeps about this installation.
func (i *Installer) record(state string) record {
	r := i.Request
	return record{State: state, Manifest: r.SHA256, Image: i.manifest.Image, Node: r.Node, Cluster: r.Cluster,
		Wipe: r.Wipe, Time: i.Now().UTC()}
}

// withDisk opens the disk for writing for as long as do runs. A disk that is not the one which was looked at is refused: the
// kernel may have given its name to another.
func (i *Installer) withDisk(do func(t *Target) error) error {
	again, err := disks.Pick(i.Request.Rule, i.Disks())
	if err != nil {
		return fmt.Errorf("picking the disk again: %w", err)
	}
	if again.Path != i.disk.Path || again.Serial != i.disk.Serial || again.Size != i.disk.Size {
		return fmt.Errorf("picking the disk again: it is %s now, and was %s", again, i.disk)
	}
	t, err := i.Open(i.disk.Path, true)
	if err != nil {
		return err
	}
	return errors.Join(do(t), t.Close())
}

package install

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/kiln-os/kiln/internal/document"
	manifest "github.com/kiln-os/kiln/internal/install"
)

// visible is how often a long write says how far it is.
const visible = 10 * time.Second

// parts is the name under which written has all of them.
const parts = "all parts"

// writeParts writes everything but the partition table.
func (i *Installer) writeParts(ctx context.Context) (string, error) {
	start := i.Now()
	err := i.withDisk(func(t *Target) error {
		if err := i.once("clear", func() error { return i.takeOver(t) }); err != nil {
			return err
		}
		if err := i.once("boot code", func() error { return i.readBootCode(ctx) }); err != nil {
			return err
		}
		for _, p := range i.manifest.Disk.Partitions {
			blob, ok := i.manifest.Blob(p.Content)
			if !ok {
				continue
			}
			if err := i.once(p.Label, func() error { return i.writeBlob(ctx, t, p.Offset, blob) }); err != nil {
				return err
			}
		}
		return i.once("identity", func() error { return put(t, piece{i.carriedAt(), i.carry}) })
	})
	if err != nil {
		return "", err
	}
	i.written[parts] = true
	return fmt.Sprintf("%s on %s, %s", document.Size(i.bytes()), i.disk.Path, rate(i.bytes(), i.Now().Sub(start))), nil
}

// once runs do unless it was done before.
func (i *Installer) once(name string, do func() error) error {
	if i.written[name] {
		return nil
	}
	err := do()
	i.written[name] = err == nil
	return err
}

// takeOver makes the disk ours: what was on it cannot be found from then on.
func (i *Installer) takeOver(t *Target) error {
	if err := i.record(began).write(t); err != nil {
		return err
	}
	// Everything in front of the records and behind them, the backup table, and where filesystems begin and end.
	ranges := [][2]int64{{0, recordOffset}, {recordOffset + recordSlots*recordSize, manifest.Grain}, {t.Size - edge, t.Size}}
	for _, r := range ranges {
		if err := zero(t, r[0], r[1]); err != nil {
			return err
		}
	}
	if err := t.Storage.Sync(); err != nil {
		return fmt.Errorf("clearing %s: %w", t.Path, err)
	}
	if err := i.record(writing).write(t); err != nil {
		return err
	}
	for _, p := range i.whole().Partitions {
		if err := errors.Join(zero(t, p.Offset, p.Offset+manifest.Grain), zero(t, p.End()-manifest.Grain, p.End())); err != nil {
			return err
		}
	}
	// The state partition will begin behind the last one: no filesystem of old may be taken for it.
	end := i.whole().End()
	return zero(t, end, min(end+manifest.Grain, t.Size-edge))
}

func (i *Installer) readBootCode(ctx context.Context) error {
	if i.manifest.BootCode == nil {
		return nil
	}
	blob := *i.manifest.BootCode
	reader, err := openBlob(ctx, i.Source, blob)
	if err != nil {
		return err
	}
	defer reader.Close()
	code, err := io.ReadAll(io.LimitReader(reader, manifest.BootCodeSize+1))
	if err != nil {
		return fmt.Errorf("reading %s: %w", blob.File, err)
	}
	if sum := sha256.Sum256(code); hex.EncodeToString(sum[:]) != blob.SHA256 {
		return fmt.Errorf("reading %s: its SHA-256 is %x; %s wants %s", blob.File, sum, manifest.File, blob.SHA256)
	}
	i.bootCode = code
	return nil
}

func (i *Installer) writeBlob(ctx context.Context, t *Target, offset int64, b manifest.Blob) error {
	reader, err := openBlob(ctx, i.Source, b)
	if err != nil {
		return err
	}
	start, said := i.Now(), i.Now()
	stream := Stream{Name: b.File, Reader: reader, Offset: offset, Size: b.Size, Progress: func(done int64) {
		if i.Now().Sub(said) >= visible {
			said = i.Now()
			i.Say("install-write", fmt.Sprintf("%s: %s of %s, %s", b.File, document.Size(done), document.Size(b.Size), rate(done, said.Sub(start))))
		}
	}}
	err = stream.Copy(ctx, t)
	if closeErr := reader.Close(); err == nil && closeErr != nil {
		err = fmt.Errorf("reading %s: %w", b.File, closeErr)
	}
	return err
}

// rate is how fast n bytes were moved, for people.
func rate(n int64, took time.Duration) string {
	return fmt.Sprintf("%.0f MiB/s", float64(n)/(1<<20)/max(took.Seconds(), 0.001))
}

// verifyParts reads everything back. A part that is not what it should be is written again before the step runs again.
func (i *Installer) verifyParts(ctx context.Context) (string, error) {
	start := i.Now()
	if !i.written[parts] {
		if _, err := i.writeParts(ctx); err != nil {
			return "", err
		}
	}
	err := i.withDisk(func(t *Target) error {
		for _, content := range []string{manifest.ContentESP, manifest.ContentBIOS} {
			p, there := i.manifest.Disk.With(content)
			blob, has := i.manifest.Blob(content)
			if !there || !has {
				continue
			}
			if err := verifyBlob(ctx, t, p.Offset, blob); err != nil {
				return err
			}
		}
		return errors.Join(i.verifyCarried(t), verifyTree(ctx, t, i.manifest))
	})
	if err != nil {
		i.written = map[string]bool{}
		return "", i.blame(ctx, err)
	}
	return fmt.Sprintf("%s holds what it should, %s", i.disk.Path, rate(i.bytes(), i.Now().Sub(start))), nil
}

// blame finds out whether what is wrong on the disk was wrong before: then the source is at fault.
func (i *Installer) blame(ctx context.Context, err error) error {
	wrong, ok := errors.AsType[*differs](err)
	if !ok {
		return err
	}
	reader, openErr := openBlob(ctx, i.Source, wrong.blob)
	if openErr != nil {
		return errors.Join(err, openErr)
	}
	defer reader.Close()
	sum := sha256.New()
	if _, readErr := io.Copy(sum, reader); readErr != nil {
		return errors.Join(err, fmt.Errorf("reading %s: %w", wrong.blob.File, readErr))
	}
	if have := hex.EncodeToString(sum.Sum(nil)); have != wrong.blob.SHA256 {
		return fmt.Errorf("reading %s: its SHA-256 is %s; %s wants %s: the medium is damaged, or the file was changed", wrong.blob.File, have, manifest.File, wrong.blob.SHA256)
	}
	return err
}

func (i *Installer) verifyCarried(t *Target) error {
	have := make([]byte, len(i.carry))
	if err := readFull(t, have, i.carriedAt()); err != nil {
		return fmt.Errorf("reading back the identity: %w", err)
	}
	if !bytes.Equal(have, i.carry) {
		return fmt.Errorf("reading back the identity: %s has other bytes than were written to it; the disk is bad", t.Path)
	}
	return nil
}

// writeTable writes the partition table in the order that leaves it whole or unseen, reads it back and says so on the disk.
func (i *Installer) writeTable(context.Context) (string, error) {
	disk := i.whole()
	err := i.withDisk(func(t *Target) error {
		all, err := newTable(disk, t.Size, t.Sector, i.bootCode)
		if err != nil {
			return fmt.Errorf("making the partition table: %w", err)
		}
		for _, p := range []piece{all.backupEntries, all.backupHeader, all.entries, all.head} {
			if err := put(t, p); err != nil {
				return fmt.Errorf("writing the partition table: %w", err)
			}
		}
		for _, p := range []piece{all.backupEntries, all.backupHeader, all.entries, all.head} {
			have := make([]byte, len(p.bytes))
			if err := readFull(t, have, p.offset); err != nil || !bytes.Equal(have, p.bytes) {
				return errors.Join(fmt.Errorf("reading back the partition table: %s has other bytes than were written to it; the disk is bad", t.Path), err)
			}
		}
		if err := i.record(finished).write(t); err != nil {
			return err
		}
		if t.Changed != nil {
			return t.Changed()
		}
		return nil
	})
	return fmt.Sprintf("%d partitions on %s", len(disk.Partitions), i.disk.Path), err
}

// replaceCarried gives a disk that is installed already another identity. The record is written last: a power cut before
// it has the next run do this again.
func (i *Installer) replaceCarried(context.Context) (string, error) {
	err := i.withDisk(func(t *Target) error {
		if err := put(t, piece{i.carriedAt(), i.carry}); err != nil {
			return fmt.Errorf("writing the identity: %w", err)
		}
		if err := i.verifyCarried(t); err != nil {
			return err
		}
		return i.record(finished).write(t)
	})
	return "the disk carries the identity of now", err
}

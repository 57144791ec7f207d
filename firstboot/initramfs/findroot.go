package initramfs

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// opened is where a verified root is read from.
type opened struct {
	// data and tree are the block devices of the root and of its hash tree.
	data, tree string
	// where says for people where they are, and remedy what to do when the root there is damaged.
	where, remedy string
}

// pollInterval is how often the machine is asked for new devices.
const pollInterval = 20 * time.Millisecond

// findRoot loads modules for devices that appear until the root's partitions are among them.
func (b *boot) findRoot(ctx context.Context) (string, error) {
	data, tree, err := rootUUIDs(b.params.RootHash)
	if err != nil {
		return "", err
	}
	var found root
	before := len(b.modules.names())
	for start, told := time.Now(), time.Now(); ; time.Sleep(pollInterval) {
		var ok bool
		if found, ok = findRoot(b.devices.list(), b.params.RootHash); ok {
			break
		}
		if time.Since(start) > b.params.RootWait {
			return "", withHint(fmt.Errorf("no disk with the root's partitions after %s: looked on every disk for PARTUUID=%s (data) and PARTUUID=%s (hash tree)",
				b.params.RootWait, data, tree), "check that the disk is connected, that this image was written to it whole, and that "+
				"the Image document's modules name the driver of its controller; a slow one may need a larger kiln.rootwait")
		}
		if time.Since(told) > 5*time.Second {
			told = time.Now()
			b.console.say("find-root: waiting for PARTUUID=%s, %.0f s of %s", data, time.Since(start).Seconds(), b.params.RootWait)
		}
		b.coldplug.plug()
	}
	for _, other := range found.others {
		b.console.complain("find-root: %s carries the same root; %s is used", other, found.disk.path)
	}
	b.root = opened{data: found.dataPath(), tree: found.treePath(), where: found.disk.path, remedy: "write the image to the disk again"}
	b.stateDisk = found.disk.name
	b.facts.RootDevice, b.facts.RootLabel = found.dataPath(), found.data.label
	return fmt.Sprintf("%s (%s) with hash tree %s; drivers %s", found.dataPath(), found.data.label, found.treePath(),
		strings.Join(b.modules.names()[before:], " ")), nil
}

// rootUUIDs derives the PARTUUIDs of the root's data and hash partitions: the first and the last 16 bytes of the root
// hash (Discoverable Partitions Specification).
func rootUUIDs(hash []byte) (data, tree string, err error) {
	if len(hash) < 32 {
		return "", "", errors.New("root hash: shorter than 32 bytes")
	}
	return plainUUID(hash[:16]), plainUUID(hash[len(hash)-16:]), nil
}

func plainUUID(b []byte) string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:16])
}

// root is where the root's two partitions are.
type root struct {
	disk       disk
	data, tree entry
	// others names further disks that carry the same root.
	others []string
}

func (r root) dataPath() string { return r.disk.devices[r.data.number] }
func (r root) treePath() string { return r.disk.devices[r.tree.number] }

// findRoot looks for a disk that has both partitions of the root with that hash. The first by name is taken.
func findRoot(disks []disk, hash []byte) (root, bool) {
	data, tree, err := rootUUIDs(hash)
	if err != nil {
		return root{}, false
	}
	var found root
	for _, d := range disks {
		dataEntry, hasData := d.withUUID(data)
		treeEntry, hasTree := d.withUUID(tree)
		switch {
		case !hasData || !hasTree:
		case found.disk.name == "":
			found = root{disk: d, data: dataEntry, tree: treeEntry}
		default:
			found.others = append(found.others, d.path)
		}
	}
	return found, found.disk.name != ""
}

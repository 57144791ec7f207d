package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/containerd/go-dmverity/pkg/dm"
	"golang.org/x/sys/unix"

	"github.com/kiln-os/kiln/internal/nodefs"
)

// osRelease compares Debian's own description of the root with the release.
func (n *node) osRelease(context.Context) (string, error) {
	text, err := os.ReadFile(n.root.Path("/etc/os-release"))
	if err != nil {
		return "", err
	}
	fields := parseAssignments(string(text))
	return fields["PRETTY_NAME"], errors.Join(
		differs("ID", fields["ID"], "debian"),
		differs("VERSION_CODENAME", fields["VERSION_CODENAME"], n.release.Suite))
}

// parseAssignments reads lines of KEY=VALUE, as in os-release.
func parseAssignments(text string) map[string]string {
	fields := map[string]string{}
	for line := range strings.Lines(text) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && !strings.HasPrefix(key, "#") {
			fields[key] = strings.Trim(value, `"'`)
		}
	}
	return fields
}

// rootVerity compares the root hash in four places: what device-mapper checks with, what the kernel was told, what the
// initramfs noted, and (in node-object) what the cluster was told.
func (n *node) rootVerity(context.Context) (string, error) {
	name, err := n.verityDevice()
	if err != nil {
		return "", err
	}
	control, err := dm.Open()
	if err != nil {
		return "", err
	}
	defer control.Close()
	table, err := control.TableStatus(name, true)
	if err != nil {
		return "", err
	}
	status, err := control.TableStatus(name, false)
	if err != nil {
		return "", err
	}
	if n.rootHash, err = verityRootHash(table); err != nil {
		return "", err
	}
	cmdline, err := os.ReadFile(n.root.Path("/proc/cmdline"))
	if err != nil {
		return "", err
	}
	facts, err := n.bootFacts()
	if err != nil {
		return "", err
	}
	return n.rootHash, errors.Join(
		differs("roothash of the kernel command line", parameter(string(cmdline), nodefs.ParamRootHash), n.rootHash),
		differs("root hash in boot.json", facts.RootHash, n.rootHash),
		differs("verity status (V is verified, C corrupted)", strings.TrimSpace(status), "V"))
}

// verityDevice is the device-mapper name of the one verity device.
func (n *node) verityDevice() (string, error) {
	devices, err := filepath.Glob(n.root.Path("/sys/block/dm-*/dm"))
	if err != nil {
		return "", err
	}
	var names []string
	for _, dir := range devices {
		uuid, err := os.ReadFile(filepath.Join(dir, "uuid"))
		if err != nil {
			return "", err
		}
		name, err := os.ReadFile(filepath.Join(dir, "name"))
		if err != nil {
			return "", err
		}
		// libcryptsetup's convention, which the device's maker follows; the table itself is what counts.
		if strings.HasPrefix(string(uuid), "CRYPT-VERITY") || strings.Contains(string(name), "root") {
			names = append(names, strings.TrimSpace(string(name)))
		}
	}
	if len(names) != 1 {
		return "", fmt.Errorf("got verity devices %q, want exactly one", names)
	}
	return names[0], nil
}

// verityRootHash finds the root hash in a dm-verity table: version, data and hash device, two block sizes, number of
// blocks, start of the hashes, algorithm, root hash, salt (kernel documentation, device-mapper/verity).
func verityRootHash(table string) (string, error) {
	fields := strings.Fields(table)
	if len(fields) < 10 || fields[0] != "1" {
		return "", fmt.Errorf("got table %q, want one of dm-verity", table)
	}
	return fields[8], nil
}

// parameter is the value of a kernel parameter; the last one counts.
func parameter(cmdline, name string) string {
	value := ""
	for _, word := range strings.Fields(cmdline) {
		if v, ok := strings.CutPrefix(word, name+"="); ok {
			value = v
		}
	}
	return value
}

// rootReadOnly looks at the mounts of root and payload, and tries to write.
func (n *node) rootReadOnly(context.Context) (string, error) {
	mounts, err := n.mounts()
	if err != nil {
		return "", err
	}
	var problems []error
	for _, target := range []string{"/", nodefs.Payload} {
		m, err := mountedAt(mounts, target)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		_, readOnly := m.option("ro")
		problems = append(problems, differs(target+" filesystem", m.Type, "squashfs"), differs(target+" read-only", strconv.FormatBool(readOnly), "true"))
	}
	for _, dir := range []string{"/usr", "/usr/lib", "/usr/lib/kiln"} {
		file := n.root.Path(filepath.Join(dir, ".kiln-check"))
		if err := os.WriteFile(file, nil, 0o600); !errors.Is(err, unix.EROFS) {
			problems = append(problems, fmt.Errorf("writing into %s: got %v, want a read-only filesystem", dir, err), os.Remove(file))
		}
	}
	return "squashfs", errors.Join(problems...)
}

// etcOverlay proves that /etc can be written and that what is written lands on the state partition.
func (n *node) etcOverlay(context.Context) (string, error) {
	mounts, err := n.mounts()
	if err != nil {
		return "", err
	}
	m, err := mountedAt(mounts, "/etc")
	if err != nil {
		return "", err
	}
	file := n.root.Path("/etc/.kiln-check")
	if err := os.WriteFile(file, []byte("kiln"), 0o600); err != nil {
		return "", err
	}
	_, upperErr := os.Stat(n.root.Path(nodefs.EtcUpper + "/.kiln-check"))
	return "", errors.Join(differs("/etc filesystem", m.Type, "overlay"), upperErr, os.Remove(file))
}

// statePartition proves that /var is ext4 on the partition of that name, and that nothing of the disk is left unused.
func (n *node) statePartition(context.Context) (string, error) {
	mounts, err := n.mounts()
	if err != nil {
		return "", err
	}
	m, err := mountedAt(mounts, nodefs.State)
	if err != nil {
		return "", err
	}
	device, err := filepath.EvalSymlinks(n.root.Path("/dev/disk/by-partlabel/" + nodefs.LabelState))
	if err != nil {
		return "", err
	}
	facts, err := n.bootFacts()
	if err != nil {
		return "", err
	}
	size, unused, err := n.partition(filepath.Base(device))
	if err != nil {
		return "", err
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(n.root.Path(nodefs.State), &fs); err != nil {
		return "", err
	}
	bytes := int64(fs.Blocks) * fs.Bsize
	var problems []error
	if unused > 4<<20 {
		problems = append(problems, fmt.Errorf("behind the partition: got %d unused bytes, want at most 4 MiB", unused))
	}
	if bytes < size*9/10 {
		problems = append(problems, fmt.Errorf("filesystem: got %d bytes, want the partition's %d less what ext4 itself takes", bytes, size))
	}
	return fmt.Sprintf("%s, %d MiB", device, size>>20), errors.Join(append(problems,
		differs("filesystem of /var", m.Type, "ext4"), differs("device of /var", filepath.Base(m.Source), filepath.Base(device)),
		differs("made in this boot", strconv.FormatBool(facts.StateCreated), strconv.FormatBool(!n.second && !n.resumed)))...)
}

// partition gives the size of a partition and what its disk has behind it, in bytes.
func (n *node) partition(name string) (size, unused int64, err error) {
	dir, err := filepath.EvalSymlinks(n.root.Path("/sys/class/block/" + name))
	if err != nil {
		return 0, 0, err
	}
	sectors := func(path string) int64 {
		text, readErr := os.ReadFile(path)
		number, parseErr := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
		err = errors.Join(err, readErr, parseErr)
		return number * 512
	}
	start, size, disk := sectors(filepath.Join(dir, "start")), sectors(filepath.Join(dir, "size")), sectors(filepath.Join(filepath.Dir(dir), "size"))
	return size, disk - start - size, err
}

// bakedFiles compares the SHA-256 of every program with the one of the build.
func (n *node) bakedFiles(context.Context) (string, error) {
	var problems []error
	paths := make([]string, 0, len(n.baked.Files))
	for path := range n.baked.Files {
		paths = append(paths, path)
	}
	sort.Strings(paths)
	var bytes int64
	for _, path := range paths {
		sum, size, err := hashFile(n.root.Path(path))
		bytes += size
		problems = append(problems, err, differs(path, sum, n.baked.Files[path]))
	}
	for _, binary := range n.release.Node {
		if !slices.Contains(paths, binary.Path) {
			problems = append(problems, fmt.Errorf("%s: the release has it, the image's description does not", binary.Path))
		}
	}
	return fmt.Sprintf("%d files, %d MiB", len(paths), bytes>>20), errors.Join(problems...)
}

func hashFile(path string) (string, int64, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", 0, err
	}
	defer file.Close()
	hash := sha256.New()
	size, err := io.Copy(hash, file)
	return hex.EncodeToString(hash.Sum(nil)), size, err
}

//go:build tools

// Package tools_test is the tools rung: it builds the real image twice, the second time as an ordinary user in a cache
// of its own, and lets other people's programs check what kiln wrote. It needs bin/kiln, bin/firstboot and what make
// deps installs, but no machine.
package tools_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kiln-os/kiln/builder/bake"
	"github.com/kiln-os/kiln/builder/parts"
	"github.com/kiln-os/kiln/builder/rootfs"
	"github.com/kiln-os/kiln/internal/command"
	"github.com/kiln-os/kiln/internal/nodefs"
)

// nobody is the user that builds the second time.
const nobody = 65534

// built is the image that all tests here share, and the trees of programs that look at it.
type built struct {
	repo  string
	cache string
	dir   string
	tools rootfs.Tools
	bake.Manifest
}

func build(t *testing.T) built {
	t.Helper()
	repo, err := filepath.Abs("../..")
	must(t, err)
	b := built{repo: repo, dir: filepath.Join(repo, "out/test")}
	kiln(t, b.repo, nil, "build", "vm-disk", "--profile", "control-plane", "--release", "v1.36", "-o", b.dir)
	b.cache = strings.TrimSpace(kiln(t, b.repo, nil, "cache", "path"))
	b.tools = rootfs.Tools{Dir: strings.TrimSpace(kiln(t, b.repo, nil, "cache", "tools", "test"))}
	b.Manifest, err = bake.ReadManifest(b.dir)
	must(t, err)
	return b
}

// kiln runs bin/kiln and returns what it printed; who, when not nil, is the user it runs as.
func kiln(t *testing.T, repo string, who *syscall.Credential, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Minute)
	defer cancel()
	c := command.Command{Name: filepath.Join(repo, "bin/kiln"), Args: args, Dir: repo, Credential: who, Stderr: os.Stderr}
	if who != nil {
		c.Env = []string{"HOME=" + repo, "GOCACHE=" + filepath.Join(repo, "gocache"), "TMPDIR=" + os.TempDir()}
	}
	out, err := command.Output(ctx, command.Exec{}, c)
	if err != nil {
		t.Fatalf("kiln %s: %v", strings.Join(args, " "), err)
	}
	return string(out)
}

// peer runs a program of the test tools and returns its output and whether it was content.
func (b built) peer(t *testing.T, name string, args ...string) (string, error) {
	t.Helper()
	var out strings.Builder
	c := b.tools.Command(name, args...)
	c.Stdout, c.Stderr = &out, &out
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	_, err := command.Exec{}.Run(ctx, c)
	return out.String(), err
}

func TestImage(t *testing.T) {
	b := build(t)
	disk := filepath.Join(b.dir, bake.FileDisk)
	t.Run("digests are the manifest's", func(t *testing.T) {
		for i, want := range []string{bake.FileDisk, bake.FileSBOM} {
			sum, err := parts.SHA256File(filepath.Join(b.dir, want))
			must(t, err)
			if i >= len(b.Files) || b.Files[i].Name != want || sum != b.Files[i].SHA256 {
				t.Errorf("%s has %s, the manifest says %+v", want, sum, b.Files)
			}
		}
	})
	t.Run("sgdisk and sfdisk accept the partition table", func(t *testing.T) {
		if out, err := b.peer(t, "sgdisk", "-v", disk); err != nil || !strings.Contains(out, "No problems found") {
			t.Errorf("sgdisk -v: %v\n%s", err, out)
		}
		if out, err := b.peer(t, "sfdisk", "--verify", disk); err != nil {
			t.Errorf("sfdisk --verify: %v\n%s", err, out)
		}
	})
	table := partitionTable(t, b, disk)
	t.Run("partitions follow the root hash", func(t *testing.T) { checkTable(t, b, table) })
	t.Run("fsck accepts the EFI system partition", func(t *testing.T) {
		esp := cut(t, disk, table[nodefs.LabelESP])
		if out, err := b.peer(t, "fsck.fat", "-n", esp); err != nil {
			t.Errorf("fsck.fat: %v\n%s", err, out)
		}
		out, err := b.peer(t, "mdir", "-b", "-i", esp, "-s", "::/")
		for _, want := range []string{"EFI/BOOT/BOOTX64.EFI", "EFI/Linux/kiln-" + b.Version + ".efi", "loader/loader.conf"} {
			if err != nil || !strings.Contains(strings.ToLower(out), strings.ToLower(want)) {
				t.Errorf("the EFI system partition lacks %s (%v):\n%s", want, err, out)
			}
		}
	})
	t.Run("veritysetup verifies the root, and not after one flipped byte", func(t *testing.T) { checkVerity(t, b, disk, table) })
	t.Run("a second build, as an ordinary user, has the same bytes", func(t *testing.T) { checkReproducible(t, b) })
	t.Run("a build with nothing changed leaves the result alone", func(t *testing.T) {
		before, err := os.Stat(disk)
		must(t, err)
		kiln(t, b.repo, nil, "build", "vm-disk", "--profile", "control-plane", "--release", "v1.36", "-o", b.dir)
		after, err := os.Stat(disk)
		must(t, err)
		if !after.ModTime().Equal(before.ModTime()) {
			t.Error("disk.raw was written again")
		}
	})
	t.Run("an image larger than its partition", func(t *testing.T) { checkTooLarge(t, b) })
	t.Run("no secret is in the image", func(t *testing.T) { checkNoSecrets(t, disk) })
}

type partition struct{ Start, Size int64 }

func partitionTable(t *testing.T, b built, disk string) map[string]partition {
	t.Helper()
	out, err := b.peer(t, "sfdisk", "--json", disk)
	must(t, err)
	var dump struct {
		PartitionTable struct {
			Partitions []struct {
				Start, Size             int64
				Name, Type, UUID, Attrs string
			}
		}
	}
	must(t, json.Unmarshal([]byte(out), &dump))
	table := map[string]partition{}
	for _, p := range dump.PartitionTable.Partitions {
		table[p.Name] = partition{Start: p.Start * 512, Size: p.Size * 512}
		table["uuid "+p.Name+" "+strings.ToLower(p.UUID)] = partition{}
	}
	return table
}

func checkTable(t *testing.T, b built, table map[string]partition) {
	h := b.RootHash
	for label, hash := range map[string]string{nodefs.LabelRootA: h[:32], nodefs.LabelRootAVerity: h[32:]} {
		uuid := fmt.Sprintf("%s-%s-%s-%s-%s", hash[:8], hash[8:12], hash[12:16], hash[16:20], hash[20:])
		if _, ok := table["uuid "+label+" "+uuid]; !ok {
			t.Errorf("partition %s does not have UUID %s, which its root hash demands", label, uuid)
		}
	}
	for _, label := range []string{nodefs.LabelESP, nodefs.LabelRootB, nodefs.LabelRootBVerity} {
		if table[label].Size == 0 {
			t.Errorf("no partition %s", label)
		}
	}
}

// cut copies a partition to a file of its own.
func cut(t *testing.T, disk string, p partition) string {
	t.Helper()
	in, err := os.Open(disk)
	must(t, err)
	defer in.Close()
	path := filepath.Join(t.TempDir(), "partition")
	out, err := os.Create(path)
	must(t, err)
	_, err = io.Copy(out, io.NewSectionReader(in, p.Start, p.Size))
	must(t, err)
	must(t, out.Close())
	return path
}

func checkVerity(t *testing.T, b built, disk string, table map[string]partition) {
	root, tree := cut(t, disk, table[nodefs.LabelRootA]), cut(t, disk, table[nodefs.LabelRootAVerity])
	if out, err := b.peer(t, "veritysetup", "verify", root, tree, b.RootHash); err != nil {
		t.Fatalf("veritysetup verify: %v\n%s", err, out)
	}
	for name, offset := range map[string]int64{"the first block": 97, "the middle": b.Sizes["root"] / 2, "the last block": b.Sizes["root"] - 1} {
		flip(t, root, offset)
		if out, err := b.peer(t, "veritysetup", "verify", root, tree, b.RootHash); err == nil {
			t.Errorf("veritysetup accepts a root with one flipped byte in %s:\n%s", name, out)
		}
		flip(t, root, offset)
	}
}

func flip(t *testing.T, path string, offset int64) {
	t.Helper()
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	defer file.Close()
	var b [1]byte
	_, err = file.ReadAt(b[:], offset)
	must(t, err)
	b[0] ^= 1
	_, err = file.WriteAt(b[:], offset)
	must(t, err)
}

// shared are the parts that a second build takes from the first: they come from the network or take minutes, and have
// tests of their own.
var shared = []string{"tools-", "medium-tools-", "programs-", "sysroot-", "packages-", "kernel-", "image-packages-", "layer-packages-", "source-"}

// checkReproducible builds again with everything that kiln itself computes made anew, in another place and, where this
// test is root, as a user who is not.
func checkReproducible(t *testing.T, b built) {
	place, err := os.MkdirTemp("", "kiln-second-")
	must(t, err)
	defer parts.RemoveAll(place)
	cache, out := filepath.Join(place, "cache"), filepath.Join(place, "out")
	entries, err := os.ReadDir(filepath.Join(b.cache, "parts"))
	must(t, err)
	for _, entry := range entries {
		for _, prefix := range shared {
			if strings.HasPrefix(entry.Name(), prefix) {
				linkTree(t, filepath.Join(b.cache, "parts", entry.Name()), filepath.Join(cache, "parts", entry.Name()))
			}
		}
	}
	linkTree(t, filepath.Join(b.repo, "bin"), filepath.Join(place, "bin"))
	var who *syscall.Credential
	if os.Geteuid() == 0 {
		who = &syscall.Credential{Uid: nobody, Gid: nobody}
		for _, dir := range []string{place, cache, filepath.Join(cache, "parts")} {
			must(t, os.Chmod(dir, 0o777))
		}
	}
	kiln(t, place, who, "build", "vm-disk", "--profile", "control-plane", "--release", "v1.36", "--cache", cache, "-o", out)
	second, err := bake.ReadManifest(out)
	must(t, err)
	if second.RootHash != b.RootHash {
		t.Errorf("root hash %s, first %s", second.RootHash, b.RootHash)
	}
	for i, file := range b.Files {
		if i >= len(second.Files) || second.Files[i].SHA256 != file.SHA256 {
			t.Errorf("%s has SHA-256 %s, of the second build are %+v", file.Name, file.SHA256, second.Files)
		}
	}
}

// linkTree makes a second tree with the same files, by hard links where the filesystem is the same.
func linkTree(t *testing.T, from, to string) {
	t.Helper()
	must(t, filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		switch {
		case entry.IsDir():
			return os.MkdirAll(target, 0o755)
		case entry.Type()&fs.ModeSymlink != 0:
			link, err := os.Readlink(path)
			if err != nil {
				return err
			}
			return os.Symlink(link, target)
		case os.Link(path, target) == nil:
			return nil
		default:
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			return os.WriteFile(target, text, 0o755)
		}
	}))
}

func checkTooLarge(t *testing.T, b built) {
	text, err := os.ReadFile(filepath.Join(b.repo, "images/vm-disk.yaml"))
	must(t, err)
	small := filepath.Join(t.TempDir(), "small.yaml")
	must(t, os.WriteFile(small, []byte(strings.Replace(string(text), "root: 1GiB", "root: 128MiB", 1)), 0o644))
	out := filepath.Join(t.TempDir(), "out")
	_, err = command.Exec{}.Run(t.Context(), command.Command{
		Name: filepath.Join(b.repo, "bin/kiln"), Dir: b.repo,
		Args: []string{"build", small, "--profile", "control-plane", "--release", "v1.36", "-o", out},
	})
	exit, ok := err.(*command.ExitError)
	if !ok || exit.Code != 78 || !strings.Contains(exit.Tail, "disk.root") || !strings.Contains(exit.Tail, "want at least") {
		t.Errorf("want exit 78 and a message that names disk.root and what to do, have: %v", err)
	}
	if _, err := os.Stat(out); err == nil {
		t.Error("something was written to the output directory")
	}
}

// checkNoSecrets looks for private keys in what is not compressed; the check within a booted node reads the rest.
func checkNoSecrets(t *testing.T, disk string) {
	file, err := os.Open(disk)
	must(t, err)
	defer file.Close()
	const secret, carry = "PRIVATE KEY-----", 32
	window := make([]byte, carry+1<<20)
	for {
		n, err := io.ReadFull(file, window[carry:])
		if strings.Contains(string(window[:carry+n]), secret) {
			t.Error("the disk image holds a private key")
		}
		if err != nil {
			return
		}
		copy(window, window[n:]) // a key may lie across two windows
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

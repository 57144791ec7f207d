// Package rootfs makes the operating system's tree: Debian packages by mmdebstrap as a tar stream, the tools tree that
// the builder's own programs come from, the kernel, and the composition of packages and overlay into one sorted tar.
// Nothing here needs root: ownership lives in the tar streams, never on the host's filesystem.
package rootfs

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kiln-os/kiln/builder/parts"
	"github.com/kiln-os/kiln/builder/progress"
	"github.com/kiln-os/kiln/internal/command"
)

// Debian makes trees of Debian packages.
type Debian struct {
	Store    parts.Store
	Run      command.Runner
	Progress *progress.Reporter
	// Suite is the Debian suite, as in trixie.
	Suite string
	// Mirror is a URL or a sources.list line; empty leaves it to mmdebstrap.
	Mirror string
	// Epoch is the latest time of any file.
	Epoch time.Time
}

// MissingTool says that the host lacks a program.
type MissingTool struct {
	// Tool is the program, Package the Debian package that has it.
	Tool, Package string
}

// Error names both.
func (e MissingTool) Error() string {
	return fmt.Sprintf("%s is missing on this machine; install Debian's %s, or run make deps", e.Tool, e.Package)
}

// checkHost looks for the programs that mmdebstrap takes from the host.
func checkHost() error {
	if command.Find("mmdebstrap") == "" {
		return MissingTool{Tool: "mmdebstrap", Package: "mmdebstrap"}
	}
	// An ordinary user's packages are unpacked in a user namespace.
	if os.Geteuid() != 0 && command.Find("newuidmap") == "" {
		return MissingTool{Tool: "newuidmap", Package: "uidmap"}
	}
	return nil
}

// excludes keep out of an image what nobody reads on a node that nobody logs in to. Copyright files stay.
var excludes = []string{
	"path-exclude=/usr/share/doc/*", "path-include=/usr/share/doc/*/copyright", "path-exclude=/usr/share/man/*",
	"path-exclude=/usr/share/info/*", "path-exclude=/usr/share/locale/*", "path-exclude=/usr/share/lintian/*",
	"path-exclude=/usr/share/bash-completion/*", "path-exclude=/usr/share/zsh/*",
}

// listExtracted is a hook that writes down which packages a tree was extracted from: dpkg's own database knows only of
// what it installed itself. MMDEBSTRAP_ESSENTIAL is mmdebstrap's list of the archives, by their paths within the tree.
const listExtracted = `--extract-hook=for deb in $(printf '%s\n' $MMDEBSTRAP_ESSENTIAL | sort); do
  echo 'Status: install ok unpacked' && dpkg-deb --field "$1/$deb" Package Source Version Architecture && echo || exit 1
done >"$1/var/lib/dpkg/status"`

// Installed makes a part with root.tar: packages and all they need, installed and configured.
func (d Debian) Installed(ctx context.Context, packages []string) (parts.Part, error) {
	return d.make(ctx, "packages", "essential", packages, "installing Debian packages")
}

// Extracted makes a part with root.tar: the files of packages and of all they need, with no maintainer script run.
// Its dpkg database names the packages and their versions.
func (d Debian) Extracted(ctx context.Context, kind string, packages []string) (parts.Part, error) {
	return d.make(ctx, kind, "extract", packages, "unpacking Debian packages")
}

func (d Debian) make(ctx context.Context, kind, variant string, packages []string, does string) (parts.Part, error) {
	packages = append([]string(nil), packages...)
	sort.Strings(packages)
	recipe := "1"
	if variant == "extract" {
		recipe = "2" // raised when listExtracted came
	}
	key := parts.Key(kind, recipe, variant, d.Suite, d.Mirror, packages, excludes, d.Epoch.Unix())
	if part, ok := d.Store.Find(key); ok {
		return part, nil
	}
	if err := checkHost(); err != nil {
		return parts.Part{}, err
	}
	task := d.Progress.Start(kind, fmt.Sprintf("%s (%d named, Debian %s)", does, len(packages), d.Suite))
	part, err := d.Store.Make(ctx, key, func(ctx context.Context, dir string) error {
		return d.bootstrap(ctx, filepath.Join(dir, "root.tar"), variant, packages, task)
	})
	if err != nil {
		task.Fail()
		return part, fmt.Errorf("installing Debian packages: %w", err)
	}
	task.Done(sizeNote(part.Path("root.tar")))
	return part, nil
}

func (d Debian) bootstrap(ctx context.Context, tarball, variant string, packages []string, task *progress.Task) error {
	out, err := os.Create(tarball)
	if err != nil {
		return err
	}
	defer out.Close()
	temporary, err := temporaryDir()
	if err != nil {
		return err
	}
	defer parts.RemoveAll(temporary)
	args := []string{"--variant=" + variant, "--format=tar", "--include=" + strings.Join(packages, ","),
		`--aptopt=APT::Install-Recommends "false"`, `--aptopt=Acquire::Retries "3"`}
	for _, exclude := range excludes {
		args = append(args, "--dpkgopt="+exclude)
	}
	if variant == "extract" {
		args = append(args, listExtracted)
	}
	args = append(args, d.Suite, "-")
	if d.Mirror != "" {
		args = append(args, d.Mirror)
	}
	_, err = d.Run.Run(ctx, command.Command{
		Name: "mmdebstrap", Args: args, Stdout: out, Stderr: &narrator{task: task},
		// As root, mmdebstrap mounts the host's /proc and /sys into the tree that it makes below TMPDIR. Should it be killed,
		// they must not stay there for somebody to delete.
		PrivateMounts: mayMount(),
		Env:           []string{fmt.Sprintf("SOURCE_DATE_EPOCH=%d", d.Epoch.Unix()), "LC_ALL=C.UTF-8", "TMPDIR=" + temporary},
	})
	if err != nil {
		return err
	}
	return out.Close()
}

// temporaryDir is a directory for one run of mmdebstrap, which leaves its tree behind when a signal comes at the wrong
// moment. The users of its user namespace have to get into it.
func temporaryDir() (string, error) {
	dir, err := os.MkdirTemp("", "kiln-debian-")
	if err != nil {
		return "", err
	}
	return dir, os.Chmod(dir, 0o755)
}

// mayMount tells whether this process has CAP_SYS_ADMIN. Root in a container often has not.
func mayMount() bool {
	var data [2]unix.CapUserData
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	return unix.Capget(&header, &data[0]) == nil && data[0].Effective&(1<<unix.CAP_SYS_ADMIN) != 0
}

// narrator passes on mmdebstrap's own step lines ("I: installing ..."), so that a long step is not silent.
type narrator struct {
	task *progress.Task
	rest string
}

// Write implements io.Writer.
func (n *narrator) Write(p []byte) (int, error) {
	n.rest += string(p)
	for {
		line, rest, ok := strings.Cut(n.rest, "\n")
		if !ok {
			return len(p), nil
		}
		n.rest = rest
		text, isInfo := strings.CutPrefix(line, "I: ")
		if isInfo && (strings.HasPrefix(text, "downloading") || strings.HasPrefix(text, "installing") || strings.HasPrefix(text, "extracting")) {
			n.task.Say("%s", strings.TrimSuffix(text, "..."))
		}
	}
}

var _ io.Writer = (*narrator)(nil)

func sizeNote(path string) string {
	info, err := os.Stat(path)
	if err != nil {
		return ""
	}
	return fmt.Sprintf("%d MiB", info.Size()>>20)
}

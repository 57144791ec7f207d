package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/google/renameio/v2"

	"github.com/kiln-os/kiln/builder/authority"
	"github.com/kiln-os/kiln/builder/enrol"
	"github.com/kiln-os/kiln/internal/document"
	"github.com/kiln-os/kiln/internal/nodefs"
)

// Files of a cluster's directory beside the identities.
const (
	secretsFile = "secrets.yaml"
	readmeFile  = "README"
	ignoreFile  = ".gitignore"
)

// clusterDir is the directory that holds a cluster's secrets and identities, locked while it is open.
type clusterDir struct {
	path string
	lock *os.File
	// wrote is called after each change of the directory; an error ends the work there. A test gives its own.
	wrote func(name string) error
	// changed and same count the files that were written, and those that were as they should be.
	changed, same int
}

// openClusterDir locks the directory. One that is not there is made if fresh allows it; one that holds something else than
// a cluster's files is refused.
func openClusterDir(path string, fresh bool, wrote func(string) error) (*clusterDir, error) {
	path = filepath.Clean(path)
	if fresh {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return nil, usagef("%s: cannot be made (%v); give a directory that you may write to with -o", path, pathReason(err))
		}
		if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, usagef("%s: cannot be made (%v); give a directory that you may write to with -o", path, pathReason(err))
		}
	}
	lock, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, usagef("%s: is not there; make it with kiln cluster render", path)
	}
	if err != nil {
		return nil, fmt.Errorf("opening the cluster's directory: %w", err)
	}
	d := &clusterDir{path: path, lock: lock, wrote: wrote}
	if err := d.check(fresh); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return d, nil
}

func (d *clusterDir) check(fresh bool) error {
	if err := syscall.Flock(int(d.lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return fmt.Errorf("%s: another kiln is at work in it; try again when it is done", d.path)
	}
	entries, err := os.ReadDir(d.path)
	if err != nil {
		return usagef("%s: cannot be read (%v); give a directory with -o", d.path, pathReason(err))
	}
	own := slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return e.Name() == secretsFile })
	for _, entry := range entries {
		// The secrets are written first: before them there is at most a piece of them.
		if !own && !isPiece(entry.Name(), secretsFile) {
			return usagef("%s: holds something else (%s) and no %s; give a directory of its own with -o", d.path, entry.Name(), secretsFile)
		}
	}
	if !own && !fresh {
		return usagef("%s: holds no %s; make it with kiln cluster render", d.path, secretsFile)
	}
	return os.Chmod(d.path, 0o700)
}

// close lets go of the lock.
func (d *clusterDir) close() error { return d.lock.Close() }

func pathReason(err error) error {
	if at, ok := errors.AsType[*fs.PathError](err); ok {
		return at.Err
	}
	return err
}

// isPiece tells whether name is what a killed run left of file, which takes its name only when it is whole.
func isPiece(name, file string) bool {
	digits, ok := strings.CutPrefix(name, "."+file)
	return ok && digits != "" && strings.Trim(digits, "0123456789") == ""
}

// secrets reads the secrets of the cluster called name, and false where there are none yet.
func (d *clusterDir) secrets(name string) (authority.Secrets, bool, error) {
	file := filepath.Join(d.path, secretsFile)
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return authority.Secrets{}, false, nil
	}
	if err != nil {
		return authority.Secrets{}, false, fmt.Errorf("reading the cluster's secrets: %w", err)
	}
	secrets, err := authority.ParseSecrets(file, text)
	if err != nil {
		return authority.Secrets{}, false, err
	}
	if name != "" && secrets.Cluster != name {
		return authority.Secrets{}, false, usagef("%s: belongs to cluster %s, not to %s; give a directory of its own with -o", d.path, secrets.Cluster, name)
	}
	return secrets, true, nil
}

// put makes a file be what it should be, whole or not at all.
func (d *clusterDir) put(name string, text []byte) error {
	path := filepath.Join(d.path, name)
	info, err := os.Lstat(path)
	if err == nil && info.Mode() == 0o600 {
		if have, err := os.ReadFile(path); err == nil && bytes.Equal(have, text) {
			d.same++
			return nil
		}
	}
	if err := writeSecret(path, text); err != nil {
		return err
	}
	d.changed++
	return d.wrote(name)
}

// writeSecret replaces a file by one of mode 0600, whatever mode it had. The pieces lie beside it: elsewhere, a killed run
// would leave a secret where nobody looks for it.
func writeSecret(path string, text []byte) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("writing %s: %w", path, err)
		}
	}()
	file, err := renameio.NewPendingFile(path, renameio.WithPermissions(0o600), renameio.WithTempDir(filepath.Dir(path)))
	if err != nil {
		return err
	}
	if _, err := file.Write(text); err != nil {
		return errors.Join(err, file.Cleanup())
	}
	return errors.Join(file.CloseAtomicallyReplace(), file.Cleanup())
}

func (d *clusterDir) putSecrets(s authority.Secrets) error {
	text, err := s.Render()
	if err != nil {
		return err
	}
	return d.put(secretsFile, text)
}

// putMembers writes what is enrolled, and then removes what is no longer.
func (d *clusterDir) putMembers(members []enrol.Member) error {
	for _, member := range members {
		if err := errors.Join(d.mkdir(filepath.Dir(member.Dir)), d.mkdir(member.Dir)); err != nil {
			return err
		}
		for _, file := range []secretFile{{nodefs.IdentityFile, member.Identity}, {nodefs.IgnitionFile, member.Ignition}} {
			if err := d.put(filepath.Join(member.Dir, file.name), file.text); err != nil {
				return err
			}
		}
		for _, link := range member.Links {
			if err := d.link(link, filepath.Join("..", member.Dir)); err != nil {
				return err
			}
		}
	}
	return d.sweep(members)
}

func (d *clusterDir) mkdir(name string) error {
	path := filepath.Join(d.path, name)
	if err := os.MkdirAll(path, 0o700); err != nil {
		return fmt.Errorf("making %s: %w", path, err)
	}
	return os.Chmod(path, 0o700)
}

func (d *clusterDir) link(name, target string) error {
	path := filepath.Join(d.path, name)
	if have, err := os.Readlink(path); err == nil && have == target {
		return nil
	}
	if err := d.mkdir(filepath.Dir(name)); err != nil {
		return err
	}
	if err := renameio.Symlink(target, path); err != nil {
		return fmt.Errorf("linking %s: %w", path, err)
	}
	return d.wrote(name)
}

// readDefinition reads a Cluster document.
func readDefinition(file string) ([]byte, error) {
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, usagef("%s: is not there; kiln cluster new writes one", file)
	}
	if err != nil {
		return nil, document.Problem{File: file, Text: fmt.Sprintf("cannot be read (%v); want a document of kind Cluster", pathReason(err))}
	}
	return text, nil
}

// Package parts keeps the intermediate results of builds in a cache addressed by content: a part is a directory named
// after what it is and a digest of everything it was made from. What did not change is not made again, and a build
// that was interrupted leaves nothing that a later one could take for whole.
package parts

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Store is a cache directory. Several builds may use it at once.
type Store struct {
	Dir string
}

// Part is a finished, immutable directory in the store.
type Part struct {
	// Name is kind-digest.
	Name string
	// Dir is the directory's path.
	Dir string
}

// Path is the path of a file of the part.
func (p Part) Path(elem ...string) string { return filepath.Join(append([]string{p.Dir}, elem...)...) }

// Key names a part: kind, and a digest of inputs (anything that marshals to JSON, in a stable order).
func Key(kind string, inputs ...any) string {
	hash := sha256.New()
	if err := json.NewEncoder(hash).Encode(inputs); err != nil {
		panic("parts: inputs of " + kind + " cannot be marshalled: " + err.Error())
	}
	return kind + "-" + hex.EncodeToString(hash.Sum(nil))[:20]
}

// Find returns the part called key if it is finished.
func (s Store) Find(key string) (Part, bool) {
	part := Part{Name: key, Dir: filepath.Join(s.Dir, key)}
	info, err := os.Stat(part.Dir)
	return part, err == nil && info.IsDir()
}

// Make returns the part called key, calling build to make it if it is not there. Build fills a fresh directory; only
// when it succeeds, and its files are on the disk, does the directory take the part's name. Two builds that want the
// same part at once make it once: the second waits.
func (s Store) Make(ctx context.Context, key string, build func(ctx context.Context, dir string) error) (Part, error) {
	if part, ok := s.Find(key); ok {
		return part, nil
	}
	if err := os.MkdirAll(s.Dir, 0o755); err != nil {
		return Part{}, s.unusable(fmt.Errorf("making the cache directory: %w", err))
	}
	unlock, err := s.lock(ctx, key)
	if err != nil {
		return Part{}, s.unusable(err)
	}
	defer unlock()
	if part, ok := s.Find(key); ok {
		return part, nil
	}
	work := filepath.Join(s.Dir, "."+key+".part")
	if err := RemoveAll(work); err != nil {
		return Part{}, fmt.Errorf("clearing an interrupted build: %w", err)
	}
	if err := os.Mkdir(work, 0o755); err != nil {
		return Part{}, s.unusable(fmt.Errorf("making a part's directory: %w", err))
	}
	if err := build(ctx, work); err != nil {
		return Part{}, errors.Join(s.explain(key, err), RemoveAll(work))
	}
	if err := syncTree(work); err != nil {
		return Part{}, errors.Join(s.explain(key, fmt.Errorf("writing part %s to disk: %w", key, err)), RemoveAll(work))
	}
	part := Part{Name: key, Dir: filepath.Join(s.Dir, key)}
	if err := os.Rename(work, part.Dir); err != nil {
		return Part{}, fmt.Errorf("naming part %s: %w", key, err)
	}
	return part, nil
}

// lock takes the part's lock file, waiting for another build that holds it.
func (s Store) lock(ctx context.Context, key string) (func(), error) {
	path := filepath.Join(s.Dir, "."+key+".lock")
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("locking part %s: %w", key, err)
	}
	if err := Lock(ctx, file); err != nil {
		return nil, fmt.Errorf("waiting for another build of part %s: %w", key, err)
	}
	return func() { file.Close() }, nil
}

// Lock takes the exclusive lock of an open file or directory, waiting for whoever holds it. Closing the file gives it
// back; when ctx ends first, Lock closes the file.
func Lock(ctx context.Context, file *os.File) error {
	locked := make(chan error, 1)
	go func() { locked <- syscall.Flock(int(file.Fd()), syscall.LOCK_EX) }()
	select {
	case err := <-locked:
		if err != nil {
			return errors.Join(err, file.Close())
		}
		return nil
	case <-ctx.Done():
		go func() {
			<-locked
			file.Close()
		}()
		return context.Cause(ctx)
	}
}

// RemoveAll deletes a tree even when its directories are not writable, as extracted packages' may be.
func RemoveAll(dir string) error {
	err := os.RemoveAll(dir)
	if err == nil || !errors.Is(err, fs.ErrPermission) {
		return err
	}
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if d != nil && d.IsDir() {
			_ = os.Chmod(path, 0o700)
		}
		return nil
	})
	return os.RemoveAll(dir)
}

// syncTree makes a finished tree durable, so that a power cut cannot leave a whole-looking part with empty files.
func syncTree(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Syncfs(int(f.Fd()))
}

// SHA256File returns the hex digest of a file.
func SHA256File(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	hash := sha256.New()
	if _, err := file.WriteTo(hash); err != nil {
		return "", fmt.Errorf("reading %s: %w", path, err)
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}

// Short is the digest part of a key, for versions.
func Short(key string) string {
	if i := strings.LastIndexByte(key, '-'); i >= 0 && len(key) >= i+9 {
		return key[i+1 : i+9]
	}
	return key
}

package parts

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// PlaceError says that a directory cannot take what a build has to write there: it is full, or not for this user. No
// retry mends it; somebody has to make room or name another directory.
type PlaceError struct {
	// Dir is the directory.
	Dir string
	// Text says what is wrong with it and, after a semicolon, what to do.
	Text string
	// Err is what was seen; it may be nil.
	Err error
}

// Error names the directory first.
func (e *PlaceError) Error() string { return e.Dir + ": " + e.Text }

// Unwrap gives what was seen.
func (e *PlaceError) Unwrap() error { return e.Err }

// otherCache ends messages about the cache directory.
const otherCache = "name another directory with --cache or KILN_CACHE"

// IsFull reports whether err, or a program that it quotes, says that a filesystem is full.
func IsFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || err != nil && evidence(err) != ""
}

// evidence is the line of err that says so.
func evidence(err error) string {
	for line := range strings.SplitSeq(err.Error(), "\n") {
		if strings.Contains(strings.ToLower(line), "no space left on device") || strings.Contains(line, "quota exceeded") {
			return strings.TrimSpace(line)
		}
	}
	return ""
}

// explain says which directory was too full when err comes of a full filesystem. It looks before anything is removed.
func (s Store) explain(key string, err error) error {
	kind := key[:max(strings.LastIndexByte(key, '-'), 0)]
	temporary := os.TempDir()
	switch {
	case nearlyFull(s.Dir): // a program that is cut short by this does not always say so
		return &PlaceError{Dir: s.Dir, Err: err, Text: fmt.Sprintf(
			"no space left while making part %s; free some (kiln cache clean helps), or %s", kind, otherCache)}
	case !IsFull(err):
		return err
	case nearlyFull(temporary):
		return &PlaceError{Dir: temporary, Err: err, Text: fmt.Sprintf(
			"no space left for temporary files while making part %s; free some, or set TMPDIR to another directory", kind)}
	default: // whatever filled it up is gone by now
		return &PlaceError{Dir: s.Dir, Err: err, Text: fmt.Sprintf(
			"no space left while making part %s (%s); free some here (now %d MiB) and in %s, where programs put temporary files (now %d MiB), or %s, and TMPDIR",
			kind, evidence(err), freeBytes(s.Dir)>>20, temporary, freeBytes(temporary)>>20, otherCache)}
	}
}

// little is so few bytes that a filesystem with no more counts as full.
const little = 1 << 20

func nearlyFull(dir string) bool {
	var stat unix.Statfs_t
	// A filesystem without a count of files has no limit of them.
	return unix.Statfs(dir, &stat) == nil && (int64(stat.Bavail)*stat.Bsize < little || stat.Files > 0 && stat.Ffree == 0)
}

func freeBytes(dir string) int64 {
	var stat unix.Statfs_t
	if unix.Statfs(dir, &stat) != nil {
		return 0
	}
	return int64(stat.Bavail) * stat.Bsize
}

// unusable is a PlaceError when err says that this user cannot write to the cache directory at all.
func (s Store) unusable(err error) error {
	var path *fs.PathError
	switch {
	case IsFull(err):
		return &PlaceError{Dir: s.Dir, Err: err, Text: "no space left; free some (kiln cache clean helps), or " + otherCache}
	case errors.As(err, &path) && (errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS) || errors.Is(err, syscall.ENOTDIR)):
		return &PlaceError{Dir: s.Dir, Err: err, Text: fmt.Sprintf("the cache directory cannot be written (%s: %s); %s", filepath.Base(path.Path), path.Err, otherCache)}
	default:
		return err
	}
}

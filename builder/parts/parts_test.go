package parts

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// fill is a build that writes one file and counts its calls.
func fill(calls *atomic.Int32, text string) func(context.Context, string) error {
	return func(_ context.Context, dir string) error {
		calls.Add(1)
		return os.WriteFile(filepath.Join(dir, "file"), []byte(text), 0o644)
	}
}

func content(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// visible lists what the cache directory holds but lock files.
func visible(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, entry := range entries {
		if !strings.HasSuffix(entry.Name(), ".lock") {
			names = append(names, entry.Name())
		}
	}
	return strings.Join(names, " ")
}

func TestKey(t *testing.T) {
	// A key that moves throws every cache away: change it only on purpose.
	if got, want := Key("kind", "1", 2, map[string]int{"b": 1, "a": 2}), "kind-9b5900e6feb23426df8a"; got != want {
		t.Errorf("key is %s; want %s", got, want)
	}
	same := Key("k", map[string]int{"a": 2, "b": 1})
	for i := range 20 {
		if got := Key("k", map[string]int{"b": 1, "a": 2}); got != same {
			t.Fatalf("key %d of the same map is %s; was %s", i, got, same)
		}
	}
	seen := map[string]string{}
	for what, key := range map[string]string{
		"one": Key("k", "a"), "other kind": Key("l", "a"), "other input": Key("k", "b"), "two inputs": Key("k", "a", ""), "joined": Key("k", []string{"a"}),
	} {
		if other, taken := seen[key]; taken {
			t.Errorf("%s and %s have the key %s", what, other, key)
		}
		seen[key] = what
	}
}

func TestShort(t *testing.T) {
	for key, want := range map[string]string{"system-fs-0123456789abcdef": "01234567", "short-abc": "short-abc", "none": "none"} {
		if got := Short(key); got != want {
			t.Errorf("short form of %s is %s; want %s", key, got, want)
		}
	}
}

func TestMakeBuildsOnce(t *testing.T) {
	store := Store{Dir: filepath.Join(t.TempDir(), "cache", "parts")}
	var calls atomic.Int32
	for range 2 {
		part, err := store.Make(t.Context(), "kind-1", fill(&calls, "text"))
		if err != nil {
			t.Fatal(err)
		}
		if part.Name != "kind-1" || content(t, part.Path("file")) != "text" {
			t.Errorf("part %+v holds %q", part, content(t, part.Path("file")))
		}
	}
	if calls.Load() != 1 {
		t.Errorf("built %d times", calls.Load())
	}
}

func TestMakeOfManyBuildsOnce(t *testing.T) {
	store := Store{Dir: t.TempDir()}
	var calls atomic.Int32
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			part, err := store.Make(t.Context(), "kind-1", func(ctx context.Context, dir string) error {
				time.Sleep(20 * time.Millisecond)
				return fill(&calls, "text")(ctx, dir)
			})
			if err != nil || !strings.HasPrefix(part.Dir, store.Dir) {
				t.Errorf("part %+v, %v", part, err)
			}
		})
	}
	all.Wait()
	if calls.Load() != 1 {
		t.Errorf("built %d times", calls.Load())
	}
}

func TestFailedBuildLeavesNothing(t *testing.T) {
	store := Store{Dir: t.TempDir()}
	broken := errors.New("broken")
	_, err := store.Make(t.Context(), "kind-1", func(_ context.Context, dir string) error {
		// A tree of Debian packages has directories that nobody may write to.
		if err := os.MkdirAll(filepath.Join(dir, "a/b"), 0o755); err != nil {
			t.Fatal(err)
		}
		return errors.Join(broken, os.Chmod(filepath.Join(dir, "a"), 0o500))
	})
	if !errors.Is(err, broken) {
		t.Errorf("error is %v", err)
	}
	if got := visible(t, store.Dir); got != "" {
		t.Errorf("the cache holds %s", got)
	}
	if _, found := store.Find("kind-1"); found {
		t.Error("the part counts as made")
	}
}

func TestMakeClearsWhatAKilledBuildLeft(t *testing.T) {
	store := Store{Dir: t.TempDir()}
	left := filepath.Join(store.Dir, ".kind-1.part")
	if err := os.MkdirAll(filepath.Join(left, "half"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, found := store.Find("kind-1"); found {
		t.Error("half a part counts as made")
	}
	var calls atomic.Int32
	part, err := store.Make(t.Context(), "kind-1", fill(&calls, "text"))
	if err != nil {
		t.Fatal(err)
	}
	if got := visible(t, part.Dir); got != "file" {
		t.Errorf("the part holds %s", got)
	}
	if got := visible(t, store.Dir); got != "kind-1" {
		t.Errorf("the cache holds %s", got)
	}
}

func TestWaitingEndsWithItsContext(t *testing.T) {
	store := Store{Dir: t.TempDir()}
	building, finish := make(chan struct{}), make(chan struct{})
	var first sync.WaitGroup
	first.Go(func() {
		if _, err := store.Make(t.Context(), "kind-1", func(context.Context, string) error {
			close(building)
			<-finish
			return nil
		}); err != nil {
			t.Errorf("the first build: %v", err)
		}
	})
	<-building
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := store.Make(ctx, "kind-1", func(context.Context, string) error {
		t.Error("two builds make the same part at once")
		return nil
	})
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "waiting for another build") {
		t.Errorf("error is %v", err)
	}
	close(finish)
	first.Wait()
}

func TestSHA256File(t *testing.T) {
	file := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(file, []byte("abc"), 0o644); err != nil {
		t.Fatal(err)
	}
	// FIPS 180-2, appendix B.1.
	if sum, err := SHA256File(file); err != nil || sum != "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" {
		t.Errorf("digest is %s, %v", sum, err)
	}
	if _, err := SHA256File(file + ".none"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("of no file: %v", err)
	}
}

func TestFullFilesystem(t *testing.T) {
	for _, row := range []struct {
		summary string
		err     error
		full    bool
	}{
		{"the system's own error", &os.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}, true},
		{"a quota", &os.PathError{Op: "write", Path: "x", Err: syscall.EDQUOT}, true},
		{"what a program wrote", errors.New("mksquashfs ended with exit code 1:\n    Write failed because No space left on device"), true},
		{"something else", errors.New("no route to host"), false},
	} {
		t.Run(row.summary, func(t *testing.T) {
			store := Store{Dir: t.TempDir()}
			_, err := store.Make(t.Context(), "image-packages-0123", func(context.Context, string) error { return row.err })
			if !errors.Is(err, row.err) {
				t.Errorf("error %v hides %v", err, row.err)
			}
			place, ok := errors.AsType[*PlaceError](err)
			if ok != row.full {
				t.Fatalf("error is %v", err)
			}
			if ok && (place.Dir != store.Dir || !strings.Contains(place.Error(), store.Dir+": no space left while making part image-packages (") ||
				!strings.Contains(place.Error(), "--cache")) {
				t.Errorf("message is %q", place)
			}
			if got := visible(t, store.Dir); got != "" {
				t.Errorf("the cache holds %s", got)
			}
		})
	}
}

func TestUnusableCache(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "locked"), 0o500); err != nil {
		t.Fatal(err)
	}
	rows := map[string]string{"below a file": filepath.Join(file, "parts")}
	if os.Geteuid() != 0 { // root may write anywhere
		rows["not for this user"] = filepath.Join(dir, "locked")
		rows["below what is not for this user"] = filepath.Join(dir, "locked", "parts")
	}
	for summary, path := range rows {
		_, err := Store{Dir: path}.Make(t.Context(), "kind-1", func(context.Context, string) error { return nil })
		place, ok := errors.AsType[*PlaceError](err)
		if !ok || place.Dir != path || !strings.Contains(place.Error(), "cannot be written") || !strings.Contains(place.Error(), "--cache or KILN_CACHE") {
			t.Errorf("%s: error is %v", summary, err)
		}
	}
}

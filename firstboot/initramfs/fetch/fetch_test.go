package fetch

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/go-dmverity/pkg/verity"

	"github.com/kiln-os/kiln/firstboot/initramfs/hashtree"
	"github.com/kiln-os/kiln/firstboot/source"
)

const blocks = 300

// image is a root of some blocks and its tree.
func image(t *testing.T) ([]byte, *hashtree.Tree) {
	t.Helper()
	data := make([]byte, blocks*hashtree.BlockSize)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(data)
	dir := t.TempDir()
	dataFile, treeFile := filepath.Join(dir, "data"), filepath.Join(dir, "tree")
	if err := errors.Join(os.WriteFile(dataFile, data, 0o600), os.WriteFile(treeFile, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	params := verity.Params{HashName: "sha256", HashType: 1, DataBlockSize: 4096, HashBlockSize: 4096, DataBlocks: blocks, HashAreaOffset: 4096,
		Salt: []byte("salt"), SaltSize: 4, UUID: [16]byte{1}}
	hash, err := verity.Create(&params, dataFile, treeFile)
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(treeFile)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	tree, err := hashtree.Read(file, hash)
	if err != nil {
		t.Fatal(err)
	}
	return data, tree
}

// memory is a file.
type memory []byte

func (m memory) WriteAt(p []byte, offset int64) (int, error) { return copy(m[offset:], p), nil }

// answer is how a server answers one request for the file; what it sent is cut by the length that was announced.
type answer func(w http.ResponseWriter, r *http.Request, data []byte)

func whole(w http.ResponseWriter, r *http.Request, data []byte) {
	http.ServeContent(w, r, "root.img", time.Time{}, bytes.NewReader(data))
}

// part sends n bytes of what was asked for, and breaks the connection.
func part(n int) answer {
	return func(w http.ResponseWriter, r *http.Request, data []byte) {
		http.ServeContent(&cut{ResponseWriter: w, left: n}, r, "root.img", time.Time{}, bytes.NewReader(data))
		panic(http.ErrAbortHandler)
	}
}

type cut struct {
	http.ResponseWriter
	left int
}

func (c *cut) Write(p []byte) (int, error) {
	n := min(len(p), c.left)
	c.left -= n
	_, _ = c.ResponseWriter.Write(p[:n])
	if n < len(p) {
		return n, io.ErrShortWrite
	}
	return n, nil
}

// noRanges sends everything, whatever was asked for.
func noRanges(w http.ResponseWriter, _ *http.Request, data []byte) {
	w.Header().Set("Content-Length", fmt.Sprint(len(data)))
	_, _ = w.Write(data)
}

func status(code int) answer {
	return func(w http.ResponseWriter, _ *http.Request, _ []byte) { w.WriteHeader(code) }
}

// wrong turns a bit of the file.
func wrong(at int) answer {
	return func(w http.ResponseWriter, r *http.Request, data []byte) {
		data = bytes.Clone(data)
		data[at] ^= 4
		whole(w, r, data)
	}
}

// of changes the file before it is sent.
func of(change func([]byte) []byte) answer {
	return func(w http.ResponseWriter, r *http.Request, data []byte) { whole(w, r, change(data)) }
}

func silent(w http.ResponseWriter, r *http.Request, data []byte) {
	w.Header().Set("Content-Length", fmt.Sprint(len(data)))
	_, _ = w.Write(data[:5000])
	w.(http.Flusher).Flush()
	<-r.Context().Done()
}

func TestRoot(t *testing.T) {
	data, tree := image(t)
	tests := []struct {
		name string
		// answers are those of the first requests; the last one repeats.
		answers []answer
		// ranges are what the requests ask for.
		ranges  []string
		wantErr []string
	}{
		{name: "at once", answers: []answer{whole}, ranges: []string{""}},
		{name: "broken twice", answers: []answer{part(10000), part(5000), whole}, ranges: []string{"", "bytes=8192-", "bytes=12288-"}},
		{name: "broken, without ranges", answers: []answer{part(10000), noRanges}, ranges: []string{"", "bytes=8192-"}},
		{name: "server not there yet", answers: []answer{status(503), status(502), status(429), whole}, ranges: []string{"", "", "", ""}},
		{name: "silent", answers: []answer{silent, whole}, ranges: []string{"", "bytes=4096-"}},
		{name: "one wrong byte once", answers: []answer{wrong(50 * 4096), whole}, ranges: []string{"", "bytes=204800-"}},
		{name: "one wrong byte always", answers: []answer{wrong(50*4096 + 7)}, ranges: []string{"", "bytes=204800-"},
			wantErr: []string{"/set/root.img: the 4096 bytes from byte 204800 of root.img on", "not in its hash tree", "fetched twice"}},
		{name: "not found", answers: []answer{status(404)}, ranges: []string{""}, wantErr: []string{"/set/root.img: the server answers 404 Not Found"}},
		{name: "forbidden", answers: []answer{status(403)}, ranges: []string{""}, wantErr: []string{"403"}},
		{name: "gone in the middle", answers: []answer{part(9000), status(404)}, ranges: []string{"", "bytes=8192-"}, wantErr: []string{"404"}},
		{name: "short file", answers: []answer{of(func(d []byte) []byte { return d[:len(d)-4096] })}, ranges: []string{""},
			wantErr: []string{"it has 1224704 bytes on the server, and 1228800 by its hash tree", "cut off"}},
		{name: "long file", answers: []answer{of(func(d []byte) []byte { return append(bytes.Clone(d), 0) })}, ranges: []string{""},
			wantErr: []string{"it has 1228801 bytes on the server"}},
		{name: "a page", ranges: []string{"", ""}, answers: []answer{func(w http.ResponseWriter, _ *http.Request, _ []byte) {
			_, _ = io.WriteString(w, strings.Repeat("<html>please log in</html>", 400))
			w.(http.Flusher).Flush() // without a length
		}}, wantErr: []string{"page of text"}},
		{name: "never whole", answers: []answer{part(10000), part(0)}, wantErr: []string{"nothing came for 1ns, the last attempt: the connection ended at byte 8192 of 1228800", "/set/root.img"}},
		{name: "from elsewhere", answers: []answer{part(10000), func(w http.ResponseWriter, _ *http.Request, data []byte) {
			w.Header().Set("Content-Range", "bytes 0-99/1228800")
			w.WriteHeader(http.StatusPartialContent)
			_, _ = w.Write(data[:100])
		}}, wantErr: []string{"asked for the bytes from 8192 on and answers with \"bytes 0-99/1228800\""}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var ranges []string
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				n := len(ranges)
				ranges = append(ranges, r.Header.Get("Range"))
				tt.answers[min(n, len(tt.answers)-1)](w, r, data)
			}))
			defer server.Close()
			var said []string
			client := Client{HTTP: NewHTTP(nil), Stall: 200 * time.Millisecond, Wait: func(context.Context, time.Duration) error { return nil },
				Say: func(format string, args ...any) { said = append(said, fmt.Sprintf(format, args...)) }}
			if tt.name == "never whole" {
				client.Patience = time.Nanosecond
			}
			out := make(memory, len(data))
			err := client.Root(t.Context(), server.URL+"/set/root.img", tree, out)
			if tt.ranges != nil && strings.Join(ranges, "|") != strings.Join(tt.ranges, "|") {
				t.Errorf("asked for %q, want %q", ranges, tt.ranges)
			}
			if tt.wantErr == nil {
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(out, data) {
					t.Error("the file is not what the server has")
				}
				if len(said) != len(ranges)-1 {
					t.Errorf("%d requests, and said %q", len(ranges), said)
				}
				return
			}
			for _, want := range tt.wantErr {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("message lacks %q: %v", want, err)
				}
			}
		})
	}
}

func TestRootEndsWithItsContext(t *testing.T) {
	data, tree := image(t)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { silent(w, r, data) }))
	defer server.Close()
	ctx, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, errors.New("enough"))
	defer cancel()
	err := Client{HTTP: NewHTTP(nil)}.Root(ctx, server.URL, tree, make(memory, len(data)))
	if err == nil || !strings.Contains(err.Error(), "enough") {
		t.Errorf("have %v", err)
	}
}

func TestSmall(t *testing.T) {
	sound := func(text []byte) error {
		if string(text) != "sound" {
			return errors.New("unsound")
		}
		return nil
	}
	for _, tt := range []struct {
		name    string
		answers []string
		wantErr string
	}{
		{name: "at once", answers: []string{"sound"}},
		{name: "the second time", answers: []string{"sou", "sound"}},
		{name: "never", answers: []string{"x"}, wantErr: "/f: unsound; it was fetched twice"},
		{name: "a page", answers: []string{" <!DOCTYPE html>"}, wantErr: "page of text"},
		{name: "junk", answers: []string{strings.Repeat("junk", 1000)}, wantErr: "more than 1KiB"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := 0
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.WriteString(w, tt.answers[min(n, len(tt.answers)-1)])
				n++
			}))
			defer server.Close()
			client := Client{HTTP: NewHTTP(nil), Wait: func(context.Context, time.Duration) error { return nil }}
			text, err := client.Small(t.Context(), Small{URL: server.URL + "/f", Limit: 1024, Check: sound})
			if tt.wantErr == "" && (err != nil || string(text) != "sound") {
				t.Errorf("have %q, %v", text, err)
			}
			if tt.wantErr != "" && (err == nil || !strings.Contains(err.Error(), tt.wantErr)) {
				t.Errorf("have %v; want %s", err, tt.wantErr)
			}
		})
	}
}

func TestPins(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/away" {
			http.Redirect(w, r, "http://127.0.0.1:1/plain", http.StatusFound)
			return
		}
		_, _ = io.WriteString(w, "sound")
	}))
	// Refused handshakes are what is wanted here.
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()
	sum := sha256.Sum256(server.Certificate().Raw)
	own, other := source.Pin(sum), source.Pin{1}
	for _, tt := range []struct {
		name          string
		pin           *source.Pin
		path, wantErr string
	}{
		{name: "the server's", pin: &own, path: "/"},
		{name: "none", path: "/", wantErr: "https needs the SHA-256 of the server's certificate: add kiln.root.ca"},
		{name: "another", pin: &other, path: "/", wantErr: "kiln.root.ca: is " + other.String() + ", but 127.0.0.1 shows other certificates (" + own.String()},
		{name: "away from https", pin: &own, path: "/away", wantErr: "from https on to http://127.0.0.1:1/plain"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			attempts := 0
			client := Client{HTTP: NewHTTP(tt.pin), Wait: func(context.Context, time.Duration) error { attempts++; return nil }}
			_, err := client.Small(t.Context(), Small{URL: server.URL + tt.path, Limit: 99, Check: func([]byte) error { return nil }})
			if tt.wantErr == "" && err != nil {
				t.Error(err)
			}
			if tt.wantErr != "" && (err == nil || !strings.Contains(err.Error(), tt.wantErr) || attempts > 0) {
				t.Errorf("have %v after %d more attempts; want %s at once", err, attempts, tt.wantErr)
			}
		})
	}
}

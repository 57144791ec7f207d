package install

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/kiln-os/kiln/internal/document"
	manifest "github.com/kiln-os/kiln/internal/install"
)

// Source is the directory of a live set, on a medium or a server.
type Source interface {
	// Open opens a file of the directory.
	Open(ctx context.Context, name string) (io.ReadCloser, error)
	// String names the place for people.
	String() string
}

// Directory is a live set on a mounted medium.
type Directory string

// Open implements Source.
func (d Directory) Open(_ context.Context, name string) (io.ReadCloser, error) {
	return os.Open(filepath.Join(string(d), name))
}

// String implements Source.
func (d Directory) String() string { return string(d) }

// Set is a live set of which some files are nearer than the others: in memory, where the live system's own root is.
type Set struct {
	Near Directory
	// Far has all files.
	Far Source
}

// Open implements Source.
func (s Set) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	if reader, err := s.Near.Open(ctx, name); err == nil {
		return reader, nil
	}
	return s.Far.Open(ctx, name)
}

// String implements Source.
func (s Set) String() string { return s.Far.String() }

// Server is a live set on an HTTP server.
type Server struct {
	// Base is the directory's URL.
	Base   *url.URL
	Client *http.Client
	// Silence is how long the server may send nothing; 0 means 30 seconds.
	Silence time.Duration
}

// Open implements Source. It asks only once: whoever reads tries again as a whole.
func (s Server) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	silence := s.Silence
	if silence == 0 {
		silence = 30 * time.Second
	}
	ctx, cancel := context.WithCancelCause(ctx)
	address := s.Base.JoinPath(name).String()
	watch := time.AfterFunc(silence, func() { cancel(fmt.Errorf("%s: the server has sent nothing for %s", address, silence)) })
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		cancel(nil)
		return nil, err
	}
	response, err := s.Client.Do(request)
	if err == nil && response.StatusCode != http.StatusOK {
		response.Body.Close()
		err = fmt.Errorf("%s: the server answers %s", address, response.Status)
	}
	if err != nil {
		watch.Stop()
		defer cancel(nil)
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, err
	}
	watch.Stop()
	return &body{ReadCloser: response.Body, ctx: ctx, cancel: cancel, watch: watch, silence: silence}, nil
}

// String implements Source.
func (s Server) String() string { return s.Base.String() }

// body is a response that may not fall silent.
type body struct {
	io.ReadCloser
	ctx     context.Context
	cancel  context.CancelCauseFunc
	watch   *time.Timer
	silence time.Duration
}

// Read implements io.Reader. Only while it waits for the server is silence the server's: the disk may take its time.
func (b *body) Read(p []byte) (int, error) {
	b.watch.Reset(b.silence)
	n, err := b.ReadCloser.Read(p)
	b.watch.Stop()
	if err != nil && b.ctx.Err() != nil {
		err = context.Cause(b.ctx)
	}
	return n, err
}

// Close implements io.Closer.
func (b *body) Close() error {
	b.watch.Stop()
	b.cancel(nil)
	return b.ReadCloser.Close()
}

// maxManifest is the most that install.json may have.
const maxManifest = 1 << 20

// readManifest reads install.json and compares it with the digest that the kernel command line has, 64 hexadecimal digits.
func readManifest(ctx context.Context, source Source, want string) (manifest.Manifest, error) {
	reader, err := source.Open(ctx, manifest.File)
	if err != nil {
		return manifest.Manifest{}, fmt.Errorf("opening %s: %w", manifest.File, err)
	}
	defer reader.Close()
	text, err := io.ReadAll(io.LimitReader(reader, maxManifest+1))
	if err != nil {
		return manifest.Manifest{}, fmt.Errorf("reading %s: %w", manifest.File, err)
	}
	if len(text) > maxManifest {
		return manifest.Manifest{}, document.Problem{File: manifest.File, Text: "is larger than 1 MiB; what is on the server is no live set of kiln's"}
	}
	if sum := sha256.Sum256(text); hex.EncodeToString(sum[:]) != want {
		// Not permanent: somebody may be copying the live set this very moment.
		return manifest.Manifest{}, fmt.Errorf("%s from %s has the SHA-256 %x, but the kernel command line wants %s; "+
			"the live set was changed after this machine booted, or only in part: boot again when it is whole", manifest.File, source, sum, want)
	}
	return manifest.Parse(manifest.File, text)
}

// errShort says that a file ends too early.
var errShort = errors.New("it ends too early")

// openBlob opens the bytes of a blob, decompressed.
func openBlob(ctx context.Context, source Source, b manifest.Blob) (io.ReadCloser, error) {
	reader, err := source.Open(ctx, b.File)
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", b.File, err)
	}
	if !strings.HasSuffix(b.File, ".zst") {
		return reader, nil
	}
	decoder, err := zstd.NewReader(reader, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(256<<20))
	if err != nil {
		reader.Close()
		return nil, fmt.Errorf("decompressing %s: %w", b.File, err)
	}
	return &decompressed{decoder.IOReadCloser(), reader}, nil
}

// decompressed closes both ends.
type decompressed struct {
	io.ReadCloser
	under io.Closer
}

// Close implements io.Closer.
func (d *decompressed) Close() error { return errors.Join(d.ReadCloser.Close(), d.under.Close()) }

package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/kiln-os/kiln/firstboot/source"
	"github.com/kiln-os/kiln/internal/document"
	"github.com/kiln-os/kiln/internal/nodefs"
)

// request is one GET.
type request struct {
	url string
	// offset is where to begin; size is how many bytes the whole file has to have, 0 when that is not known.
	offset, size int64
	// alive is called when bytes come.
	alive func()
}

// open asks for a file and returns its bytes from offset on, from servers that know ranges and from those that do not.
func (c Client) open(ctx context.Context, r request) (io.ReadCloser, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	stall := c.Stall
	if stall == 0 {
		stall = 15 * time.Second
	}
	watch := time.AfterFunc(stall, func() { cancel(fmt.Errorf("nothing came for %s", stall)) })
	body := &watched{watch: watch, stall: stall, alive: r.alive, ctx: ctx, close: func() { watch.Stop(); cancel(nil) }}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url, nil)
	if err != nil {
		body.close()
		return nil, permanent{err}
	}
	req.Header.Set("User-Agent", "kiln")
	if r.offset > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", r.offset))
	}
	response, err := c.HTTP.Do(req)
	if err != nil {
		err = explain(ctx, err)
		body.close()
		return nil, err
	}
	body.ReadCloser = response.Body
	if err := check(response, r); err != nil {
		body.Close()
		return nil, err
	}
	if response.StatusCode == http.StatusOK && r.offset > 0 {
		// A server without ranges sends all of it again. What is skipped was there before: it is no progress.
		body.alive = func() {}
		if _, err := io.CopyN(io.Discard, body, r.offset); err != nil {
			body.Close()
			return nil, err
		}
		body.alive = r.alive
	}
	return body, nil
}

// explain takes from an error of net/http the URL, which the caller names, and says which errors stay.
func explain(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	var pin pinError
	var refused redirectError
	if document.IsInvalid(err) || errors.As(err, &pin) || errors.As(err, &refused) {
		return permanent{err}
	}
	return err
}

// check compares the answer with what was asked for.
func check(response *http.Response, r request) error {
	status := response.StatusCode
	switch {
	case status == http.StatusPartialContent && r.offset > 0:
		var begin int64
		if _, err := fmt.Sscanf(response.Header.Get("Content-Range"), "bytes %d-", &begin); err != nil || begin != r.offset {
			return permanent{fmt.Errorf("the server was asked for the bytes from %d on and answers with %q", r.offset, response.Header.Get("Content-Range"))}
		}
	case status == http.StatusOK:
		if r.size > 0 && response.ContentLength >= 0 && response.ContentLength != r.size {
			return permanent{fmt.Errorf("it has %d bytes on the server, and %d by its hash tree: these are not files of the same image, or it is cut off", response.ContentLength, r.size)}
		}
	case status == http.StatusRequestTimeout || status == http.StatusTooManyRequests || status >= 500:
		return fmt.Errorf("the server answers %s", response.Status)
	default:
		return permanent{fmt.Errorf("the server answers %s", response.Status)}
	}
	return nil
}

// watched is a body that is closed when nothing comes.
type watched struct {
	io.ReadCloser
	watch *time.Timer
	stall time.Duration
	alive func()
	ctx   context.Context
	close func()
}

// Read implements io.Reader.
func (w *watched) Read(p []byte) (int, error) {
	n, err := w.ReadCloser.Read(p)
	if n > 0 {
		w.watch.Reset(w.stall)
		w.alive()
	}
	if cause := context.Cause(w.ctx); err != nil && err != io.EOF && cause != nil {
		err = cause
	}
	return n, err
}

// Close implements io.Closer.
func (w *watched) Close() error {
	w.close()
	return w.ReadCloser.Close()
}

type redirectError struct{ error }

type pinError struct{ error }

// NewHTTP is a client for one server. Pin stands for its certificate, or for that of an authority in its chain: the initramfs
// knows no authorities of its own, so that https without a pin (nil) is never trusted.
func NewHTTP(pin *source.Pin) *http.Client {
	transport := &http.Transport{
		DialContext: (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
		// The file's own bytes are wanted, whatever they look like.
		DisableCompression: true,
		DialTLSContext: func(context.Context, string, string) (net.Conn, error) {
			return nil, pinError{fmt.Errorf("https needs the SHA-256 of the server's certificate: add %s", nodefs.ParamRootCA)}
		},
	}
	if pin != nil {
		transport = pin.Transport(transport, nodefs.ParamRootCA)
	}
	return &http.Client{Transport: transport, CheckRedirect: func(req *http.Request, via []*http.Request) error {
		if len(via) > 5 {
			return redirectError{errors.New("more than 5 redirections")}
		}
		if via[0].URL.Scheme == "https" && req.URL.Scheme != "https" {
			return redirectError{fmt.Errorf("the server sends us from https on to %s, which nobody vouches for", req.URL.Redacted())}
		}
		return nil
	}}
}

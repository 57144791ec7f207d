// Package fetch gets a root image over HTTP into a file: it goes on where a broken connection stopped, shows how far it is,
// and lets nothing pass that the hash tree does not know.
package fetch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path"
	"time"

	"github.com/kiln-os/kiln/firstboot/initramfs/hashtree"
	"github.com/kiln-os/kiln/internal/document"
)

// Client fetches files. All fields but HTTP may be left out.
type Client struct {
	// HTTP does the requests: see NewHTTP.
	HTTP *http.Client
	// Patience is how long no new byte may come before the fetch is given up; default a minute.
	Patience time.Duration
	// Stall is how long a connection may be silent before another is made; default 15 seconds.
	Stall time.Duration
	// Say tells the person in front of the machine what is going on.
	Say func(format string, args ...any)
	// Wait waits between two attempts; a test replaces it.
	Wait func(ctx context.Context, d time.Duration) error
}

// Waiting between attempts, and for the next line of progress.
const (
	firstPause    = time.Second
	longestPause  = 10 * time.Second
	progressEvery = 5 * time.Second
)

// permanent is an error that no second attempt mends.
type permanent struct{ error }

func (p permanent) Unwrap() error { return p.error }

// Small is a file that is fetched into memory.
type Small struct {
	URL string
	// Limit is how many bytes it may have.
	Limit int64
	// Check says what is wrong with it. It is fetched once more then.
	Check func(text []byte) error
}

// Small fetches a file into memory.
func (c Client) Small(ctx context.Context, file Small) ([]byte, error) {
	var text []byte
	wrong := false
	err := c.again(ctx, file.URL, func(alive func()) error {
		body, err := c.open(ctx, request{url: file.URL, alive: alive})
		if err != nil {
			return err
		}
		defer body.Close()
		text, err = io.ReadAll(io.LimitReader(body, file.Limit+1))
		if err != nil {
			return err
		}
		if int64(len(text)) > file.Limit {
			return permanent{fmt.Errorf("it has more than %s", document.Size(file.Limit))}
		}
		err = file.Check(text)
		if err != nil && looksLikePage(text) {
			err = fmt.Errorf("%w (the server sent a page of text)", err)
		}
		if err != nil && wrong {
			return permanent{fmt.Errorf("%w; it was fetched twice", err)}
		}
		wrong = err != nil
		return err
	})
	return text, err
}

// looksLikePage tells HTML from what was asked for: servers send it with the status 200, too.
func looksLikePage(text []byte) bool {
	return bytes.HasPrefix(bytes.TrimSpace(text[:min(len(text), 64)]), []byte("<"))
}

// Root fetches the file that tree covers into out, and returns only when each of its blocks was found right there. A block
// that is wrong is fetched once more; wrong again, it is the error.
func (c Client) Root(ctx context.Context, url string, tree *hashtree.Tree, out io.WriterAt) error {
	t := transfer{tree: tree, out: out, name: path.Base(url), wrong: -1, begun: time.Now(), told: time.Now(), say: c.say}
	return c.again(ctx, url, func(alive func()) error {
		body, err := c.open(ctx, request{url: url, offset: t.offset(), size: tree.DataSize(), alive: alive})
		if err != nil {
			return err
		}
		defer body.Close()
		return t.read(body)
	})
}

// again tries until do succeeds, fails for good, or nothing has come for longer than Patience.
func (c Client) again(ctx context.Context, url string, do func(alive func()) error) error {
	last, pause := time.Now(), firstPause
	for {
		came := false
		err := do(func() { came = true })
		if came {
			last, pause = time.Now(), firstPause
		}
		var final permanent
		switch {
		case err == nil:
			return nil
		case errors.As(err, &final):
			return fmt.Errorf("fetching %s: %w", url, final.error)
		case ctx.Err() != nil:
			return fmt.Errorf("fetching %s: %w", url, context.Cause(ctx))
		case time.Since(last)+pause > c.patience():
			return fmt.Errorf("fetching %s: nothing came for %s, the last attempt: %w", url, c.patience(), err)
		}
		c.say("fetching %s: %s; trying again in %s", url, err, pause)
		if err := c.wait(ctx, pause); err != nil {
			return fmt.Errorf("fetching %s: %w", url, err)
		}
		pause = min(2*pause, longestPause)
	}
}

func (c Client) patience() time.Duration {
	if c.Patience == 0 {
		return time.Minute
	}
	return c.Patience
}

func (c Client) say(format string, args ...any) {
	if c.Say != nil {
		c.Say(format, args...)
	}
}

func (c Client) wait(ctx context.Context, d time.Duration) error {
	if c.Wait != nil {
		return c.Wait(ctx, d)
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

// transfer is one file on its way.
type transfer struct {
	tree *hashtree.Tree
	out  io.WriterAt
	name string
	// next is the number of the block to come.
	next int64
	// wrong is the block that was wrong last; -1 is none.
	wrong       int64
	begun, told time.Time
	say         func(format string, args ...any)
}

func (t *transfer) offset() int64 { return t.next * hashtree.BlockSize }

// read takes blocks from body until the file is whole.
func (t *transfer) read(body io.Reader) error {
	block := make([]byte, hashtree.BlockSize)
	for t.offset() < t.tree.DataSize() {
		if _, err := io.ReadFull(body, block); err != nil {
			return fmt.Errorf("the connection ended at byte %d of %d: %w", t.offset(), t.tree.DataSize(), err)
		}
		if !t.tree.Matches(t.next, block) {
			return t.mismatch(block)
		}
		if _, err := t.out.WriteAt(block, t.offset()); err != nil {
			return permanent{fmt.Errorf("writing it: %w", err)}
		}
		t.next++
		t.progress()
	}
	return nil
}

func (t *transfer) mismatch(block []byte) error {
	err := fmt.Errorf("the 4096 bytes from byte %d of %s on are not those of the image: their hash is not in its hash tree", t.offset(), t.name)
	if looksLikePage(block) {
		err = fmt.Errorf("%w (the server sent a page of text)", err)
	}
	if t.wrong == t.next {
		return permanent{fmt.Errorf("%w; they were fetched twice", err)}
	}
	t.wrong = t.next
	return err
}

// progress prints a line every few seconds.
func (t *transfer) progress() {
	if t.next%256 != 0 || time.Since(t.told) < progressEvery {
		return
	}
	t.told = time.Now()
	done, all := t.offset(), t.tree.DataSize()
	rate := float64(done) / time.Since(t.begun).Seconds() / float64(document.MiB)
	t.say("%s: %d of %d MiB, %d %%, %.1f MiB/s", t.name, done>>20, all>>20, 100*done/all, rate)
}

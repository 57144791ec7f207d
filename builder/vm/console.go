package vm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"sync"
	"time"
)

// Console follows what a machine writes to its serial console, line by line, without escape sequences.
type Console struct {
	mu      sync.Mutex
	lines   []Line
	partial []byte
	// seen is how many lines Expect has gone past: each wait goes on after the last one's match.
	seen int
	// known says that the line under way has already been matched.
	known   bool
	changed chan struct{}
	closing chan struct{}
	ended   bool
	once    sync.Once
}

// Line is one line of a console.
type Line struct {
	Text string
	// At is when it was read, a tenth of a second after it was written at most.
	At time.Time
}

// Follow begins to read the console log at path, which may not exist yet; also, if not nil, gets the bytes as they are.
func Follow(path string, also io.Writer) *Console {
	c := &Console{changed: make(chan struct{}), closing: make(chan struct{})}
	go c.follow(path, also)
	return c
}

func (c *Console) follow(path string, also io.Writer) {
	var file *os.File
	buffer := make([]byte, 64<<10)
	last := false
	for {
		if file == nil {
			file, _ = os.Open(path)
		}
		n := 0
		if file != nil {
			n, _ = file.Read(buffer)
		}
		if n > 0 {
			c.add(buffer[:n])
			if also != nil {
				_, _ = also.Write(buffer[:n])
			}
			continue
		}
		if last {
			break
		}
		select {
		case <-c.closing:
			// What was written before the end has to be read: once more around.
			last = true
		case <-time.After(100 * time.Millisecond):
		}
	}
	if file != nil {
		_ = file.Close()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	c.broadcast()
}

func (c *Console) add(data []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.partial = append(c.partial, data...)
	for {
		line, rest, ok := bytes.Cut(c.partial, []byte("\n"))
		if !ok {
			break
		}
		c.lines = append(c.lines, Line{Text: plain(line), At: time.Now()})
		c.partial = append([]byte(nil), rest...)
	}
	c.broadcast()
}

func (c *Console) broadcast() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// Close ends the following, after what has been written so far.
func (c *Console) Close() { c.once.Do(func() { close(c.closing) }) }

// escapes are the terminal's: colours, cursor movement, window titles.
var escapes = regexp.MustCompile(`\x1b(\[[0-9;?=]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)|[()][A-Z0-9]|[=>cDEHMNOZ78])`)

// plain is a console line's text without escape sequences and other control characters.
func plain(line []byte) string {
	text := escapes.ReplaceAll(line, nil)
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\t' {
			return -1
		}
		return r
	}, strings.TrimRight(string(text), "\r "))
}

// Lines are the lines so far, the last one even if it is not ended.
func (c *Console) Lines() []Line {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.all()
}

func (c *Console) all() []Line {
	lines := append([]Line(nil), c.lines...)
	if text := plain(c.partial); text != "" {
		lines = append(lines, Line{Text: text, At: time.Now()})
	}
	return lines
}

// Last is the last n lines as one indented text, for messages.
func (c *Console) Last(n int) string {
	lines := c.Lines()
	lines = lines[max(0, len(lines)-n):]
	var text strings.Builder
	for _, line := range lines {
		fmt.Fprintf(&text, "    | %s\n", line.Text)
	}
	return strings.TrimSuffix(text.String(), "\n")
}

// Expectation is what to wait for on a console.
type Expectation struct {
	// What names it for messages, as in "the kernel's first line".
	What string
	Want *regexp.Regexp
	// Never are texts that mean that it will not come.
	Never []*regexp.Regexp
	// Within bounds the wait.
	Within time.Duration
	// Each is called for each whole line that passes.
	Each func(Line)
}

// ErrConsole is the base of every disappointed expectation.
var ErrConsole = errors.New("the console did not show it")

// settle is how long the console may go on after a line that means failure: the explanation often follows it.
const settle = 2 * time.Second

// WaitFor waits for a line, after the last match, that matches want, and returns the match and its groups.
func (c *Console) WaitFor(ctx context.Context, want *regexp.Regexp, within time.Duration) ([]string, error) {
	return c.Expect(ctx, Expectation{What: fmt.Sprintf("%q", want), Want: want, Within: within})
}

// Expect waits for a line as WaitFor does. Its error holds what was awaited and the console's last 30 lines.
func (c *Console) Expect(ctx context.Context, e Expectation) ([]string, error) {
	timeout := time.NewTimer(e.Within)
	defer timeout.Stop()
	for {
		c.mu.Lock()
		match, never := c.scan(e)
		changed, ended := c.changed, c.ended
		c.mu.Unlock()
		if match != nil {
			return match, nil
		}
		if never != "" {
			time.Sleep(settle)
			return nil, c.disappointed(e, "the console says: "+never)
		}
		if ended {
			return nil, c.disappointed(e, "the machine is off")
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, errors.Join(c.disappointed(e, "given up"), context.Cause(ctx))
		case <-timeout.C:
			return nil, c.disappointed(e, fmt.Sprintf("not seen within %s", e.Within))
		}
	}
}

// scan goes through the lines not seen yet, the one under way last: what it says already counts, but only once.
func (c *Console) scan(e Expectation) (match []string, never string) {
	for c.seen < len(c.lines) {
		line, known := c.lines[c.seen], c.known
		c.seen, c.known = c.seen+1, false
		if e.Each != nil {
			e.Each(line)
		}
		if known {
			continue
		}
		if match, never = e.judge(line.Text); match != nil || never != "" {
			return match, never
		}
	}
	if text := plain(c.partial); text != "" && !c.known {
		match, never = e.judge(text)
		c.known = match != nil || never != ""
	}
	return match, never
}

func (e Expectation) judge(text string) (match []string, never string) {
	if match = e.Want.FindStringSubmatch(text); match != nil {
		return match, ""
	}
	for _, bad := range e.Never {
		if bad.MatchString(text) {
			return nil, text
		}
	}
	return nil, ""
}

func (c *Console) disappointed(e Expectation, why string) error {
	return fmt.Errorf("waiting for %s: %w: %s; its last lines:\n%s", e.What, ErrConsole, why, c.Last(30))
}

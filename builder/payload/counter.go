package payload

import (
	"bytes"
	"strings"
	"sync"
	"time"

	"github.com/kiln-os/kiln/builder/progress"
)

// counter reads what the go command writes to its error output and tells how far it is: one line a package compiled,
// and one a module downloaded.
type counter struct {
	task *progress.Task

	mu                          sync.Mutex
	rest                        []byte
	packages, modules, expected int
	start                       time.Time
}

func newCounter(task *progress.Task) *counter { return &counter{task: task, start: time.Now()} }

// expect sets how many packages there are at most; those that are in Go's own cache are not compiled again.
func (c *counter) expect(packages int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.expected = packages
}

// Write implements io.Writer.
func (c *counter) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rest = append(c.rest, p...)
	for {
		line, rest, found := bytes.Cut(c.rest, []byte("\n"))
		if !found {
			return len(p), nil
		}
		c.rest = rest
		c.line(string(line))
	}
}

func (c *counter) line(line string) {
	switch {
	case strings.HasPrefix(line, "go: downloading "):
		c.modules++
	case line != "" && !strings.ContainsAny(line, " \t:#"):
		c.packages++
	}
}

// tell says every interval how far the build is, until the returned function is called: a long link is no silence.
func (c *counter) tell(interval time.Duration) (stop func()) {
	done := make(chan struct{})
	var finished sync.WaitGroup
	finished.Go(func() {
		ticker := time.NewTicker(interval)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				c.say()
			case <-done:
				return
			}
		}
	})
	return func() { close(done); finished.Wait() }
}

func (c *counter) say() {
	c.mu.Lock()
	defer c.mu.Unlock()
	elapsed := time.Since(c.start).Round(time.Second)
	switch {
	case c.expected == 0:
		c.task.Say("loading packages, %d modules downloaded, %s", c.modules, elapsed)
	default:
		c.task.Say("compiled %d of at most %d packages, %s", c.packages, c.expected, elapsed)
	}
}

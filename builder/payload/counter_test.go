package payload

import (
	"bytes"
	"strings"
	"testing"

	"github.com/kiln-os/kiln/builder/progress"
)

func TestCounter(t *testing.T) {
	for _, row := range []struct {
		name     string
		writes   []string
		expected int
		want     string
	}{
		{"before the packages are known", []string{"go: downloading example.org/a v1.0.0\ngo: down", "loading example.org/b v1.0.0\n"}, 0, "net: loading packages, 2 modules downloaded, "},
		{"packages, one in two pieces", []string{"internal/abi\nexample.org/", "net\nunfinished"}, 7, "net: compiled 2 of at most 7 packages, "},
		{"a compiler's messages", []string{"# example.org/net\nx.go:1: warning\n./x.go:2:3: undefined\n\nunsafe\n"}, 7, "net: compiled 1 of at most 7 packages, "},
	} {
		t.Run(row.name, func(t *testing.T) {
			var out bytes.Buffer
			c := newCounter(progress.New(&out, false).Start("net", "building"))
			for _, text := range row.writes {
				if n, err := c.Write([]byte(text)); n != len(text) || err != nil {
					t.Fatalf("wrote %d of %d bytes: %v", n, len(text), err)
				}
			}
			c.expect(row.expected)
			c.say()
			if !strings.Contains(out.String(), row.want) {
				t.Errorf("said %q; want %q", out.String(), row.want)
			}
		})
	}
}

func TestCounterIsSilentOnceStopped(t *testing.T) {
	var out bytes.Buffer
	c := newCounter(progress.New(&out, false).Start("net", "building"))
	stop := c.tell(1)
	stop()
	said := out.Len()
	c.Write([]byte("internal/abi\n"))
	if out.Len() != said {
		t.Errorf("said %q after the end", out.String()[said:])
	}
}

package bootstrap

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kiln-os/kiln/internal/command"
	"github.com/kiln-os/kiln/internal/nodefs"
)

// fromPath runs the programs of PATH instead of the node's.
type fromPath struct{ ran int }

func (f *fromPath) Run(ctx context.Context, c command.Command) (command.Usage, error) {
	f.ran++
	c.Name = filepath.Base(c.Name)
	return command.Exec{}.Run(ctx, c)
}

// TestRealContainerd makes the container images of a preload known to a real containerd and checks them through its CRI.
// KILN_CONTAINERD names a directory with run/containerd/containerd.sock, on which one listens that has the preload's layer
// cache, and usr/lib/kiln/container-images.tar; ctr is taken from PATH. KILN_PRELOAD names the preload's summary.
func TestRealContainerd(t *testing.T) {
	root, summary := os.Getenv("KILN_CONTAINERD"), os.Getenv("KILN_PRELOAD")
	if root == "" || summary == "" {
		t.Skip("KILN_CONTAINERD and KILN_PRELOAD are not set: no containerd to ask")
	}
	var preload struct{ Manifests map[string]string }
	text, err := os.ReadFile(summary)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &preload); err != nil || len(preload.Manifests) == 0 {
		t.Fatalf("have %v, %v", preload, err)
	}
	runner := &fromPath{}
	m := OnNode(nodefs.Root(root), &Report{Out: testWriter{t}})
	m.Runner = runner
	i := image{}
	i.baked.ContainerImages = preload.Manifests
	p := m.plan(i, found{}, &stepJournal{})
	for range 2 {
		start := time.Now()
		note, err := p.containerImages(t.Context())
		t.Logf("%s in %s", note, time.Since(start))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(note, "all ") {
			t.Errorf("have %q", note)
		}
	}
	if runner.ran > 1 {
		t.Errorf("imported %d times", runner.ran)
	}
	i.baked.ContainerImages = map[string]string{"registry.k8s.io/absent:v1": ""}
	p = m.plan(i, found{}, &stepJournal{})
	r, err := m.runtime()
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	if err := p.settledWithin(t.Context(), r, []string{"registry.k8s.io/absent:v1"}, 0); !IsPermanent(err) {
		t.Errorf("have %v", err)
	}
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

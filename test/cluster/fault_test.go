//go:build cluster

package cluster_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/kiln-os/kiln/internal/nodefs"
)

// mustComplete waits for the end of a machine's first boot. Its Node says nothing of that at first: that of the machine
// before stays Ready for most of a minute.
func (f *fleet) mustComplete(t *testing.T, name string) {
	t.Helper()
	expect(t, f.machines[name], `^first-boot: completed`, 8*time.Minute)
}

// isNot complains while a Node's Ready condition is status.
func (f *fleet) isNot(name, status string) func(context.Context) error {
	return func(ctx context.Context) error {
		nodes, err := f.list(ctx, "nodes")
		if err != nil {
			return err
		}
		if have, _ := nodes[name].condition("Ready"); have == status {
			return fmt.Errorf("%s is still %s", name, status)
		}
		return nil
	}
}

// answers complains while the API cannot be reached through the balancer.
func (f *fleet) answers(ctx context.Context) error {
	_, err := f.try(ctx, "get", "--raw=/readyz")
	return err
}

// mustServe fails unless the API can be written to through the balancer while a control plane is missing.
func (f *fleet) mustServe(t *testing.T) {
	t.Helper()
	eventually(t, "the API takes writes", time.Minute, func(ctx context.Context) error {
		_, err := f.try(ctx, "annotate", "--overwrite", "namespace", "default", fmt.Sprintf("example.org/at=%d", time.Now().Unix()))
		return err
	})
}

// isGone complains while the Node with this UID is there; another of its name may be.
func (f *fleet) isGone(name, uid string) func(context.Context) error {
	return func(ctx context.Context) error {
		nodes, err := f.list(ctx, "nodes")
		if err == nil && nodes[name].Metadata.UID == uid {
			err = fmt.Errorf("the Node is still there")
		}
		return err
	}
}

// loseForGood cuts a control plane's power and takes its disk away; the others go on.
func (f *fleet) loseForGood(t *testing.T, name string) {
	t.Helper()
	must(t, f.machines[name].PowerOff())
	must(t, f.machines[name].Wipe())
	f.mustServe(t)
}

// leave has a node leave its cluster, as an operator does, and fails unless it went in order and left nothing behind.
func (f *fleet) leave(t *testing.T, m member) {
	t.Helper()
	name := m.name
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	out, err := f.machines[name].Exec(ctx, "systemd-run", "--pipe", "--quiet", "firstboot", "reset", "--drain-timeout=1m")
	if err != nil {
		t.Fatalf("leaving: %v\n%s", err, out)
	}
	t.Logf("%s left:\n%s", name, out)
	steps := []string{"drain", "marker", "kubelet", "node-object", "wipe"}
	if m.role == controlPlane {
		steps = []string{"quorum", "drain", "marker", "etcd-member", "kubelet", "node-object", "wipe"}
	}
	at := -1
	for _, step := range steps {
		next := strings.Index(out, "reset: "+step+": ")
		if next <= at {
			t.Errorf("%s left without %s, or not in this order: %q", name, step, steps)
		}
		at = next
	}
	f.mustHaveNothing(t, name)
	if files := filesIn(f.machines[name].OnDisk(nodefs.KilnState + "/firstboot")); len(files) > 1 {
		// The journal's file is the lock that a reset holds.
		t.Errorf("%s still has %q", name, files)
	}
}

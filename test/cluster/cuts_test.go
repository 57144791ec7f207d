//go:build cluster

package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/kiln-os/kiln/internal/nodefs"
	"github.com/kiln-os/kiln/test/rung"
)

// TestPowerCuts cuts the power of a founder, of a control plane that joins and of a worker in every step of their first
// boots, one cut after the other, all three at the same time. The load balancer is away at first: it refuses, and then it
// is silent. The certificates are uploaded ones. On the cluster that comes of it, machines come late.
func TestPowerCuts(t *testing.T) {
	w := newWorld(t)
	all := members(2, 1)
	const uploaded = "certificates: uploaded\n"
	f := w.newFleet(t, "cuts", all, uploaded)
	f.balancer.Stop()
	steps := f.steps(t)
	founded := make(chan struct{})
	lives := map[string][]moment{
		"cp1": plan(steps["cp1"], extra{
			"kubeadm-init": {etcdBegan().and(f.beforeItsFirstEntry("cp1")), etcdStarted(), said(`^kubeadm-init: \[upload-config\]`)},
		}),
		"cp2": plan(steps["cp2"], extra{"kubeadm-join": {said(`^kubeadm-join: \[control-plane\]`), etcdBegan(), etcdStarted(), said(`^kubeadm-join: \[mark-control-plane\]`)}}),
		"worker1": plan(steps["worker1"], extra{
			"endpoint": {
				said(`^endpoint: nobody listens at .* \(connection refused\)`).and(func(ctx context.Context) error {
					return errors.Join(f.balancer.Start(), f.balancer.Drop(ctx))
				}),
				said(`^endpoint: .* (did not answer within|takes connections and says nothing)`).and(func(ctx context.Context) error {
					return f.passAfter(ctx, founded)
				}),
			},
			"kubeadm-join": {said(`^kubeadm-join: \[kubelet-start\]`)},
		}),
	}
	// The founder's Node cannot be Ready before the balancer is there: kube-proxy goes through it.
	at := slices.IndexFunc(lives["cp1"], func(m moment) bool { return m.step == "ready" })
	lives["cp1"][at].then = func(context.Context) error { close(founded); return nil }
	f.powerOn(t)
	f.liveThrough(t, lives)
	eventually(t, "all Ready", 8*time.Minute, f.allReady(f.names...))
	f.mustBeWhole(t, all)
	eventually(t, "the founder forgets the certificate key when all are in", 2*time.Minute, func(context.Context) error {
		if _, err := os.Stat(f.machines["cp1"].OnDisk(nodefs.CertificateKeyConfig)); !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("it still has it (%v)", err)
		}
		return nil
	})
	f.mustHoldNoSecrets(t)
	f.testLate(t, uploaded)
}

// passAfter ends the balancer's silence when the cluster was founded without it, and it was away for long enough.
func (f *fleet) passAfter(ctx context.Context, founded chan struct{}) error {
	away := time.After(absence)
	select {
	case <-founded:
	case <-ctx.Done():
		return fmt.Errorf("waiting for a cluster that is founded without its balancer: %w", context.Cause(ctx))
	}
	select {
	case <-away:
	case <-ctx.Done():
		return fmt.Errorf("waiting for %s to pass: %w", absence, context.Cause(ctx))
	}
	return f.balancer.Pass(ctx)
}

// steps asks every machine which steps its first boot has. Its disk is empty afterwards, and it is off.
func (f *fleet) steps(t *testing.T) map[string][]string {
	t.Helper()
	listed := regexp.MustCompile(`(?m)^ *\d+  (\S+)`)
	steps := map[string][]string{}
	f.powerOn(t)
	for _, name := range f.names {
		out, err := f.machines[name].Exec(t.Context(), "firstboot", "run", "--dry-run")
		must(t, err)
		for _, match := range listed.FindAllStringSubmatch(out, -1) {
			steps[name] = append(steps[name], match[1])
		}
		if s := steps[name]; len(s) < 12 || s[0] != "identity" || s[len(s)-1] != "forget" {
			t.Fatalf("the steps of %s are %q, of\n%s", name, s, out)
		}
	}
	f.powerOff(t)
	f.each(t, nil, (*rung.Node).Wipe)
	return steps
}

// extra are moments within a step, in the order in which they come, by the step's name.
type extra map[string][]moment

// plan cuts every step, and after the cut in a step at the extra moments within it.
func plan(steps []string, more extra) []moment {
	var all []moment
	for _, step := range steps {
		all = append(append(all, begun(step)), more[step]...)
		delete(more, step)
	}
	for step := range more {
		panic("there is no step " + step) // a test that means a step that was renamed
	}
	return all
}

// liveThrough cuts the power of all machines in all moments of their lives, at the same time, and leaves them on.
func (f *fleet) liveThrough(t *testing.T, lives map[string][]moment) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), absence+12*time.Minute)
	defer cancel()
	var group sync.WaitGroup
	for name, moments := range lives {
		group.Go(func() {
			for i, m := range moments {
				begin := time.Now()
				err := await(ctx, f.machines[name], m)
				if last := len(moments) - i; errors.Is(err, errThrough) && last <= 2 {
					t.Logf("%s was through before it could be cut off %s", name, m.name)
					return
				}
				if err != nil {
					t.Errorf("cutting the power of %s %s: %v", name, m.name, err)
					cancel() // the others may wait for this one
					return
				}
				t.Logf("%s was cut off %s, after %.1f s", name, m.name, time.Since(begin).Seconds())
			}
		})
	}
	group.Wait()
	if t.Failed() {
		t.FailNow()
	}
}

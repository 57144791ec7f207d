//go:build cluster && full

// What is here takes longer than every change can wait for: it runs under make test-full.

package cluster_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestFaults does to a running cluster what happens to clusters, one thing after the other. After each the cluster has to
// be whole again; how long that takes is logged and does not matter, but it ends.
func TestFaults(t *testing.T) {
	w := newWorld(t)
	all := members(3, 2)
	f := w.newFleet(t, "faults", all, "")
	f.powerOn(t)
	eventually(t, "three control planes and two workers Ready", 6*time.Minute, f.allReady(f.names...))
	eventually(t, "every first boot told", 3*time.Minute, f.allTold(f.names...))

	t.Run("a control plane is cut off and comes back", func(t *testing.T) {
		must(t, f.machines["cp3"].Partition())
		eventually(t, "cp3 is seen to be gone", 3*time.Minute, f.isNot("cp3", "True"))
		f.mustServe(t)
		must(t, f.machines["cp3"].Heal())
		eventually(t, "all Ready again", 4*time.Minute, f.allReady(f.names...))
		f.mustBeWhole(t, all)
	})

	t.Run("a control plane is lost for good, and a machine with an empty disk takes its place", func(t *testing.T) {
		before := f.etcdIDs(t, "cp1")
		must(t, f.machines["cp2"].PowerOff())
		must(t, f.machines["cp2"].Wipe())
		f.mustServe(t)
		f.powerOn(t, "cp2")
		f.mustComplete(t, "cp2")
		eventually(t, "all Ready again", 6*time.Minute, f.allReady(f.names...))
		f.mustBeWhole(t, all)
		if after := f.etcdIDs(t, "cp1"); after["cp2"] == before["cp2"] {
			t.Errorf("the member %s came back without its log", after["cp2"])
		}
	})

	t.Run("the founder is lost for good, and joins its own cluster", func(t *testing.T) {
		founded := f.kubectl(t, "get", "namespace", "kube-system", "--output=jsonpath={.metadata.uid}")
		must(t, f.machines["cp1"].PowerOff())
		must(t, f.machines["cp1"].Wipe())
		f.mustServe(t)
		f.powerOn(t, "cp1")
		expect(t, f.machines["cp1"], `^fence: the cluster lives at .* founded by this node before; joining it`, 3*time.Minute)
		f.mustComplete(t, "cp1")
		eventually(t, "all Ready again", 6*time.Minute, f.allReady(f.names...))
		f.mustBeWhole(t, all)
		if now := f.kubectl(t, "get", "namespace", "kube-system", "--output=jsonpath={.metadata.uid}"); now != founded {
			t.Errorf("the cluster is %s, before it was %s", now, founded)
		}
	})

	t.Run("all are off, and all on again", func(t *testing.T) {
		f.powerOff(t)
		f.powerOn(t)
		eventually(t, "the API answers", 4*time.Minute, f.answers)
		eventually(t, "all Ready again", 6*time.Minute, f.allReady(f.names...))
		f.mustBeWhole(t, all)
	})

	t.Run("a worker leaves, and comes back under its name", func(t *testing.T) {
		n := f.machines["worker2"]
		was := f.nodes(t)["worker2"].Metadata.UID
		// The shell that asks ends with the reset, as an operator's does.
		if out, err := n.Exec(t.Context(), "firstboot", "reset", "--force", "--drain-timeout=20s"); err != nil {
			t.Fatalf("leaving: %v\n%s", err, out)
		}
		eventually(t, "worker2 is no node any more", 3*time.Minute, func(ctx context.Context) error {
			nodes, err := f.list(ctx, "nodes")
			if err == nil && nodes["worker2"].Metadata.UID == was {
				err = fmt.Errorf("the Node is still there")
			}
			return err
		})
		must(t, n.PowerOff())
		must(t, n.PowerOn(t.Context()))
		f.mustComplete(t, "worker2")
		eventually(t, "all Ready again", 4*time.Minute, f.allReady(f.names...))
		f.mustBeWhole(t, all)
	})
}

// TestThreeInitialisers gives three control planes identities that all say initialise: one founds, the others stop and say
// why, and there is one cluster.
func TestThreeInitialisers(t *testing.T) {
	w := newWorld(t)
	all := members(3, 0)
	f := w.newFleet(t, "rivals", all, "")
	for _, name := range []string{"cp2", "cp3"} {
		must(t, f.machines[name].SetIdentity(identityOf(t, f.rerender(t, name), name)))
	}
	f.powerOn(t)
	founder, others := "", []string{}
	for _, name := range f.names {
		match := expect(t, f.machines[name], `^(record: |first-boot: .*take initialise out)`, 4*time.Minute)
		if strings.HasPrefix(match[1], "record") {
			founder += name
		} else {
			others = append(others, name)
		}
	}
	if len(others) != 2 || f.machines[founder] == nil {
		t.Fatalf("%q founded a cluster, %q stopped; want one and two", founder, others)
	}
	// Still so after a restart, when the founder is silent.
	f.powerOff(t)
	f.powerOn(t, others...)
	for _, name := range others {
		expect(t, f.machines[name], `take initialise out`, 3*time.Minute)
	}
	// With the identities mended, all become one cluster.
	f.powerOff(t)
	mended := f.rerender(t, founder)
	for _, name := range others {
		must(t, f.machines[name].SetIdentity(identityOf(t, mended, name)))
	}
	f.powerOn(t)
	for _, name := range f.names {
		f.mustComplete(t, name)
	}
	eventually(t, "all Ready", 8*time.Minute, f.allReady(f.names...))
	f.mustBeWhole(t, all)
}

// mustComplete waits for the end of a machine's first boot. Its Node says nothing of that at first: that of the machine
// before stays Ready for most of a minute.
func (f *fleet) mustComplete(t *testing.T, name string) {
	t.Helper()
	expect(t, f.machines[name], `^first-boot: completed`, 8*time.Minute)
}

// rerender renders three control planes with the fleet's secrets, of which another one initialises.
func (f *fleet) rerender(t *testing.T, initialiser string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	text := strings.Replace(document(members(3, 0), ""), "  initialise: true\n", "", 1)
	text = strings.Replace(text, "- name: "+initialiser+"\n", "- name: "+initialiser+"\n  initialise: true\n", 1)
	must(t, os.WriteFile(dir+"/cluster.yaml", []byte(text), 0o644))
	copied := filepath.Join(dir, "fleet")
	must(t, os.MkdirAll(copied, 0o700))
	for _, file := range []string{"secrets.yaml", "README", ".gitignore"} {
		content, err := os.ReadFile(filepath.Join(f.identities, file))
		must(t, err)
		must(t, os.WriteFile(filepath.Join(copied, file), content, 0o600))
	}
	f.kiln(t, "cluster", "render", dir+"/cluster.yaml", "-o", copied)
	return copied
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

// allTold complains until every Node tells that its first boot is complete.
func (f *fleet) allTold(names ...string) func(context.Context) error {
	return func(ctx context.Context) error {
		nodes, err := f.list(ctx, "nodes")
		if err != nil {
			return err
		}
		for _, name := range names {
			if status, message := nodes[name].condition("KilnFirstBoot"); status != "True" {
				return fmt.Errorf("%s: %s", name, message)
			}
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

// etcdIDs are the members' IDs by name, in hexadecimal.
func (f *fleet) etcdIDs(t *testing.T, via string) map[string]string {
	t.Helper()
	text := f.kubectl(t, "--namespace=kube-system", "exec", "etcd-"+via, "--", "etcdctl", "--endpoints=https://127.0.0.1:2379",
		"--cacert=/etc/kubernetes/pki/etcd/ca.crt", "--cert=/etc/kubernetes/pki/etcd/healthcheck-client.crt",
		"--key=/etc/kubernetes/pki/etcd/healthcheck-client.key", "member", "list")
	ids := map[string]string{}
	for line := range strings.Lines(text) {
		if fields := strings.Split(line, ", "); len(fields) > 2 {
			ids[fields[2]] = fields[0]
		}
	}
	if len(ids) == 0 {
		t.Fatalf("etcd has no members: %s", text)
	}
	return ids
}

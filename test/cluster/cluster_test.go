//go:build cluster

package cluster_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestCluster powers three control planes and two workers on at the same moment, and then looks at, and mistreats, the
// cluster that they become. The parts run in order, on the same cluster: after each it has to be whole again. How long that
// takes is logged and does not matter, but it ends.
func TestCluster(t *testing.T) {
	w := newWorld(t)
	all := members(3, 2)
	f := w.newFleet(t, "cluster", all, "")
	f.powerOn(t)
	eventually(t, "three control planes and two workers Ready", 6*time.Minute, f.allReady(f.names...))

	t.Run("is what its document says", func(t *testing.T) {
		f.mustBeWhole(t, all)
		nodes := f.nodes(t)
		for i, m := range all {
			labels := nodes[m.name].Metadata.Labels
			if zone := labels["topology.kubernetes.io/zone"]; zone != fmt.Sprintf("zone-%d", i%2) {
				t.Errorf("%s is in zone %q", m.name, zone)
			}
			if m.role == worker && (labels["example.org/disk"] != "fast" || labels["node-restriction.kubernetes.io/pci"] != "yes") {
				t.Errorf("%s has the labels %v", m.name, labels)
			}
			isolated := false
			for _, taint := range nodes[m.name].Spec.Taints {
				isolated = isolated || taint.Key == "node-role.kubernetes.io/control-plane" && taint.Effect == "NoSchedule"
			}
			if isolated != (m.role == controlPlane) {
				t.Errorf("%s is kept free of ordinary pods: %t", m.name, isolated)
			}
		}
		if t.Failed() {
			t.Log(f.kubectl(t, "get", "nodes", "--output=wide", "--show-labels"))
		}
	})

	t.Run("pods and services are reached from everywhere", func(t *testing.T) {
		for _, m := range all {
			n := f.machines[m.name]
			eventually(t, "cluster DNS from "+m.name, time.Minute, func(ctx context.Context) error {
				out, err := n.Exec(ctx, "busybox", "nslookup", "kubernetes.default.svc.cluster.local", "10.96.0.10")
				if err == nil && !strings.Contains(out, "10.96.0.1\n") {
					err = fmt.Errorf("the answer is %q", out)
				}
				return err
			})
			out, err := n.Exec(t.Context(), "sh", "-c", "echo | openssl s_client -connect 10.96.0.1:443 2>&1")
			if err != nil || !strings.Contains(out, "CN=kube-apiserver") {
				t.Errorf("the API's service from %s: %v: %s", m.name, err, last(out, 5))
			}
		}
	})

	t.Run("nothing failed on the way", func(t *testing.T) {
		for _, m := range all {
			if failed, err := f.machines[m.name].Exec(t.Context(), "systemctl", "--failed", "--plain", "--no-legend"); err != nil || failed != "" {
				t.Errorf("%s: units failed: %s, %v", m.name, failed, err)
			}
		}
	})

	t.Run("a control plane is cut off, a worker leaves and comes back meanwhile", func(t *testing.T) {
		must(t, f.machines["cp3"].Partition())
		was := f.nodes(t)["worker2"].Metadata.UID
		f.leave(t, all[4])
		// A worker may not delete its own Node: the control planes do, once it is silent.
		eventually(t, "worker2 is no node any more", 3*time.Minute, f.isGone("worker2", was))
		eventually(t, "cp3 is seen to be gone", 3*time.Minute, f.isNot("cp3", "True"))
		f.mustServe(t)
		f.powerOff(t, "worker2")
		f.powerOn(t, "worker2")
		f.mustComplete(t, "worker2")
		must(t, f.machines["cp3"].Heal())
		eventually(t, "all Ready again", 4*time.Minute, f.allReady(f.names...))
		f.mustBeWhole(t, all)
	})

	t.Run("a control plane leaves, and comes back", func(t *testing.T) {
		was := f.nodes(t)["cp2"].Metadata.UID
		f.leave(t, all[1])
		eventually(t, "cp2 is no node any more", time.Minute, f.isGone("cp2", was))
		if _, is := f.etcdMembers(t, "cp1")["cp2"]; is {
			t.Error("etcd still counts on cp2")
		}
		f.mustServe(t)
		f.powerOff(t, "cp2")
		f.powerOn(t, "cp2")
		f.mustComplete(t, "cp2")
		eventually(t, "all Ready again", 6*time.Minute, f.allReady(f.names...))
		f.mustBeWhole(t, all)
	})

	t.Run("the founder is lost for good, and a machine with an empty disk takes its place", func(t *testing.T) {
		founded := f.kubectl(t, "get", "namespace", "kube-system", "--output=jsonpath={.metadata.uid}")
		before := f.etcdMembers(t, "cp2")["cp1"].ID
		f.loseForGood(t, "cp1")
		f.powerOn(t, "cp1")
		expect(t, f.machines["cp1"], `^fence: the cluster lives at .* founded by this node before; joining it`, 3*time.Minute)
		f.mustComplete(t, "cp1")
		eventually(t, "all Ready again", 6*time.Minute, f.allReady(f.names...))
		f.mustBeWhole(t, all)
		if now := f.kubectl(t, "get", "namespace", "kube-system", "--output=jsonpath={.metadata.uid}"); now != founded {
			t.Errorf("the cluster is %s, before it was %s", now, founded)
		}
		if now := f.etcdMembers(t, "cp2")["cp1"].ID; now == before {
			t.Errorf("the member %x came back without its log", now)
		}
	})

	if full {
		t.Run("another control plane is lost for good, and replaced", func(t *testing.T) {
			before := f.etcdMembers(t, "cp1")["cp2"].ID
			f.loseForGood(t, "cp2")
			f.powerOn(t, "cp2")
			f.mustComplete(t, "cp2")
			eventually(t, "all Ready again", 6*time.Minute, f.allReady(f.names...))
			f.mustBeWhole(t, all)
			if now := f.etcdMembers(t, "cp1")["cp2"].ID; now == before {
				t.Errorf("the member %x came back without its log", now)
			}
		})
	}

	t.Run("all are off, and all on again", func(t *testing.T) {
		f.powerOff(t)
		f.powerOn(t)
		eventually(t, "the API answers", 4*time.Minute, f.answers)
		eventually(t, "all Ready again", 6*time.Minute, f.allReady(f.names...))
		f.mustBeWhole(t, all)
	})
}

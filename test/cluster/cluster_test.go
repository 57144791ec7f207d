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
// cluster that they become. The parts run in order, on the same cluster.
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
}

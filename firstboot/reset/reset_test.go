package reset

import (
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kiln-os/kiln/firstboot/etcd"
	"github.com/kiln-os/kiln/firstboot/node/apitest"
	"github.com/kiln-os/kiln/firstboot/reconcile"
	"github.com/kiln-os/kiln/internal/nodefs"
	"github.com/kiln-os/kiln/internal/profile"
)

func TestControlPlaneLeaves(t *testing.T) {
	w := newWorld(t, profile.ControlPlane)
	w.pod("web", "ReplicaSet", nil)
	w.pod("proxy", "DaemonSet", nil)
	w.pod("etcd-n1", "Node", apitest.Object{"kubernetes.io/config.mirror": "x"})
	if err := w.m.Run(t.Context(), Options{}); err != nil {
		t.Fatalf("%v\n%s", err, w.out)
	}
	w.wantLeft()
	if w.hasPod("web") || !w.hasPod("proxy") || !w.hasPod("etcd-n1") {
		t.Error("want the pod of the ReplicaSet evicted, and no other")
	}
	if _, still := w.etcd.members[2]; still || len(w.etcd.members) != 2 {
		t.Errorf("etcd has %v", w.etcd.members)
	}
	if w.api.Object("/api/v1/nodes/n1") != nil {
		t.Error("the Node is still there")
	}
	order := []int{w.at("etcd remove"), w.at("systemctl stop kubelet.service"), w.at("credentials admin.conf at https://" + first + ":6443"),
		w.at("kubeadm reset --force --cleanup-tmp-dir --skip-phases=remove-etcd-member"), w.at("nft -f -")}
	if slices.Contains(order, -1) || !slices.IsSorted(order) {
		t.Errorf("the order is wrong: %v\n%s", order, strings.Join(w.did, "\n"))
	}
	if w.at("networkctl delete cni0") < 0 || !w.exists(nodefs.EtcdData+"/lost+found") || len(w.cri.images) != 2 {
		t.Errorf("did %q", w.did)
	}
	if !strings.Contains(w.out.String(), "n1 has left its cluster. It joins again, under the same name, at the next boot or after: systemctl restart firstboot.service") {
		t.Errorf("says %s", w.out)
	}
}

func TestWorkerLeaves(t *testing.T) {
	w := newWorld(t, profile.Worker)
	w.m.Now = func() time.Time { return time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC) }
	w.pod("web", "ReplicaSet", nil)
	if err := w.m.Run(t.Context(), Options{RemoveImages: true}); err != nil {
		t.Fatalf("%v\n%s", err, w.out)
	}
	w.wantLeft()
	current := w.api.Object("/api/v1/nodes/n1")
	annotations, _ := current["metadata"].(map[string]any)["annotations"].(map[string]any)
	spec, _ := current["spec"].(map[string]any)
	if annotations[reconcile.AnnotationLeft] != "2026-11-21T10:00:00Z" || spec["unschedulable"] != true {
		t.Errorf("the Node is %v", current)
	}
	if w.at("etcd") >= 0 || len(w.etcd.members) != 3 || w.hasPod("web") {
		t.Errorf("did %q", w.did)
	}
	if len(w.cri.images) != 1 || w.cri.images[0].Id != "pause" {
		t.Errorf("the images are %v; want the pinned one alone", w.cri.images)
	}
}

func TestRefusals(t *testing.T) {
	tests := []struct {
		name, role string
		prepare    func(w *world)
		want       string
		// forced says that --force leaves all the same.
		forced bool
	}{
		{"last control plane", profile.ControlPlane, func(w *world) { delete(w.etcd.members, 1); delete(w.etcd.members, 3) }, "n1 is the cluster's last control plane", true},
		{"last but for a learner", profile.ControlPlane, func(w *world) {
			delete(w.etcd.members, 3)
			learner := w.etcd.members[1]
			learner.IsLearner = true
			w.etcd.members[1] = learner
		}, "last control plane", true},
		{"quorum would be lost", profile.ControlPlane, func(w *world) { w.etcd.sick[etcd.ClientURL(third)] = true },
			"of the 2 members of etcd that would stay, 1 are healthy, and 2 have to be", true},
		{"etcd does not answer", profile.ControlPlane, func(w *world) { w.etcd.silent = true }, "whether the cluster outlives this node is not known", true},
		{"lonely pod", profile.Worker, func(w *world) { w.pod("alone", "", nil) }, "nothing would make these pods anew elsewhere: default/alone;", true},
		{"disruption budget", profile.Worker, func(w *world) {
			w.pod("web", "ReplicaSet", nil)
			w.api.Fail(func(_, path string) int {
				if strings.HasSuffix(path, "/eviction") {
					return http.StatusTooManyRequests
				}
				return 0
			})
		}, "these pods did not go within 20ms: default/web (evicting pod default/web: POST", true},
		{"API does not answer", profile.Worker, func(w *world) { w.api.Fail(func(string, string) int { return 503 }) }, "to leave without: --force", true},
		{"no identity", profile.Worker, func(w *world) { _ = os.Remove(w.root.Path(nodefs.IdentityCopy)) }, "this node has no identity, so there is no cluster to leave", true},
		{"torn identity", profile.Worker, func(w *world) { w.write(nodefs.IdentityCopy, "{") }, "identity.json: is no JSON", true},
		{"first boot runs", profile.Worker, func(w *world) {
			file, err := os.Open(w.root.Path(nodefs.Journal))
			if err != nil {
				w.t.Fatal(err)
			}
			w.t.Cleanup(func() { file.Close() })
			if err := unix.Flock(int(file.Fd()), unix.LOCK_EX); err != nil {
				w.t.Fatal(err)
			}
		}, "the first boot or another reset is running", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, tt.role)
			tt.prepare(w)
			o := Options{DrainTimeout: 20 * time.Millisecond}
			err := w.m.Run(t.Context(), o)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("have %v", err)
			}
			if w.exists(nodefs.ResetMarker) || !w.exists(nodefs.KubeletConfig) || w.at("systemctl stop kubelet") >= 0 {
				t.Errorf("a node that may not leave was touched: %q", w.did)
			}
			o.Force = true
			err = w.m.Run(t.Context(), o)
			if (err == nil) != tt.forced {
				t.Fatalf("by force: %v\n%s", err, w.out)
			}
			if tt.forced {
				w.wantLeft()
			}
		})
	}
}

// cut is what a power cut looks like.
type cut struct{}

// TestPowerCuts cuts the power before each thing that is done, starts again as the next boot does, and wants a node that
// has left or one that is whole.
func TestPowerCuts(t *testing.T) {
	whole := newWorld(t, profile.ControlPlane)
	if err := whole.m.Run(t.Context(), Options{}); err != nil {
		t.Fatal(err)
	}
	for i := range whole.did {
		w := newWorld(t, profile.ControlPlane)
		seen := 0
		w.before = func(string) {
			if seen == i {
				panic(cut{})
			}
			seen++
		}
		run := func() {
			defer func() {
				if caught := recover(); caught != nil && caught != (cut{}) {
					panic(caught)
				}
			}()
			_ = w.m.Run(t.Context(), Options{})
		}
		run()
		w.before = nil
		marked := w.exists(nodefs.ResetMarker)
		if err := w.m.Resume(t.Context()); err != nil {
			t.Fatalf("cut before %q: %v", whole.did[i], err)
		}
		if !marked {
			if !w.exists(nodefs.IdentityCopy) || w.etcd.members[2].ID == 0 {
				t.Errorf("cut before %q: the node is neither in nor out", whole.did[i])
			}
			continue
		}
		w.wantLeft()
		if w.etcd.members[2].ID != 0 || w.api.Object("/api/v1/nodes/n1") != nil {
			t.Errorf("cut before %q: the cluster still has the node", whole.did[i])
		}
	}
}

func TestResumeDoesNothingWithoutAMarker(t *testing.T) {
	w := newWorld(t, profile.ControlPlane)
	if err := w.m.Resume(t.Context()); err != nil || len(w.did) > 0 || w.out.Len() > 0 {
		t.Errorf("%v; did %q; said %s", err, w.did, w.out)
	}
}

// What fails after the marker fails the run, and the next one goes on with the first one's options.
func TestFailureAfterTheMarker(t *testing.T) {
	w := newWorld(t, profile.Worker)
	w.fail = "kubeadm"
	err := w.m.Run(t.Context(), Options{RemoveImages: true})
	if err == nil || !strings.Contains(err.Error(), "reset: kubeadm-reset: running kubeadm reset: ") || !w.exists(nodefs.ResetMarker) {
		t.Fatalf("have %v", err)
	}
	w.fail = ""
	if err := w.m.Run(t.Context(), Options{}); err != nil {
		t.Fatal(err)
	}
	w.wantLeft()
	if len(w.cri.images) != 1 {
		t.Error("the first run's options are forgotten")
	}
}

func TestOtherAPIServersAreAskedInTurn(t *testing.T) {
	w := newWorld(t, profile.ControlPlane)
	w.down["https://"+first+":6443"] = true
	if err := w.m.Run(t.Context(), Options{}); err != nil {
		t.Fatal(err)
	}
	if w.at("credentials admin.conf at https://"+third+":6443") < 0 || w.api.Object("/api/v1/nodes/n1") != nil {
		t.Errorf("did %q", w.did)
	}
}

// Data that is still mounted is not removed with the directory that it is mounted in.
func TestMountedVolumesAreNotWiped(t *testing.T) {
	w := newWorld(t, profile.Worker)
	const volume = kubeletState + "/pods/p/volumes/nfs"
	w.write(volume+"/precious", "x")
	w.write("/proc/self/mountinfo", "22 1 0:20 / /var rw - ext4 /dev/sda3 rw\n40 22 0:50 / "+volume+" rw - nfs server:/x rw\n")
	err := w.m.Run(t.Context(), Options{})
	if err == nil || !strings.Contains(err.Error(), "wiping /var/lib/kubelet: still mounted there: "+volume) || !w.exists(volume+"/precious") || !w.exists(nodefs.ResetMarker) {
		t.Errorf("have %v", err)
	}
}

func TestDryRun(t *testing.T) {
	w := newWorld(t, profile.ControlPlane)
	if err := w.m.DryRun(Options{RemoveImages: true}); err != nil {
		t.Fatal(err)
	}
	var steps []string
	for line := range strings.Lines(w.out.String()) {
		steps = append(steps, strings.Fields(line)[1])
	}
	want := []string{"quorum", "drain", "marker", "etcd-member", "kubelet", "node-object", "pods", "kubeadm-reset", "network", "images", "wipe"}
	if !slices.Equal(steps, want) || len(w.did) > 0 || w.exists(nodefs.ResetMarker) {
		t.Errorf("have %q, did %q", steps, w.did)
	}
}

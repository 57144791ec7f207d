package bootstrap

import (
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kiln-os/kiln/firstboot/etcd/etcdtest"
	"github.com/kiln-os/kiln/firstboot/kubeadm"
	"github.com/kiln-os/kiln/internal/command"
	"github.com/kiln-os/kiln/internal/nodefs"
)

const (
	importCommand = "/usr/bin/ctr --address /run/containerd/containerd.sock --namespace k8s.io images import --platform linux/amd64 " +
		"--snapshotter erofs --label io.cri-containerd.pinned=pinned /usr/lib/kiln/container-images.tar"
	reloadCommand   = "/usr/bin/networkctl reload"
	resolverCommand = "/usr/bin/systemctl reload-or-restart systemd-resolved.service"
	initCommand     = "/usr/bin/kubeadm init --config=/var/lib/kiln/firstboot/kubeadm.yaml --skip-token-print --skip-phases=show-join-command"
	resumeCommand   = "/usr/bin/kubeadm init --config=/var/lib/kiln/firstboot/kubeadm.yaml --skip-token-print --skip-phases=preflight,show-join-command"
	stopKubelet     = "/usr/bin/systemctl stop kubelet.service"
)

func TestWholeFirstBoot(t *testing.T) {
	w := newWorld(t)
	if err := w.run(); err != nil {
		t.Fatal(err)
	}
	if want := []string{reloadCommand, resolverCommand, importCommand, initCommand}; !slices.Equal(w.ran, want) {
		t.Errorf("ran\n%s\nwant\n%s", strings.Join(w.ran, "\n"), strings.Join(want, "\n"))
	}
	w.wantNoSecret()
	for _, want := range []string{"kubeadm-init: [init] Using Kubernetes version: v1.36.3", "--token [redacted]", "first-boot: completed in"} {
		if !strings.Contains(w.out.String(), want) {
			t.Errorf("the console lacks %q:\n%s", want, w.out)
		}
	}
	if got := w.read(nodefs.NetworkConfig + "/70-kiln-services.network"); !strings.Contains(got, "Destination=10.96.0.0/12\nPreferredSource=10.0.2.15\n") {
		t.Errorf("the services' route:\n%s", got)
	}
	if got := w.read(nodefs.Hosts); !strings.Contains(got, "\n10.0.2.15 cp1 # this node\n") {
		t.Errorf("hosts:\n%s", got)
	}
	if got := w.read(nodefs.Hostname); got != "cp1\n" {
		t.Errorf("hostname %q", got)
	}
	if !strings.Contains(w.config, token) || exists(w.root.Path(nodefs.KubeadmConfig)) || strings.Contains(w.read(nodefs.IdentityCopy), token) {
		t.Error("the token was not given to kubeadm, or is still on the disk")
	}
	for _, path := range []string{nodefs.IdentityCopy, nodefs.Journal} {
		if info, err := os.Stat(w.root.Path(path)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", path, info, err)
		}
	}
	if !slices.Contains(w.notified, "READY=1") {
		t.Errorf("systemd was told %q", w.notified)
	}
	w.checkNode(t)
	addon := w.api.Object("/api/v1/namespaces/kube-flannel/configmaps/net")
	if addon["data"].(map[string]any)["network"] != "10.244.0.0/16" {
		t.Errorf("addon %v", addon)
	}
}

func (w *world) checkNode(t *testing.T) {
	t.Helper()
	c, err := w.m.client("10.0.2.15")
	if err != nil {
		t.Fatal(err)
	}
	n, err := c.Get(t.Context(), "cp1")
	if err != nil {
		t.Fatal(err)
	}
	labels := map[string]string{"example.org/rack": "r7", "example.org/tier": "control", labelProfile: "control-plane", labelRelease: "v1.36"}
	for key, want := range labels {
		if n.Metadata.Labels[key] != want {
			t.Errorf("label %s is %q, want %q", key, n.Metadata.Labels[key], want)
		}
	}
	if n.Metadata.Annotations[annotationVersion] != "v1.36.3-4f1c2ab0" || n.Metadata.Annotations[annotationRootHash] != "4f1c" {
		t.Errorf("annotations %v", n.Metadata.Annotations)
	}
	if len(n.Spec.Taints) != 0 {
		t.Errorf("taints %v", n.Spec.Taints)
	}
	condition := n.Condition(ConditionType)
	if condition.Status != "True" || condition.Reason != "Completed" || !strings.Contains(condition.Message, "kubeadm-init ") {
		t.Errorf("condition %+v", condition)
	}
	if w.api.Object("/api/v1/namespaces/default/events/cp1.firstbootcompleted") == nil {
		t.Error("no event")
	}
}

func TestSecondBootDoesNothing(t *testing.T) {
	w := newWorld(t)
	if err := w.run(); err != nil {
		t.Fatal(err)
	}
	before := len(w.api.Requests())
	w.reboot("boot-2")
	w.text = ""
	if err := w.run(); err != nil {
		t.Fatal(err)
	}
	if len(w.ran) != 0 || len(w.api.Requests()) != before {
		t.Errorf("ran %q, and sent %d requests", w.ran, len(w.api.Requests())-before)
	}
	if !strings.Contains(w.out.String(), "was completed before") {
		t.Errorf("said %s", w.out)
	}
}

// TestPowerCuts cuts a first boot off at every point between two records of its journal: the next boot has to end well,
// whatever the journal says, and never found the cluster twice over etcd data.
func TestPowerCuts(t *testing.T) {
	whole := newWorld(t)
	if err := whole.run(); err != nil {
		t.Fatal(err)
	}
	text := whole.read(nodefs.Journal)
	journal := strings.SplitAfter(strings.TrimSuffix(text, "\n"), "\n")
	for cut := range len(journal) {
		w := newWorld(t)
		written := strings.Join(journal[:cut], "")
		w.write(nodefs.Journal, written+`{"time":"2026-11-21T09:`) // and a line that was torn
		begun := strings.Contains(written, `"step":"kubeadm-init"`)
		if begun {
			w.write(nodefs.IdentityCopy, `{"apiVersion":"kiln/v1alpha1","kind":"Identity","release":"v1.36","node":{"name":"cp1","role":"control-plane",
				"initialise":true,"address":"10.0.2.15","labels":{"example.org/rack":"r7"},"taints":[]},"cluster":{"name":"demo","endpoint":"10.0.2.15:6443"},
				"bootstrap":{"token":"`+token+`"}}`)
			w.text = "" // gone, as a medium that was pulled out
			w.founded()
		}
		w.reboot("boot-2")
		if err := w.run(); err != nil {
			t.Errorf("cut after %d records: %v", cut, err)
			continue
		}
		for _, line := range w.ran {
			if begun && line == initCommand {
				t.Errorf("cut after %d records: founded again: %q", cut, w.ran)
			}
		}
		w.checkNode(t)
		last := w.records()[len(w.records())-1]
		if last.Step != "first-boot" || last.State != done || last.BootID != "boot-2" {
			t.Errorf("cut after %d records: last record %+v", cut, last)
		}
		if strings.Contains(w.read(nodefs.Journal), `"time":"2026-11-21T09:{`) {
			t.Errorf("cut after %d records: the torn line was written on", cut)
		}
	}
}

func TestWhatIsThereDecidesHowKubeadmRuns(t *testing.T) {
	tests := []struct {
		name    string
		prepare func(w *world)
		want    []string
		// gone and kept are files.
		gone, kept []string
	}{
		{"nothing", func(*world) {}, []string{reloadCommand, resolverCommand, importCommand, initCommand}, nil, nil},
		{"leftovers without etcd data", func(w *world) {
			for _, name := range []string{"admin.conf", "kubelet.conf", "manifests/etcd.yaml", "pki/ca.crt", "pki/ca.key", "pki/apiserver.crt",
				"pki/apiserver.key", "pki/etcd/server.crt", "pki/etcd/ca.key", "pki/sa.key"} {
				w.write(nodefs.Kubernetes+"/"+name, "x")
			}
			w.images.pods = []string{"p1", "p2"}
		}, []string{reloadCommand, resolverCommand, importCommand, stopKubelet, initCommand},
			[]string{"manifests/etcd.yaml", "pki/apiserver.crt", "pki/etcd/server.crt", "pki/etcd/ca.key", "pki/sa.key"}, []string{"pki/ca.crt", "pki/ca.key"}},
		{"an etcd that was cut off before it knew its members", func(w *world) {
			w.write(walFile, string(etcdtest.BegunLog()))
			w.write(kubeadm.EtcdData+"/member/snap/db", "x")
			w.write(nodefs.Manifests+"/etcd.yaml", "x")
			w.images.pods = []string{"p1"}
		}, []string{reloadCommand, resolverCommand, importCommand, stopKubelet, initCommand}, []string{"manifests/etcd.yaml", "../../var/lib/etcd/data/member"}, nil},
		{"etcd data, torn files", func(w *world) {
			w.write(kubeadm.EtcdData+"/member/wal/0", "data")
			for _, name := range []string{"pki/ca.crt", "pki/ca.key", "manifests/etcd.yaml"} {
				w.write(nodefs.Kubernetes+"/"+name, "x")
			}
			w.write(nodefs.Kubernetes+"/pki/apiserver.crt", "")
		}, []string{reloadCommand, resolverCommand, importCommand, resumeCommand}, []string{"pki/apiserver.crt"}, []string{"pki/ca.crt", "manifests/etcd.yaml"}},
		{"all but the last object", func(w *world) {
			w.founded()
			w.api.Fail(func(_, path string) int {
				if path == lastObject {
					return 404
				}
				return 0
			})
		}, []string{reloadCommand, resolverCommand, importCommand, resumeCommand}, nil, nil},
		{"finished, but not written down", func(w *world) { w.founded() }, []string{reloadCommand, resolverCommand, importCommand}, nil, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			tt.prepare(w)
			var seen []string
			w.kubeadm = func(int) error { // before the fake kubeadm writes its files
				for _, name := range append(slices.Clone(tt.gone), tt.kept...) {
					if exists(w.root.Path(nodefs.Kubernetes + "/" + name)) {
						seen = append(seen, name)
					}
				}
				return nil
			}
			if err := w.run(); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(w.ran, tt.want) {
				t.Errorf("ran\n%s\nwant\n%s", strings.Join(w.ran, "\n"), strings.Join(tt.want, "\n"))
			}
			if !slices.Equal(seen, tt.kept) {
				t.Errorf("kubeadm found %q, want %q", seen, tt.kept)
			}
			if len(w.images.pods) != 0 {
				t.Errorf("pods left: %q", w.images.pods)
			}
		})
	}
}

func TestEmptyAuthorityOverEtcdDataNeedsAPerson(t *testing.T) {
	w := newWorld(t)
	w.write(kubeadm.EtcdData+"/member/wal/0", "data")
	w.write(nodefs.PKI+"/ca.key", "")
	err := w.run()
	if !IsPermanent(err) || !strings.Contains(err.Error(), "/etc/kubernetes/pki/ca.key is empty") {
		t.Fatalf("have %v", err)
	}
	if w.read(kubeadm.EtcdData+"/member/wal/0") != "data" {
		t.Error("etcd data was touched")
	}
}

func TestKubeadmIsRunAgain(t *testing.T) {
	w := newWorld(t)
	w.kubeadm = func(run int) error {
		if run < 3 {
			return &command.ExitError{Name: "kubeadm", Code: 1, Tail: "I1121 something\nerror: error execution phase wait-control-plane: token " + token +
				"\nTo see the stack trace of this error execute with --v=5 or higher"}
		}
		return nil
	}
	if err := w.run(); err != nil {
		t.Fatal(err)
	}
	w.wantNoSecret()
	failures := 0
	for _, r := range w.records() {
		if r.State == failed {
			failures++
			if strings.Contains(r.Error, "stack trace") || strings.Contains(r.Error, "something") || !strings.Contains(r.Error, "wait-control-plane") {
				t.Errorf("have error %q", r.Error)
			}
		}
	}
	if failures != 1 { // the same failure twice is one record
		t.Errorf("have %d records of failures", failures)
	}
}

func TestPreflightChecksThatNoRetryMends(t *testing.T) {
	w := newWorld(t)
	w.kubeadm = func(int) error {
		return &command.ExitError{Name: "kubeadm", Code: 1, Tail: "[preflight] Some fatal errors occurred:\n" +
			"\t[ERROR NumCPU]: the number of available CPUs 1 is less than the required 2\n\t[ERROR Port-6443]: Port 6443 is in use\n" +
			"error: error execution phase preflight: preflight checks failed"}
	}
	err := w.run()
	if !IsPermanent(err) || !strings.Contains(err.Error(), "does not meet kubeadm's checks NumCPU") || !strings.Contains(err.Error(), "CPUs 1 is less than") {
		t.Fatalf("have %v", err)
	}
	status, err := ReadStatus(w.root)
	if err != nil || status.State != StateFailed || status.Node != "cp1" {
		t.Errorf("have %+v, %v", status, err)
	}
}

func TestFailureAfterTheAPIIsThereIsOnTheNode(t *testing.T) {
	w := newWorld(t)
	w.write(nodefs.Addons+"/20-broken.yaml", "kind: Nothing\n")
	if err := w.run(); !IsPermanent(err) {
		t.Fatalf("have %v", err)
	}
	c, err := w.m.client("10.0.2.15")
	if err != nil {
		t.Fatal(err)
	}
	n, err := c.Get(t.Context(), "cp1")
	if err != nil {
		t.Fatal(err)
	}
	condition := n.Condition(ConditionType)
	if condition.Status != "False" || condition.Reason != "FirstBootFailed" || !strings.Contains(condition.Message, "step addons: reading document 1 of /usr/lib/kiln/addons/20-broken.yaml") {
		t.Errorf("condition %+v", condition)
	}
}

// certified is text with a cluster's certificate, which a node that joins has to have.
func certified(t *testing.T, text string) string {
	t.Helper()
	certificate, err := os.ReadFile("../kubeadm/testdata/ca.crt")
	if err != nil {
		t.Fatal(err)
	}
	quoted, err := json.Marshal(string(certificate))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Replace(text, "bootstrap: {", "bootstrap: {authorities: {cluster: {certificate: "+string(quoted)+"}}, ", 1)
}

func TestIdentitiesThatDoNotFit(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"release", strings.Replace(identityText, "release: v1.36", "release: v1.35", 1), "test source: release: is v1.35, but this image carries v1.36"},
		{"role", certified(t, strings.NewReplacer("role: control-plane", "role: worker", "initialise: true, ", "").Replace(identityText)),
			"node.role: is worker, but this image was built for control-plane"},
		{"joining without authorities", strings.Replace(identityText, "initialise: true, ", "", 1), "bootstrap.authorities: missing"},
		{"malformed", strings.Replace(identityText, "token: "+token, "tokens: "+token, 1), "bootstrap.tokens: unknown field"},
		{"secret in the wrong place", strings.Replace(identityText, "bootstrap: {token: "+token+"}", "bootstrap: "+token, 1), "bootstrap: want a mapping"},
		{"nowhere", "", "no identity found; tried:\n  fw_cfg: nothing"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.text = tt.text
			err := w.run()
			if !IsPermanent(err) || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("have %v", err)
			}
			if clean := w.m.Report.Redact(err); !IsPermanent(clean) || strings.Contains(clean.Error(), token[7:]) {
				t.Errorf("printed: %v", clean)
			}
			w.wantNoSecret()
			if len(w.ran) != 0 || exists(w.root.Path(nodefs.IdentityCopy)) {
				t.Errorf("ran %q", w.ran)
			}
		})
	}
}

func TestMendedIdentityIsTakenUntilKubeadmHasBegun(t *testing.T) {
	w := newWorld(t)
	w.m.Addresses = func() ([]netip.Addr, error) { return []netip.Addr{netip.MustParseAddr("10.0.2.16")}, nil }
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := w.m.Run(ctx); !errors.Is(err, context.DeadlineExceeded) || IsPermanent(err) {
		t.Fatalf("have %v", err)
	}
	w.reboot("boot-2")
	w.text = strings.ReplaceAll(identityText, "10.0.2.15", "10.0.2.16")
	if err := w.run(); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(w.config, "advertiseAddress: 10.0.2.16") {
		t.Errorf("kubeadm was given:\n%s", w.config)
	}
	// From kubeadm's beginning on the copy counts.
	w.write(nodefs.IdentityCopy, w.text)
	w.text = identityText
	f, err := w.m.findIdentity(t.Context(), mustImage(t, w), &stepJournal{records: []record{{Step: "kubeadm-init", State: began}}})
	if err != nil || f.id.Node.Address != "10.0.2.16" || !f.copied {
		t.Errorf("have %+v, %v", f.id.Node, err)
	}
}

func mustImage(t *testing.T, w *world) image {
	t.Helper()
	i, err := w.m.readImage()
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func TestContainerImagesThatAreMissing(t *testing.T) {
	w := newWorld(t)
	w.images.after = w.images.after[:1]
	p := w.m.plan(mustImage(t, w), found{}, &stepJournal{})
	r, err := w.m.runtime()
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	w.images.importAll()
	missing, unpinned, err := r.lacking(t.Context(), []string{"registry.example/pause:3.10.2", "registry.example/etcd:3.6.8-0"})
	if err != nil || !slices.Equal(missing, []string{"registry.example/etcd:3.6.8-0"}) || len(unpinned) != 0 {
		t.Fatalf("have %q, %q, %v", missing, unpinned, err)
	}
	w.images.images = []*criImageType{criImage("registry.example/pause:3.10.2", false)}
	err = p.settledWithin(t.Context(), r, []string{"registry.example/pause:3.10.2", "registry.example/etcd:3.6.8-0"}, 10*time.Millisecond)
	if !IsPermanent(err) || !strings.Contains(err.Error(), "needs: registry.example/etcd:3.6.8-0") ||
		!strings.Contains(err.Error(), "garbage collection: registry.example/pause:3.10.2") {
		t.Errorf("have %v", err)
	}
}

func TestClockWaitsForATimeThatCanBeTrue(t *testing.T) {
	w := newWorld(t)
	asked := 0
	w.m.Now = func() time.Time {
		if asked++; asked < 3 {
			return time.Unix(0, 0)
		}
		return time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	p := w.m.plan(mustImage(t, w), found{}, &stepJournal{})
	note, err := p.clock(t.Context())
	if err != nil || note != "2027-01-01T00:00:00Z" || asked != 3 {
		t.Errorf("have %q, %v after %d looks", note, err, asked)
	}
	asked = -1000
	w.write(synchronised, "")
	if note, err = p.clock(t.Context()); err != nil || !strings.Contains(note, "time server") {
		t.Errorf("have %q, %v", note, err)
	}
}

func TestOnlyOneRunsAtATime(t *testing.T) {
	w := newWorld(t)
	j, err := openJournal(w.root.Path(nodefs.Journal))
	if err != nil {
		t.Fatal(err)
	}
	defer j.close()
	if err := w.run(); !errors.Is(err, errRunning) || IsPermanent(err) {
		t.Errorf("have %v", err)
	}
}

func TestAuthorities(t *testing.T) {
	w := newWorld(t)
	p := w.m.plan(mustImage(t, w), found{}, &stepJournal{})
	p.o.Identity.Bootstrap.Authorities = authoritiesOf("one")
	for range 2 {
		if _, err := p.authorities(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for name, mode := range map[string]os.FileMode{"ca.crt": 0o644, "ca.key": 0o600, "etcd/ca.key": 0o600, "front-proxy-ca.key": 0o600, "sa.pub": 0o644, "sa.key": 0o600} {
		info, err := os.Stat(w.root.Path(filepath.Join(nodefs.PKI, name)))
		if err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	p.o.Identity.Bootstrap.Authorities = authoritiesOf("two")
	_, err := p.authorities(t.Context())
	if !IsPermanent(err) || !strings.Contains(err.Error(), "bootstrap.authorities.cluster.key: differs from /etc/kubernetes/pki/ca.key") || strings.Contains(err.Error(), "one-") {
		t.Errorf("have %v", err)
	}
	if w.read(nodefs.PKI+"/ca.key") != "one-ck" {
		t.Error("an authority was replaced")
	}
}

func TestFailingAPIIsWaitedFor(t *testing.T) {
	w := newWorld(t)
	left := 3
	w.kubeadm = func(int) error {
		w.api.Fail(func(string, string) int {
			if left--; left > 0 {
				return 503
			}
			return 0
		})
		return nil
	}
	if err := w.run(); err != nil {
		t.Fatal(err)
	}
	w.checkNode(t)
}

package bootstrap

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kiln-os/kiln/firstboot/endpoint"
	"github.com/kiln-os/kiln/firstboot/etcd"
	"github.com/kiln-os/kiln/firstboot/etcd/etcdtest"
	"github.com/kiln-os/kiln/firstboot/kubeadm"
	"github.com/kiln-os/kiln/firstboot/node/apitest"
	"github.com/kiln-os/kiln/internal/cluster"
	"github.com/kiln-os/kiln/internal/command"
	"github.com/kiln-os/kiln/internal/document"
	"github.com/kiln-os/kiln/internal/nodefs"
	"github.com/kiln-os/kiln/internal/profile"
)

const (
	joinCommand     = "/usr/bin/kubeadm join --config=/var/lib/kiln/firstboot/kubeadm.yaml"
	joinPlane       = joinCommand + " --skip-phases=control-plane-prepare/download-certs,check-etcd"
	joinAgain       = "/usr/bin/kubeadm join --config=/var/lib/kiln/firstboot/kubeadm-resume.yaml --skip-phases=preflight,control-plane-prepare/download-certs,check-etcd,kubelet-start"
	joinWithToken   = joinCommand + " --skip-phases=preflight,control-plane-prepare/download-certs,check-etcd"
	downloadCommand = "/usr/bin/kubeadm join phase control-plane-prepare download-certs --config=/var/lib/kiln/firstboot/kubeadm.yaml"
	startKubelet    = "/usr/bin/systemctl start kubelet.service"
	restartKubelet  = "/usr/bin/systemctl restart kubelet.service"

	walFile = kubeadm.EtcdData + "/member/wal/0000000000000000-0000000000000000.wal"
)

// joiner is a world in which a cluster lives: a control plane cp1 with etcd, and this machine, which is to join.
type joiner struct {
	*world
	etcd *etcdtest.Server
	plan *plan
	// kubelet is what this machine's kubelet answers with.
	kubelet int
	// joined is what a run of `kubeadm join` leads to; fails is how it ends instead.
	joined func()
	fails  error
	// written is the journal.
	written []string
}

func member(id uint64, name, address string, learner bool) etcd.Member {
	m := etcd.Member{ID: id, Name: name, PeerURLs: []string{etcd.PeerURL(address)}, IsLearner: learner}
	if name != "" {
		m.ClientURLs = []string{"https://127.0.0.1:1"}
	}
	return m
}

func newJoiner(t *testing.T, role string) *joiner {
	t.Helper()
	j := &joiner{world: newWorld(t), etcd: etcdtest.New(t, member(1, "cp1", "10.0.2.11", false)), kubelet: http.StatusOK}
	j.m.Runner = j
	j.m.Endpoint = func(string) string { return j.api.URL }
	j.m.EtcdMember = func(string) string { return "https://127.0.0.1:1" } // nobody listens
	healthz := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(j.kubelet) }))
	t.Cleanup(healthz.Close)
	j.m.KubeletHealth = healthz.URL
	j.api.Put("/api/v1/namespaces/kube-system/pods/etcd-cp1", apitest.Object{"metadata": map[string]any{"name": "etcd-cp1", "namespace": "kube-system",
		"labels":      map[string]any{"component": "etcd", "tier": "control-plane"},
		"annotations": map[string]any{"kubeadm.kubernetes.io/etcd.advertise-client-urls": j.etcd.URL}}})
	j.plan = j.m.plan(mustImage(t, j.world), found{}, &stepJournal{})
	j.plan.done = func(step string) bool { return slices.Contains(j.written, step) }
	j.plan.o.Identity = cluster.Identity{
		Node:      cluster.Node{Name: "n2", Role: role, Address: "10.0.2.12"},
		Cluster:   cluster.Cluster{Name: "demo", Endpoint: "lb.example.org:6443"},
		Bootstrap: cluster.Bootstrap{Token: document.NewSecret(token), Authorities: j.authorities(role)},
	}
	j.write(nodefs.KubeadmConfig, "kind: JoinConfiguration\ndiscovery: {tlsBootstrapToken: "+token+"}\ncontrolPlane: {certificateKey: abc}\n")
	j.joined = func() { j.registered("True") }
	return j
}

func (j *joiner) authorities(role string) *cluster.Authorities {
	certificate, key := j.api.Authority()
	a := &cluster.Authorities{Cluster: cluster.KeyPair{Certificate: string(certificate)}}
	if role == profile.ControlPlane {
		other := authoritiesOf("x")
		a.FrontProxy, a.ServiceAccount = other.FrontProxy, other.ServiceAccount
		a.Cluster.Key = document.NewSecret(string(key))
		a.Etcd = cluster.KeyPair{Certificate: string(j.etcd.Authority.Certificate), Key: document.NewSecret(string(j.etcd.Authority.Key))}
	}
	return a
}

// downloaded is what `kubeadm join phase control-plane-prepare download-certs` writes.
func (j *joiner) downloaded() {
	for _, file := range authorityFiles(*j.authorities(profile.ControlPlane)) {
		j.write(nodefs.PKI+"/"+file.name, file.text)
	}
}

// withKubelet is a machine whose kubelet has what it needs.
func (j *joiner) withKubelet() {
	kubeconfig, pem := j.api.Kubelet(j.t, j.plan.o.Identity.Node.Name)
	j.write(nodefs.KubeletConfig, string(kubeconfig))
	j.write(nodefs.KubeletState+"/pki/kubelet-client-current.pem", string(pem))
	j.write(kubeletConfiguration, "kind: KubeletConfiguration\n")
	j.write(kubeletFlags, "KUBELET_KUBEADM_ARGS=\n")
}

// withControlPlane has all files of a control plane but etcd's.
func (j *joiner) withControlPlane() {
	for _, name := range []string{"controller-manager.conf", "scheduler.conf", "manifests/etcd.yaml", "manifests/kube-apiserver.yaml",
		"manifests/kube-controller-manager.yaml", "manifests/kube-scheduler.yaml", "pki/apiserver.crt"} {
		j.write(nodefs.Kubernetes+"/"+name, "x")
	}
	j.write(nodefs.AdminConfig, string(j.api.Admin))
}

// registered is a Node in the API.
func (j *joiner) registered(ready string) {
	labels := map[string]any{}
	if j.plan.o.Identity.Node.Role == profile.ControlPlane {
		labels[kubeadm.ControlPlaneTaint] = ""
	}
	j.api.Put("/api/v1/nodes/n2", apitest.Object{"metadata": map[string]any{"name": "n2", "uid": "u2", "labels": labels},
		"status": map[string]any{"conditions": []any{map[string]any{"type": "Ready", "status": ready}}}})
}

func (j *joiner) here(path string) bool { return exists(j.root.Path(path)) }

// Run implements command.Runner.
func (j *joiner) Run(_ context.Context, c command.Command) (command.Usage, error) {
	line := strings.ReplaceAll(strings.Join(append([]string{c.Name}, c.Args...), " "), string(j.root), "")
	j.ran = append(j.ran, line)
	switch {
	case line == downloadCommand:
		j.downloaded()
	case c.Name == nodefs.Kubeadm:
		_, _ = c.Stdout.Write([]byte("[discovery] using " + token + "\n"))
		if exit, ok := errors.AsType[*command.ExitError](j.fails); ok {
			_, _ = c.Stderr.Write([]byte(exit.Tail + "\n"))
			return command.Usage{}, j.fails
		}
		j.joined()
	}
	return command.Usage{}, nil
}

// nameTaken is how kubeadm ends when a Node of the name is Ready.
func nameTaken() *command.ExitError {
	return &command.ExitError{Name: "kubeadm", Code: 1, Tail: `error: error execution phase kubelet-start: a Node with name "n2" and status "Ready" already exists in the cluster. ` +
		"You must delete the existing Node or change the name of this new joining Node"}
}

func (j *joiner) join() (string, error) {
	j.t.Helper()
	j.ran = nil
	ctx, cancel := context.WithTimeout(j.t.Context(), 20*time.Second)
	defer cancel()
	return j.plan.kubeadmJoin(ctx)
}

func TestJoinOfAWorker(t *testing.T) {
	tests := []struct {
		name    string
		prepare func(j *joiner)
		want    []string
		note    string
		gone    []string
	}{
		{"nothing", func(*joiner) {}, []string{joinCommand}, "joined demo", nil},
		{"cut off before the kubelet had its certificate", func(j *joiner) {
			j.write(nodefs.Kubernetes+"/bootstrap-kubelet.conf", "x")
			j.write(nodefs.PKI+"/ca.crt", "x")
			j.write(kubeletConfiguration, "x")
		}, []string{stopKubelet, stopKubelet, joinCommand}, "joined demo", []string{nodefs.Kubernetes + "/bootstrap-kubelet.conf", nodefs.PKI + "/ca.crt", kubeletConfiguration}},
		{"a power cut tore the kubelet's certificate", func(j *joiner) {
			j.withKubelet()
			j.write(nodefs.KubeletState+"/pki/kubelet-client-current.pem", "")
		}, []string{stopKubelet, stopKubelet, joinCommand}, "joined demo", []string{nodefs.KubeletConfig, nodefs.KubeletState + "/pki/kubelet-client-current.pem"}},
		{"a power cut tore the kubelet's configuration", func(j *joiner) {
			j.withKubelet()
			j.write(kubeletConfiguration, "")
		}, []string{stopKubelet, stopKubelet, joinCommand}, "joined demo", []string{nodefs.KubeletConfig}},
		{"another cluster's kubelet", func(j *joiner) {
			j.withKubelet()
			kubeconfig, pem := apitest.New(j.t).Kubelet(j.t, "n2")
			j.write(nodefs.KubeletConfig, string(kubeconfig))
			j.write(nodefs.KubeletState+"/pki/kubelet-client-current.pem", string(pem))
		}, []string{stopKubelet, stopKubelet, joinCommand}, "joined demo", []string{nodefs.KubeletConfig}},
		{"another name's kubelet", func(j *joiner) {
			j.withKubelet()
			_, pem := j.api.Kubelet(j.t, "n3")
			j.write(nodefs.KubeletState+"/pki/kubelet-client-current.pem", string(pem))
		}, []string{stopKubelet, stopKubelet, joinCommand}, "joined demo", []string{nodefs.KubeletConfig}},
		{"joined, but not written down", func(j *joiner) { j.withKubelet(); j.registered("True") }, []string{startKubelet}, "n2 is in the cluster already", nil},
		{"joined, and the journal is lost", func(j *joiner) { j.withKubelet(); j.registered("Unknown"); j.write(nodefs.PKI+"/ca.crt", "x") },
			[]string{startKubelet}, "n2 is in the cluster already", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			j := newJoiner(t, profile.Worker)
			tt.prepare(j)
			var left []string
			j.joined = func() {
				for _, path := range tt.gone {
					if j.here(path) {
						left = append(left, path)
					}
				}
			}
			note, err := j.join()
			if err != nil || note != tt.note {
				t.Fatalf("have %q, %v", note, err)
			}
			if !slices.Equal(j.ran, tt.want) || len(left) > 0 {
				t.Errorf("ran\n%s\nwant\n%s\nleft %q", strings.Join(j.ran, "\n"), strings.Join(tt.want, "\n"), left)
			}
			if strings.Contains(j.out.String(), token[7:]) {
				t.Errorf("the console shows the token:\n%s", j.out)
			}
		})
	}
}

func TestWorkerWhoseCertificateIsRefusedJoinsAnew(t *testing.T) {
	j := newJoiner(t, profile.Worker)
	j.withKubelet()
	j.api.Fail(func(_, path string) int {
		if path == "/api/v1/nodes/n2" {
			return http.StatusUnauthorized
		}
		return 0
	})
	if _, err := j.join(); err == nil || IsPermanent(err) || !strings.Contains(err.Error(), "joins anew") {
		t.Fatalf("have %v", err)
	}
	if note, err := j.join(); err != nil || note != "joined demo" || !slices.Contains(j.ran, joinCommand) {
		t.Errorf("have %q, %v after %q", note, err, j.ran)
	}
}

func TestJoinOfAControlPlane(t *testing.T) {
	leaf := nodefs.PKI + "/apiserver.crt"
	tests := []struct {
		name    string
		prepare func(j *joiner)
		want    []string
		note    string
		// gone and kept are files at the time when kubeadm runs; members and node what the cluster has then.
		gone, kept []string
		members    int
		node       bool
	}{
		{"nothing", func(*joiner) {}, []string{joinPlane}, "as a control plane", nil, []string{nodefs.PKI + "/etcd/ca.key", nodefs.PKI + "/sa.pub"}, 1, false},
		{"leftovers without etcd data", func(j *joiner) { j.withControlPlane(); j.write(nodefs.PKI+"/ca.key", "") }, []string{stopKubelet, joinPlane},
			"as a control plane", []string{leaf, nodefs.Manifests + "/etcd.yaml", nodefs.AdminConfig}, []string{nodefs.PKI + "/ca.key"}, 1, false},
		{"etcd began, but has no log", func(j *joiner) {
			j.write(kubeadm.EtcdData+"/member/snap/db", "x")
			j.etcd.Set(member(1, "cp1", "10.0.2.11", false), member(2, "", "10.0.2.12", true))
		}, []string{joinPlane}, "as a control plane", []string{kubeadm.EtcdData + "/member"}, nil, 2, false},
		{"etcd began, and has heard of nobody", func(j *joiner) {
			j.write(walFile, string(etcdtest.BegunLog()))
			j.withControlPlane()
			j.etcd.Set(member(1, "cp1", "10.0.2.11", false), member(2, "", "10.0.2.12", true))
		}, []string{stopKubelet, joinPlane}, "as a control plane", []string{leaf, kubeadm.EtcdData + "/member"}, nil, 2, false},
		{"announced, never started", func(j *joiner) {
			j.withControlPlane()
			j.etcd.Set(member(1, "cp1", "10.0.2.11", false), member(2, "", "10.0.2.12", true))
		}, []string{stopKubelet, joinPlane}, "as a control plane", []string{leaf}, nil, 2, false},
		{"a lost machine's member and Node", func(j *joiner) {
			j.etcd.Set(member(1, "cp1", "10.0.2.11", false), member(2, "n2", "10.0.2.12", false))
			j.registered("Unknown")
		}, []string{joinPlane}, "as a control plane", nil, nil, 1, false},
		{"a lost machine's member at another address", func(j *joiner) {
			j.etcd.Set(member(1, "cp1", "10.0.2.11", false), member(2, "n2", "10.0.2.99", false))
		}, []string{joinPlane}, "as a control plane", nil, nil, 1, false},
		{"a lost machine's Node only", func(j *joiner) { j.registered("False") }, []string{joinPlane}, "as a control plane", nil, nil, 1, false},
		{"a learner with data", func(j *joiner) {
			j.write(walFile, "x")
			j.withControlPlane()
			j.withKubelet()
			j.etcd.Set(member(1, "cp1", "10.0.2.11", false), member(2, "n2", "10.0.2.12", true))
		}, []string{startKubelet, joinAgain}, "went on", nil, []string{walFile, leaf}, 2, false},
		{"an unstarted learner with data", func(j *joiner) {
			j.write(walFile, "x")
			j.withControlPlane()
			j.withKubelet()
			j.etcd.Set(member(1, "cp1", "10.0.2.11", false), member(2, "", "10.0.2.12", true))
		}, []string{startKubelet, joinAgain}, "went on", nil, []string{walFile, leaf}, 2, false},
		{"a voter without the role's label", func(j *joiner) {
			j.write(walFile, "x")
			j.withControlPlane()
			j.withKubelet()
			j.etcd.Set(member(1, "cp1", "10.0.2.11", false), member(2, "n2", "10.0.2.12", false))
			j.api.Put("/api/v1/nodes/n2", apitest.Object{"metadata": map[string]any{"name": "n2"}})
		}, []string{startKubelet, joinAgain}, "went on", nil, []string{walFile}, 2, true},
		{"a voter whose kubelet has no certificate yet", func(j *joiner) {
			j.write(walFile, "x")
			j.withControlPlane()
			j.write(kubeletConfiguration, "x")
			j.write(nodefs.KubeletState+"/pki/kubelet-client-current.pem", "")
			j.etcd.Set(member(1, "cp1", "10.0.2.11", false), member(2, "n2", "10.0.2.12", false))
		}, []string{stopKubelet, joinWithToken}, "went on", []string{nodefs.KubeletState + "/pki/kubelet-client-current.pem"}, []string{walFile}, 2, false},
		{"a voter with torn files", func(j *joiner) {
			j.write(walFile, "x")
			j.withControlPlane()
			j.withKubelet()
			j.write(nodefs.Manifests+"/etcd.yaml", "")
			j.write(nodefs.PKI+"/etcd/ca.key", "")
			j.etcd.Set(member(1, "cp1", "10.0.2.11", false), member(2, "n2", "10.0.2.12", false))
		}, []string{startKubelet, joinAgain}, "went on", []string{nodefs.Manifests + "/etcd.yaml"}, []string{walFile, nodefs.PKI + "/etcd/ca.key"}, 2, false},
		{"joined, but not written down", func(j *joiner) {
			j.write(walFile, "x")
			j.withControlPlane()
			j.withKubelet()
			j.etcd.Set(member(1, "cp1", "10.0.2.11", false), member(2, "n2", "10.0.2.12", false))
			j.registered("True")
		}, nil, "was done before", nil, nil, 2, true},
		{"joined and written down, etcd not up yet", func(j *joiner) {
			j.write(walFile, "x")
			j.withControlPlane()
			j.withKubelet()
			j.written = []string{"kubeadm-join"}
			j.etcd.Fail(func(string) *etcd.Error { return &etcd.Error{Code: 14, Message: "no leader"} })
		}, nil, "was done before", nil, nil, 1, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			j := newJoiner(t, profile.ControlPlane)
			tt.prepare(j)
			j.joined = func() {
				for _, path := range tt.gone {
					if j.here(path) {
						t.Errorf("kubeadm found %s", path)
					}
				}
				for _, path := range tt.kept {
					if !filled(j.root.Path(path)) {
						t.Errorf("kubeadm did not find %s", path)
					}
				}
			}
			note, err := j.join()
			if err != nil || !strings.Contains(note, tt.note) {
				t.Fatalf("have %q, %v", note, err)
			}
			if !slices.Equal(j.ran, tt.want) {
				t.Errorf("ran\n%s\nwant\n%s", strings.Join(j.ran, "\n"), strings.Join(tt.want, "\n"))
			}
			if n := len(j.etcd.Members()); n != tt.members {
				t.Errorf("etcd has %d members", n)
			}
			if there := j.api.Object("/api/v1/nodes/n2") != nil; there != tt.node {
				t.Errorf("there is a Node: %v", there)
			}
			if strings.Contains(j.out.String(), token[7:]) {
				t.Errorf("the console shows the token:\n%s", j.out)
			}
			if j.here(strings.TrimSuffix(nodefs.KubeadmConfig, ".yaml") + "-resume.yaml") {
				t.Error("a second configuration is left")
			}
		})
	}
}

func TestJoinsThatHaveToWaitOrEnd(t *testing.T) {
	data := func(j *joiner) { j.write(walFile, "x"); j.withControlPlane(); j.withKubelet() }
	tests := []struct {
		name      string
		prepare   func(j *joiner)
		permanent bool
		want      string
		ran       []string
	}{
		{"its member was removed", data, true, "it was removed, or the cluster was founded anew; run `firstboot reset`", nil},
		{"its address changed", func(j *joiner) {
			data(j)
			j.etcd.Set(member(1, "cp1", "10.0.2.11", false), member(2, "n2", "10.0.2.99", false))
		}, true, "has the peer URL https://10.0.2.99:2380, but the node's address is now 10.0.2.12", nil},
		{"etcd has no quorum", func(j *joiner) {
			data(j)
			j.etcd.Fail(func(string) *etcd.Error { return &etcd.Error{Code: 14, Message: "etcdserver: no leader"} })
		}, false, "etcdserver: no leader", nil},
		{"etcd guards its quorum", func(j *joiner) {
			j.etcd.Set(member(1, "cp1", "10.0.2.11", false), member(2, "n2", "10.0.2.12", false))
			j.etcd.Fail(func(path string) *etcd.Error {
				if strings.HasSuffix(path, "/remove") {
					return &etcd.Error{Code: 2, Message: "etcdserver: re-configuration failed due to not enough started members"}
				}
				return nil
			})
		}, false, "making room for n2: removing etcd's member 2: etcdserver: re-configuration failed", nil},
		{"another machine has the name", func(j *joiner) {
			alive := member(2, "n2", "10.0.2.99", false)
			alive.ClientURLs = []string{j.etcd.URL}
			j.etcd.Set(member(1, "cp1", "10.0.2.11", false), alive)
		}, false, "another machine has this node's name or address", nil},
		{"the Node is Ready", func(j *joiner) { j.registered("True") }, false, "the cluster has a Node n2 that is Ready, but this machine has nothing of it", nil},
		{"no pod of etcd is shown", func(j *joiner) {
			j.api.Put("/api/v1/namespaces/kube-system/pods/etcd-cp1", apitest.Object{"metadata": map[string]any{"name": "etcd-cp1"}})
		}, false, "the cluster shows no pod of etcd yet", nil},
		{"kubeadm ends badly", func(j *joiner) {
			j.fails = &command.ExitError{Name: "kubeadm", Code: 1, Tail: "I1121 x\nerror: error execution phase kubelet-start: timed out\nTo see the stack trace"}
		}, false, "running kubeadm join: kubeadm ended with exit code 1:\n    error: error execution phase kubelet-start: timed out", []string{joinPlane}},
		{"the Node became Ready meanwhile", func(j *joiner) { j.fails = nameTaken() }, false, "n2", []string{joinPlane}},
		{"the Node stays Ready", func(j *joiner) {
			j.fails = nameTaken()
			text := kubeadm.Classify(nameTaken().Tail).Message
			j.plan.history = func() []record {
				return []record{{BootID: "boot-1", Step: "kubeadm-join", State: failed, Uptime: 100, Error: "running kubeadm join: " + text}}
			}
			j.m.Uptime = func() float64 { return 100 + fading.Seconds() + 1 }
		}, true, "n2", []string{joinPlane}},
		{"kubeadm's checks fail for good", func(j *joiner) {
			j.fails = &command.ExitError{Name: "kubeadm", Code: 1, Tail: "\t[ERROR NumCPU]: 1 < 2\nerror: error execution phase preflight: preflight checks failed"}
		}, true, "does not meet kubeadm's checks NumCPU", []string{joinPlane}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			j := newJoiner(t, profile.ControlPlane)
			tt.prepare(j)
			before := len(j.etcd.Members())
			_, err := j.join()
			if err == nil || IsPermanent(err) != tt.permanent || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("have %v", err)
			}
			if !slices.Equal(j.ran, tt.ran) || len(j.etcd.Members()) != before {
				t.Errorf("ran %q; etcd has %d members", j.ran, len(j.etcd.Members()))
			}
			if data := j.here(walFile); data != (tt.permanent && len(tt.ran) == 0 || tt.name == "etcd has no quorum") {
				t.Errorf("etcd's data is there: %v", data)
			}
		})
	}
}

func TestJoinWithUploadedCertificates(t *testing.T) {
	uploaded := func(t *testing.T) *joiner {
		j := newJoiner(t, profile.ControlPlane)
		j.plan.o.Identity.Bootstrap.Authorities = j.authorities(profile.Worker)
		j.plan.o.Identity.Bootstrap.CertificateKey = document.NewSecret(strings.Repeat("ab", 32))
		return j
	}
	j := uploaded(t)
	if note, err := j.join(); err != nil || !slices.Equal(j.ran, []string{downloadCommand, joinPlane}) {
		t.Errorf("have %q, %v after %q", note, err, j.ran)
	}

	j = uploaded(t) // went on with: nothing is downloaded again
	j.downloaded()
	j.write(walFile, "x")
	j.withControlPlane()
	j.withKubelet()
	j.etcd.Set(member(1, "cp1", "10.0.2.11", false), member(2, "n2", "10.0.2.12", false))
	j.joined = func() {
		config := j.read(strings.TrimSuffix(nodefs.KubeadmConfig, ".yaml") + "-resume.yaml")
		if strings.Contains(config, token) || strings.Contains(config, "certificateKey") || !strings.Contains(config, "/etc/kubernetes/admin.conf") {
			t.Errorf("kubeadm was given:\n%s", config)
		}
	}
	if j.plan.needsToken() {
		t.Error("a token is needed")
	}
	if note, err := j.join(); err != nil || !slices.Equal(j.ran, []string{startKubelet, joinAgain}) {
		t.Errorf("have %q, %v after %q", note, err, j.ran)
	}

	j = uploaded(t) // another cluster's files
	j.downloaded()
	j.write(nodefs.PKI+"/ca.crt", "another")
	if note, err := j.join(); err != nil || !slices.Equal(j.ran, []string{downloadCommand, joinPlane}) {
		t.Errorf("have %q, %v after %q", note, err, j.ran)
	}

	j = uploaded(t)
	j.downloaded()
	j.write(nodefs.PKI+"/ca.crt", "another")
	j.write(walFile, "x")
	if _, err := j.join(); !IsPermanent(err) || !j.here(walFile) || j.read(nodefs.PKI+"/ca.crt") != "another" {
		t.Errorf("have %v", err)
	}
}

func TestOneLearnerAtATime(t *testing.T) {
	j := newJoiner(t, profile.ControlPlane)
	asked := 0
	j.etcd.Set(member(1, "cp1", "10.0.2.11", false), member(3, "", "10.0.2.13", true))
	j.etcd.Fail(func(string) *etcd.Error { asked++; return nil })
	now := time.Now()
	j.m.Now = func() time.Time { now = now.Add(learnerPatience/2 + time.Second); return now }
	if _, err := j.join(); err != nil {
		t.Fatal(err)
	}
	if left := j.etcd.Members(); len(left) != 1 || left[0].Name != "cp1" {
		t.Errorf("etcd has %+v", left)
	}
	if !slices.Equal(j.ran, []string{joinPlane}) {
		t.Errorf("ran %q", j.ran)
	}
}

// TestNextForAllFacts goes through every combination of facts: a voter or learner with data is never cleared away, and
// nothing is done without an answer of etcd's.
func TestNextForAllFacts(t *testing.T) {
	seen := map[joinAction]int{}
	for bits := range 1 << 7 {
		bit := func(n int) bool { return bits&(1<<n) != 0 }
		for _, m := range []membership{memberUnknown, memberNone, memberUnstarted, memberStarted, memberElsewhere} {
			f := joinFacts{controlPlane: bit(0), written: bit(1), kubelet: bit(2), data: bit(3), files: bit(4), voter: bit(5), marked: bit(6), member: m}
			action := f.next()
			seen[action]++
			clears := action == joinAnew || action == joinReplace
			switch {
			case f.controlPlane && f.data && clears:
				t.Errorf("%+v: data would be lost", f)
			case f.controlPlane && m == memberUnknown && action != joinAsk && action != joinDone:
				t.Errorf("%+v: %d without knowing the members", f, action)
			case !f.controlPlane && (clears == f.kubelet || !clears && action != joinAwait):
				t.Errorf("%+v: a worker does %d", f, action)
			case action == joinReplace && m != memberStarted && m != memberElsewhere:
				t.Errorf("%+v: would remove a member that never ran", f)
			case f.controlPlane && action == joinDone && (!f.data || !f.kubelet || !f.files):
				t.Errorf("%+v: is not done", f)
			case (action == joinRemoved || action == joinMoved) && !f.data:
				t.Errorf("%+v: a person is not needed", f)
			}
		}
	}
	if len(seen) != int(joinMoved)+1 {
		t.Errorf("not every action is reached: %v", seen)
	}
}

func TestChangedFilesAreSynced(t *testing.T) {
	w := newWorld(t)
	w.write(nodefs.Manifests+"/etcd.yaml", "x")
	w.write(nodefs.Kubernetes+"/empty", "")
	if err := os.Symlink("nowhere", w.root.Path(nodefs.Kubernetes+"/link")); err != nil {
		t.Fatal(err)
	}
	seen := map[string]time.Time{}
	w.m.syncChanged(seen)
	if _, synced := seen[w.root.Path(nodefs.Manifests+"/etcd.yaml")]; !synced || len(seen) != 1 {
		t.Errorf("synced %v", seen)
	}
	if err := os.RemoveAll(w.root.Path(filepath.Dir(nodefs.Manifests))); err != nil {
		t.Fatal(err)
	}
	w.m.syncChanged(seen)
	w.m.keepOnDisk()() // ends
}

func TestEtcdsChatterIsSaidOnce(t *testing.T) {
	const chatter = `{"level":"warn","logger":"etcd-client","msg":"retrying of unary invoker failed","error":"rpc error: code = FailedPrecondition desc = etcdserver: %s"}`
	instead := withoutChatter()
	var said []string
	for _, line := range []string{"[etcd] before", strings.Replace(chatter, "%s", "too many learners", 1), strings.Replace(chatter, "%s", "too many learners", 1),
		`{"level":"warn","logger":"other","error":"x"}`, strings.Replace(chatter, "%s", "no leader", 1), "[etcd] after"} {
		if text := instead(line); text != "" {
			said = append(said, text)
		}
	}
	want := []string{"[etcd] before", "waiting for etcd: etcdserver: too many learners", `{"level":"warn","logger":"other","error":"x"}`,
		"waiting for etcd: etcdserver: no leader", "[etcd] after"}
	if !slices.Equal(said, want) {
		t.Errorf("said %q", said)
	}
}

// TestTokenThatExpiredHalfway: whoever was let in goes on, whatever became of the token.
func TestTokenThatExpiredHalfway(t *testing.T) {
	for _, role := range []string{profile.Worker, profile.ControlPlane} {
		j := newJoiner(t, role)
		j.m.Look = func(context.Context, endpoint.Cluster) endpoint.Observation {
			return endpoint.Observation{State: endpoint.Refused, Message: "not reached"}
		}
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if note, err := j.plan.endpoint(ctx); err == nil {
			t.Errorf("%s with nothing: %q", role, note)
		}
		j.withKubelet()
		j.withControlPlane()
		j.write(walFile, "x")
		if note, err := j.plan.endpoint(t.Context()); err != nil || !strings.HasPrefix(note, "not needed") {
			t.Errorf("%s: have %q, %v", role, note, err)
		}
	}
}

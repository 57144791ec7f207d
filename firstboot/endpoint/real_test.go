package endpoint

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/kiln-os/kiln/internal/command"
	"github.com/kiln-os/kiln/internal/document"
)

// TestRealAPIServer looks at etcd, kube-apiserver and kube-controller-manager themselves while kubeadm founds a cluster in
// them, on the loopback interface: what a look reads is what kubeadm's own rules let be read.
// KILN_KUBERNETES names directories with the programs, kubectl and kubeadm among them, separated by colons.
func TestRealAPIServer(t *testing.T) {
	if os.Getenv("KILN_KUBERNETES") == "" {
		t.Skip("KILN_KUBERNETES is not set: no programs to run")
	}
	t.Setenv("PATH", os.Getenv("KILN_KUBERNETES")+":"+os.Getenv("PATH"))
	r := newReal(t)
	c := r.cluster(t)
	check(t, c.Look(t.Context()), Refused)
	r.startServers()
	r.until(c, NotReady, NotFounded) // nobody may read anything in kube-public yet
	r.kubeadm("upload-config", "kubeadm", "--kubeconfig="+r.file("super-admin.conf"))
	r.kubeadm("bootstrap-token", "--kubeconfig="+r.file("super-admin.conf"))
	r.until(c, Unsigned)
	r.background("kube-controller-manager", "--kubeconfig="+r.file("super-admin.conf"), "--controllers=bootstrap-signer-controller", "--leader-elect=false", "--secure-port=0")
	if seen := r.until(c, Ready); seen.Kubernetes != version || seen.Node != nil {
		t.Errorf("saw %+v", seen)
	}

	r.kubectl("create", "-f", r.write("node.yaml", "{apiVersion: v1, kind: Node, metadata: {name: w1}}"))
	r.kubectl("patch", "node", "w1", "--subresource=status", "--patch",
		`{"status":{"conditions":[{"type":"Ready","status":"True"}],"nodeInfo":{"machineID":"feed","systemUUID":"bbbb","architecture":"","bootID":"",
		"containerRuntimeVersion":"","kernelVersion":"","kubeProxyVersion":"","kubeletVersion":"","operatingSystem":"","osImage":""}}}`)
	check(t, c.Look(t.Context()), NameTaken, "bbbb")
	c.Machine.ID = "feed"
	check(t, c.Look(t.Context()), Ready)
	c.Baked = "v1.35.0"
	check(t, c.Look(t.Context()), VersionDiffers)

	r.kubectl("delete", "secret", "-n", "kube-system", "bootstrap-token-"+tokenID)
	r.until(c, TokenUnknown)
	r.kubectl("create", "-f", r.write("record.yaml", `
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: ConfigMap, metadata: {name: kiln, namespace: kube-public}, data: {founder: cp1, tokens: '{"abcdef":"2020-01-01T00:00:00Z"}'}}
- {apiVersion: rbac.authorization.k8s.io/v1, kind: Role, metadata: {name: kiln-public, namespace: kube-public}, rules: [{apiGroups: [""], resources: [configmaps], resourceNames: [kiln], verbs: [get]}]}
- {apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, metadata: {name: kiln-public, namespace: kube-public},
   roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: kiln-public}, subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: "system:anonymous"}]}
`))
	r.until(c, TokenExpired)
	if record, seen := c.Public(t.Context()); record.Founder != "cp1" || seen.State != Ready {
		t.Errorf("read %+v, saw %s", record, seen)
	}
}

// real is a directory and the ports of a control plane.
type real struct {
	t         *testing.T
	directory string
	etcd, api int
}

func newReal(t *testing.T) *real {
	r := &real{t: t, directory: t.TempDir(), etcd: port(t), api: port(t)}
	// kubeadm takes no loopback address; nobody asks for this one, of the documentation's range.
	r.write("kubeadm.yaml", fmt.Sprintf(`apiVersion: kubeadm.k8s.io/v1beta4
kind: InitConfiguration
localAPIEndpoint: {advertiseAddress: 192.0.2.1}
nodeRegistration: {name: cp1}
bootstrapTokens: [{token: %s, groups: ["system:bootstrappers:kubeadm:default-node-token"]}]
---
apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
kubernetesVersion: %s
controlPlaneEndpoint: localhost:%d
certificatesDir: %s
`, token, version, r.api, r.directory))
	r.kubeadm("certs", "all")
	r.kubeadm("kubeconfig", "super-admin", "--kubeconfig-dir="+r.directory)
	return r
}

func (r *real) file(name string) string { return filepath.Join(r.directory, name) }

func (r *real) write(name, text string) string {
	if err := os.WriteFile(r.file(name), []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
	return r.file(name)
}

func (r *real) run(name string, args ...string) {
	r.t.Helper()
	if _, err := (command.Exec{}).Run(r.t.Context(), command.Command{Name: name, Args: args}); err != nil {
		r.t.Fatal(err)
	}
}

func (r *real) kubeadm(phase ...string) {
	r.t.Helper()
	r.run("kubeadm", append(append([]string{"init", "phase"}, phase...), "--config="+r.file("kubeadm.yaml"))...)
}

func (r *real) kubectl(args ...string) {
	r.t.Helper()
	r.run("kubectl", append([]string{"--kubeconfig=" + r.file("super-admin.conf"), "--server=" + fmt.Sprintf("https://localhost:%d", r.api)}, args...)...)
}

func (r *real) cluster(t *testing.T) Cluster {
	text, err := os.ReadFile(r.file("ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	authority, err := ParseAuthority(string(text))
	if err != nil {
		t.Fatal(err)
	}
	return Cluster{Endpoint: fmt.Sprintf("localhost:%d", r.api), Authority: authority, Token: document.NewSecret(token), Baked: version, Node: "w1",
		Machine: Machine{ID: "0badc0de", UUID: "AAAA-1"}}
}

func (r *real) startServers() {
	peer := fmt.Sprintf("http://127.0.0.1:%d", port(r.t))
	client := fmt.Sprintf("http://127.0.0.1:%d", r.etcd)
	r.background("etcd", "--data-dir="+r.file("etcd-data"), "--unsafe-no-fsync", "--listen-client-urls="+client, "--advertise-client-urls="+client,
		"--listen-peer-urls="+peer, "--initial-advertise-peer-urls="+peer, "--initial-cluster=default="+peer)
	r.background("kube-apiserver", "--etcd-servers="+client, "--bind-address=127.0.0.1", fmt.Sprintf("--secure-port=%d", r.api), "--enable-bootstrap-token-auth",
		"--client-ca-file="+r.file("ca.crt"), "--tls-cert-file="+r.file("apiserver.crt"), "--tls-private-key-file="+r.file("apiserver.key"),
		"--service-account-issuer=https://kubernetes.default.svc", "--service-account-key-file="+r.file("sa.pub"),
		"--service-account-signing-key-file="+r.file("sa.key"), "--service-cluster-ip-range=10.96.0.0/12", "--authorization-mode=Node,RBAC")
}

// background runs a program until the test ends.
func (r *real) background(name string, args ...string) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if _, err := (command.Exec{}).Run(ctx, command.Command{Name: name, Args: args}); ctx.Err() == nil {
			r.t.Errorf("%s ended by itself: %v", name, err)
		}
	}()
	r.t.Cleanup(func() { cancel(); <-ended })
}

// until looks until one of states is seen, for two minutes at most, and prints what it sees on the way.
func (r *real) until(c Cluster, states ...State) Observation {
	r.t.Helper()
	last := State("")
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(200 * time.Millisecond) {
		seen := c.Look(r.t.Context())
		if seen.State != last {
			r.t.Logf("%s: %s", seen.State, seen)
			last = seen.State
		}
		for _, state := range states {
			if seen.State == state {
				return seen
			}
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("saw %s; waited for %v", seen, states)
		}
	}
}

func port(t *testing.T) int {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port
}

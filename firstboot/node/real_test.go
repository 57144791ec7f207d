package node

import (
	"context"
	"crypto/x509/pkix"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kiln-os/kiln/firstboot/mint"
	"github.com/kiln-os/kiln/internal/command"
	"github.com/kiln-os/kiln/internal/profile"
)

// TestRealAPIServer runs the client's requests against etcd and kube-apiserver themselves, on the loopback interface.
// KILN_KUBERNETES names directories with the programs etcd, kube-apiserver and kubeadm, separated by colons.
func TestRealAPIServer(t *testing.T) {
	if os.Getenv("KILN_KUBERNETES") == "" {
		t.Skip("KILN_KUBERNETES is not set: no programs to run")
	}
	c, authority := realServer(t)
	objects, err := Objects("manifest", []byte(manifest+`---
apiVersion: v1
kind: Namespace
metadata: {name: kube-flannel}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: flannel}
rules: [{apiGroups: [""], resources: [nodes/status], verbs: [patch]}]
---
apiVersion: v1
kind: Node
metadata: {name: cp1, labels: {mine: "yes"}}
spec:
  taints:
  - {key: node-role.kubernetes.io/control-plane, effect: NoSchedule}
  - {key: example.org/theirs, effect: NoExecute}
`))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		for _, o := range objects {
			if o.text("kind") == "DaemonSet" {
				continue // the test's is too short for the real server
			}
			if err := c.Apply(t.Context(), o); err != nil {
				t.Fatal(err)
			}
		}
	}
	want := Registration{Labels: map[string]string{"kiln.dev/release": "v1.36"}, Annotations: map[string]string{"kiln.dev/root-hash": "4f1c"},
		Taints: []profile.Taint{{Key: "example.org/gpu", Effect: "NoSchedule"}}, RoleTaint: "node-role.kubernetes.io/control-plane"}
	for range 2 {
		if err := c.Register(t.Context(), "cp1", want); err != nil {
			t.Fatal(err)
		}
		if err := c.SetCondition(t.Context(), "cp1", Condition{Type: "Ready", Status: "True", Reason: "R", Message: "m"}); err != nil {
			t.Fatal(err)
		}
		if err := c.SetCondition(t.Context(), "cp1", Condition{Type: "KilnFirstBoot", Status: "True", Reason: "Completed", Message: "m"}); err != nil {
			t.Fatal(err)
		}
	}
	n, err := c.Get(t.Context(), "cp1")
	if err != nil {
		t.Fatal(err)
	}
	if len(n.Status.Conditions) != 2 || n.Condition("KilnFirstBoot").Status != "True" || n.Condition("Ready").Status != "True" {
		t.Errorf("have conditions %+v", n.Status.Conditions)
	}
	if n.Metadata.Labels["mine"] != "yes" || n.Metadata.Labels["kiln.dev/release"] != "v1.36" || n.Metadata.Annotations["kiln.dev/root-hash"] != "4f1c" {
		t.Errorf("have %+v", n.Metadata)
	}
	var keys []string
	for _, taint := range n.Spec.Taints {
		keys = append(keys, taint.Key)
	}
	if got := strings.Join(keys, " "); !strings.Contains(got, "example.org/gpu") || !strings.Contains(got, "example.org/theirs") || strings.Contains(got, "node-role") {
		t.Errorf("have taints %s", got)
	}
	for range 2 {
		if err := c.Record(t.Context(), n, Event{Type: "Normal", Reason: "FirstBootCompleted", Message: "m"}); err != nil {
			t.Fatal(err)
		}
	}
	there, err := c.Exists(t.Context(), "/api/v1/namespaces/default/events/cp1.firstbootcompleted")
	if err != nil || !there {
		t.Errorf("the event: %v, %v", there, err)
	}
	realKubelet(t, c, authority)
	realLists(t, c, authority)
}

// asUser is a client of the same server for another user.
func asUser(t *testing.T, c *Client, authority mint.Pair, subject pkix.Name) *Client {
	t.Helper()
	pair, err := mint.Client(authority, subject)
	if err != nil {
		t.Fatal(err)
	}
	own, err := kubeconfig{server: c.Server, authority: authority.Certificate, certificate: pair.Certificate, key: pair.Key}.client()
	if err != nil {
		t.Fatal(err)
	}
	return own
}

// realKubelet shows what NodeRestriction lets a kubelet do to its own Node: the fake server of apitest has to be as strict.
func realKubelet(t *testing.T, admin *Client, authority mint.Pair) {
	t.Helper()
	if err := admin.Apply(t.Context(), Object{"apiVersion": "v1", "kind": "Node", "metadata": map[string]any{"name": "w1"}}); err != nil {
		t.Fatal(err)
	}
	c := asUser(t, admin, authority, pkix.Name{CommonName: "system:node:w1", Organization: []string{"system:nodes"}})
	refused, err := c.RegisterParts(t.Context(), "w1", Registration{KeepTaints: true, ProviderID: "metal://1", Annotations: map[string]string{"kiln.dev/x": "y"},
		Labels: map[string]string{"kiln.dev/release": "v1.36", "node-role.kubernetes.io/worker": "", "example.org/b": "not so"}})
	if err != nil || len(refused) != 2 || refused[0].What != "label example.org/b" || refused[1].What != "label node-role.kubernetes.io/worker" {
		t.Errorf("have %v, %v", refused, err)
	}
	n, err := c.Get(t.Context(), "w1")
	if err != nil || n.Metadata.Labels["kiln.dev/release"] != "v1.36" || n.Spec.ProviderID != "metal://1" || n.Metadata.Annotations["kiln.dev/x"] != "y" {
		t.Errorf("have %+v, %v", n, err)
	}
	if refused, err = c.RegisterParts(t.Context(), "w1", Registration{KeepTaints: true, Annotations: map[string]string{"a": "b"}, ProviderID: "metal://2"}); err != nil || len(refused) != 0 {
		t.Errorf("a provider ID that is there already: %v, %v", refused, err)
	}
	if err := c.SetCondition(t.Context(), "w1", Condition{Type: "KilnFirstBoot", Status: "True", Reason: "Completed", Message: "m"}); err != nil {
		t.Error(err)
	}
	if err := c.Record(t.Context(), n, Event{Type: "Warning", Reason: "RegistrationIncomplete", Message: "m"}); err != nil {
		t.Error(err)
	}
	if _, err := c.RegisterParts(t.Context(), "w1", Registration{Taints: []profile.Taint{{Key: "a", Effect: "NoSchedule"}}}); !HasCode(err, http.StatusForbidden) {
		t.Errorf("a kubelet may taint its Node: %v", err)
	}
	if err := c.Delete(t.Context(), n); !HasCode(err, http.StatusForbidden) {
		t.Errorf("a kubelet may delete its Node: %v", err)
	}
}

func realLists(t *testing.T, admin *Client, authority mint.Pair) {
	t.Helper()
	c, err := MintAdmin(admin.Server, authority)
	if err != nil {
		t.Fatal(err)
	}
	nodes, version, err := c.List(t.Context(), "mine=yes")
	if err != nil || version == "" || len(nodes) != 1 || nodes[0].Metadata.Name != "cp1" || nodes[0].Metadata.CreationTimestamp.IsZero() {
		t.Errorf("have %+v, %q, %v", nodes, version, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	gone := false
	err = c.Watch(ctx, func(change Change) {
		switch {
		case change.Gone:
			gone = true
			cancel()
		case change.Node.Metadata.Name == "w1":
			stale := Node{}
			stale.Metadata.Name, stale.Metadata.UID, stale.Metadata.ResourceVersion = "w1", change.Node.Metadata.UID, "1"
			if err := c.Delete(ctx, stale); !HasCode(err, http.StatusConflict) {
				t.Errorf("deleted as it was read long ago: %v", err)
			}
			stale.Metadata.ResourceVersion = change.Node.Metadata.ResourceVersion
			if err := c.Delete(ctx, stale); err != nil {
				t.Error(err)
			}
		}
	})
	if !gone {
		t.Errorf("the deletion was not seen: %v", err)
	}
	// A record that somebody changed since it was read is not applied over it.
	record := Object{"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": "kiln", "namespace": "kube-public"}, "data": map[string]any{"a": "1"}}
	if err := c.Apply(t.Context(), record); err != nil {
		t.Fatal(err)
	}
	var read struct {
		Metadata struct{ ResourceVersion string }
	}
	if err := c.Read(t.Context(), "/api/v1/namespaces/kube-public/configmaps/kiln", &read); err != nil {
		t.Fatal(err)
	}
	record["data"] = map[string]any{"a": "2"}
	record["metadata"].(map[string]any)["resourceVersion"] = read.Metadata.ResourceVersion
	if err := c.Apply(t.Context(), record); err != nil {
		t.Error(err)
	}
	record["data"] = map[string]any{"a": "3"}
	if err := c.Apply(t.Context(), record); !HasCode(err, http.StatusConflict) {
		t.Errorf("have %v", err)
	}
	if urls, err := c.EtcdURLs(t.Context()); err != nil || len(urls) != 0 {
		t.Errorf("have %q, %v", urls, err)
	}
	if pods, err := c.PodsOf(t.Context(), "cp1"); err != nil || len(pods) != 0 {
		t.Errorf("have %v, %v", pods, err)
	}
}

// realServer starts etcd and kube-apiserver with certificates of kubeadm's, and waits until the server is ready.
func realServer(t *testing.T) (*Client, mint.Pair) {
	t.Helper()
	directory := t.TempDir()
	t.Setenv("PATH", os.Getenv("KILN_KUBERNETES")+":"+os.Getenv("PATH"))
	for _, own := range [][]string{{"certs", "all", "--apiserver-cert-extra-sans=127.0.0.1"}, {"kubeconfig", "super-admin", "--kubeconfig-dir=" + directory}} {
		// kubeadm takes no loopback address; nobody asks for this one, of the documentation's range.
		args := append([]string{"init", "phase"}, own...)
		args = append(args, "--cert-dir="+directory, "--apiserver-advertise-address=192.0.2.1", "--kubernetes-version=v1.36.3")
		if _, err := (command.Exec{}).Run(t.Context(), command.Command{Name: "kubeadm", Args: args}); err != nil {
			t.Fatal(err)
		}
	}
	file := func(name string) string { return filepath.Join(directory, name) }
	etcd, peer, api := port(t), port(t), port(t)
	background(t, "etcd", "--data-dir="+file("etcd-data"), "--unsafe-no-fsync", fmt.Sprintf("--listen-client-urls=http://127.0.0.1:%d", etcd),
		fmt.Sprintf("--advertise-client-urls=http://127.0.0.1:%d", etcd), fmt.Sprintf("--listen-peer-urls=http://127.0.0.1:%d", peer),
		fmt.Sprintf("--initial-advertise-peer-urls=http://127.0.0.1:%d", peer), fmt.Sprintf("--initial-cluster=default=http://127.0.0.1:%d", peer))
	background(t, "kube-apiserver", fmt.Sprintf("--etcd-servers=http://127.0.0.1:%d", etcd), "--bind-address=127.0.0.1", fmt.Sprintf("--secure-port=%d", api),
		"--client-ca-file="+file("ca.crt"), "--tls-cert-file="+file("apiserver.crt"), "--tls-private-key-file="+file("apiserver.key"),
		"--service-account-issuer=https://kubernetes.default.svc", "--service-account-key-file="+file("sa.pub"), "--service-account-signing-key-file="+file("sa.key"),
		"--service-cluster-ip-range=10.96.0.0/12", "--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction")
	read := func(name string) []byte {
		text, err := os.ReadFile(file(name))
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	admin, authority := read("super-admin.conf"), mint.Pair{Certificate: read("ca.crt"), Key: read("ca.key")}
	c, err := NewClient(fmt.Sprintf("https://127.0.0.1:%d", api), admin)
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(200 * time.Millisecond) {
		err := c.Healthy(t.Context())
		if err == nil {
			return c, authority
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// background runs a program until the test ends.
func background(t *testing.T, name string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if _, err := (command.Exec{}).Run(ctx, command.Command{Name: name, Args: args}); ctx.Err() == nil {
			t.Errorf("%s ended by itself: %v", name, err)
		}
	}()
	t.Cleanup(func() { cancel(); <-ended })
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

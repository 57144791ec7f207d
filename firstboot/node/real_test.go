package node

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kiln-os/kiln/internal/command"
	"github.com/kiln-os/kiln/internal/profile"
)

// TestRealAPIServer runs the client's requests against etcd and kube-apiserver themselves, on the loopback interface.
// KILN_KUBERNETES names directories with the programs etcd, kube-apiserver and kubeadm, separated by colons.
func TestRealAPIServer(t *testing.T) {
	if os.Getenv("KILN_KUBERNETES") == "" {
		t.Skip("KILN_KUBERNETES is not set: no programs to run")
	}
	c := realServer(t)
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
}

// realServer starts etcd and kube-apiserver with certificates of kubeadm's, and waits until the server is ready.
func realServer(t *testing.T) *Client {
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
		"--service-cluster-ip-range=10.96.0.0/12", "--authorization-mode=Node,RBAC")
	admin, err := os.ReadFile(file("super-admin.conf"))
	if err != nil {
		t.Fatal(err)
	}
	c, err := NewClient(fmt.Sprintf("https://127.0.0.1:%d", api), admin)
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(200 * time.Millisecond) {
		err := c.Healthy(t.Context())
		if err == nil {
			return c
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

package etcd_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kiln-os/kiln/firstboot/etcd"
	"github.com/kiln-os/kiln/firstboot/mint"
	"github.com/kiln-os/kiln/internal/command"
)

// TestRealEtcd asks an etcd with certificates of kubeadm's, on the loopback interface. KILN_KUBERNETES names directories
// with the programs etcd and kubeadm, separated by colons.
func TestRealEtcd(t *testing.T) {
	if os.Getenv("KILN_KUBERNETES") == "" {
		t.Skip("KILN_KUBERNETES is not set: no programs to run")
	}
	t.Setenv("PATH", os.Getenv("KILN_KUBERNETES")+":"+os.Getenv("PATH"))
	directory := t.TempDir()
	for _, name := range []string{"etcd-ca", "etcd-server", "etcd-peer"} {
		// kubeadm takes no loopback address; nobody asks for this one, of the documentation's range.
		config := filepath.Join(directory, "kubeadm.yaml")
		text := fmt.Sprintf("apiVersion: kubeadm.k8s.io/v1beta4\nkind: InitConfiguration\nlocalAPIEndpoint: {advertiseAddress: 192.0.2.1}\n---\n"+
			"apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\nkubernetesVersion: v1.36.3\ncertificatesDir: %s\n", directory)
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		args := []string{"init", "phase", "certs", name, "--config=" + config}
		if _, err := (command.Exec{}).Run(t.Context(), command.Command{Name: "kubeadm", Args: args}); err != nil {
			t.Fatal(err)
		}
	}
	file := func(name string) string { return filepath.Join(directory, "etcd", name) }
	at, peer := port(t), port(t)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = command.Exec{}.Run(ctx, command.Command{Name: "etcd", Args: []string{"--name=cp1", "--data-dir=" + file("data"), "--unsafe-no-fsync",
			"--listen-client-urls=" + at, "--advertise-client-urls=" + at, "--listen-peer-urls=" + peer, "--initial-advertise-peer-urls=" + peer,
			"--initial-cluster=cp1=" + peer, "--cert-file=" + file("server.crt"), "--key-file=" + file("server.key"), "--trusted-ca-file=" + file("ca.crt"),
			"--client-cert-auth=true", "--peer-cert-file=" + file("peer.crt"), "--peer-key-file=" + file("peer.key"),
			"--peer-trusted-ca-file=" + file("ca.crt"), "--peer-client-cert-auth=true"}})
	}()
	t.Cleanup(func() { cancel(); <-ended })
	certificate, err := os.ReadFile(file("ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := os.ReadFile(file("ca.key"))
	if err != nil {
		t.Fatal(err)
	}
	c, err := etcd.NewClient(mint.Pair{Certificate: certificate, Key: key}, []string{at})
	if err != nil {
		t.Fatal(err)
	}
	var members []etcd.Member
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		if members, err = c.Members(t.Context()); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	if len(members) != 1 || members[0].Name != "cp1" || members[0].ID == 0 || !members[0].HasPeer(peer) || members[0].IsLearner {
		t.Errorf("have %+v", members)
	}
	if err := c.Healthy(t.Context(), at); err != nil {
		t.Error(err)
	}
	if err := c.Remove(t.Context(), 4711); err != nil { // not there: as good as removed
		t.Error(err)
	}
	err = c.Remove(t.Context(), members[0].ID)
	refusal, refused := errors.AsType[*etcd.Error](err)
	// By its documentation the code is 9; etcd 3.6.8 gives 2.
	if !refused || refusal.Code == 14 || !strings.Contains(refusal.Message, "not enough started members") {
		t.Errorf("the last member: have code %d, %v", refusal.Code, err)
	}
}

func port(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return "https://" + listener.Addr().String()
}

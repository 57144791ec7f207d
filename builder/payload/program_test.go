package payload

import "testing"

func TestProgramName(t *testing.T) {
	for importPath, want := range map[string]string{
		"k8s.io/kubernetes/cmd/kubeadm": "kubeadm",
		"go.etcd.io/etcd/server/v3":     "server",
		"github.com/coredns/coredns":    "coredns",
		"example.org/v2ray":             "v2ray",
		"example.org/cmd/version2":      "version2",
	} {
		if got := programName(importPath); got != want {
			t.Errorf("programName(%q) is %q, want %q", importPath, got, want)
		}
	}
}

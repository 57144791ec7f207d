package node

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kiln-os/kiln/firstboot/mint"
	"github.com/kiln-os/kiln/firstboot/node/apitest"
	"github.com/kiln-os/kiln/internal/nodefs"
	"github.com/kiln-os/kiln/internal/profile"
)

// kubelet makes a root with a kubelet's kubeconfig and certificate, as on a node.
func kubelet(t *testing.T, s *apitest.Server, name string) nodefs.Root {
	t.Helper()
	root := nodefs.Root(t.TempDir())
	kubeconfig, pem := s.Kubelet(t, name)
	for path, text := range map[string][]byte{nodefs.KubeletConfig: kubeconfig, "/var/lib/kubelet/pki/kubelet-client-2026-11-21.pem": pem} {
		if err := os.MkdirAll(filepath.Dir(root.Path(path)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(root.Path(path), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("kubelet-client-2026-11-21.pem", root.Path("/var/lib/kubelet/pki/kubelet-client-current.pem")); err != nil {
		t.Fatal(err)
	}
	return root
}

func TestKubeletsCredentials(t *testing.T) {
	s := apitest.New(t)
	s.Put("/api/v1/nodes/w1", apitest.Object{"metadata": map[string]any{"name": "w1"}})
	s.Put("/api/v1/nodes/w2", apitest.Object{"metadata": map[string]any{"name": "w2"}})
	root := kubelet(t, s, "w1")
	c, err := Open(root, nodefs.KubeletConfig, "") // its own server
	if err != nil {
		t.Fatal(err)
	}
	if n, err := c.Get(t.Context(), "w1"); err != nil || n.Metadata.Name != "w1" {
		t.Fatalf("have %+v, %v", n, err)
	}
	holder, err := ReadHolder(root, nodefs.KubeletConfig)
	if err != nil || holder.User != "system:node:w1" || holder.Expires.Before(time.Now()) || len(holder.Authority) == 0 {
		t.Errorf("have %+v, %v", holder, err)
	}
	own := Registration{Labels: map[string]string{"example.org/a": "1", "node-role.kubernetes.io/worker": "", "example.org/b": "not so", "example.org/c": "3"},
		Annotations: map[string]string{"kiln.dev/x": "y"}, KeepTaints: true, ProviderID: "metal://1"}
	refused, err := c.RegisterParts(t.Context(), "w1", own)
	if err != nil {
		t.Fatal(err)
	}
	var what []string
	for _, r := range refused {
		what = append(what, r.What)
		if r.Err == nil || !strings.Contains(r.String(), " was refused: ") {
			t.Errorf("have %q", r)
		}
	}
	if want := []string{"label example.org/b", "label node-role.kubernetes.io/worker"}; !slices.Equal(what, want) {
		t.Errorf("refused %q", what)
	}
	n, err := c.Get(t.Context(), "w1")
	if err != nil || n.Metadata.Labels["example.org/a"] != "1" || n.Metadata.Labels["example.org/c"] != "3" || n.Metadata.Annotations["kiln.dev/x"] != "y" || n.Spec.ProviderID != "metal://1" {
		t.Errorf("have %+v, %v", n, err)
	}
	taints := Registration{Taints: []profile.Taint{{Key: "a", Effect: "NoSchedule"}}}
	if _, err := c.RegisterParts(t.Context(), "w1", taints); !HasCode(err, http.StatusForbidden) {
		t.Errorf("a kubelet may taint its Node: %v", err)
	}
	if _, err := c.RegisterParts(t.Context(), "w2", own); !HasCode(err, http.StatusForbidden) {
		t.Errorf("a kubelet may change another's Node: %v", err)
	}
	if err := c.Delete(t.Context(), n); !HasCode(err, http.StatusForbidden) {
		t.Errorf("a kubelet may delete its Node: %v", err)
	}
}

func TestKubeletFilesThatCannotBeUsed(t *testing.T) {
	s := apitest.New(t)
	for name, spoil := range map[string]func(root nodefs.Root) error{
		"no certificate": func(root nodefs.Root) error {
			return os.Remove(root.Path("/var/lib/kubelet/pki/kubelet-client-2026-11-21.pem"))
		},
		"a torn certificate": func(root nodefs.Root) error {
			return os.Truncate(root.Path("/var/lib/kubelet/pki/kubelet-client-2026-11-21.pem"), 0)
		},
		"no kubeconfig":     func(root nodefs.Root) error { return os.Remove(root.Path(nodefs.KubeletConfig)) },
		"a torn kubeconfig": func(root nodefs.Root) error { return os.Truncate(root.Path(nodefs.KubeletConfig), 0) },
		"another's authority": func(root nodefs.Root) error {
			_, pem := apitest.New(t).Kubelet(t, "w1")
			return os.WriteFile(root.Path("/var/lib/kubelet/pki/kubelet-client-current.pem"), pem, 0o600)
		},
	} {
		root := kubelet(t, s, "w1")
		if err := spoil(root); err != nil {
			t.Fatal(err)
		}
		if holder, err := ReadHolder(root, nodefs.KubeletConfig); err == nil || holder.User != "" {
			t.Errorf("%s: have %+v", name, holder)
		}
	}
}

func TestMintAdmin(t *testing.T) {
	s, other := apitest.New(t), apitest.New(t)
	s.Put("/api/v1/nodes/w1", apitest.Object{"metadata": map[string]any{"name": "w1", "uid": "u1"}})
	certificate, key := s.Authority()
	c, err := MintAdmin(s.URL, mint.Pair{Certificate: certificate, Key: key})
	if err != nil {
		t.Fatal(err)
	}
	n, err := c.Get(t.Context(), "w1")
	if err != nil {
		t.Fatal(err)
	}
	stale := n
	s.Put("/api/v1/nodes/w1", apitest.Object{"metadata": map[string]any{"name": "w1", "uid": "u1"}})
	if err := c.Delete(t.Context(), stale); !HasCode(err, http.StatusConflict) {
		t.Errorf("a Node that was changed since was deleted: %v", err)
	}
	if n, err = c.Get(t.Context(), "w1"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := c.Delete(t.Context(), n); err != nil {
			t.Error(err)
		}
	}
	certificate, key = other.Authority()
	if c, err = MintAdmin(s.URL, mint.Pair{Certificate: certificate, Key: key}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Get(t.Context(), "w1"); err == nil || HasCode(err, http.StatusNotFound) {
		t.Errorf("another cluster's administrator got in: %v", err)
	}
}

// TestWatch changes one thing after the other, each when the one before was seen.
func TestWatch(t *testing.T) {
	s := apitest.New(t)
	put := func(name, value string) {
		s.Put("/api/v1/nodes/"+name, apitest.Object{"metadata": map[string]any{"name": name, "uid": "u", "labels": map[string]any{"a": value}}, "status": map[string]any{"big": true}})
	}
	put("n1", "1")
	s.Put("/api/v1/namespaces/default/pods/p", apitest.Object{})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	c := client(t, s)
	steps := []struct {
		seen string
		then func()
	}{
		{"n1=1", func() { put("n2", "1") }},
		{"n2=1", func() { put("n1", "2") }},
		{"n1=2", func() { s.StopWatches(); put("n3", "1") }}, // nobody watches: all are listed again, as the version is too old
		{"n3=1", func() {
			n, err := c.Get(ctx, "n2")
			if err != nil {
				t.Error(err)
			}
			if err := c.Delete(ctx, n); err != nil {
				t.Error(err)
			}
		}},
		{"n2=1 gone", cancel},
	}
	err := client(t, s).Watch(ctx, func(change Change) {
		entry := change.Node.Metadata.Name + "=" + change.Node.Metadata.Labels["a"]
		if change.Gone {
			entry += " gone"
		}
		if len(steps) > 0 && steps[0].seen == entry {
			go steps[0].then()
			steps = steps[1:]
		}
	})
	if !errors.Is(err, context.Canceled) || len(steps) > 0 {
		t.Errorf("have %v, not seen: %d", err, len(steps))
	}
}

func TestPods(t *testing.T) {
	s := apitest.New(t)
	pod := func(name, nodeName string, metadata map[string]any) {
		metadata["name"], metadata["namespace"], metadata["uid"] = name, "default", "u-"+name
		s.Put("/api/v1/namespaces/default/pods/"+name, apitest.Object{"metadata": metadata, "spec": map[string]any{"nodeName": nodeName}})
	}
	pod("app", "w1", map[string]any{})
	pod("static", "w1", map[string]any{"annotations": map[string]any{"kubernetes.io/config.mirror": "x"}})
	pod("agent", "w1", map[string]any{"ownerReferences": []any{map[string]any{"kind": "DaemonSet", "controller": true}}})
	pod("elsewhere", "w2", map[string]any{})
	c := client(t, s)
	pods, err := c.PodsOf(t.Context(), "w1")
	if err != nil {
		t.Fatal(err)
	}
	var movable []string
	for _, p := range pods {
		if !p.IsMirror() && !p.IsDaemon() {
			movable = append(movable, p.Metadata.Name)
			for range 2 {
				if err := c.Evict(t.Context(), p); err != nil {
					t.Error(err)
				}
			}
		}
	}
	if len(pods) != 3 || !slices.Equal(movable, []string{"app"}) {
		t.Errorf("have %d pods, movable %q", len(pods), movable)
	}
	if s.Object("/api/v1/namespaces/default/pods/app") != nil || s.Object("/api/v1/namespaces/default/pods/elsewhere") == nil {
		t.Error("the wrong pod was evicted")
	}
}

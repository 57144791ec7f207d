package bootstrap

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/kiln-os/kiln/firstboot/fence"
	"github.com/kiln-os/kiln/firstboot/kubeadm"
	"github.com/kiln-os/kiln/firstboot/node/apitest"
	"github.com/kiln-os/kiln/firstboot/source"
	"github.com/kiln-os/kiln/internal/command"
	"github.com/kiln-os/kiln/internal/nodefs"
)

const token = "abcdef.0123456789abcdef"

const identityText = `apiVersion: kiln/v1alpha1
kind: Identity
release: v1.36
node: {name: cp1, role: control-plane, initialise: true, address: 10.0.2.15, labels: {example.org/rack: r7}, taints: []}
cluster: {name: demo, endpoint: "10.0.2.15:6443"}
bootstrap: {token: ` + token + `}
`

const (
	bakedText = `{"profile":"control-plane","release":"v1.36","role":"control-plane","version":"v1.36.3-4f1c2ab0",
"kubernetes":"v1.36.3","timestamp":"2026-01-02T03:04:05Z","sandboxImage":"registry.example/pause:3.10.2",
"containerImages":{"registry.example/pause:3.10.2":"sha256:aa","registry.example/etcd:3.6.8-0":"sha256:bb"}}`
	profileText = `{"apiVersion":"kiln/v1alpha1","kind":"Profile","name":"control-plane","role":"control-plane",
"labels":{"example.org/tier":"control"},"patches":{"etcd0+strategic.yaml":"{}"}}`
	addonText = `apiVersion: v1
kind: ConfigMap
metadata: {name: net, namespace: kube-flannel}
data: {network: __POD_SUBNET__}
`
)

// world is a machine of a test: files below a temporary directory, a containerd and an API server that listen, and a
// runner that does what ctr and kubeadm would do.
type world struct {
	t      *testing.T
	root   nodefs.Root
	m      *Machine
	out    *bytes.Buffer
	api    *apitest.Server
	images *fakeCRI

	// ran has the commands, in order.
	ran []string
	// kubeadm decides how a run of kubeadm ends, after it wrote its files; nil is well.
	kubeadm func(run int) error
	// config is what kubeadm was given last.
	config string
	// text is the identity that the source has; empty is none.
	text     string
	metadata source.Metadata
	notified []string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	// A Unix socket's path must be short: t.TempDir() has the test's name in it.
	directory, err := os.MkdirTemp("", "fb")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(directory) })
	w := &world{t: t, root: nodefs.Root(directory), out: &bytes.Buffer{}, api: apitest.New(t), text: identityText}
	w.write(nodefs.Node, bakedText)
	w.write(nodefs.Profile, profileText)
	w.write(nodefs.Addons+"/10-net.yaml", addonText)
	w.write("/proc/cmdline", "roothash=fromline kiln.platform=qemu")
	w.write("/proc/sys/kernel/random/boot_id", "boot-1\n")
	w.write(nodefs.BootFacts, `{"rootHash":"4f1c"}`)
	w.images = serveCRI(t, w.root.Path(nodefs.ContainerdSocket))
	w.m = OnNode(w.root, &Report{Out: w.out, Notify: func(s string) { w.notified = append(w.notified, s) }})
	w.m.Runner = w
	w.m.Pause = time.Millisecond
	w.m.SetHostname = func(string) error { return nil }
	w.m.Addresses = func() ([]netip.Addr, error) { return []netip.Addr{netip.MustParseAddr("10.0.2.15")}, nil }
	// Nobody else is there, whatever the machine that runs the test can reach.
	w.m.Fence = func(o *fence.Options) {
		o.Dial = func(_ context.Context, network, _ string) (net.Conn, error) {
			return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.ECONNREFUSED}
		}
	}
	w.m.APIServer = func(string) string { return w.api.URL }
	w.m.Find = func(context.Context) (source.Found, error) {
		if w.text == "" {
			return source.Found{}, &source.NotFound{Tried: []string{"fw_cfg: nothing"}}
		}
		return source.Found{Text: []byte(w.text), From: "test source", Metadata: w.metadata}, nil
	}
	return w
}

// reboot is the same disk with another boot.
func (w *world) reboot(id string) {
	w.write("/proc/sys/kernel/random/boot_id", id+"\n")
	w.out.Reset()
	w.ran = nil
	w.m.Report = &Report{Out: w.out}
}

func (w *world) write(path, text string) {
	w.t.Helper()
	full := w.root.Path(path)
	if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(full, []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) read(path string) string {
	w.t.Helper()
	text, err := os.ReadFile(w.root.Path(path))
	if err != nil {
		w.t.Fatal(err)
	}
	return string(text)
}

func (w *world) run() error {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 20*time.Second)
	defer cancel()
	return w.m.Run(ctx)
}

// Run implements command.Runner.
func (w *world) Run(_ context.Context, c command.Command) (command.Usage, error) {
	w.ran = append(w.ran, strings.ReplaceAll(strings.Join(append([]string{c.Name}, c.Args...), " "), string(w.root), ""))
	switch c.Name {
	case nodefs.Ctr:
		w.images.importAll()
	case nodefs.Kubeadm:
		return command.Usage{}, w.runKubeadm(c)
	}
	return command.Usage{}, nil
}

func (w *world) runKubeadm(c command.Command) error {
	runs := 0
	for _, line := range w.ran {
		if strings.HasPrefix(line, nodefs.Kubeadm) {
			runs++
		}
	}
	if info, err := os.Stat(w.root.Path(nodefs.KubeadmConfig)); err != nil || info.Mode().Perm() != 0o600 {
		w.t.Errorf("kubeadm's configuration: %v, %v", info, err)
	}
	w.config = w.read(nodefs.KubeadmConfig)
	// What the real one prints when nobody asks it not to.
	_, _ = c.Stdout.Write([]byte("[init] Using Kubernetes version: v1.36.3\n\n  kubeadm join 10.0.2.15:6443 --token " + token + " \\\n"))
	if w.kubeadm != nil {
		if err := w.kubeadm(runs); err != nil {
			if exit, ok := errors.AsType[*command.ExitError](err); ok {
				_, _ = c.Stderr.Write([]byte(exit.Tail + "\n"))
			}
			return err
		}
	}
	w.founded()
	return nil
}

// founded is what a machine looks like after kubeadm.
func (w *world) founded() {
	w.write(kubeadm.EtcdData+"/member/snap/db", "data")
	w.write(kubeadm.EtcdData+"/member/wal/0.wal", "log")
	w.write(nodefs.AdminConfig, string(w.api.Admin))
	w.write(nodefs.KubeletConfig, "kubelet")
	w.api.Put(lastObject, apitest.Object{})
	w.api.Put("/api/v1/nodes/cp1", apitest.Object{
		"metadata": map[string]any{"name": "cp1", "uid": "u1"},
		"spec":     map[string]any{"taints": []any{map[string]any{"key": kubeadm.ControlPlaneTaint, "effect": "NoSchedule"}}},
		"status":   map[string]any{"conditions": []any{map[string]any{"type": "Ready", "status": "True"}}},
	})
}

func (w *world) records() []record {
	w.t.Helper()
	return parseRecords([]byte(w.read(nodefs.Journal)))
}

// wantNoSecret looks for the token everywhere where people look.
func (w *world) wantNoSecret() {
	w.t.Helper()
	places := map[string]string{"console": w.out.String(), "journal": w.read(nodefs.Journal), "status": strings.Join(w.notified, "\n")}
	if raw, err := json.Marshal(w.api.Object("/api/v1/nodes/cp1")); err == nil {
		places["node"] = string(raw)
	}
	for place, text := range places {
		if strings.Contains(text, token[7:]) {
			w.t.Errorf("the %s shows the token:\n%s", place, text)
		}
	}
}

// fakeCRI is a containerd that knows two images.
type fakeCRI struct {
	cri.UnimplementedImageServiceServer
	cri.UnimplementedRuntimeServiceServer

	mutex  sync.Mutex
	images []*cri.Image
	// after is what an import leads to.
	after []*cri.Image
	pods  []string
}

func criImage(name string, pinned bool) *cri.Image {
	return &cri.Image{Id: name, RepoTags: []string{name}, Pinned: pinned}
}

func serveCRI(t *testing.T, socket string) *fakeCRI {
	t.Helper()
	f := &fakeCRI{after: []*cri.Image{criImage("registry.example/pause:3.10.2", true), criImage("registry.example/etcd:3.6.8-0", true)}}
	if err := os.MkdirAll(filepath.Dir(socket), 0o755); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	cri.RegisterImageServiceServer(server, f)
	cri.RegisterRuntimeServiceServer(server, f)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	return f
}

func (f *fakeCRI) importAll() {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	f.images = f.after
}

func (f *fakeCRI) ListImages(context.Context, *cri.ListImagesRequest) (*cri.ListImagesResponse, error) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	return &cri.ListImagesResponse{Images: f.images}, nil
}

func (f *fakeCRI) ListPodSandbox(context.Context, *cri.ListPodSandboxRequest) (*cri.ListPodSandboxResponse, error) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	answer := &cri.ListPodSandboxResponse{}
	for _, id := range f.pods {
		answer.Items = append(answer.Items, &cri.PodSandbox{Id: id})
	}
	return answer, nil
}

func (f *fakeCRI) StopPodSandbox(context.Context, *cri.StopPodSandboxRequest) (*cri.StopPodSandboxResponse, error) {
	return &cri.StopPodSandboxResponse{}, nil
}

func (f *fakeCRI) RemovePodSandbox(_ context.Context, r *cri.RemovePodSandboxRequest) (*cri.RemovePodSandboxResponse, error) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	f.pods = slices.DeleteFunc(f.pods, func(id string) bool { return id == r.PodSandboxId })
	return &cri.RemovePodSandboxResponse{}, nil
}

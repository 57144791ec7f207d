package reset

import (
	"context"
	"errors"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/kiln-os/kiln/firstboot/etcd"
	"github.com/kiln-os/kiln/firstboot/node"
	"github.com/kiln-os/kiln/firstboot/node/apitest"
	"github.com/kiln-os/kiln/internal/command"
	"github.com/kiln-os/kiln/internal/nodefs"
)

// world is a node of a test that has had its first boot, and its cluster.
type world struct {
	t    *testing.T
	m    *Machine
	root nodefs.Root
	out  *strings.Builder
	api  *apitest.Server
	etcd *fakeEtcd
	cri  *fakeCRI
	// did is what was done to the cluster and by programs, in order.
	did []string
	// fail makes a program fail.
	fail string
	// before is called with each deed before it is done: a power cut panics there.
	before func(deed string)
	// down are servers that do not answer; empty is the kubeconfig's own.
	down     map[string]bool
	hostname string
}

const (
	own   = "10.0.2.16"
	first = "10.0.2.15"
	third = "10.0.2.17"
)

// newWorld is a node called n1 of a cluster with three control planes, of which it is the second if it is one.
func newWorld(t *testing.T, role string) *world {
	t.Helper()
	directory, err := os.MkdirTemp("", "fb") // a socket's path has to be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(directory) })
	w := &world{t: t, root: nodefs.Root(directory), out: &strings.Builder{}, api: apitest.New(t), down: map[string]bool{}}
	w.etcd = &fakeEtcd{w: w, members: map[uint64]etcd.Member{}, sick: map[string]bool{}}
	for id, address := range map[uint64]string{1: first, 2: own, 3: third} {
		w.etcd.members[id] = etcd.Member{ID: id, Name: "m", PeerURLs: []string{etcd.PeerURL(address)}, ClientURLs: []string{etcd.ClientURL(address)}}
	}
	w.m = OnNode(w.root, w.out)
	w.m.Runner, w.m.Pause, w.m.Patience = w, time.Millisecond, 20*time.Millisecond
	w.m.Sync = func() {}
	w.m.SetHostname = func(name string) error { w.hostname = name; return nil }
	w.m.Etcd = func(endpoints []string) (Members, error) { return &asked{w.etcd, endpoints}, nil }
	w.m.API = func(path, server string) (*node.Client, error) {
		if w.down[server] {
			return nil, errors.New(server + " does not answer")
		}
		w.deed("credentials " + filepath.Base(path) + " at " + server)
		client, err := node.Open(w.root, path, w.api.URL)
		if err == nil {
			client.Patience = 0
		}
		return client, err
	}
	w.live(role)
	w.cri = serveCRI(t, w)
	w.api.Put("/api/v1/nodes/n1", apitest.Object{"metadata": apitest.Object{"name": "n1", "uid": "u1"}, "spec": apitest.Object{}})
	return w
}

// live writes what a first boot leaves.
func (w *world) live(role string) {
	w.write(nodefs.IdentityCopy, `{"node": {"name": "n1", "role": "`+role+`", "address": "`+own+`"}}`)
	w.write(nodefs.Journal, `{"step":"first-boot","state":"done"}`+"\n")
	w.write(firstboot+"/hostname", "rack1-u4\n")
	w.write(nodefs.Hostname, "n1\n")
	w.write("/proc/self/mountinfo", "22 1 0:20 / /var rw - ext4 /dev/sda3 rw\n")
	w.write("/sys/class/net/cni0/address", "x")
	w.write(nodefs.NetworkConfig+"/70-kiln-services.network", "x")
	w.write(nodefs.NetworkConfig+"/10-own.network", "mine")
	w.write(flannelState+"/subnet.env", "x")
	w.write(nodefs.CNIConfig+"/10-flannel.conflist", "x")
	w.write(cniState+"/networks/x", "x")
	w.write(kubeletState+"/config.yaml", "x")
	config, pem := w.api.Kubelet(w.t, "n1")
	w.write(nodefs.KubeletConfig, string(config))
	w.write("/var/lib/kubelet/pki/kubelet-client-current.pem", string(pem))
	if role == "control-plane" {
		w.write(nodefs.AdminConfig, string(w.api.Admin))
		w.write(nodefs.Manifests+"/etcd.yaml", "x")
		w.write(nodefs.PKI+"/etcd/ca.key", "x")
		w.write(nodefs.EtcdData+"/data/member/snap/db", "x")
		w.write(nodefs.EtcdData+"/lost+found/x", "x")
	}
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

func (w *world) exists(path string) bool {
	_, err := os.Lstat(w.root.Path(path))
	return err == nil
}

// pod puts a pod on the node; owner is the kind of what controls it, and may be empty.
func (w *world) pod(name, owner string, annotations apitest.Object) {
	metadata := apitest.Object{"name": name, "namespace": "default", "uid": name + "-uid", "annotations": annotations}
	if owner != "" {
		metadata["ownerReferences"] = []any{apitest.Object{"kind": owner, "controller": true}}
	}
	w.api.Put("/api/v1/namespaces/default/pods/"+name, apitest.Object{"metadata": metadata, "spec": apitest.Object{"nodeName": "n1"}})
}

func (w *world) hasPod(name string) bool {
	return w.api.Object("/api/v1/namespaces/default/pods/"+name) != nil
}

func (w *world) deed(text string) {
	if w.before != nil {
		w.before(text)
	}
	w.did = append(w.did, text)
}

// at is when a deed that begins with prefix was done; -1 is never.
func (w *world) at(prefix string) int {
	return slices.IndexFunc(w.did, func(deed string) bool { return strings.HasPrefix(deed, prefix) })
}

// Run implements command.Runner.
func (w *world) Run(_ context.Context, c command.Command) (command.Usage, error) {
	deed := filepath.Base(c.Name) + " " + strings.ReplaceAll(strings.Join(c.Args, " "), string(w.root), "")
	if w.fail != "" && strings.HasPrefix(deed, w.fail) {
		return command.Usage{}, &command.ExitError{Name: c.Name, Code: 1, Tail: "made to fail"}
	}
	w.deed(deed)
	return command.Usage{}, nil
}

// wantLeft looks whether the node is what it was before its first boot.
func (w *world) wantLeft() {
	w.t.Helper()
	for _, path := range []string{nodefs.IdentityCopy, nodefs.Journal, nodefs.ResetMarker, nodefs.Hostname, nodefs.KubeletConfig, nodefs.AdminConfig, nodefs.PKI,
		kubeletState + "/config.yaml", nodefs.EtcdData + "/data", cniState + "/networks", nodefs.CNIConfig + "/10-flannel.conflist", flannelState,
		nodefs.NetworkConfig + "/70-kiln-services.network"} {
		if w.exists(path) {
			w.t.Errorf("%s is still there", path)
		}
	}
	if !w.exists(nodefs.NetworkConfig + "/10-own.network") {
		w.t.Error("removed what is not kiln's")
	}
	if w.hostname != "rack1-u4" {
		w.t.Errorf("the machine is called %q", w.hostname)
	}
	if pods := w.cri.running(); len(pods) > 0 {
		w.t.Errorf("still running: %q", pods)
	}
}

// fakeEtcd is the members of a cluster.
type fakeEtcd struct {
	w       *world
	members map[uint64]etcd.Member
	sick    map[string]bool
	// silent says that nobody answers.
	silent bool
}

// asked is a client of fakeEtcd.
type asked struct {
	*fakeEtcd
	endpoints []string
}

func (a *asked) Members(context.Context) ([]etcd.Member, error) {
	if a.silent || len(a.endpoints) == 0 {
		return nil, errors.New("etcd does not answer")
	}
	return slices.SortedFunc(maps.Values(a.members), func(a, b etcd.Member) int { return int(a.ID) - int(b.ID) }), nil
}

func (a *asked) Remove(_ context.Context, id uint64) error {
	if slices.Contains(a.endpoints, etcd.ClientURL(own)) {
		a.w.t.Error("the member that goes is asked to remove itself")
	}
	a.w.deed("etcd remove")
	delete(a.members, id)
	return nil
}

func (a *asked) Healthy(_ context.Context, url string) error {
	if a.sick[url] {
		return errors.New("not healthy")
	}
	return nil
}

// fakeCRI is a containerd with one pod, a pinned and a pulled container image.
type fakeCRI struct {
	cri.UnimplementedImageServiceServer
	cri.UnimplementedRuntimeServiceServer
	w      *world
	mutex  sync.Mutex
	pods   []string
	images []*cri.Image
}

func serveCRI(t *testing.T, w *world) *fakeCRI {
	t.Helper()
	f := &fakeCRI{w: w, pods: []string{"kube-proxy"}, images: []*cri.Image{{Id: "pause", Pinned: true}, {Id: "pulled"}}}
	socket := w.root.Path(nodefs.ContainerdSocket)
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

func (f *fakeCRI) running() []string {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	return slices.Clone(f.pods)
}

func (f *fakeCRI) ListPodSandbox(context.Context, *cri.ListPodSandboxRequest) (*cri.ListPodSandboxResponse, error) {
	answer := &cri.ListPodSandboxResponse{}
	for _, id := range f.running() {
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

func (f *fakeCRI) ListImages(context.Context, *cri.ListImagesRequest) (*cri.ListImagesResponse, error) {
	return &cri.ListImagesResponse{Images: f.images}, nil
}

func (f *fakeCRI) RemoveImage(_ context.Context, r *cri.RemoveImageRequest) (*cri.RemoveImageResponse, error) {
	f.images = slices.DeleteFunc(f.images, func(i *cri.Image) bool { return i.Id == r.Image.Image })
	return &cri.RemoveImageResponse{}, nil
}

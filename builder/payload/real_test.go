package payload

import (
	"bytes"
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kiln-os/kiln/builder/parts"
	"github.com/kiln-os/kiln/images"
	"github.com/kiln-os/kiln/internal/command"
	"github.com/kiln-os/kiln/internal/release"
)

// realRequest asks for the whole of a release that kiln comes with.
func realRequest(t *testing.T, name string) Request {
	t.Helper()
	dir := "releases/" + name
	files, err := fs.Sub(images.Releases, dir)
	if err != nil {
		t.Fatal(err)
	}
	text, err := fs.ReadFile(files, release.FileName)
	if err != nil {
		t.Fatal(err)
	}
	r, err := release.Parse(dir+"/"+release.FileName, text)
	if err != nil {
		t.Fatal(err)
	}
	return Request{Release: r, Dir: dir, Files: files}
}

func TestReleasesArePinned(t *testing.T) {
	releases, err := fs.ReadDir(images.Releases, "releases")
	if err != nil || len(releases) == 0 {
		t.Fatalf("releases: %v, %v", releases, err)
	}
	for _, entry := range releases {
		r := realRequest(t, entry.Name())
		if r.Release.Name != entry.Name() {
			t.Errorf("the release in %s is called %s", entry.Name(), r.Release.Name)
		}
		_, names := r.wanted()
		pins, err := readPins(r, names)
		if err != nil || len(pins) != len(r.Release.Sources) {
			t.Errorf("%s: %d of %d sources are used and pinned: %v", entry.Name(), len(pins), len(r.Release.Sources), err)
		}
		for _, pin := range pins {
			if !strings.Contains(pin.sum, pin.source.Module+" "+pin.source.Version+" h1:") {
				t.Errorf("%s has no checksum of %s %s", pin.sumFile, pin.source.Module, pin.source.Version)
			}
		}
		for _, addon := range r.Release.Addons {
			if _, err := fs.Stat(r.Files, addon); err != nil {
				t.Errorf("%s: addon: %v", entry.Name(), err)
			}
		}
	}
}

// cached finds the binaries of one source of v1.36 in the user's cache, and skips the test where they were never built.
func cached(t *testing.T, source string) func(binary string) string {
	t.Helper()
	cache := os.Getenv("KILN_CACHE")
	if cache == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			t.Skipf("no cache directory: %v", err)
		}
		cache = filepath.Join(user, "kiln")
	}
	s := Source{Store: parts.Store{Dir: filepath.Join(cache, "parts")}, Run: command.Exec{}}
	r := realRequest(t, "v1.36")
	_, names := r.wanted()
	pins, err := readPins(r, names)
	if err != nil {
		t.Fatal(err)
	}
	tools, err := s.findTools(context.Background(), pins)
	if err != nil {
		t.Skipf("the compilers that name the parts are missing: %v", err)
	}
	i := slices.IndexFunc(pins, func(p pin) bool { return p.source.Name == source })
	part, found := s.Store.Find(pins[i].key(tools))
	if !found {
		t.Skipf("%s is not in the cache: %s was never built on this machine; kiln build makes it", part.Name, source)
	}
	return func(binary string) string { return part.Path("bin", binary) }
}

// TestKubeadmWantsTheseImages compares the release with what the real kubeadm says that it will run.
func TestKubeadmWantsTheseImages(t *testing.T) {
	binary := cached(t, "kubernetes")
	r := realRequest(t, "v1.36").Release
	out, err := command.Output(context.Background(), command.Exec{}, command.Command{
		Name: binary("kubeadm"), Args: []string{"config", "images", "list", "--kubernetes-version", r.Kubernetes}})
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Fields(string(out))
	var got []string
	for _, image := range r.ContainerImages {
		if strings.HasPrefix(image.Name, "registry.k8s.io/") {
			got = append(got, image.Name)
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("the release has\n%s\nand kubeadm wants\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if i := slices.IndexFunc(want, func(name string) bool { return strings.Contains(name, "/pause:") }); i < 0 || want[i] != r.SandboxImage() {
		t.Errorf("the sandbox image is %s, which kubeadm does not want", r.SandboxImage())
	}
}

// TestBinariesReportTheirVersions runs what was built: a version that is not stamped reads v0.0.0 or the like.
func TestBinariesReportTheirVersions(t *testing.T) {
	for _, row := range []struct {
		source, binary string
		args           []string
		want           string
	}{
		{"kubernetes", "kubeadm", []string{"version", "-o", "short"}, "v1.36.3"},
		{"kubernetes", "kubelet", []string{"--version"}, "Kubernetes v1.36.3"},
		{"kubernetes", "kubectl", []string{"version", "--client"}, "Client Version: v1.36.3"},
		{"kubernetes", "kube-apiserver", []string{"--version"}, "Kubernetes v1.36.3"},
		{"kubernetes", "kube-controller-manager", []string{"--version"}, "Kubernetes v1.36.3"},
		{"kubernetes", "kube-scheduler", []string{"--version"}, "Kubernetes v1.36.3"},
		{"kubernetes", "kube-proxy", []string{"--version"}, "Kubernetes v1.36.3"},
		{"etcd", "etcd", []string{"--version"}, "etcd Version: 3.6.8"},
		{"etcd", "etcdctl", []string{"version"}, "etcdctl version: 3.6.8"},
		{"coredns", "coredns", []string{"-version"}, "CoreDNS-1.14.2"},
		{"containerd", "containerd", []string{"--version"}, "containerd github.com/containerd/containerd/v2 v2.4.2"},
		{"containerd", "containerd-shim-runc-v2", []string{"-v"}, "Version:  v2.4.2"},
		{"containerd", "ctr", []string{"--version"}, "ctr github.com/containerd/containerd/v2 v2.4.2"},
		{"cni", "bridge", nil, "CNI bridge plugin v1.9.1"},
		{"cni-flannel", "flannel", nil, "CNI flannel plugin v0.9.1"},
		{"flannel", "flanneld", []string{"--version"}, "v0.28.4"},
		{"pause", "pause", []string{"-v"}, "pause.c v3.10.2"},
	} {
		t.Run(row.binary, func(t *testing.T) {
			binary := cached(t, row.source)
			var out, messages bytes.Buffer
			// The environment is empty: CNI plugins print their version when they are told of no command.
			_, err := command.Exec{}.Run(context.Background(), command.Command{Name: binary(row.binary), Args: row.args, CleanEnv: true, Stdout: &out, Stderr: &messages})
			if said := out.String() + messages.String(); err != nil || !strings.Contains(said, row.want) {
				t.Errorf("%s says %q (%v); want %q", row.binary, said, err, row.want)
			}
		})
	}
}

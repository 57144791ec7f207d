package plan_test

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/kiln-os/kiln/builder/plan"
	"github.com/kiln-os/kiln/internal/document"
	"github.com/kiln-os/kiln/internal/profile"
	"github.com/kiln-os/kiln/internal/release"
)

const (
	imageText = `apiVersion: kiln/v1alpha1
kind: Image
name: disk
description: A disk.
architecture: amd64
platform: qemu
format: disk
kernel: linux-image-cloud-amd64
packages: [b-extra, common]
kernelArguments: [console=ttyS0]
modules: [virtio_blk, dm-verity]
disk: {esp: 64MiB, root: 1GiB, verity: 16MiB, stateMinimum: 4GiB}
`
	profileText = `apiVersion: kiln/v1alpha1
kind: Profile
name: cp
role: control-plane
packages: [a-tool, common]
units: {a-tool.service: true, base.service: false}
files: {/etc/a-tool.conf: "x"}
labels: {example.org/rack: r1}
taints: [{key: example.org/gpu, effect: NoSchedule}]
kubelet: {maxPods: 20}
patches: {etcd.yaml: "{spec: {}}"}
`
	releaseText = `apiVersion: kiln/v1alpha1
kind: Release
name: v1.36
description: A release.
kubernetes: v1.36.3
timestamp: "2026-01-31T00:00:00Z"
suite: trixie
packages: [systemd-sysv, common]
sources:
- name: kubernetes
  module: k8s.io/kubernetes
  version: v1.36.3
  binaries:
  - {name: kubeadm, package: k8s.io/kubernetes/cmd/kubeadm}
  - {name: kubelet, package: k8s.io/kubernetes/cmd/kubelet}
  - {name: kubectl, package: k8s.io/kubernetes/cmd/kubectl}
  - {name: kube-apiserver, package: k8s.io/kubernetes/cmd/kube-apiserver}
  - {name: kube-controller-manager, package: k8s.io/kubernetes/cmd/kube-controller-manager}
  - {name: kube-scheduler, package: k8s.io/kubernetes/cmd/kube-scheduler}
  - {name: kube-proxy, package: k8s.io/kubernetes/cmd/kube-proxy}
- name: others
  module: example.org/others
  version: v1.0.0
  binaries:
  - {name: containerd, package: example.org/others/containerd}
  - {name: containerd-shim-runc-v2, package: example.org/others/shim}
  - {name: ctr, package: example.org/others/ctr}
  - {name: etcd, package: example.org/others/etcd}
  - {name: coredns, package: example.org/others/coredns}
  - {name: pause, package: example.org/others/pause}
node:
- {binary: kubeadm, path: /usr/bin/kubeadm}
- {binary: kubelet, path: /usr/bin/kubelet}
- {binary: kubectl, path: /usr/bin/kubectl}
- {binary: containerd, path: /usr/bin/containerd}
- {binary: containerd-shim-runc-v2, path: /usr/bin/containerd-shim-runc-v2}
- {binary: ctr, path: /usr/bin/ctr}
containerImages:
- {name: "registry.k8s.io/kube-apiserver:v1.36.3", roles: [control-plane], files: [{binary: kube-apiserver, path: /kube-apiserver}], entrypoint: [/kube-apiserver]}
- {name: "registry.k8s.io/kube-controller-manager:v1.36.3", roles: [control-plane], files: [{binary: kube-controller-manager, path: /kcm}], entrypoint: [/kcm]}
- {name: "registry.k8s.io/kube-scheduler:v1.36.3", roles: [control-plane], files: [{binary: kube-scheduler, path: /ks}], entrypoint: [/ks]}
- {name: "registry.k8s.io/kube-proxy:v1.36.3", roles: [control-plane, worker], files: [{binary: kube-proxy, path: /kp}], entrypoint: [/kp]}
- {name: "registry.k8s.io/etcd:3.6.8-0", roles: [control-plane], files: [{binary: etcd, path: /etcd}], entrypoint: [/etcd]}
- {name: "registry.k8s.io/coredns/coredns:v1.14.2", roles: [control-plane, worker], files: [{binary: coredns, path: /coredns}], entrypoint: [/coredns]}
- {name: "registry.k8s.io/pause:3.10.2", roles: [control-plane, worker], files: [{binary: pause, path: /pause}], entrypoint: [/pause], sandbox: true}
addons: [net.yaml]
`
	presetText = "# a comment\nenable base.service\nenable containerd.service\ndisable getty@.service\ndisable base.service\ndisable *\n"
)

// world is a set of documents and files; a test changes what it is about.
func world(changes ...func(map[string]string)) plan.Sources {
	files := map[string]string{
		"images/disk.yaml": imageText, "profiles/cp.yaml": profileText, "releases/v1.36/release.yaml": releaseText,
		"releases/v1.36/kubernetes.mod": "", "releases/v1.36/kubernetes.sum": "", "releases/v1.36/others.mod": "", "releases/v1.36/others.sum": "",
		"releases/v1.36/net.yaml":                              "",
		"overlay/usr/lib/systemd/system-preset/50-base.preset": presetText,
	}
	for _, change := range changes {
		change(files)
	}
	tree := fstest.MapFS{}
	for name, text := range files {
		tree[name] = &fstest.MapFile{Data: []byte(text)}
	}
	sub := func(dir string) fs.FS {
		s, err := fs.Sub(tree, dir)
		if err != nil {
			panic(err)
		}
		return s
	}
	return plan.Sources{
		Images: sub("images"), Profiles: sub("profiles"), Releases: sub("releases"), Overlay: sub("overlay"),
		Open: func(dir string) fs.FS { return sub(strings.TrimPrefix(dir, "./")) },
	}
}

func replace(file, old, new string) func(map[string]string) {
	return func(files map[string]string) {
		if !strings.Contains(files[file], old) {
			panic(file + " does not hold " + old)
		}
		files[file] = strings.ReplaceAll(files[file], old, new)
	}
}

func remove(file string) func(map[string]string) {
	return func(files map[string]string) { delete(files, file) }
}

func resolve(s plan.Sources) (plan.Plan, error) {
	return plan.Resolve(plan.Options{Image: "disk", Profile: "cp", Release: "v1.36", Sources: s})
}

func TestResolve(t *testing.T) {
	p, err := resolve(world())
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"a-tool", "b-extra", "common", "systemd-sysv"}; !slices.Equal(p.Packages, want) {
		t.Errorf("packages are %v; want %v", p.Packages, want)
	}
	if want := "roothash=abc kiln.platform=qemu panic=60 gpt systemd.gpt_auto=no systemd.firstboot=no systemd.verity=no console=ttyS0"; p.CommandLine("abc") != want {
		t.Errorf("command line is %q; want %q", p.CommandLine("abc"), want)
	}
	if len(p.ContainerImages) != 7 || len(p.Binaries()) != 13 {
		t.Errorf("%d container images, %d binaries; want 7 and 13: %v", len(p.ContainerImages), len(p.Binaries()), p.Binaries())
	}
	want := []plan.Unit{
		{Name: "a-tool.service", Enabled: true, By: "profile cp"}, {Name: "base.service", Enabled: false, By: "profile cp"},
		{Name: "containerd.service", Enabled: true, By: "base"}, {Name: "getty@.service", Enabled: false, By: "base"},
	}
	if !slices.Equal(p.Units, want) {
		t.Errorf("units are\n%+v; want\n%+v", p.Units, want)
	}
	if _, err := fs.Stat(p.ReleaseFiles, "kubernetes.mod"); err != nil {
		t.Errorf("the release's files are not at hand: %v", err)
	}
}

func TestResolveWorkerHasFewerContainerImages(t *testing.T) {
	p, err := resolve(world(replace("profiles/cp.yaml", "role: control-plane", "role: worker")))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, image := range p.ContainerImages {
		names = append(names, image.Base())
	}
	if want := []string{"kube-proxy", "coredns", "pause"}; !slices.Equal(names, want) {
		t.Errorf("a worker gets %v; want %v", names, want)
	}
	if slices.Contains(p.Binaries(), "etcd") {
		t.Error("a worker's binaries hold etcd")
	}
}

func TestResolveByPath(t *testing.T) {
	s := world()
	for _, name := range []string{"releases/v1.36/release.yaml", "./releases/v1.36", "./releases/v1.36/"} {
		p, err := plan.Resolve(plan.Options{Image: "images/disk.yaml", Profile: "./profiles/cp.yaml", Release: name, Sources: s})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if _, err := fs.Stat(p.ReleaseFiles, "others.sum"); err != nil || p.Image.Name != "disk" {
			t.Errorf("%s: plan of image %q, files: %v", name, p.Image.Name, err)
		}
	}
}

func TestResolveContradictions(t *testing.T) {
	rows := []struct {
		summary string
		changes []func(map[string]string)
		want    []string
	}{
		{"problems of all three documents at once",
			[]func(map[string]string){
				replace("images/disk.yaml", "platform: qemu", "platform: mars"), replace("profiles/cp.yaml", "effect: NoSchedule", "effect: Never"),
				replace("releases/v1.36/release.yaml", "suite: trixie", "suit: trixie"),
			},
			[]string{"images/disk.yaml: platform: unknown \"mars\"; want aws, azure, digitalocean, gcp, hetzner, metal, openstack, qemu or vmware", "profiles/cp.yaml: taints[0].effect: ", "images/releases/v1.36/release.yaml: suit: unknown field"}},
		{"container images that the role needs are missing",
			[]func(map[string]string){replace("releases/v1.36/release.yaml", "kube-scheduler:v1.36.3", "kube-planner:v1.36.3"), replace("releases/v1.36/release.yaml", "etcd:3.6.8-0\", roles: [control-plane]", "etcd:3.6.8-0\", roles: [worker]")},
			[]string{"containerImages: there is no kube-scheduler for role control-plane", "containerImages: there is no etcd for role control-plane"}},
		{"an essential unit is disabled",
			[]func(map[string]string){replace("profiles/cp.yaml", "base.service: false", "containerd.service: false")},
			[]string{"profiles/cp.yaml: units.containerd.service: is disabled here, but every node needs it"}},
		{"a file where the release puts a program",
			[]func(map[string]string){replace("profiles/cp.yaml", "/etc/a-tool.conf", "/usr/bin/kubelet")},
			[]string{"profiles/cp.yaml: files./usr/bin/kubelet: is where release v1.36 puts kubelet"}},
		{"files beside the release are missing",
			[]func(map[string]string){remove("releases/v1.36/others.sum"), remove("releases/v1.36/net.yaml")},
			[]string{"images/releases/v1.36/release.yaml: addons: there is no net.yaml", "images/releases/v1.36/release.yaml: sources.others: there is no others.sum"}},
	}
	for _, row := range rows {
		t.Run(row.summary, func(t *testing.T) {
			_, err := resolve(world(row.changes...))
			if !document.IsInvalid(err) {
				t.Fatalf("error is %v; want problems of documents", err)
			}
			for _, want := range row.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("no problem says %s:\n%s", want, err)
				}
			}
		})
	}
}

func TestImageProblems(t *testing.T) {
	rows := []struct{ summary, old, new, want string }{
		{"name", "name: disk", "name: My Disk", `name: unknown "My Disk"; want at most 63`},
		{"architecture", "amd64\nplatform", "arm64\nplatform", `architecture: unknown "arm64"; want amd64`},
		{"format", "format: disk", "format: pex", `format: unknown "pex"; want disk`},
		{"no format", "format: disk", "", `format: missing; want disk`},
		{"a format that the platform does not take", "format: disk", "format: gce", "format: gce cannot boot on platform qemu; want disk or qcow2"},
		{"a copy", "format: disk", "format: disk\ncopies: [bzip2]", `copies[0]: unknown "bzip2"; want zstd`},
		{"a copy twice", "format: disk", "format: disk\ncopies: [zstd, zstd]", "copies[1]: zstd is there already; leave it out"},
		{"a copy of no raw disk", "format: disk", "format: qcow2\ncopies: [zstd]", "copies: are made of a raw disk only, and the format is qcow2"},
		{"no kernel", "kernel: linux-image-cloud-amd64", "", "kernel: missing; want one of Debian's linux-image-"},
		{"not a kernel", "kernel: linux-image-cloud-amd64", "kernel: vim", `kernel: unknown "vim"; want one of Debian's linux-image-`},
		{"a kernel among packages", "[b-extra, common]", "[linux-image-amd64]", "packages[0]: linux-image-amd64 is a kernel"},
		{"package", "[b-extra, common]", "[B]", `packages[0]: "B" is not the name of a Debian package`},
		{"argument of ours", "[console=ttyS0]", "[roothash=abc]", "kernelArguments[0]: roothash is not an image's to set: it is the digest"},
		{"two arguments in one", "[console=ttyS0]", `["quiet splash"]`, `kernelArguments[0]: "quiet splash" is not one argument`},
		{"module", "[virtio_blk, dm-verity]", "[drivers/virtio_blk.ko]", `modules[0]: "drivers/virtio_blk.ko" is not a module's name`},
		{"no modules", "[virtio_blk, dm-verity]", "[]", "modules: missing"},
		{"compression", "architecture: amd64", "architecture: amd64\ncompression: 23", "compression: is 23; want a zstd level from 1 to 22"},
		{"small ESP", "esp: 64MiB", "esp: 63MiB", "disk.esp: 63MiB is too small for two unified kernel images; want at least 64MiB"},
		{"small verity", "verity: 16MiB", "verity: 8MiB", "disk.verity: 8MiB is too small for the hash tree of 1GiB of root; want at least 9MiB"},
		{"unaligned", "root: 1GiB", "root: 1048577KiB", "disk.root: 1024.0MiB is not a whole number of MiB"},
		{"no state", ", stateMinimum: 4GiB", "", "disk.stateMinimum: missing; want a size"},
	}
	for _, row := range rows {
		t.Run(row.summary, func(t *testing.T) {
			if !strings.Contains(imageText, row.old) {
				t.Fatalf("the image does not hold %q", row.old)
			}
			_, err := plan.ParseImage("i.yaml", []byte(strings.Replace(imageText, row.old, row.new, 1)))
			if !document.IsInvalid(err) {
				t.Fatalf("error is %v; want a problem of the document", err)
			}
			if got := err.Error(); !strings.HasPrefix(got, "i.yaml: "+row.want) || strings.Contains(got, "\n") {
				t.Errorf("error is\n%s\nwant one that begins\ni.yaml: %s", got, row.want)
			}
		})
	}
}

func TestUnknown(t *testing.T) {
	_, err := plan.Resolve(plan.Options{Image: "dsk", Profile: "nothing-like-it", Release: "./none/release.yaml", Sources: world()})
	if !plan.IsUnknown(err) || document.IsInvalid(err) {
		t.Fatalf("error is %v; want unknown names", err)
	}
	want := `unknown image "dsk"; did you mean disk? kiln comes with disk (or give the path of a document, as in ./image.yaml)
unknown profile "nothing-like-it"; kiln comes with cp (or give the path of a document, as in ./profile.yaml)
release ./none/release.yaml: there is no such file; give the path of a document or a name: kiln comes with v1.36`
	if err.Error() != want {
		t.Errorf("error is\n%s\nwant\n%s", err, want)
	}
}

func TestNearest(t *testing.T) {
	names := []string{"vm-disk", "metal-disk", "control-plane", "v1.36"}
	for given, want := range map[string]string{
		"vm-disk": "vm-disk", "vmdisk": "vm-disk", "metal": "", "controlplane": "control-plane", "v1.35": "v1.36", "1.36": "v1.36", "": "", "zebra": "",
	} {
		if got := plan.Nearest(given, names); got != want {
			t.Errorf("nearest to %q is %q; want %q", given, got, want)
		}
	}
}

func TestNames(t *testing.T) {
	s := world()
	for kind, want := range map[string]string{plan.ImageKind: "disk", profile.Kind: "cp", release.Kind: "v1.36"} {
		if got := s.Names(kind); !slices.Equal(got, []string{want}) {
			t.Errorf("names of kind %s are %v; want %s", kind, got, want)
		}
	}
}

func TestCatalogue(t *testing.T) {
	c, err := world().Catalogue()
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Images) != 1 || c.Images[0].Compression != 3 || len(c.Profiles) != 1 || c.Profiles[0].Role != "control-plane" || len(c.Releases) != 1 {
		t.Errorf("catalogue is %+v", c)
	}
	_, err = world(replace("images/disk.yaml", "format: disk", "format: x"), replace("profiles/cp.yaml", "role: control-plane", "role: x")).Catalogue()
	if !document.IsInvalid(err) || !strings.Contains(err.Error(), "disk.yaml: format") || !strings.Contains(err.Error(), "cp.yaml: role") {
		t.Errorf("error is %v; want the problems of both documents", err)
	}
}

func TestDescribeHasNoNulls(t *testing.T) {
	bare := func(files map[string]string) {
		files["profiles/cp.yaml"] = "apiVersion: kiln/v1alpha1\nkind: Profile\nname: cp\nrole: control-plane\n"
		files["releases/v1.36/release.yaml"] = strings.Replace(releaseText, "addons: [net.yaml]\n", "", 1)
	}
	p, err := resolve(world(bare))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(p.Describe())
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(raw, []byte("null")) {
		t.Errorf("the JSON holds null: %s", raw)
	}
}

func TestRenderSaysWhatTheProfileAdds(t *testing.T) {
	p, err := resolve(world())
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := p.Describe().Render(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"kubelet        maxPods: 20", "label          example.org/rack=r1", "taint          example.org/gpu:NoSchedule",
		"file           /etc/a-tool.conf", "kubeadm patch  etcd.yaml", "roothash=<root-hash> kiln.platform=qemu",
		"base.service        disabled  profile cp", "registry.k8s.io/pause:3.10.2                     pause v1.0.0",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the text does not hold %q:\n%s", want, out.String())
		}
	}
	for line := range strings.SplitSeq(out.String(), "\n") {
		if strings.TrimRight(line, " ") != line {
			t.Errorf("the line %q ends with blanks", line)
		}
	}
}

// Every platform takes formats that there are, and every format is taken.
func TestFormatsAndPlatforms(t *testing.T) {
	taken := map[string]bool{}
	for _, platform := range plan.Platforms() {
		any := false
		for _, format := range plan.Formats() {
			text := strings.NewReplacer("platform: qemu", "platform: "+platform, "format: disk", "format: "+format+"\nfirmware: [uefi, bios]").Replace(imageText)
			if _, err := plan.ParseImage("i.yaml", []byte(text)); err == nil {
				any, taken[format] = true, true
			}
		}
		if !any {
			t.Errorf("platform %s takes no format", platform)
		}
	}
	if len(taken) != len(plan.Formats()) {
		t.Errorf("only %v are taken by a platform; want %v", taken, plan.Formats())
	}
}

package release

import (
	"strings"
	"testing"
)

// whole is a release without a problem; the rows of the tests change pieces of it.
const whole = `apiVersion: kiln/v1alpha1
kind: Release
name: v1.36
kubernetes: v1.36.3
timestamp: "2026-09-15T00:00:00Z"
suite: trixie
packages: [systemd, runc]
sources:
  - name: kubernetes
    module: k8s.io/kubernetes
    version: v1.36.3
    tags: [selinux]
    stamp: {k8s.io/component-base/version.gitVersion: v1.36.3}
    binaries:
      - {name: kubelet, package: k8s.io/kubernetes/cmd/kubelet}
      - {name: kube-proxy, package: k8s.io/kubernetes/cmd/kube-proxy}
  - name: pause
    module: k8s.io/kubernetes
    version: v1.36.3
    binaries: [{name: pause, package: build/pause/linux/pause.c, language: c}]
node:
  - {binary: kubelet, path: /usr/bin/kubelet}
containerImages:
  - name: registry.k8s.io/kube-proxy:v1.36.3
    roles: [control-plane, worker]
    packages: [nftables]
    files: [{binary: kube-proxy, path: /usr/local/bin/kube-proxy}]
    entrypoint: [/usr/local/bin/kube-proxy]
  - name: registry.k8s.io/pause:3.10.2
    roles: [control-plane, worker]
    files: [{binary: pause, path: /pause}]
    entrypoint: [/pause]
    user: "65535:65535"
    sandbox: true
addons: [flannel.yaml]
`

func TestValidate(t *testing.T) {
	for _, row := range []struct {
		name string
		// changes are pairs of what to replace in whole and by what.
		changes []string
		// want are all problems, in order, each as field: text; none for a good document.
		want []string
	}{
		{"a good document", nil, nil},
		{"a registry with a port", []string{"registry.k8s.io/pause:", "localhost:5000/a/b_c/pause:"}, nil},
		{"a release candidate", []string{"v1.36.3", "v1.37.0-rc.1"}, nil},
		{"bad names", []string{"name: v1.36\n", "name: V1/36\n", "suite: trixie", "suite: ''"}, []string{
			`name: "V1/36" is no name; want small letters, digits, dots and hyphens, as in v1.36`,
			`suite: "" is no Debian suite; want one as in trixie`}},
		{"a version that is none", []string{"kubernetes: v1.36.3", "kubernetes: '1.36'"}, []string{
			`containerImages[0].name: the tag is v1.36.3, and kubernetes is 1.36; make them the same`,
			`kubernetes: "1.36" is no version of Kubernetes; want one as in v1.36.3`,
			`sources[0].version: is v1.36.3, and kubernetes is 1.36; make them the same`,
			`sources[1].version: is v1.36.3, and kubernetes is 1.36; make them the same`}},
		{"no timestamp", []string{"timestamp: \"2026-09-15T00:00:00Z\"\n", ""}, []string{
			`timestamp: missing; want the time of every file in the image, as in 2026-09-15T00:00:00Z`}},
		{"a part of a second", []string{"00:00:00Z", "00:00:00.5Z"}, []string{
			`timestamp: has a fraction of a second, which filesystems and archives do not keep; want whole seconds`}},
		{"packages", []string{"[systemd, runc]", "[systemd, systemd, Runc]"}, []string{
			`packages[1]: systemd is listed twice; remove one`, `packages[2]: "Runc" is no name of a Debian package`}},
		{"duplicate sources and binaries", []string{"name: pause\n", "name: kubernetes\n", "{name: pause,", "{name: kubelet,", "binary: pause", "binary: kubelet"}, []string{
			`sources[1].binaries[0].name: kubelet is the name of an earlier binary; want another, the path in an image may stay`,
			`sources[1].name: kubernetes is the name of an earlier source; want another`}},
		{"a source that is not pinned", []string{"module: k8s.io/kubernetes\n    version: v1.36.3\n    tags", "module: k8s.io/kubernetes@v1\n    version: latest\n    tags"}, []string{
			`sources[0].module: "k8s.io/kubernetes@v1" is no path of a Go module`,
			`sources[0].version: "latest" is no version of a Go module; want one as in v1.2.3`}},
		{"what a compiler would take for something else", []string{"tags: [selinux]", "tags: ['selinux,notest']", "gitVersion: v1.36.3", "gitVersion: \"v1 '-extld\"",
			"k8s.io/kubernetes/cmd/kubelet}", "-toolexec=sh}", "build/pause/linux/pause.c", "../pause.c", "language: c", "language: rust"}, []string{
			`sources[0].binaries[0].package: "-toolexec=sh" is neither a Go package nor a file within the module`,
			`sources[0].stamp.k8s.io/component-base/version.gitVersion: "v1 '-extld" cannot be passed to the linker; want text without spaces, quotes and backslashes`,
			`sources[0].tags[0]: "selinux,notest" is no build tag; want one tag an item`,
			`sources[1].binaries[0].language: unknown "rust"; want go or c`,
			`sources[1].binaries[0].package: "../pause.c" is neither a Go package nor a file within the module`}},
		{"binaries that nothing builds", []string{"{binary: kubelet, path: /usr/bin/kubelet}", "{binary: kublet, path: /usr/bin/kubelet}", "{binary: kube-proxy,", "{binary: proxy,"}, []string{
			`containerImages[0].files[0].binary: "proxy" is built by no source; want a name of sources[].binaries`,
			`node[0].binary: "kublet" is built by no source; want a name of sources[].binaries`}},
		{"paths", []string{"{binary: kubelet, path: /usr/bin/kubelet}", "{binary: kubelet, path: /usr/bin/kubelet}\n  - {binary: pause, path: /usr/bin/kubelet}\n  - {binary: pause, path: usr/bin/pause}\n  - {binary: pause, path: /usr/../pause}"}, []string{
			`node[1].path: /usr/bin/kubelet is taken by an earlier binary; want another path`,
			`node[2].path: "usr/bin/pause" is no path of a file; want an absolute one without . and .., as in /usr/bin/kubelet`,
			`node[3].path: "/usr/../pause" is no path of a file; want an absolute one without . and .., as in /usr/bin/kubelet`}},
		{"an empty node", []string{"node:\n  - {binary: kubelet, path: /usr/bin/kubelet}\n", ""}, []string{
			`node: missing; want the binaries of the node's root, kubelet and containerd among them`}},
		{"references", []string{"registry.k8s.io/pause:3.10.2", "registry.k8s.io/pause", "kube-proxy:v1.36.3", "kube-proxy:v1.36.2"}, []string{
			`containerImages[0].name: the tag is v1.36.2, and kubernetes is v1.36.3; make them the same`,
			`containerImages[1].name: "registry.k8s.io/pause" is no full reference; want registry, repository and tag, as in registry.k8s.io/pause:3.10.2`}},
		{"a short reference, which a runtime would complete", []string{"registry.k8s.io/pause:", "pause:"}, []string{
			`containerImages[1].name: "pause:3.10.2" is no full reference; want registry, repository and tag, as in registry.k8s.io/pause:3.10.2`}},
		{"the same image twice, two sandboxes", []string{"registry.k8s.io/kube-proxy:v1.36.3", "registry.k8s.io/pause:3.10.2", "entrypoint: [/usr/local/bin/kube-proxy]", "sandbox: true"}, []string{
			`containerImages: 2 have sandbox: true; want exactly one, the pause image`,
			`containerImages[1].name: registry.k8s.io/pause:3.10.2 is listed twice; remove one`}},
		{"no sandbox", []string{"    sandbox: true\n", ""}, []string{`containerImages: 0 have sandbox: true; want exactly one, the pause image`}},
		{"roles", []string{"v1.36.3\n    roles: [control-plane, worker]", "v1.36.3\n    roles: [worker, worker, etcd]", "3.10.2\n    roles: [control-plane, worker]", "3.10.2\n    roles: []"}, []string{
			`containerImages[0].roles[1]: worker is listed twice; remove one`,
			`containerImages[0].roles[2]: unknown "etcd"; want control-plane, worker`,
			`containerImages[1].roles: missing; want the roles whose nodes need the image, of control-plane, worker`,
			`containerImages[1].roles: control-plane is missing, and no pod starts without its sandbox image; add it`,
			`containerImages[1].roles: worker is missing, and no pod starts without its sandbox image; add it`}},
		{"what is run", []string{"entrypoint: [/pause]", "entrypoint: [/puase]", "entrypoint: [/usr/local/bin/kube-proxy]", "entrypoint: [kube-proxy]", `"65535:65535"`, "nobody"}, []string{
			`containerImages[0].entrypoint[0]: "kube-proxy" is no absolute path`,
			`containerImages[1].entrypoint[0]: /puase is not in the image; want the path of one of its files`,
			`containerImages[1].user: "nobody" names no user by number, and the image has no list of names; want uid or uid:gid`}},
		{"an image without files", []string{"    files: [{binary: kube-proxy, path: /usr/local/bin/kube-proxy}]\n", "    files: []\n"}, []string{
			`containerImages[0].files: missing; want at least one binary`}},
		{"addons", []string{"[flannel.yaml]", "[flannel.yaml, flannel.yaml, ../x.yaml, release.yaml, flannel.json]"}, []string{
			`addons[1]: flannel.yaml is listed twice; remove one`,
			`addons[2]: "../x.yaml" is no manifest beside the release; want a file name that ends in .yaml`,
			`addons[3]: "release.yaml" is no manifest beside the release; want a file name that ends in .yaml`,
			`addons[4]: "flannel.json" is no manifest beside the release; want a file name that ends in .yaml`}},
		{"nothing but names", []string{whole[strings.Index(whole, "packages:"):], ""}, []string{
			`containerImages: 0 have sandbox: true; want exactly one, the pause image`,
			`node: missing; want the binaries of the node's root, kubelet and containerd among them`,
			`sources: missing; want the modules that the binaries are built from`}},
	} {
		t.Run(row.name, func(t *testing.T) {
			text := whole
			for i := 0; i < len(row.changes); i += 2 {
				if !strings.Contains(text, row.changes[i]) {
					t.Fatalf("the document has no %q to change", row.changes[i])
				}
				text = strings.ReplaceAll(text, row.changes[i], row.changes[i+1])
			}
			var got []string
			if _, err := Parse("r.yaml", []byte(text)); err != nil {
				for _, line := range strings.Split(err.Error(), "\n") {
					got = append(got, strings.TrimPrefix(line, "r.yaml: "))
				}
			}
			if strings.Join(got, "\n") != strings.Join(row.want, "\n") {
				t.Errorf("got:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(row.want, "\n"))
			}
		})
	}
}

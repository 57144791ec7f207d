package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
)

// versionArgs says how each program is asked for its version; programs that are not listed cannot tell.
func versionArgs(binary string) []string {
	return map[string][]string{
		"kubeadm": {"version", "-o", "short"}, "kubelet": {"--version"}, "kubectl": {"version", "--client"},
		"containerd": {"--version"}, "ctr": {"--version"}, "ignition": {"--version"},
		"kube-apiserver": {"--version"}, "kube-controller-manager": {"--version"}, "kube-scheduler": {"--version"}, "kube-proxy": {"--version"},
		"etcd": {"--version"}, "coredns": {"-version"}, "flanneld": {"--version"},
	}[binary]
}

// wantVersion is what a binary of the release reports, without a leading v.
func (n *node) wantVersion(binary string) (string, error) {
	source, _, ok := n.release.Binary(binary)
	if !ok {
		return "", fmt.Errorf("%s: not in the release", binary)
	}
	version := source.Version
	if source.Reports != "" {
		version = source.Reports
	}
	return strings.TrimPrefix(version, "v"), nil
}

// reports tells whether a program's output names version, as a whole word: 1.36.3 is not in 1.36.30.
func reports(output, version string) bool {
	return regexp.MustCompile(`(^|[^0-9.])` + regexp.QuoteMeta(version) + `($|[^0-9.]|\.$|\.\s)`).MatchString(output)
}

// program asks the program at path, a binary of the release, for its version.
func (n *node) program(ctx context.Context, binary, path string) error {
	want, err := n.wantVersion(binary)
	if err != nil {
		return err
	}
	output, err := n.output(ctx, path, versionArgs(binary)...)
	if err != nil {
		return err
	}
	if !reports(output, want) {
		return fmt.Errorf("%s: got %s, want %s", binary, quote(strings.TrimSpace(output)), want)
	}
	return nil
}

// nodeVersions asks the programs in the root. runc is Debian's: it only has to run.
func (n *node) nodeVersions(ctx context.Context) (string, error) {
	var problems []error
	var asked []string
	for _, file := range n.release.Node {
		if versionArgs(file.Binary) == nil {
			continue
		}
		asked = append(asked, file.Binary)
		problems = append(problems, n.program(ctx, file.Binary, n.root.Path(file.Path)))
	}
	runc, err := n.output(ctx, "runc", "--version")
	line, _, _ := strings.Cut(runc, "\n")
	return strings.Join(asked, " ") + ", " + line, errors.Join(append(problems, err)...)
}

// containerVersions asks the programs in the running containers, straight from their root filesystems: they are static.
func (n *node) containerVersions(ctx context.Context) (string, error) {
	running, err := n.running(ctx)
	if err != nil {
		return "", err
	}
	var problems []error
	seen := map[string]bool{}
	for _, c := range running {
		for _, image := range n.release.ContainerImages {
			if image.Name != c.image {
				continue
			}
			for _, file := range image.Files {
				if versionArgs(file.Binary) == nil || seen[file.Binary] {
					continue
				}
				seen[file.Binary] = true
				problems = append(problems, n.program(ctx, file.Binary, filepath.Join(n.root.Path(rootfsOf(c.id)), file.Path)))
			}
		}
	}
	if len(seen) == 0 {
		problems = append(problems, errors.New("got no program in a running container, want some"))
	}
	return fmt.Sprintf("%d programs", len(seen)), errors.Join(problems...)
}

// rootfsOf is where containerd mounts the root of a container or sandbox.
func rootfsOf(id string) string {
	return "/run/containerd/io.containerd.runtime.v2.task/k8s.io/" + id + "/rootfs"
}

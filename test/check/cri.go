package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/kiln-os/kiln/internal/nodefs"
)

// withCRI calls use with a connection to containerd, as the kubelet has one.
func (n *node) withCRI(use func(cri.ImageServiceClient, cri.RuntimeServiceClient) error) error {
	conn, err := grpc.NewClient("unix://"+n.root.Path(nodefs.ContainerdSocket), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	return use(cri.NewImageServiceClient(conn), cri.NewRuntimeServiceClient(conn))
}

func (n *node) listImages(ctx context.Context) (images []*cri.Image, err error) {
	err = n.withCRI(func(client cri.ImageServiceClient, _ cri.RuntimeServiceClient) error {
		answer, err := client.ListImages(ctx, &cri.ListImagesRequest{})
		images = answer.GetImages()
		return err
	})
	return images, err
}

// containerImages compares CRI's images with the baked ones: present, pinned, and none besides.
func (n *node) containerImages(ctx context.Context) (string, error) {
	images, err := n.listImages(ctx)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%d, all pinned", len(n.baked.ContainerImages)), judgeImages(images, n.baked.ContainerImages)
}

func judgeImages(images []*cri.Image, baked map[string]string) error {
	pinned := map[string]bool{}
	var problems []error
	for _, image := range images {
		for _, tag := range image.RepoTags {
			pinned[tag] = image.Pinned
			if _, ok := baked[tag]; !ok {
				problems = append(problems, fmt.Errorf("%s: got an image that was not baked", tag))
			}
		}
	}
	for _, name := range sorted(baked) {
		if held, present := pinned[name]; !present {
			problems = append(problems, fmt.Errorf("%s: got nothing, want the baked image", name))
		} else if !held {
			problems = append(problems, fmt.Errorf("%s: got an unpinned image, want it safe from the kubelet's garbage collection", name))
		}
	}
	return errors.Join(problems...)
}

func sorted(m map[string]string) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

// imageDigests compares the manifests' digests in containerd's image store with the baked ones.
func (n *node) imageDigests(ctx context.Context) (string, error) {
	text, err := n.output(ctx, nodefs.Ctr, "--address", nodefs.ContainerdSocket, "--namespace", "k8s.io", "images", "ls")
	if err != nil {
		return "", err
	}
	digests := parseImages(text)
	var problems []error
	for _, name := range sorted(n.baked.ContainerImages) {
		problems = append(problems, differs(name, digests[name], n.baked.ContainerImages[name]))
	}
	return "", errors.Join(problems...)
}

// parseImages reads what `ctr images ls` prints: reference, type, digest and more, in columns.
func parseImages(text string) map[string]string {
	digests := map[string]string{}
	for line := range strings.Lines(text) {
		if fields := strings.Fields(line); len(fields) > 2 && strings.HasPrefix(fields[2], "sha256:") {
			digests[fields[0]] = fields[2]
		}
	}
	return digests
}

// sandboxImage asks for the image of every running sandbox: what the configuration says comes out there.
func (n *node) sandboxImage(ctx context.Context) (string, error) {
	count := 0
	var problems []error
	err := n.withCRI(func(_ cri.ImageServiceClient, client cri.RuntimeServiceClient) error {
		ready := &cri.PodSandboxFilter{State: &cri.PodSandboxStateValue{State: cri.PodSandboxState_SANDBOX_READY}}
		list, err := client.ListPodSandbox(ctx, &cri.ListPodSandboxRequest{Filter: ready})
		if err != nil {
			return err
		}
		for _, sandbox := range list.Items {
			status, err := client.PodSandboxStatus(ctx, &cri.PodSandboxStatusRequest{PodSandboxId: sandbox.Id, Verbose: true})
			if err != nil {
				return err
			}
			var info struct {
				Image string `json:"image"`
			}
			if err := json.Unmarshal([]byte(status.Info["info"]), &info); err != nil {
				return fmt.Errorf("reading what is known of sandbox %s: %w", sandbox.Id, err)
			}
			count++
			problems = append(problems, differs("sandbox of "+sandbox.Metadata.GetName(), info.Image, n.baked.SandboxImage))
		}
		return nil
	})
	if err == nil && count == 0 {
		err = errors.New("got no running sandbox, want some")
	}
	return fmt.Sprintf("%s in %d sandboxes", n.baked.SandboxImage, count), errors.Join(append(problems, err)...)
}

// container is a running container, its pod (namespace/name) and the name of its image.
type container struct{ id, name, pod, image string }

// running lists the running containers. An image that was not baked keeps the name by which CRI knows it.
func (n *node) running(ctx context.Context) ([]container, error) {
	images, err := n.listImages(ctx)
	if err != nil {
		return nil, err
	}
	names := map[string]string{}
	for _, image := range images {
		for _, tag := range image.RepoTags {
			names[image.Id], names[tag] = tag, tag
		}
	}
	var containers []container
	err = n.withCRI(func(_ cri.ImageServiceClient, client cri.RuntimeServiceClient) error {
		running := &cri.ContainerFilter{State: &cri.ContainerStateValue{State: cri.ContainerState_CONTAINER_RUNNING}}
		list, err := client.ListContainers(ctx, &cri.ListContainersRequest{Filter: running})
		for _, c := range list.GetContainers() {
			image := c.GetImage().GetImage()
			for _, reference := range []string{c.ImageId, c.ImageRef, image} {
				if name := names[reference]; name != "" {
					image = name
					break
				}
			}
			containers = append(containers, container{
				id: c.Id, name: c.GetMetadata().GetName(), image: image,
				// The labels are the kubelet's (k8s.io/kubelet/pkg/types).
				pod: c.Labels["io.kubernetes.pod.namespace"] + "/" + c.Labels["io.kubernetes.pod.name"],
			})
		}
		return err
	})
	return containers, err
}

// runningContainers wants every running container to come from a baked image.
func (n *node) runningContainers(ctx context.Context) (string, error) {
	containers, err := n.running(ctx)
	if err != nil {
		return "", err
	}
	var problems []error
	var names []string
	for _, c := range containers {
		names = append(names, c.name)
		if _, ok := n.baked.ContainerImages[c.image]; !ok {
			problems = append(problems, fmt.Errorf("container %s: got image %s, want a baked one", c.name, c.image))
		}
	}
	if len(containers) == 0 {
		problems = append(problems, errors.New("got no running container, want some"))
	}
	sort.Strings(names)
	return strings.Join(names, " "), errors.Join(problems...)
}

// erofsLayers wants the root of every running container to lie on EROFS mounts of baked layers.
func (n *node) erofsLayers(ctx context.Context) (string, error) {
	containers, err := n.running(ctx)
	if err != nil {
		return "", err
	}
	mounts, err := n.mounts()
	if err != nil {
		return "", err
	}
	ids := map[string]string{}
	for _, c := range containers {
		ids[c.id] = c.name
	}
	return fmt.Sprintf("%d EROFS mounts below %d containers", len(erofsMounts(mounts)), len(ids)), judgeLayers(mounts, ids)
}

func erofsMounts(mounts []mount) []mount {
	var found []mount
	for _, m := range mounts {
		if m.Type == "erofs" {
			found = append(found, m)
		}
	}
	return found
}

// judgeLayers looks at the mounts below the containers, given by id and name.
func judgeLayers(mounts []mount, containers map[string]string) error {
	var problems []error
	for _, m := range erofsMounts(mounts) {
		if !strings.HasPrefix(m.Source, nodefs.Layers+"/") {
			problems = append(problems, fmt.Errorf("EROFS at %s: got source %s, want a file below %s", m.Target, m.Source, nodefs.Layers))
		}
	}
	for id, name := range containers {
		m, err := mountedAt(mounts, rootfsOf(id))
		if err != nil {
			problems = append(problems, fmt.Errorf("container %s: %w", name, err))
			continue
		}
		lower, ok := m.option("lowerdir")
		if !ok {
			problems = append(problems, fmt.Errorf("container %s: got %s without lower directories, want an overlay", name, m.Type))
			continue
		}
		for dir := range strings.SplitSeq(lower, ":") {
			if below := mountHolding(mounts, dir); below.Type != "erofs" {
				problems = append(problems, fmt.Errorf("container %s: got lower directory %s on %s, want EROFS", name, dir, quote(below.Type)))
			}
		}
	}
	return errors.Join(problems...)
}

// contentLimit is far above manifests and configs, and far below any layer.
const contentLimit = 1 << 20

// contentStore counts what containerd keeps on the state partition: no layer may be among it.
func (n *node) contentStore(context.Context) (string, error) {
	content, err := treeSize(n.root.Path("/var/lib/containerd/io.containerd.content.v1.content"))
	if err != nil {
		return "", err
	}
	snapshots, err := treeSize(n.root.Path("/var/lib/containerd/io.containerd.snapshotter.v1.erofs"))
	if err != nil {
		return "", err
	}
	if content >= contentLimit {
		err = fmt.Errorf("got %d bytes of content, want less than %d: manifests and configs only", content, contentLimit)
	}
	return fmt.Sprintf("%d bytes of content, %d bytes of snapshots (with what containers wrote)", content, snapshots), err
}

// treeSize adds up the disk space of the regular files below dir, without crossing into other filesystems.
func treeSize(dir string) (int64, error) {
	var size int64
	device, err := deviceOf(dir)
	if err != nil {
		return 0, err
	}
	err = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // containers come and go
		}
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if d, err := deviceOf(path); err != nil || d != device {
				return filepath.SkipDir
			}
			return nil
		}
		if info, err := os.Lstat(path); err == nil && info.Mode().IsRegular() {
			size += info.Size()
		}
		return nil
	})
	return size, err
}

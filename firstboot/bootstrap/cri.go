package bootstrap

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/kiln-os/kiln/internal/nodefs"
)

// runtime is containerd as the kubelet sees it.
type runtime struct {
	connection *grpc.ClientConn
	images     cri.ImageServiceClient
	pods       cri.RuntimeServiceClient
}

// callLimit is how long one answer of containerd may take, the connection included.
const callLimit = 30 * time.Second

func (m *Machine) runtime() (*runtime, error) {
	connection, err := grpc.NewClient("unix://"+m.Root.Path(nodefs.ContainerdSocket),
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.WaitForReady(true)),
		// A list of a node's images is far smaller; gRPC's own limit of 4 MiB once was not enough for the kubelet.
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(16<<20)))
	if err != nil {
		return nil, fmt.Errorf("connecting to containerd: %w", err)
	}
	return &runtime{connection, cri.NewImageServiceClient(connection), cri.NewRuntimeServiceClient(connection)}, nil
}

func (r *runtime) close() { r.connection.Close() }

// lacking compares the images that containerd has with those that are wanted: the references that are missing, and those
// that are there but not pinned against the kubelet's garbage collection.
func (r *runtime) lacking(ctx context.Context, wanted []string) (missing, unpinned []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	answer, err := r.images.ListImages(ctx, &cri.ListImagesRequest{})
	if err != nil {
		return nil, nil, fmt.Errorf("listing container images: %w", err)
	}
	pinned := map[string]bool{}
	for _, image := range answer.Images {
		for _, tag := range image.RepoTags {
			pinned[tag] = image.Pinned
		}
	}
	for _, name := range wanted {
		switch held, present := pinned[name]; {
		case !present:
			missing = append(missing, name)
		case !held:
			unpinned = append(unpinned, name)
		}
	}
	slices.Sort(missing)
	slices.Sort(unpinned)
	return missing, unpinned, nil
}

// removePods stops and removes every pod: what a first boot that came to nothing has left behind.
func (r *runtime) removePods(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	answer, err := r.pods.ListPodSandbox(ctx, &cri.ListPodSandboxRequest{})
	if err != nil {
		return fmt.Errorf("listing pods: %w", err)
	}
	for _, pod := range answer.Items {
		if _, err := r.pods.StopPodSandbox(ctx, &cri.StopPodSandboxRequest{PodSandboxId: pod.Id}); err != nil {
			return fmt.Errorf("stopping pod %s: %w", pod.GetMetadata().GetName(), err)
		}
		if _, err := r.pods.RemovePodSandbox(ctx, &cri.RemovePodSandboxRequest{PodSandboxId: pod.Id}); err != nil {
			return fmt.Errorf("removing pod %s: %w", pod.GetMetadata().GetName(), err)
		}
	}
	return nil
}

// enumerate is a list for people.
func enumerate(names []string) string { return strings.Join(names, ", ") }

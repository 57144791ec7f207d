package reset

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/kiln-os/kiln/internal/nodefs"
)

// criLimit is how long containerd may take for all that a step asks of it.
const criLimit = 5 * time.Minute

func (m *Machine) containerd() (*grpc.ClientConn, error) {
	connection, err := grpc.NewClient("unix://"+m.Root.Path(nodefs.ContainerdSocket),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true), grpc.MaxCallRecvMsgSize(16<<20)))
	if err != nil {
		return nil, fmt.Errorf("connecting to containerd: %w", err)
	}
	return connection, nil
}

// pods stops and removes every pod that is left: those of DaemonSets and files. It comes before kubeadm, which unmounts
// their volumes, and while the pod network's plugins can still take back what they gave.
func (l *leaving) pods(ctx context.Context) (string, error) {
	connection, err := l.m.containerd()
	if err != nil {
		return "", err
	}
	defer connection.Close()
	ctx, cancel := context.WithTimeout(ctx, criLimit)
	defer cancel()
	runtime := cri.NewRuntimeServiceClient(connection)
	answer, err := runtime.ListPodSandbox(ctx, &cri.ListPodSandboxRequest{})
	if err != nil {
		return "", fmt.Errorf("listing pods: %w", err)
	}
	for _, pod := range answer.Items {
		if _, err := runtime.StopPodSandbox(ctx, &cri.StopPodSandboxRequest{PodSandboxId: pod.Id}); err != nil {
			return "", fmt.Errorf("stopping pod %s: %w", pod.GetMetadata().GetName(), err)
		}
		if _, err := runtime.RemovePodSandbox(ctx, &cri.RemovePodSandboxRequest{PodSandboxId: pod.Id}); err != nil {
			return "", fmt.Errorf("removing pod %s: %w", pod.GetMetadata().GetName(), err)
		}
	}
	return fmt.Sprintf("%d pods are gone", len(answer.Items)), nil
}

// images removes the container images that are not pinned: those of the node image are, and lie on the read-only root.
func (l *leaving) images(ctx context.Context) (string, error) {
	connection, err := l.m.containerd()
	if err != nil {
		return "", err
	}
	defer connection.Close()
	ctx, cancel := context.WithTimeout(ctx, criLimit)
	defer cancel()
	images := cri.NewImageServiceClient(connection)
	answer, err := images.ListImages(ctx, &cri.ListImagesRequest{})
	if err != nil {
		return "", fmt.Errorf("listing container images: %w", err)
	}
	removed := 0
	for _, image := range answer.Images {
		if image.Pinned {
			continue
		}
		if _, err := images.RemoveImage(ctx, &cri.RemoveImageRequest{Image: &cri.ImageSpec{Image: image.Id}}); err != nil {
			return "", fmt.Errorf("removing container image %s: %w", image.Id, err)
		}
		removed++
	}
	return fmt.Sprintf("%d container images are gone", removed), nil
}

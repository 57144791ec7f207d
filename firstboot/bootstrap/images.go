package bootstrap

import (
	"context"
	"errors"
	"fmt"
	goruntime "runtime"
	"slices"
	"time"

	"github.com/kiln-os/kiln/firstboot/kubeadm"
	"github.com/kiln-os/kiln/internal/command"
	"github.com/kiln-os/kiln/internal/nodefs"
)

// settle is how long containerd's CRI may take to see what was imported: it follows the image store by events.
const settle = 15 * time.Second

// containerImages makes every baked container image known to containerd and proves it through CRI, as the kubelet sees
// it. The archive has no layers: those are mounted from the read-only root.
func (p plan) containerImages(ctx context.Context) (string, error) {
	var wanted []string
	for name := range p.o.Baked.ContainerImages {
		wanted = append(wanted, name)
	}
	slices.Sort(wanted)
	if err := p.bakedAll(); err != nil {
		return "", err
	}
	r, err := p.m.runtime()
	if err != nil {
		return "", err
	}
	defer r.close()
	missing, unpinned, err := r.lacking(ctx, wanted)
	if err != nil {
		return "", err
	}
	if len(missing)+len(unpinned) == 0 {
		return fmt.Sprintf("all %d are there and pinned", len(wanted)), nil
	}
	if err := p.importImages(ctx); err != nil {
		return "", err
	}
	if err := p.settledWithin(ctx, r, wanted, settle); err != nil {
		return "", err
	}
	return fmt.Sprintf("all %d made known and pinned", len(wanted)), nil
}

// bakedAll compares what the configuration needs with what the image carries: a customised repository has other names.
func (p plan) bakedAll() error {
	var absent []string
	for _, name := range kubeadm.RequiredImages(p.o) {
		if _, baked := p.o.Baked.ContainerImages[name]; !baked {
			absent = append(absent, name)
		}
	}
	if len(absent) == 0 || p.o.Identity.Cluster.Customisation.ImageRepository == "" {
		return nil // without a repository of its own, the identity cannot ask for other names than the release has
	}
	return Permanent{fmt.Errorf("cluster.customisation.imageRepository: the image carries no container images %s; build an image with a release of these names, or drop the field", enumerate(absent))}
}

// importImages runs ctr, whose import through containerd's transfer service hits the layer cache on the root (an import
// with --local would go round it). The label on the image is what CRI calls pinned.
func (p plan) importImages(ctx context.Context) error {
	out := &lines{report: p.m.Report, step: "container-images"}
	defer out.flush()
	_, err := p.m.Runner.Run(ctx, command.Command{Name: nodefs.Ctr, Stderr: out, Args: []string{
		"--address", p.m.Root.Path(nodefs.ContainerdSocket), "--namespace", "k8s.io",
		"images", "import", "--platform", "linux/" + goruntime.GOARCH, "--snapshotter", "erofs",
		"--label", "io.cri-containerd.pinned=pinned", p.m.Root.Path(nodefs.ContainerImages),
	}})
	if err != nil {
		return fmt.Errorf("making container images known to containerd: %w", err)
	}
	return nil
}

// settledWithin waits until CRI shows all images. What is missing after the limit, the image's builder has left out.
func (p plan) settledWithin(ctx context.Context, r *runtime, wanted []string, limit time.Duration) error {
	var missing, unpinned []string
	var err error
	for deadline, pause := time.Now().Add(limit), 10*time.Millisecond; ; pause = min(2*pause, time.Second) {
		missing, unpinned, err = r.lacking(ctx, wanted)
		if err != nil || len(missing)+len(unpinned) == 0 {
			return err
		}
		if time.Now().After(deadline) {
			break
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(pause):
		}
	}
	var lack []error
	if len(missing) > 0 {
		lack = append(lack, fmt.Errorf("the image was baked without container images that this node needs: %s; build the image again", enumerate(missing)))
	}
	if len(unpinned) > 0 {
		lack = append(lack, fmt.Errorf("container images are not pinned against the kubelet's garbage collection: %s; build the image again", enumerate(unpinned)))
	}
	return Permanent{errors.Join(lack...)}
}

package bootstrap

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"time"

	"github.com/kiln-os/kiln/firstboot/kubeadm"
	"github.com/kiln-os/kiln/firstboot/node"
	"github.com/kiln-os/kiln/firstboot/source"
	"github.com/kiln-os/kiln/internal/nodefs"
)

// bootFacts is what the initramfs leaves for firstboot.
const bootFacts = "/run/kiln/boot.json"

// Labels and annotations that say which image a node runs.
const (
	labelProfile       = "kiln.dev/profile"
	labelRelease       = "kiln.dev/release"
	annotationVersion  = "kiln.dev/image-version"
	annotationRootHash = "kiln.dev/root-hash"
)

// addons applies the baked manifests in the order of their file names.
func (p plan) addons(ctx context.Context) (string, error) {
	files, err := filepath.Glob(p.m.Root.Path(nodefs.Addons + "/*.yaml"))
	if err != nil {
		return "", fmt.Errorf("listing addons: %w", err)
	}
	client, err := p.m.client(p.o.Identity.Node.Address)
	if err != nil {
		return "", err
	}
	applied := 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return "", fmt.Errorf("reading addon: %w", err)
		}
		name := nodefs.Addons + "/" + filepath.Base(file)
		objects, err := node.Objects(name, []byte(fillIn(string(text), p.o.Identity.Cluster.PodSubnet)))
		if err != nil {
			return "", Permanent{err}
		}
		for _, object := range objects {
			if err := client.Apply(ctx, object); err != nil {
				return "", err
			}
			applied++
		}
	}
	return fmt.Sprintf("%d objects of %d manifests", applied, len(files)), nil
}

// register makes the Node say what it is. The administrator's credentials may set what a kubelet may not.
func (p plan) register(ctx context.Context) (string, error) {
	client, err := p.m.client(p.o.Identity.Node.Address)
	if err != nil {
		return "", err
	}
	want := p.registration()
	if err := client.Register(ctx, p.o.Identity.Node.Name, want); err != nil {
		return "", err
	}
	return fmt.Sprintf("%d labels, %d annotations, %d taints", len(want.Labels), len(want.Annotations), len(want.Taints)), nil
}

func (p plan) registration() node.Registration {
	labels := maps.Clone(p.o.Profile.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	maps.Copy(labels, p.o.Identity.Node.Labels)
	labels[labelProfile], labels[labelRelease] = p.o.Baked.Profile, p.o.Baked.Release
	annotations := map[string]string{annotationVersion: p.o.Baked.Version}
	if hash := p.m.rootHash(); hash != "" {
		annotations[annotationRootHash] = hash
	}
	return node.Registration{Labels: labels, Annotations: annotations, Taints: p.o.Taints(), RoleTaint: kubeadm.ControlPlaneTaint}
}

// rootHash is the dm-verity root hash of the running root: as the initramfs opened it, or as the command line names it.
func (m *Machine) rootHash() string {
	var facts struct {
		RootHash string `json:"rootHash"`
	}
	if text, err := os.ReadFile(m.Root.Path(bootFacts)); err == nil && json.Unmarshal(text, &facts) == nil && facts.RootHash != "" {
		return facts.RootHash
	}
	commandLine, _ := os.ReadFile(m.Root.Path("/proc/cmdline"))
	return source.Parameter(string(commandLine), nodefs.ParamRootHash)
}

// ready waits until the Node is Ready: the network plugin runs, and pods can.
func (p plan) ready(ctx context.Context) (string, error) {
	client, err := p.m.client(p.o.Identity.Node.Address)
	if err != nil {
		return "", err
	}
	client.Patience = 0 // the wait itself asks again, and says what it sees
	name := p.o.Identity.Node.Name
	err = p.m.wait(ctx, waiting{step: "ready", first: 250 * time.Millisecond, most: 2 * time.Second, look: func(ctx context.Context) (bool, string) {
		current, err := client.Get(ctx, name)
		if err != nil {
			return false, "waiting for the API server: " + err.Error()
		}
		condition := current.Condition("Ready")
		return condition.Status == "True", "waiting for the Node: " + condition.Reason + ": " + condition.Message
	}})
	return name + " is Ready", err
}

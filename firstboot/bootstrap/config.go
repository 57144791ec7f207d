package bootstrap

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/kiln-os/kiln/firstboot/kubeadm"
	"github.com/kiln-os/kiln/internal/nodefs"
)

// kubeadmConfig writes what kubeadm reads: its configuration, which holds the token, and the patches.
func (p plan) kubeadmConfig(context.Context) (string, error) {
	text, err := p.renderConfig()
	if err != nil {
		return "", err
	}
	patches, err := kubeadm.Patches(p.o)
	if err != nil {
		return "", err
	}
	if err := p.writePatches(patches); err != nil {
		return "", err
	}
	if err := put(p.m.Root.Path(nodefs.KubeadmConfig), text, 0o600); err != nil {
		return "", err
	}
	if err := os.MkdirAll(p.m.Root.Path(nodefs.VolumePlugins), 0o755); err != nil {
		return "", fmt.Errorf("making volume plugin directory: %w", err)
	}
	return fmt.Sprintf("%s, %d patches", nodefs.KubeadmConfig, len(patches)), nil
}

func (p plan) renderConfig() ([]byte, error) {
	if p.founds {
		return kubeadm.RenderInit(p.o)
	}
	return kubeadm.RenderJoin(p.o)
}

// writePatches begins from nothing: a patch of an earlier profile must not stay.
func (p plan) writePatches(patches map[string]string) error {
	directory := p.m.Root.Path(nodefs.Patches)
	if err := os.RemoveAll(directory); err != nil {
		return fmt.Errorf("writing patches: %w", err)
	}
	for name, text := range patches {
		if err := put(filepath.Join(directory, filepath.Base(name)), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

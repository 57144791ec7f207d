package rung

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/kiln-os/kiln/internal/nodefs"
	"github.com/kiln-os/kiln/internal/profile"
)

// image is a root that nodes boot from, mounted once for all of them: what one node has read, the others have in memory.
type image struct {
	manifest
	// root is where it is mounted, in the mount namespace of the segment.
	root    string
	kubectl bool
	role    string
}

// manifest is what is read of an image's manifest.json (builder/bake has all of it). This package does not import the
// builder's bake, so that a node boots while the builder is being changed.
type manifest struct {
	RootHash    string            `json:"rootHash"`
	CommandLine string            `json:"commandLine"`
	Parts       map[string]string `json:"parts"`
}

func readManifest(dir string) (manifest, error) {
	var m manifest
	path := filepath.Join(dir, "manifest.json")
	text, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(text, &m)
	}
	if err == nil && (m.Parts["system"] == "" || m.Parts["payload"] == "") {
		err = fmt.Errorf("%s: names no parts", path)
	}
	if err != nil {
		return m, fmt.Errorf("reading image: %w; make it with kiln build -o %s", err, dir)
	}
	return m, nil
}

// mountImage mounts the system and the payload of the image in dir, an output directory of kiln build. They are the files
// that the image's root partition was put together from, byte for byte.
func (h *Host) mountImage(dir string) (image, error) {
	var i image
	var err error
	if i.manifest, err = readManifest(dir); err != nil {
		return i, err
	}
	system := filepath.Join(h.o.Parts, i.Parts["system"], "system.squashfs")
	payload := filepath.Join(h.o.Parts, i.Parts["payload"], "payload.squashfs")
	for _, file := range []string{system, payload} {
		if _, err := os.Stat(file); err != nil {
			return i, fmt.Errorf("finding the parts of %s: %w; build it again", dir, err)
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	key := system + " " + payload
	root, mounted := h.images[key]
	if !mounted {
		root = filepath.Join(h.o.Dir, "images", fmt.Sprint(len(h.images)))
		if err := errors.Join(os.MkdirAll(root, 0o755),
			h.segment.run(h.ctx, "mount", "-t", "squashfs", "-o", "ro,loop", system, root),
			h.segment.run(h.ctx, "mount", "-t", "squashfs", "-o", "ro,loop", payload, filepath.Join(root, nodefs.Payload)),
		); err != nil {
			return i, fmt.Errorf("mounting %s: %w", dir, err)
		}
		h.images[key] = root
	}
	i.root = root
	p, err := i.profile(h)
	i.role = p.Role
	_, statErr := os.Stat(h.inSegment(filepath.Join(root, kubectlInRoot)))
	i.kubectl = statErr == nil
	return i, err
}

// inSegment is where this process sees a path of the segment's mount namespace.
func (h *Host) inSegment(path string) string {
	return fmt.Sprintf("/proc/%d/root%s", h.segment.holder.PID, path)
}

// read reads a file of the image's root.
func (i image) read(h *Host, path string) ([]byte, error) {
	return os.ReadFile(h.inSegment(filepath.Join(i.root, path)))
}

func (i image) profile(h *Host) (profile.Profile, error) {
	var p profile.Profile
	text, err := i.read(h, nodefs.Profile)
	if err != nil {
		return p, err
	}
	return p, json.Unmarshal(text, &p)
}

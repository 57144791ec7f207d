package payload

import (
	"context"
	"fmt"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/kiln-os/kiln/builder/parts"
	"github.com/kiln-os/kiln/builder/progress"
	"github.com/kiln-os/kiln/internal/command"
	"github.com/kiln-os/kiln/internal/document"
	"github.com/kiln-os/kiln/internal/release"
)

// Source provides the payload by building it on this machine with Go and, for what is written in C, the C compiler.
// Each source of the release is one part of the store: it is built once, and verified whenever it is used.
type Source struct {
	Store    parts.Store
	Run      command.Runner
	Progress *progress.Reporter
	// PackageTar gives the path of an uncompressed tar: the packages, and all that they depend on, extracted.
	PackageTar func(ctx context.Context, packages []string) (string, error)
}

// Provide builds, or finds in the store, every source that has a wanted binary. An error for which
// document.IsInvalid holds says that a pin is wrong or that a stored binary is no longer the one that was built.
func (s Source) Provide(ctx context.Context, r Request) (Payload, error) {
	images, names := r.wanted()
	payload := Payload{Binaries: map[string]Binary{}, Images: images, Recipe: fmt.Sprintf("source-%d", layerRecipe)}
	payload.image = func(ctx context.Context, image release.ContainerImage) (v1.Image, error) {
		return s.containerImage(ctx, image, payload.Binaries, r.Release.Timestamp)
	}
	payload.status = func(ctx context.Context, image release.ContainerImage) ([]byte, error) {
		return s.packageStatus(ctx, image, r.Release.Timestamp)
	}
	pins, err := readPins(r, names)
	if err != nil {
		return Payload{}, err
	}
	tools, err := s.findTools(ctx, pins)
	if err != nil {
		return Payload{}, fmt.Errorf("building the payload: %w", err)
	}
	var made []parts.Part
	for _, pin := range pins {
		tools := tools
		if tools.sysroot, err = s.sysroot(ctx, pin.source); err != nil {
			return Payload{}, err
		}
		part, err := s.build(ctx, pin, tools)
		if err != nil {
			return Payload{}, err
		}
		made = append(made, part)
	}
	task := s.Progress.Start("payload", "verifying the binaries of "+r.Release.Name)
	for i, pin := range pins {
		if err := verify(made[i], pin.source, payload.Binaries); err != nil {
			task.Fail()
			return Payload{}, err
		}
	}
	task.Done(fmt.Sprintf("%d binaries, %d container images", len(payload.Binaries), len(images)))
	return payload, nil
}

// key names the part of one source by whatever decides its bytes.
func (p pin) key(t tools) string {
	switch {
	case !needsC(p.source):
		t.CC, t.Libc = "", ""
	case t.sysroot.Name != "":
		t.Libc = t.sysroot.Name
	}
	return parts.Key("source-"+p.source.Name, recipe, p.source, p.mod, p.sum, t.Go, t.CC, t.Libc)
}

// build makes the part of one source: bin/NAME for every binary, and part.json with their digests.
func (s Source) build(ctx context.Context, p pin, t tools) (parts.Part, error) {
	return s.Store.Make(ctx, p.key(t), func(ctx context.Context, dir string) error {
		task := s.Progress.Start(p.source.Name, fmt.Sprintf("building %s %s from source", binaryNames(p.source), p.source.Version))
		b := builder{run: s.Run, pin: p, tools: t, dir: dir, task: task, count: newCounter(task)}
		stop := b.count.tell(10 * time.Second)
		usage, err := b.all(ctx)
		stop()
		if err != nil {
			task.Fail()
			if document.IsInvalid(err) {
				return err // it begins with the file that has to be mended
			}
			return fmt.Errorf("building %s: %w", p.source.Name, err)
		}
		task.Done(fmt.Sprintf("peak %d MiB", usage>>20))
		return nil
	})
}

func binaryNames(source release.Source) string {
	names := make([]string, len(source.Binaries))
	for i, binary := range source.Binaries {
		names[i] = binary.Name
	}
	return strings.Join(names, ", ")
}

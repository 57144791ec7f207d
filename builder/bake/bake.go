// Package bake runs a build from a resolved plan to the files that machines boot: one straight line of named steps, each
// making a part addressed by what it is made from.
package bake

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/kiln-os/kiln/builder/parts"
	"github.com/kiln-os/kiln/builder/payload"
	"github.com/kiln-os/kiln/builder/plan"
	"github.com/kiln-os/kiln/builder/preload"
	"github.com/kiln-os/kiln/builder/progress"
	"github.com/kiln-os/kiln/builder/rootfs"
	"github.com/kiln-os/kiln/builder/secureboot"
	"github.com/kiln-os/kiln/internal/command"
	"github.com/kiln-os/kiln/internal/step"
)

// Options is what a build needs to be told.
type Options struct {
	Plan plan.Plan
	// Overlay is the tree that lies over the packages of every image.
	Overlay fs.FS
	// Payload provides the release's binaries and container images.
	Payload payload.Provider
	// Firstboot is the path of the firstboot program: it becomes /init and the node's service.
	Firstboot string
	// Out is the directory for the results.
	Out string

	// Signer signs what UEFI firmware starts; nil leaves it unsigned.
	Signer *secureboot.Signer

	// Early gets parts for this build and others beside their steps; nil gets none.
	Early *Early

	Debian   rootfs.Debian
	Store    parts.Store
	Run      command.Runner
	Progress *progress.Reporter
}

// Timing is one step of a build.
type Timing struct {
	Step    string  `json:"step"`
	Seconds float64 `json:"seconds"`
	// CPUSeconds is the time that the builder and its children computed.
	CPUSeconds float64 `json:"cpuSeconds"`
	Note       string  `json:"note,omitempty"`
}

// build is a build under way: each step reads what earlier ones made and adds its own.
type build struct {
	Options
	tools    rootfs.Tools
	payload  payload.Payload
	packages parts.Part
	kernel   rootfs.Kernel
	preload  preload.Preload
	// payloadFS, system, sealed and boot are parts with one filesystem image or more each.
	payloadFS parts.Part
	picks     []rootfs.Pick
	system    parts.Part
	sealed    parts.Part
	boot      parts.Part
	// firstbootSum is the SHA-256 of the firstboot program.
	firstbootSum string
	overlaySum   string
	// live is the part with what a live system is started by; of other formats it is empty.
	live parts.Part
	// installSum is the SHA-256 of the live set's install.json.
	installSum string
	version    string
	rootHash   string
	manifest   Manifest
	// made are the files that are to come into the output directory.
	made []File
	// unlock lets other builds into the output directory.
	unlock func()
}

// Steps lists what a build does, in order.
func (b *build) steps() step.List {
	return step.List{
		{Name: "inputs", Does: "hash the overlay and the firstboot program", Run: b.hashInputs},
		{Name: "tools", Does: "unpack the programs that shape bytes", Run: b.makeTools},
		{Name: "payload", Does: "get the release's binaries", Run: b.getPayload},
		{Name: "packages", Does: "install the operating system's packages", Run: b.installPackages},
		{Name: "kernel", Does: "unpack the kernel and index its modules", Run: b.unpackKernel},
		{Name: "preload", Does: "turn container images into mountable layers", Run: b.preloadImages},
		{Name: "payload-fs", Does: "pack binaries and layers", Run: b.packPayload},
		{Name: "system-fs", Does: "pack packages, modules and overlay", Run: b.packSystem},
		{Name: "seal", Does: "join both and hash every block", Run: b.seal},
		{Name: "boot", Does: "make initramfs, unified kernel image and EFI system partition", Run: b.makeBoot},
		{Name: "live", Does: "make what a live system starts and installs from, for formats that are live", Run: b.makeLive},
		{Name: "write", Does: "write the image in its format", Run: b.writeOut},
		{Name: "sbom", Does: "list all packages, programs and modules inside", Run: b.writeSBOM},
	}
}

// Steps lists the names and descriptions of a build's steps, without doing any.
func Steps() step.List { return (&build{}).steps() }

// Run builds. When Out already holds what the plan leads to, nothing is done. An interrupted build leaves Out as it was.
func Run(ctx context.Context, o Options) (Manifest, error) {
	b := &build{Options: o, unlock: func() {}}
	defer func() { b.unlock() }()
	if err := checkOut(o.Out); err != nil {
		return Manifest{}, err
	}
	start, startCPU := time.Now(), cpuSeconds()
	for _, s := range b.steps() {
		begin, cpu := time.Now(), cpuSeconds()
		note, err := "", ctx.Err()
		if err == nil {
			note, err = s.Run(ctx)
		}
		if err != nil && ctx.Err() != nil {
			return Manifest{}, fmt.Errorf("the build was interrupted in step %s (%w); what was finished stays in the cache, and the next build goes on from there", s.Name, context.Cause(ctx))
		}
		if err != nil {
			return Manifest{}, b.explain(err)
		}
		b.manifest.Timings = append(b.manifest.Timings, Timing{Step: s.Name, Seconds: time.Since(begin).Seconds(), CPUSeconds: cpuSeconds() - cpu, Note: note})
	}
	b.manifest.Timings = append(b.manifest.Timings, Timing{Step: "total", Seconds: time.Since(start).Seconds(), CPUSeconds: cpuSeconds() - startCPU})
	return b.manifest, b.finish()
}

func (b *build) hashInputs(context.Context) (string, error) {
	var err error
	if b.firstbootSum, err = parts.SHA256File(b.Firstboot); err != nil {
		return "", fmt.Errorf("reading the firstboot program: %w; build it with make, or name it with --firstboot", err)
	}
	b.overlaySum, err = hashFS(b.Overlay)
	return "", err
}

func (b *build) makeTools(ctx context.Context) (note string, err error) {
	if b.tools, err = b.Debian.BuildTools(ctx); err == nil {
		b.Early.begin(ctx, b.tools)
	}
	return "", err
}

func (b *build) getPayload(ctx context.Context) (note string, err error) {
	b.payload, err = b.Payload.Provide(ctx, payload.Request{
		Release: b.Plan.Release, Dir: b.Plan.ReleaseDir, Files: b.Plan.ReleaseFiles, Roles: []string{b.Plan.Profile.Role},
	})
	return "", err
}

// payloadSums stand for the payload in keys: the bytes of every binary, by name.
func (b *build) payloadSums() map[string]string {
	sums := map[string]string{}
	for name, binary := range b.payload.Binaries {
		sums[name] = binary.SHA256
	}
	return sums
}

func (b *build) installPackages(ctx context.Context) (note string, err error) {
	if b.packages, err = b.Debian.Installed(ctx, b.Plan.Packages); err != nil {
		return "", err
	}
	for _, programs := range b.Plan.Release.Programs {
		part, err := b.Debian.Extracted(ctx, "programs", []string{programs.Package})
		if err != nil {
			return "", err
		}
		b.picks = append(b.picks, rootfs.Pick{Package: programs.Package, Part: part.Name, Tar: part.Path("root.tar"), Files: programs.Files})
	}
	return "", nil
}

func (b *build) unpackKernel(ctx context.Context) (note string, err error) {
	b.Early.wait(ctx, errandKernel+b.Plan.Image.Kernel)
	b.kernel, err = b.Debian.Kernel(ctx, b.tools, b.Plan.Image.Kernel)
	return "", err
}

func (b *build) preloadImages(ctx context.Context) (note string, err error) {
	builder := preload.Builder{Store: b.Store, Run: b.Run, Tools: b.tools, Progress: b.Progress, Epoch: b.Plan.Release.Timestamp}
	inputs := []any{b.payload.Recipe, b.payloadSums(), b.payload.Images, b.Plan.Release.Suite, b.Debian.Mirror}
	b.preload, err = builder.Build(ctx, inputs, func() ([]preload.Image, error) {
		var images []preload.Image
		for _, image := range b.payload.Images {
			content, err := b.payload.ContainerImage(ctx, image.Name)
			if err != nil {
				return nil, err
			}
			packages, err := b.payload.PackageStatus(ctx, image.Name)
			if err != nil {
				return nil, err
			}
			images = append(images, preload.Image{Name: image.Name, Image: content, Packages: string(packages)})
		}
		return images, nil
	})
	return "", err
}

// makePart makes a part under a progress line; parts that are there already stay silent.
func (b *build) makePart(ctx context.Context, key, name, does string, fill func(ctx context.Context, dir string, task *progress.Task) error) (parts.Part, error) {
	if part, ok := b.Store.Find(key); ok {
		return part, nil
	}
	task := b.Progress.Start(name, does)
	part, err := b.Store.Make(ctx, key, func(ctx context.Context, dir string) error { return fill(ctx, dir, task) })
	if err != nil {
		task.Fail()
		return part, err
	}
	task.Done("")
	return part, nil
}

// link makes a second name for a file where the filesystem allows, else a copy.
func link(from, to string) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	if os.Link(from, to) == nil {
		return nil
	}
	content, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, content, 0o755)
}

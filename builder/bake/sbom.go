package bake

import (
	"context"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"runtime/debug"

	"github.com/google/renameio/v2"

	"github.com/kiln-os/kiln/builder/sbom"
	"github.com/kiln-os/kiln/internal/nodefs"
	"github.com/kiln-os/kiln/internal/release"
)

// writeSBOM puts the bill of materials beside the image. What is in it is read from the parts that the image was made
// of, never from what they were asked for.
func (b *build) writeSBOM(context.Context) (note string, err error) {
	if b.manifest.Unchanged {
		return "unchanged", nil
	}
	packages, err := b.machinePackages()
	if err != nil {
		return "", fmt.Errorf("listing packages: %w", err)
	}
	programs, err := b.programs()
	if err != nil {
		return "", fmt.Errorf("listing programs: %w", err)
	}
	osRelease, err := os.ReadFile(b.system.Path("os-release"))
	if err != nil {
		return "", err
	}
	text, err := sbom.Render(sbom.Image{
		Image: b.Plan.Image.Name, Profile: b.Plan.Profile.Name, Release: b.Plan.Release.Name, Version: b.version, RootHash: b.rootHash,
		Timestamp: b.Plan.Release.Timestamp, OS: string(osRelease), Suite: b.Plan.Release.Suite,
		Packages: packages, Programs: programs, Containers: b.containers(),
	})
	if err != nil {
		return "", err
	}
	if err := renameio.WriteFile(b.next(FileSBOM), text, 0o644); err != nil {
		return "", b.outError(fmt.Errorf("writing %s: %w", FileSBOM, err))
	}
	sum := sha256.Sum256(text)
	return "", b.addFile(FileSBOM, hex.EncodeToString(sum[:]))
}

// machinePackages are the Debian packages of the root, and those that lie outside it: the kernel and its loader are
// unpacked, not installed, and no database knows of them.
func (b *build) machinePackages() ([]sbom.Package, error) {
	status, err := os.ReadFile(b.system.Path("packages"))
	if err != nil {
		return nil, err
	}
	packages := sbom.ParseStatus(string(status))
	for _, part := range []struct {
		path string
		find func([]byte) (sbom.Package, error)
	}{
		{b.kernel.Image(), sbom.FindKernel},
		{b.tools.Path("usr/lib/systemd/boot/efi/systemd-bootx64.efi"), sbom.FindLoader},
		{b.tools.Path("usr/lib/systemd/boot/efi/linuxx64.efi.stub"), sbom.FindLoader},
	} {
		head, err := readHead(part.path, 1<<20)
		if err != nil {
			return nil, err
		}
		found, err := part.find(head)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", part.path, err)
		}
		packages = append(packages, found)
	}
	return packages, nil
}

// readHead reads no more than the first size bytes of a file.
func readHead(path string, size int64) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(io.LimitReader(file, size))
}

// programs are firstboot and those of the payload's binaries that the image holds.
func (b *build) programs() ([]sbom.Program, error) {
	built, err := buildinfo.ReadFile(b.Firstboot)
	if err != nil {
		return nil, err
	}
	programs := []sbom.Program{{Name: "firstboot", SHA256: b.firstbootSum, Paths: []string{nodefs.Firstboot}, Go: built}}
	for _, name := range b.Plan.Binaries() {
		binary := b.payload.Binaries[name]
		program := sbom.Program{Name: name, Version: binary.Version, SHA256: binary.SHA256, Paths: nodePaths(b.Plan.Release, name)}
		if program.Go, err = goInfo(b.Plan.Release, name, binary.Path); err != nil {
			return nil, err
		}
		if program.Go == nil {
			source, pinned, _ := b.Plan.Release.Binary(name)
			program.Module, program.ModuleVersion, program.Package = source.Module, source.Version, pinned.Package
		}
		programs = append(programs, program)
	}
	return programs, nil
}

// goInfo is what the Go toolchain wrote into a program; nil when the release has it in another language.
func goInfo(r release.Release, name, path string) (*debug.BuildInfo, error) {
	if _, binary, ok := r.Binary(name); ok && binary.Language != "" && binary.Language != "go" {
		return nil, nil
	}
	return buildinfo.ReadFile(path)
}

// nodePaths are where a binary lies in the root.
func nodePaths(r release.Release, name string) []string {
	var paths []string
	for _, binary := range r.Node {
		if binary.Binary == name {
			paths = append(paths, binary.Path)
		}
	}
	return paths
}

func (b *build) containers() []sbom.Container {
	var containers []sbom.Container
	for _, image := range b.payload.Images {
		container := sbom.Container{
			Name: image.Name, Digest: b.preload.Manifests[image.Name], Packages: sbom.ParseStatus(b.preload.Packages[image.Name]),
		}
		for _, file := range image.Files {
			container.Programs = append(container.Programs, file.Binary)
		}
		containers = append(containers, container)
	}
	return containers
}

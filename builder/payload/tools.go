package payload

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/kiln-os/kiln/builder/parts"
	"github.com/kiln-os/kiln/internal/command"
	"github.com/kiln-os/kiln/internal/release"
)

// tools are the compilers of the host, as far as they shape the bytes of a binary.
type tools struct {
	// Go is the version of the Go toolchain, as in go1.26.8.
	Go string
	// CC is what the C compiler says of itself, Libc the digest of the static C library; empty where no C is compiled.
	CC, Libc string
	// sysroot holds the C libraries of a source that names its own; its name is a digest of them.
	sysroot parts.Part
}

// MissingTool says that the host lacks a program that a build needs.
type MissingTool struct {
	// Tool is the program or library, Package the Debian package that has it.
	Tool, Package string
}

// Error names both.
func (e MissingTool) Error() string {
	return fmt.Sprintf("%s is missing on this machine; install Debian's %s", e.Tool, e.Package)
}

// findTools asks the compilers that the sources need for their versions.
func (s Source) findTools(ctx context.Context, pins []pin) (tools, error) {
	var t tools
	if command.Find("go") == "" {
		return t, MissingTool{Tool: "go", Package: "golang-go (a release of backports, or Go's own, when it is too old)"}
	}
	version, err := command.Output(ctx, s.Run, command.Command{Name: "go", Args: []string{"env", "GOVERSION"}, Env: goEnvironment(false)})
	if err != nil {
		return t, fmt.Errorf("asking go for its version: %w", err)
	}
	t.Go = strings.TrimSpace(string(version))
	if !slices.ContainsFunc(pins, func(p pin) bool { return needsC(p.source) }) {
		return t, nil
	}
	if command.Find(compiler) == "" {
		return t, MissingTool{Tool: compiler, Package: "gcc"}
	}
	cc, err := command.Output(ctx, s.Run, command.Command{Name: compiler, Args: []string{"--version"}, Env: []string{"LC_ALL=C"}})
	if err != nil {
		return t, fmt.Errorf("asking %s for its version: %w", compiler, err)
	}
	t.CC, _, _ = strings.Cut(string(cc), "\n")
	t.Libc, err = s.libc(ctx)
	return t, err
}

// libc is the digest of the C library that is linked into static programs: it is part of their bytes.
func (s Source) libc(ctx context.Context) (string, error) {
	out, err := command.Output(ctx, s.Run, command.Command{Name: compiler, Args: []string{"-print-file-name=libc.a"}})
	if err != nil {
		return "", fmt.Errorf("asking %s for the static C library: %w", compiler, err)
	}
	// The compiler answers with the bare name when it knows no such file.
	path := strings.TrimSpace(string(out))
	digest, err := parts.SHA256File(path)
	if !filepath.IsAbs(path) || err != nil {
		return "", errors.Join(MissingTool{Tool: "libc.a", Package: "libc6-dev"}, err)
	}
	return digest, nil
}

func needsC(source release.Source) bool {
	for _, binary := range source.Binaries {
		if binary.Language == languageC {
			return true
		}
	}
	return source.Cgo
}

package payload

import (
	"context"
	"io/fs"
	"os"
	"testing"

	"github.com/kiln-os/kiln/builder/parts"
	"github.com/kiln-os/kiln/builder/progress"
	"github.com/kiln-os/kiln/images"
	"github.com/kiln-os/kiln/internal/command"
	"github.com/kiln-os/kiln/internal/release"
)

func TestWarm(t *testing.T) {
	dir := os.Getenv("WARM")
	if dir == "" {
		t.Skip()
	}
	files, _ := fs.Sub(images.Releases, "releases/v1.36")
	text, err := fs.ReadFile(files, "release.yaml")
	if err != nil {
		t.Fatal(err)
	}
	rel, err := release.Parse("images/releases/v1.36/release.yaml", text)
	if err != nil {
		t.Fatal(err)
	}
	if only := os.Getenv("ONLY"); only != "" {
		var node []release.NodeBinary
		for _, s := range rel.Sources {
			if s.Name == only {
				node = append(node, release.NodeBinary{Binary: s.Binaries[0].Name, Path: "/x"})
			}
		}
		rel.Node, rel.ContainerImages = node, nil
	}
	s := Source{Store: parts.Store{Dir: dir}, Run: command.Exec{}, Progress: progress.New(os.Stderr, false)}
	p, err := s.Provide(context.Background(), Request{Release: rel, Dir: "images/releases/v1.36", Files: files})
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range p.Binaries {
		t.Log(name, b.SHA256, b.Size>>20, b.Version)
	}
}

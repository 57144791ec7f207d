package plan

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/kiln-os/kiln/internal/document"
	"github.com/kiln-os/kiln/internal/profile"
	"github.com/kiln-os/kiln/internal/release"
)

// Sources are where documents are found: those that kiln comes with by name, all others by path.
type Sources struct {
	// Images holds NAME.yaml for each image.
	Images fs.FS
	// Profiles holds NAME.yaml for each profile.
	Profiles fs.FS
	// Releases holds NAME/release.yaml for each release, with what it refers to beside it.
	Releases fs.FS
	// Overlay is the tree that every image gets; its presets say which units are enabled.
	Overlay fs.FS
	// Open opens a directory of the host, for documents given by path: os.DirFS.
	Open func(dir string) fs.FS
}

// Document is the text of one document and where it came from.
type Document struct {
	// File names it in messages: the path that the user gave, or the path within kiln's own tree.
	File string
	// Text is YAML.
	Text []byte
	// Dir is the directory it lies in: what a release's document refers to is beside it.
	Dir fs.FS
}

// isPath tells a path of a document from a name.
func isPath(name string) bool { return strings.Contains(name, "/") || strings.HasSuffix(name, ".yaml") }

// Names lists what kiln comes with of a kind: ImageKind, profile.Kind or release.Kind.
func (s Sources) Names(kind string) []string {
	pattern, tree := "*.yaml", s.Images
	switch kind {
	case profile.Kind:
		tree = s.Profiles
	case release.Kind:
		pattern, tree = "*/"+release.FileName, s.Releases
	}
	if tree == nil {
		return nil
	}
	// The pattern is a constant: Glob's only error is a malformed one.
	files, _ := fs.Glob(tree, pattern)
	names := make([]string, len(files))
	for i, file := range files {
		names[i] = strings.TrimSuffix(path.Base(file), ".yaml")
		if kind == release.Kind {
			names[i] = path.Base(path.Dir(file))
		}
	}
	slices.Sort(names)
	return names
}

// Read finds a document of a kind by name or path. The error is an Unknown where there is none.
func (s Sources) Read(kind, name string) (Document, error) {
	if isPath(name) {
		return s.readPath(kind, name)
	}
	if !slices.Contains(s.Names(kind), name) {
		return Document{}, Unknown{Kind: kind, Name: name, Known: s.Names(kind)}
	}
	switch kind {
	case profile.Kind:
		return readIn(s.Profiles, ".", name+".yaml", "profiles")
	case release.Kind:
		return readIn(s.Releases, name, release.FileName, "images/releases/"+name)
	default:
		return readIn(s.Images, ".", name+".yaml", "images")
	}
}

func readIn(tree fs.FS, dir, file, shown string) (Document, error) {
	sub, err := fs.Sub(tree, dir)
	if err != nil {
		return Document{}, fmt.Errorf("reading %s: %w", shown, err)
	}
	text, err := fs.ReadFile(sub, file)
	if err != nil {
		return Document{}, fmt.Errorf("reading %s: %w", shown, err)
	}
	return Document{File: path.Join(shown, file), Text: text, Dir: sub}, nil
}

func (s Sources) readPath(kind, name string) (Document, error) {
	file := name
	if kind == release.Kind && !strings.HasSuffix(name, ".yaml") {
		file = path.Join(name, release.FileName)
	}
	dir := s.Open(path.Dir(file))
	text, err := fs.ReadFile(dir, path.Base(file))
	if errors.Is(err, fs.ErrNotExist) {
		return Document{}, Unknown{Kind: kind, Name: file, Path: true, Known: s.Names(kind)}
	}
	if err != nil {
		var seen *fs.PathError
		if errors.As(err, &seen) {
			err = seen.Err
		}
		return Document{}, document.Problem{File: file, Text: fmt.Sprintf("cannot be read (%v); want a file that holds a document of kind %s", err, kind)}
	}
	return Document{File: file, Text: text, Dir: dir}, nil
}

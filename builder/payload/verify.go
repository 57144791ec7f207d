package payload

import (
	"bytes"
	"debug/elf"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/kiln-os/kiln/builder/parts"
	"github.com/kiln-os/kiln/internal/document"
	"github.com/kiln-os/kiln/internal/release"
)

// recordFile lies in a source's part and says what was built.
const recordFile = "part.json"

// record is the content of part.json.
type record struct {
	Source  string            `json:"source"`
	Module  string            `json:"module"`
	Version string            `json:"version"`
	Go      string            `json:"go"`
	CC      string            `json:"cc,omitempty"`
	Digests map[string]digest `json:"binaries"`
}

type digest struct {
	SHA256 string `json:"sha256"`
	Size   int64  `json:"size"`
}

// record checks that each binary is static and writes part.json.
func (b builder) record() error {
	source := b.pin.source
	r := record{Source: source.Name, Module: source.Module, Version: source.Version, Go: b.tools.Go, CC: b.tools.CC, Digests: map[string]digest{}}
	for _, binary := range source.Binaries {
		path := filepath.Join(b.dir, "bin", binary.Name)
		if err := checkStatic(path); err != nil {
			return fmt.Errorf("checking %s: %w", binary.Name, err)
		}
		sum, err := parts.SHA256File(path)
		if err != nil {
			return fmt.Errorf("checking %s: %w", binary.Name, err)
		}
		info, err := os.Stat(path)
		if err != nil {
			return fmt.Errorf("checking %s: %w", binary.Name, err)
		}
		r.Digests[binary.Name] = digest{SHA256: sum, Size: info.Size()}
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("writing %s: %w", recordFile, err)
	}
	if err := os.WriteFile(filepath.Join(b.dir, recordFile), append(text, '\n'), 0o644); err != nil {
		return fmt.Errorf("writing %s: %w", recordFile, err)
	}
	return nil
}

// checkStatic refuses a program that wants a dynamic loader: container images have no libraries for it.
func checkStatic(path string) error {
	file, err := elf.Open(path)
	if err != nil {
		return fmt.Errorf("reading the program: %w", err)
	}
	defer file.Close()
	for _, program := range file.Progs {
		if program.Type == elf.PT_INTERP {
			return fmt.Errorf("it is linked dynamically; a source that needs a C compiler wants cgo: true and the tags netgo and osusergo")
		}
	}
	return nil
}

// verify compares every binary of a part with part.json and adds it to binaries.
func verify(part parts.Part, source release.Source, binaries map[string]Binary) error {
	text, err := os.ReadFile(part.Path(recordFile))
	if err != nil {
		return damaged(part, recordFile, err.Error())
	}
	var r record
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&r); err != nil {
		return damaged(part, recordFile, err.Error())
	}
	version := source.Version
	if source.Reports != "" {
		version = source.Reports
	}
	for _, binary := range source.Binaries {
		want, path := r.Digests[binary.Name], part.Path("bin", binary.Name)
		got, err := parts.SHA256File(path)
		switch {
		case err != nil:
			return damaged(part, "bin/"+binary.Name, err.Error())
		case got != want.SHA256:
			return damaged(part, "bin/"+binary.Name, fmt.Sprintf("SHA-256 is %s, and %s was built", got, want.SHA256))
		}
		binaries[binary.Name] = Binary{Path: path, SHA256: got, Size: want.Size, Version: version}
	}
	return nil
}

// damaged is the problem of a file of the cache that is not what was built.
func damaged(part parts.Part, file, what string) error {
	return document.Problem{File: part.Path(filepath.FromSlash(file)), Text: fmt.Sprintf("%s; delete %s and build again", what, part.Dir)}
}

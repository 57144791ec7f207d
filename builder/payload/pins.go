package payload

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/kiln-os/kiln/internal/document"
	"github.com/kiln-os/kiln/internal/release"
)

// pin is a source with the text of its NAME.mod and NAME.sum.
type pin struct {
	source   release.Source
	mod, sum string
	// modFile and sumFile are the files' names for messages.
	modFile, sumFile string
}

// readPins reads the pins of every source that has one of the named binaries. All that is wrong is one joined error.
func readPins(r Request, binaries map[string]bool) ([]pin, error) {
	var pins []pin
	var problems []error
	for _, source := range r.Release.Sources {
		if !providesAny(source, binaries) {
			continue
		}
		p := pin{source: source, modFile: path.Join(r.Dir, source.Name+".mod"), sumFile: path.Join(r.Dir, source.Name+".sum")}
		mod, modErr := fs.ReadFile(r.Files, source.Name+".mod")
		sum, sumErr := fs.ReadFile(r.Files, source.Name+".sum")
		if err := errors.Join(modErr, sumErr); err != nil {
			problems = append(problems, document.Problem{File: path.Join(r.Dir, release.FileName), Field: "sources",
				Text: fmt.Sprintf("the pins of %s cannot be read (%v); put %s.mod and %s.sum beside the release", source.Name, err, source.Name, source.Name)})
			continue
		}
		p.mod, p.sum = string(mod), string(sum)
		if err := p.check(); err != nil {
			problems = append(problems, err)
		}
		pins = append(pins, p)
	}
	return pins, errors.Join(problems...)
}

func providesAny(source release.Source, binaries map[string]bool) bool {
	for _, binary := range source.Binaries {
		if binaries[binary.Name] {
			return true
		}
	}
	return false
}

// check finds, before a build of minutes, that NAME.mod asks for another version than the release says.
func (p pin) check() error {
	for line := range strings.Lines(p.mod) {
		fields := strings.Fields(strings.TrimPrefix(strings.TrimSpace(line), "require "))
		if len(fields) < 2 || fields[0] != p.source.Module || fields[1] == "=>" {
			continue
		}
		if fields[1] != p.source.Version {
			return document.Problem{File: p.modFile, Field: "require " + p.source.Module,
				Text: fmt.Sprintf("is %s, and the release says %s; make them the same", fields[1], p.source.Version)}
		}
		return nil
	}
	return document.Problem{File: p.modFile, Text: fmt.Sprintf("does not require %s; add it at %s", p.source.Module, p.source.Version)}
}

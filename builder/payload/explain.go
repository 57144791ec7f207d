package payload

import (
	"errors"
	"fmt"
	"strings"

	"github.com/kiln-os/kiln/internal/command"
	"github.com/kiln-os/kiln/internal/document"
)

// errMissingSum says that Go needed a checksum that NAME.sum does not have.
var errMissingSum = errors.New("missing go.sum entry")

// explain turns what go says of the pins into a problem of the file that has to be mended. What is no fault of the
// pins, a network that is down for one, stays what it is: it may be tried again.
func (b builder) explain(err error) error {
	text := err.Error()
	if exit, ok := errors.AsType[*command.ExitError](err); ok && exit.Tail != "" {
		text = exit.Tail
	}
	switch {
	case strings.Contains(text, "checksum mismatch"), strings.Contains(text, "SECURITY ERROR"):
		return document.Problem{File: b.pin.sumFile, Text: fmt.Sprintf(
			"what was downloaded is not what was pinned; find out which of the two is false before you change either:\n%s", evidence(text))}
	case strings.Contains(text, "missing go.sum entry"), strings.Contains(text, "updates to go.sum needed"):
		return document.Problem{File: b.pin.sumFile, Text: fmt.Sprintf("a checksum is missing; pin the release again:\n%s", evidence(text))}
	case strings.Contains(text, "updates to go.mod needed"), strings.Contains(text, "no required module provides package"):
		return document.Problem{File: b.pin.modFile, Text: fmt.Sprintf("a module is missing; pin the release again:\n%s", evidence(text))}
	default:
		return err
	}
}

// evidence is what go wrote about modules, without the packages that it was compiling meanwhile.
func evidence(text string) string {
	var lines []string
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		if strings.ContainsAny(line, " \t") && len(lines) < 12 {
			lines = append(lines, "    "+line)
		}
	}
	return strings.Join(lines, "\n")
}

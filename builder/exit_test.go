package main

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/kiln-os/kiln/builder/parts"
	"github.com/kiln-os/kiln/builder/payload"
	"github.com/kiln-os/kiln/builder/plan"
	"github.com/kiln-os/kiln/builder/rootfs"
	"github.com/kiln-os/kiln/internal/document"
)

func TestExitCode(t *testing.T) {
	problem := document.Problem{File: "f", Field: "x", Text: "wrong"}
	for _, row := range []struct {
		summary string
		err     error
		want    int
	}{
		{"none", nil, 0},
		{"cobra's own", errors.New("unknown flag"), 2},
		{"a verb's", ranError{errors.New("network is unreachable")}, 1},
		{"a full directory", ranError{fmt.Errorf("packing: %w", &parts.PlaceError{Dir: "d", Text: "no space left"})}, 2},
		{"no compiler", ranError{fmt.Errorf("building: %w", payload.MissingTool{Tool: "gcc", Package: "gcc"})}, 2},
		{"no mmdebstrap", ranError{rootfs.MissingTool{Tool: "mmdebstrap", Package: "mmdebstrap"}}, 2},
		{"a verb's usage", ranError{usagef("bad")}, 2},
		{"a document", ranError{fmt.Errorf("building: %w", errors.Join(errors.New("x"), problem))}, 78},
		{"a name beside a document", ranError{errors.Join(problem, plan.Unknown{Kind: "Image", Name: "x"})}, 2},
	} {
		if got := exitCode(row.err); got != row.want {
			t.Errorf("%s: exit code %d; want %d", row.summary, got, row.want)
		}
	}
}

func TestMessages(t *testing.T) {
	one, two := errors.New("one"), errors.New("two\nlines")
	for _, row := range []struct {
		err  error
		want string
	}{
		{one, "one"},
		{two, "two\n  lines"},
		{errors.Join(one, errors.Join(two, one)), "one|two\n  lines|one"},
		{ranError{usageError{errors.Join(one, one)}}, "one|one"},
		{fmt.Errorf("building: %w", errors.Join(one, one)), "building: one\n  one"},
		{fmt.Errorf("%w beside %w", one, one), "one beside one"},
		{ranError{fmt.Errorf("packing: %w", errors.Join(&parts.PlaceError{Dir: "d", Text: "is full; empty it", Err: two}, one))}, "d: is full; empty it"},
	} {
		if got := strings.Join(messages(row.err), "|"); got != row.want {
			t.Errorf("messages of %q are %q; want %q", row.err, got, row.want)
		}
	}
}

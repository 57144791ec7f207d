package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kiln-os/kiln/builder/parts"
	"github.com/kiln-os/kiln/builder/payload"
	"github.com/kiln-os/kiln/builder/plan"
	"github.com/kiln-os/kiln/builder/rootfs"
	"github.com/kiln-os/kiln/internal/document"
)

// Exit codes. A script may try again after 1; after 2 and 78 somebody has to change something first.
const (
	exitDone     = 0
	exitRetry    = 1
	exitUsage    = 2
	exitDocument = 78
)

// usageError is a mistake in the command line.
type usageError struct{ error }

func (u usageError) Unwrap() error { return u.error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// ranError marks what a verb itself returned: all other errors are cobra's, about flags and arguments.
type ranError struct{ error }

func (r ranError) Unwrap() error { return r.error }

// markRan wraps every verb below cmd, so that exitCode can tell.
func markRan(cmd *cobra.Command) {
	if verb := cmd.RunE; verb != nil {
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			if err := verb(cmd, args); err != nil {
				return ranError{err}
			}
			return nil
		}
	}
	for _, child := range cmd.Commands() {
		markRan(child)
	}
}

func exitCode(err error) int {
	var usage usageError
	var ran ranError
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &usage) || plan.IsUnknown(err) || !errors.As(err, &ran) || isHost(err):
		return exitUsage
	case document.IsInvalid(err):
		return exitDocument
	default:
		return exitRetry
	}
}

// isHost tells whether err says that this machine lacks something: a program, or a directory that takes the results.
func isHost(err error) bool {
	_, place := errors.AsType[*parts.PlaceError](err)
	_, compiler := errors.AsType[payload.MissingTool](err)
	_, packager := errors.AsType[rootfs.MissingTool](err)
	return place || compiler || packager
}

// messages takes joined errors apart: one message a problem. The further lines of a message are indented.
func messages(err error) []string {
	// Whatever else went wrong is what a full or forbidden directory leads to.
	if place, ok := errors.AsType[*parts.PlaceError](err); ok {
		return []string{place.Error()}
	}
	switch e := err.(type) {
	case ranError:
		return messages(e.error)
	case usageError:
		return messages(e.error)
	case interface{ Unwrap() []error }:
		var all, texts []string
		for _, child := range e.Unwrap() {
			all = append(all, messages(child)...)
			texts = append(texts, child.Error())
		}
		// Only a plain join is taken apart: other wrappers have words of their own.
		if strings.Join(texts, "\n") == err.Error() {
			return all
		}
	}
	return []string{strings.ReplaceAll(strings.TrimSpace(err.Error()), "\n", "\n  ")}
}

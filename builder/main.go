// Kiln bakes immutable Kubernetes node images: `kiln help` shows what it can do.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/kiln-os/kiln/builder/plan"
	"github.com/kiln-os/kiln/images"
	"github.com/kiln-os/kiln/profiles"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first signal lets the work under way end cleanly; after it, the next one kills.
	context.AfterFunc(ctx, stop)
	env, err := newEnvironment()
	if err != nil {
		fmt.Fprintln(os.Stderr, "kiln:", err)
		os.Exit(exitRetry)
	}
	os.Exit(run(ctx, env, streams{os.Args[1:], os.Stdout, os.Stderr}))
}

// environment is what verbs reach beyond their arguments; a test gives its own.
type environment struct {
	// sources are the documents that kiln comes with, and the host's files.
	sources plan.Sources
	getenv  func(string) string
	now     func() time.Time
	// wrote is called after each change of a cluster's directory; an error ends the work there.
	wrote func(name string) error
}

func newEnvironment() (environment, error) {
	releases, releasesErr := fs.Sub(images.Releases, "releases")
	overlay, overlayErr := fs.Sub(images.Overlay, "overlay")
	return environment{
		sources: plan.Sources{
			Images: images.Definitions, Profiles: profiles.FS, Releases: releases, Overlay: overlay, Open: os.DirFS,
		},
		getenv: os.Getenv,
		now:    time.Now,
		wrote:  func(string) error { return nil },
	}, errors.Join(releasesErr, overlayErr)
}

// streams are a command line and where its output goes.
type streams struct {
	args     []string
	out, err io.Writer
}

// run executes one command line and returns the exit code.
func run(ctx context.Context, env environment, s streams) int {
	root := newRoot(env)
	root.SetArgs(s.args)
	root.SetOut(s.out)
	root.SetErr(s.err)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitDone
	}
	for _, message := range messages(err) {
		fmt.Fprintln(s.err, "kiln: "+message)
	}
	code := exitCode(err)
	if code == exitUsage && !plan.IsUnknown(err) && !isHost(err) {
		fmt.Fprintf(s.err, "kiln: see %s --help\n", cmd.CommandPath())
	}
	return code
}

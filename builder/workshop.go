package main

import (
	"context"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/kiln-os/kiln/builder/parts"
	"github.com/kiln-os/kiln/builder/payload"
	"github.com/kiln-os/kiln/builder/progress"
	"github.com/kiln-os/kiln/builder/rootfs"
	"github.com/kiln-os/kiln/internal/command"
	"github.com/kiln-os/kiln/internal/release"
)

// workshop is what every verb that builds something works with.
type workshop struct {
	store    parts.Store
	debian   rootfs.Debian
	progress *progress.Reporter
}

func newWorkshop(cmd *cobra.Command, env environment, r release.Release) (workshop, error) {
	cache, err := cacheDir(cmd, env)
	if err != nil {
		return workshop{}, err
	}
	// Programs of the tools tree are run from other directories.
	if cache, err = filepath.Abs(cache); err != nil {
		return workshop{}, err
	}
	w := workshop{store: parts.Store{Dir: filepath.Join(cache, "parts")}, progress: progress.New(cmd.ErrOrStderr(), isTerminal(cmd))}
	w.debian = rootfs.Debian{Store: w.store, Run: command.Exec{}, Progress: w.progress, Suite: r.Suite, Epoch: r.Timestamp}
	return w, nil
}

// payload builds the release's binaries from source, the way that needs nothing but package mirrors.
func (w workshop) payload() payload.Source {
	return payload.Source{Store: w.store, Run: command.Exec{}, Progress: w.progress, PackageTar: w.debian.PackageTar}
}

// oncePayload asks a provider once for what several images of the same release and profile share: verifying 22 programs
// takes as long as some formats do.
type oncePayload struct {
	payload.Provider
	provided *payload.Payload
}

// Provide implements payload.Provider; every request is taken to be the same.
func (o *oncePayload) Provide(ctx context.Context, r payload.Request) (payload.Payload, error) {
	if o.provided == nil {
		provided, err := o.Provider.Provide(ctx, r)
		if err != nil {
			return provided, err
		}
		o.provided = &provided
	}
	return *o.provided, nil
}

func isTerminal(cmd *cobra.Command) bool {
	file, ok := cmd.ErrOrStderr().(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// besideProgram is the path of a program in the directory of this one.
func besideProgram(name string) string {
	self, err := os.Executable()
	if err != nil {
		return name
	}
	return filepath.Join(filepath.Dir(self), name)
}

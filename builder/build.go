package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/kiln-os/kiln/builder/bake"
	"github.com/kiln-os/kiln/builder/parts"
	"github.com/kiln-os/kiln/builder/payload"
	"github.com/kiln-os/kiln/builder/plan"
	"github.com/kiln-os/kiln/builder/progress"
	"github.com/kiln-os/kiln/builder/rootfs"
	"github.com/kiln-os/kiln/internal/command"
	"github.com/kiln-os/kiln/internal/release"
)

func newBuild(env environment) *cobra.Command {
	var options plan.Options
	var out, firstboot, mirror string
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "build IMAGE --profile PROFILE --release RELEASE -o DIR",
		GroupID: groupImages,
		Short:   "Bake a node image",
		Long: `Bake a node image into DIR: the disk image, checksums, the kernel command line with
the root hash, manifest.json, which names what is inside, and sbom.cdx.json, which
lists it for scanners (CycloneDX 1.6): the packages of the operating system and of
the container images, every program, and every Go module in a program.

A build needs no root, no container engine and no loop devices. What did not
change since the last build is taken from the cache; with nothing changed, DIR is
left as it is. A build that is interrupted leaves DIR as it was, and the next
one goes on from the parts that were finished. The same documents, packages and
programs give the same bytes.

The kiln program needs the firstboot program beside it: it becomes the image's
/init and the service that makes the node a member of its cluster.`,
		Example: `  kiln build vm-disk --profile control-plane --release v1.36 -o out
  kiln build ./my-image.yaml --profile ./my-profile.yaml --release v1.36 -o out
  kiln build vm-disk --profile worker --release v1.36 -o out --json | jq -r .rootHash`,
		Args: operands("IMAGE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if out == "" {
				return usagef("--output is missing; want a directory for the results, as in -o out")
			}
			resolved, err := resolve(env, args[0], options)
			if err != nil {
				return err
			}
			w, err := newWorkshop(cmd, env, resolved.Release)
			if err != nil {
				return err
			}
			w.debian.Mirror = mirror
			if firstboot == "" {
				firstboot = besideProgram("firstboot")
			}
			manifest, err := bake.Run(cmd.Context(), bake.Options{
				Plan: resolved, Overlay: env.sources.Overlay, Payload: w.payload(), Firstboot: firstboot, Out: out,
				Debian: w.debian, Store: w.store, Run: command.Exec{}, Progress: w.progress,
			})
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), struct {
					bake.Manifest
					Unchanged bool          `json:"unchanged"`
					Timings   []bake.Timing `json:"timings"`
				}{manifest, manifest.Unchanged, manifest.Timings})
			}
			return printBuilt(cmd, out, manifest)
		},
	}
	planFlags(cmd, env, &options)
	cmd.Flags().StringVarP(&out, "output", "o", "", "directory for the results")
	cmd.Flags().StringVar(&firstboot, "firstboot", "", "the firstboot program (default: beside kiln)")
	cmd.Flags().StringVar(&mirror, "mirror", "", "Debian mirror, or a line of sources.list (default: mmdebstrap's)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the manifest, and what each step took")
	return cmd
}

func printBuilt(cmd *cobra.Command, out string, m bake.Manifest) error {
	state := "built"
	if m.Unchanged {
		state = "unchanged"
	}
	total := m.Timings[len(m.Timings)-1]
	_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s\t%s %s in %.1f s\nroot hash\t%s\nsha256\t%s\n",
		filepath.Join(out, bake.FileDisk), state, m.Version, total.Seconds, m.RootHash, m.Files[0].SHA256)
	return err
}

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

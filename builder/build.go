package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kiln-os/kiln/builder/bake"
	"github.com/kiln-os/kiln/builder/plan"
	"github.com/kiln-os/kiln/internal/command"
)

func newBuild(env environment) *cobra.Command {
	var options plan.Options
	var out, firstboot, mirror, sign string
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "build IMAGE[,IMAGE…] --profile PROFILE --release RELEASE -o DIR",
		GroupID: groupImages,
		Short:   "Bake a node image",
		Long: `Bake a node image into DIR: the disk in the image's format, checksums, the kernel
command line with the root hash, manifest.json, which names what is inside, and
sbom.cdx.json, which lists it for scanners (CycloneDX 1.6): the packages of the
operating system and of the container images, every program, and every Go module in
a program.

Several images go into a directory each, DIR/IMAGE. They share what they have in
common, down to the sealed root, so that all of them take little longer than one.

A build needs no root, no container engine and no loop devices. What did not
change since the last build is taken from the cache; with nothing changed, DIR is
left as it is. A build that is interrupted leaves DIR as it was, and the next
one goes on from the parts that were finished. The same documents, packages and
programs give the same bytes.

With --sign, the unified kernel image and the boot loader are signed for Secure Boot,
and DIR/secure-boot has the files that make firmware trust the key: certificate,
signature lists, and signed variable writes for PK, KEK and db. The same key gives the
same bytes, and everything but the signatures is as without it. The key is read by
kiln alone; no part in the cache and no other program gets it.

The kiln program needs the firstboot program beside it: it becomes the image's
/init and the service that makes the node a member of its cluster.`,
		Example: `  kiln build vm-disk --profile control-plane --release v1.36 -o out
  kiln build cloud-qcow2,cloud-aws,cloud-vhd --profile worker --release v1.36 -o out
  kiln build ./my-image.yaml --profile ./my-profile.yaml --release v1.36 -o out
  kiln build metal-iso --profile worker --release v1.36 --sign db.key,db.crt -o out
  kiln build vm-disk --profile worker --release v1.36 -o out --json | jq -r .rootHash`,
		Args: operands("IMAGE[,IMAGE…]"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if out == "" {
				return usagef("--output is missing; want a directory for the results, as in -o out")
			}
			jobs, err := planBuilds(env, args[0], out, options)
			if err != nil {
				return err
			}
			w, err := newWorkshop(cmd, env, jobs[0].Plan.Release)
			if err != nil {
				return err
			}
			signer, err := readSigner(sign)
			if err != nil {
				return err
			}
			w.debian.Mirror = mirror
			if firstboot == "" {
				firstboot = besideProgram("firstboot")
			}
			var built []report
			shared := &oncePayload{Provider: w.payload()}
			for i := range jobs {
				job := &jobs[i]
				job.Overlay, job.Payload, job.Firstboot = env.sources.Overlay, shared, firstboot
				job.Signer = signer
				job.Debian, job.Store, job.Run, job.Progress = w.debian, w.store, command.Exec{}, w.progress
			}
			early := bake.NewEarly(jobs)
			defer early.End()
			for _, job := range jobs {
				job.Early = early
				manifest, err := bake.Run(cmd.Context(), job)
				if err != nil {
					return err
				}
				built = append(built, report{manifest, manifest.Unchanged, manifest.Timings})
				if asJSON {
					continue
				}
				if err := printBuilt(cmd, job.Out, manifest); err != nil {
					return err
				}
			}
			switch {
			case !asJSON:
				return nil
			case len(built) == 1:
				return printJSON(cmd.OutOrStdout(), built[0])
			default:
				return printJSON(cmd.OutOrStdout(), built)
			}
		},
	}
	planFlags(cmd, env, &options)
	cmd.ValidArgsFunction = completeList(env, plan.ImageKind)
	cmd.Flags().StringVarP(&out, "output", "o", "", "directory for the results")
	cmd.Flags().StringVar(&firstboot, "firstboot", "", "the firstboot program (default: beside kiln)")
	cmd.Flags().StringVar(&mirror, "mirror", "", "Debian mirror, or a line of sources.list (default: mmdebstrap's)")
	cmd.Flags().StringVar(&sign, "sign", "", "KEY,CERT: files (PEM) to sign what UEFI starts with, for Secure Boot")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the manifest, and what each step took")
	return cmd
}

// report is what --json prints of a build; of several, a list.
type report struct {
	bake.Manifest
	Unchanged bool          `json:"unchanged"`
	Timings   []bake.Timing `json:"timings"`
}

// planBuilds resolves every image of a list and finds each its output directory: out itself for one, a directory of its
// name for each of several. The error joins the problems of all, each once.
func planBuilds(env environment, images, out string, o plan.Options) ([]bake.Options, error) {
	names := strings.Split(images, ",")
	var jobs []bake.Options
	var problems []error
	said := map[string]bool{}
	for _, name := range names {
		resolved, err := resolve(env, name, o)
		if err != nil {
			// What is wrong with the profile is wrong for every image.
			if !said[err.Error()] {
				problems = append(problems, err)
			}
			said[err.Error()] = true
			continue
		}
		dir := out
		if len(names) > 1 {
			dir = filepath.Join(out, resolved.Image.Name)
		}
		if slices.ContainsFunc(jobs, func(j bake.Options) bool { return j.Out == dir }) {
			problems = append(problems, usagef("image %s is named twice; name it once", resolved.Image.Name))
		}
		jobs = append(jobs, bake.Options{Plan: resolved, Out: dir})
	}
	return jobs, errors.Join(problems...)
}

func printBuilt(cmd *cobra.Command, out string, m bake.Manifest) error {
	state := "built"
	if m.Unchanged {
		state = "unchanged"
	}
	total := m.Timings[len(m.Timings)-1]
	_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s\t%s %s in %.1f s\nroot hash\t%s\nsha256\t%s\n",
		filepath.Join(out, m.Files[0].Name), state, m.Version, total.Seconds, m.RootHash, m.Files[0].SHA256)
	return err
}

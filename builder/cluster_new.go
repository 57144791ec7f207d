package main

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"

	"github.com/kiln-os/kiln/internal/cluster"
	"github.com/kiln-os/kiln/internal/document"
	"github.com/kiln-os/kiln/internal/release"
)

// clusterTemplate is a whole document: NAME and RELEASE stand for what the command line says.
//
//go:embed cluster.yaml.tmpl
var clusterTemplate string

func newClusterNew(env environment) *cobra.Command {
	var out, pinned string
	cmd := &cobra.Command{
		Use:   "new NAME",
		Short: "Write a cluster.yaml to edit",
		Long: `Write a commented cluster.yaml: three control planes and two workers behind a load
balancer, with an example of everything that can be said. Edit the addresses, and
render it. A file that is there is never written over.`,
		Example: `  kiln cluster new prod
  kiln cluster new prod -o prod.yaml`,
		Args: operands("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if pinned == "" {
				return usagef("--release is missing; want one of %s", strings.Join(env.sources.Names(release.Kind), ", "))
			}
			text := strings.NewReplacer("NAME", args[0], "RELEASE", pinned).Replace(clusterTemplate)
			if _, _, err := cluster.ParseDefinition(out, []byte(text)); err != nil {
				// The document is right but for what the command line put into it.
				return usageError{err}
			}
			if err := writeNew(out, []byte(text)); err != nil {
				return err
			}
			_, err := fmt.Fprintln(cmd.OutOrStdout(), out)
			return err
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	cmd.Flags().StringVarP(&out, "output", "o", "cluster.yaml", "the file to write")
	cmd.Flags().StringVarP(&pinned, "release", "r", onlyRelease(env), "the release that the nodes' images carry")
	_ = cmd.RegisterFlagCompletionFunc("release", complete(env, release.Kind, true))
	return cmd
}

// writeNew writes a file that is not there yet, or is the same.
func writeNew(file string, text []byte) error {
	have, err := os.ReadFile(file)
	switch {
	case err == nil && bytes.Equal(have, text):
		return nil
	case err == nil:
		return usagef("%s: is there already and says something else; give another file with -o, or remove it", file)
	case !errors.Is(err, fs.ErrNotExist):
		return document.Problem{File: file, Text: fmt.Sprintf("cannot be read (%v); give another file with -o", pathReason(err))}
	}
	if err := renameio.WriteFile(file, text, 0o644); err != nil {
		return usagef("%s: cannot be written (%v); give another file with -o", file, pathReason(err))
	}
	return nil
}

package main

import (
	"github.com/spf13/cobra"

	"github.com/kiln-os/kiln/builder/bake"
	"github.com/kiln-os/kiln/builder/plan"
)

func newShow(env environment) *cobra.Command {
	var options plan.Options
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "show IMAGE --profile PROFILE --release RELEASE",
		GroupID: groupDocuments,
		Short:   "Show what a build would make, without making it",
		Long: `Show the resolved plan of a build: every program, Debian package and container
image with its version, the units, the kernel command line, the partition table
and the steps of the build. Nothing is downloaded, built or written.

What is wrong with any of the three documents, or contradicts between them, is
told all at once; then the exit code is 78. Only a build knows the root hash:
<root-hash> stands for it.`,
		Example: `  kiln show vm-disk --profile control-plane --release v1.36
  kiln show ./my-image.yaml --profile ./my-profile.yaml --release v1.36
  kiln show vm-disk --profile worker --release v1.36 --json | jq .containerImages`,
		Args: operands("IMAGE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			resolved, err := resolve(env, args[0], options)
			if err != nil {
				return err
			}
			description := resolved.Describe()
			for _, s := range bake.Steps() {
				description.Steps = append(description.Steps, plan.Step{Name: s.Name, Does: s.Does})
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), description)
			}
			return description.Render(cmd.OutOrStdout())
		},
	}
	planFlags(cmd, env, &options)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

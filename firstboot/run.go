package main

import (
	"github.com/spf13/cobra"

	"github.com/kiln-os/kiln/firstboot/bootstrap"
	"github.com/kiln-os/kiln/firstboot/reset"
	"github.com/kiln-os/kiln/internal/nodefs"
)

func newRun() *cobra.Command {
	var root string
	var dry bool
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run the first boot, or what is left of it",
		Long: `Run finds the node's identity and runs the first boot's steps in order. It may be killed or lose power at any moment: the
next run goes on. Done once, it does nothing.`,
		Example: "  firstboot run --dry-run    # which steps, and kubeadm's configuration without its secrets",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			report := bootstrap.NewReport(cmd.OutOrStdout())
			machine := bootstrap.OnNode(nodefs.Root(root), report)
			if dry {
				return work(report.Redact(machine.DryRun(cmd.Context(), cmd.OutOrStdout())))
			}
			if err := bootstrap.NoCoreDumps(); err != nil {
				return work(err)
			}
			// A node that was leaving its cluster when it went off has to be gone before it comes back.
			if err := reset.OnNode(nodefs.Root(root), cmd.OutOrStdout()).Resume(cmd.Context()); err != nil {
				return work(err)
			}
			if err := machine.Run(cmd.Context()); err != nil {
				return work(said{err})
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&dry, "dry-run", false, "print the steps and kubeadm's configuration, and change nothing")
	cmd.Flags().StringVar(&root, "root", "/", "take the node's files from below this directory")
	return cmd
}

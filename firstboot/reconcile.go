package main

import (
	"github.com/spf13/cobra"

	"github.com/kiln-os/kiln/firstboot/bootstrap"
	"github.com/kiln-os/kiln/firstboot/reconcile"
	"github.com/kiln-os/kiln/internal/nodefs"
)

func newReconcile() *cobra.Command {
	var root string
	cmd := &cobra.Command{
		Use:   "reconcile",
		Short: "Do for the cluster's nodes what they may not do themselves",
		Long: `Reconcile runs on every control plane, for ever, once its first boot is done: it gives nodes the role and the labels that
the cluster's operator has signed for, names machines that are in the cluster twice, removes nodes that have left, and
keeps uploaded certificates alive while control planes are expected. On a worker it ends at once.

The service kiln-reconcile.service runs it.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			at := nodefs.Root(root)
			r := reconcile.OnNode(at, cmd.OutOrStdout(), func() bool { return bootstrap.Done(at) })
			if err := r.Run(cmd.Context()); err != nil {
				return work(bootstrap.Permanent{Err: err})
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&root, "root", "/", "take the node's files from below this directory")
	return cmd
}

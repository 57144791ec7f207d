package main

import (
	"github.com/spf13/cobra"

	"github.com/kiln-os/kiln/firstboot/reset"
	"github.com/kiln-os/kiln/internal/nodefs"
)

func newReset() *cobra.Command {
	var root string
	var dry bool
	var o reset.Options
	cmd := &cobra.Command{
		Use:   "reset",
		Short: "Leave the cluster, and forget it",
		Long: `Reset takes this node out of its cluster: pods are evicted, a control plane's member of etcd is removed, the Node is deleted,
and the node's state and secrets are wiped. Until it has asked everybody, nothing is lost: when pods do not go, or a control
plane that stays would have no quorum, it says so and stops. From then on it finishes, after a power cut at the next boot.

Where the identity came from is not touched: with it, the node joins again under the same name at its next boot, or after
systemctl restart firstboot.service. Run it where it outlives the pods: systemd-run --pipe firstboot reset.`,
		Example: "  firstboot reset --dry-run                 # which steps\n  firstboot reset --drain-timeout 15m       # for pods that take long",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			machine := reset.OnNode(nodefs.Root(root), cmd.OutOrStdout())
			if dry {
				return work(machine.DryRun(o))
			}
			return work(machine.Run(cmd.Context(), o))
		},
	}
	cmd.Flags().DurationVar(&o.DrainTimeout, "drain-timeout", reset.DefaultDrainTimeout, "how long pods may take to go")
	cmd.Flags().BoolVar(&o.Force, "force", false, "leave although pods do not go, the cluster cannot be asked, or it ends with this node")
	cmd.Flags().BoolVar(&o.RemoveImages, "remove-images", false, "also remove the container images that were pulled; those of the node image stay")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "print the steps, and change nothing")
	cmd.Flags().StringVar(&root, "root", "/", "take the node's files from below this directory")
	return cmd
}

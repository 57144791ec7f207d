package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/kiln-os/kiln/firstboot/bootstrap"
	"github.com/kiln-os/kiln/firstboot/ignition"
	"github.com/kiln-os/kiln/internal/command"
	"github.com/kiln-os/kiln/internal/nodefs"
)

func newIgnition() *cobra.Command {
	var network bool
	cmd := &cobra.Command{
		Use:   "ignition",
		Short: "Apply what the Ignition config asks for besides the identity",
		Long: `Ignition applies the user's own part of the Ignition config that the identity came in: files, directories, links, units,
users, and disks. Upstream's engine does the work, once for each machine. What cannot be applied stops the boot. Two units run
it: kiln-ignition.service early, and kiln-ignition-network.service when the config needs the network.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := bootstrap.NoCoreDumps(); err != nil {
				return work(err)
			}
			err := ignitionOn("/", cmd).Run(cmd.Context(), network)
			if _, failed := errors.AsType[ignition.Failed](err); failed {
				err = bootstrap.Permanent{Err: err}
			}
			if err != nil && bootstrap.IsPermanent(err) {
				err = fmt.Errorf("the Ignition config cannot be applied: %w\nthe boot stops here: mend the config and boot the machine again", err)
			}
			return work(err)
		},
	}
	cmd.Flags().BoolVar(&network, "network", false, "the network is up: look there, too, and fetch what the config names")
	return cmd
}

// ignitionOn is the machine that the program runs on.
func ignitionOn(root nodefs.Root, cmd *cobra.Command) ignition.Machine {
	return ignition.Machine{
		Root: root, Runner: command.Exec{}, Sync: unix.Sync, DeviceWait: 90 * time.Second,
		Say:  func(text string) { fmt.Fprintln(cmd.OutOrStdout(), "ignition:", text) },
		Find: bootstrap.OnNode(root, bootstrap.NewReport(cmd.OutOrStdout())).Beside,
	}
}

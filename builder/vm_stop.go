package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/kiln-os/kiln/builder/vm"
)

func newVMStop() *cobra.Command {
	var grace time.Duration
	cmd := &cobra.Command{
		Use:   "stop DIR",
		Short: "Stop a machine that kiln vm --detach left running",
		Long: `Press the power button of the machine that runs the image in DIR, or whose --data
directory DIR is, and pull the plug if it is not off in time.`,
		Example: "  kiln vm stop out/image",
		Args:    operands("DIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir := args[0]
			if _, err := vm.ReadState(dir); err != nil {
				dir = detachedDir(args[0])
			}
			clean, err := vm.Stop(dir, grace)
			if errors.Is(err, vm.ErrNotRunning) {
				return usageError{err}
			}
			if err != nil {
				return err
			}
			how := "powered off"
			if !clean {
				how = "switched off: it did not power off within " + grace.String()
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s\t%s\n", dir, how)
			return err
		},
	}
	cmd.Flags().DurationVar(&grace, "grace", 90*time.Second, "how long the machine may take to power off")
	return cmd
}

// detachedDir is where a detached machine lives by default: beside the image, for a build may replace what is in it.
func detachedDir(image string) string { return filepath.Clean(image) + ".vm" }

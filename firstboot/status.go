package main

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/kiln-os/kiln/firstboot/bootstrap"
	"github.com/kiln-os/kiln/internal/nodefs"
)

func newStatus() *cobra.Command {
	var root string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Tell how far the first boot is",
		Long: `Status reads firstboot's journal on the disk. It needs no cluster, and answers as root.

The state is pending (not begun, or cut off and not yet taken up again), running, done, or failed (a person is needed).`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			status, err := bootstrap.ReadStatus(nodefs.Root(root))
			if err != nil {
				return work(err)
			}
			if !asJSON {
				printStatus(cmd.OutOrStdout(), status)
				return nil
			}
			encoder := json.NewEncoder(cmd.OutOrStdout())
			encoder.SetIndent("", "  ")
			return work(encoder.Encode(status))
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON for a machine to read")
	cmd.Flags().StringVar(&root, "root", "/", "take the node's files from below this directory")
	return cmd
}

func printStatus(out io.Writer, s bootstrap.Status) {
	fmt.Fprintf(out, "first boot: %s\n", s.State)
	for _, row := range [][2]string{{"node", s.Node}, {"role", s.Role}, {"profile", s.Profile}, {"image", s.Version}, {"boot", s.BootID}} {
		if row[1] != "" {
			fmt.Fprintf(out, "%-10s  %s\n", row[0], row[1])
		}
	}
	if s.Started != nil {
		fmt.Fprintf(out, "%-10s  %s\n", "started", s.Started.UTC().Format(time.RFC3339))
	}
	if s.Finished != nil {
		fmt.Fprintf(out, "%-10s  %s\n", "finished", s.Finished.UTC().Format(time.RFC3339))
	}
	for _, step := range s.Steps {
		fmt.Fprintf(out, "  %-16s  %-7s  %8.2f s  %s%s\n", step.Name, step.State, step.Seconds, step.Note, step.Error)
	}
}

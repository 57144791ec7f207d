package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// versionFacts is what a program knows of how it was built.
type versionFacts struct {
	Version string `json:"version"`
	// Revision is the commit; Modified says that the tree had changes beside it.
	Revision string `json:"revision,omitempty"`
	Time     string `json:"time,omitempty"`
	Modified bool   `json:"modified"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func newVersion() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "version",
		Short:   "Print kiln's version and what it was built from",
		Long:    "Print kiln's version, the commit it was built from, and the Go that compiled it, to standard output.",
		Example: "  kiln version\n  kiln version --json",
		Args:    operands(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			facts := readVersion()
			if asJSON {
				return printJSON(cmd.OutOrStdout(), facts)
			}
			_, err := fmt.Fprintln(cmd.OutOrStdout(), facts)
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func readVersion() versionFacts {
	facts := versionFacts{Version: "(unknown)", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return facts
	}
	if info.Main.Version != "" {
		facts.Version = info.Main.Version
	}
	for _, setting := range info.Settings {
		switch setting.Key {
		case "vcs.revision":
			facts.Revision = setting.Value
		case "vcs.time":
			facts.Time = setting.Value
		case "vcs.modified":
			facts.Modified = setting.Value == "true"
		}
	}
	return facts
}

// String is the one line that `kiln version` prints.
func (v versionFacts) String() string {
	line := "kiln " + v.Version
	if v.Revision != "" {
		line += " commit " + v.Revision
	}
	if v.Modified {
		line += " (modified)"
	}
	return line + " " + v.Go + " " + v.Platform
}

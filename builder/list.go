package main

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/kiln-os/kiln/builder/plan"
)

func newList(env environment) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "list",
		GroupID: groupDocuments,
		Short:   "List the images, profiles and releases that kiln comes with",
		Long: `List the images, profiles and releases that kiln comes with: the names that
build and show take. The list goes to standard output.`,
		Example: `  kiln list
  kiln list --json | jq -r '.images[].name'`,
		Args: operands(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			catalogue, err := env.sources.Catalogue()
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), catalogue)
			}
			return printCatalogue(cmd.OutOrStdout(), catalogue)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func printCatalogue(out io.Writer, c plan.Catalogue) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "images: where a node boots")
	for _, image := range c.Images {
		fmt.Fprintf(w, "  %s\t%s\n", image.Name, image.Description)
	}
	fmt.Fprintln(w, "profiles: what a node is for")
	for _, profile := range c.Profiles {
		fmt.Fprintf(w, "  %s\t%s\n", profile.Name, profile.Description)
	}
	fmt.Fprintln(w, "releases: which versions it carries")
	for _, release := range c.Releases {
		fmt.Fprintf(w, "  %s\t%s\n", release.Name, release.Description)
	}
	return w.Flush()
}

// printJSON writes value as indented JSON. Command lines hold < and >, which need no escape outside of HTML.
func printJSON(out io.Writer, value any) error {
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(value)
}

package main

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/kiln-os/kiln/builder/schema"
)

func newSchema() *cobra.Command {
	var kinds []string
	for _, kind := range schema.Kinds() {
		kinds = append(kinds, strings.ToLower(kind))
	}
	return &cobra.Command{
		Use:     "schema KIND",
		GroupID: groupDocuments,
		Short:   "Print the JSON Schema of a kind of documents",
		Long: `Print the JSON Schema (draft 2020-12) of a kind of documents, from which editors
complete and check your files: ` + strings.Join(kinds, ", ") + `.

With the YAML language server, begin a document with the line
  # yaml-language-server: $schema=./image.schema.json`,
		Example:           `  kiln schema image > image.schema.json`,
		Args:              operands("KIND"),
		ValidArgsFunction: cobra.FixedCompletions(kinds, cobra.ShellCompDirectiveNoFileComp),
		RunE: func(cmd *cobra.Command, args []string) error {
			text, err := schema.Render(args[0])
			if err != nil {
				return usageError{err}
			}
			_, err = cmd.OutOrStdout().Write(text)
			return err
		},
	}
}

package main

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kiln-os/kiln/builder/plan"
)

// Groups of verbs in the help text.
const (
	groupDocuments = "documents"
	groupImages    = "images"
	groupClusters  = "clusters"
)

const rootLong = `Kiln bakes immutable Kubernetes node images, and everything that a node needs to
become a member of its cluster with nobody logging in.

A build is named by three documents:
  an image     where the node boots       vm-disk
  a profile    what the node is for       control-plane
  a release    which versions it carries  v1.36
Kiln comes with some of each (kiln list). Wherever a name is wanted, the path of
a document of your own will do.

Results go to standard output or into the directory given with -o, progress and
problems to standard error. Exit codes: 0 done; 1 failed, trying again may help;
2 the command is wrong, or this machine lacks a program or room; 78 a document is
wrong.`

const rootExample = `  kiln list
  kiln show vm-disk --profile control-plane --release v1.36
  kiln build vm-disk --profile control-plane --release v1.36 -o out
  kiln vm out`

// newRoot makes a fresh tree of commands.
func newRoot(env environment) *cobra.Command {
	root := &cobra.Command{
		Use:           "kiln",
		Short:         "Bake immutable Kubernetes node images",
		Long:          rootLong,
		Example:       rootExample,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.AddGroup(
		&cobra.Group{ID: groupDocuments, Title: "See what there is:"},
		&cobra.Group{ID: groupImages, Title: "Make and boot images:"},
		&cobra.Group{ID: groupClusters, Title: "Make clusters:"},
	)
	root.AddCommand(
		newList(env), newShow(env), newSchema(),
		newBuild(env), newVM(env), newBinary(env), newCache(env),
		newCluster(env), newIdentity(env),
		newVersion(),
	)
	root.PersistentFlags().String("cache", "", "directory for what builds share (default $KILN_CACHE, or kiln in $XDG_CACHE_HOME or ~/.cache)")
	container(root)
	markRan(root)
	return root
}

// container makes cmd print its help when it is called alone, and refuse what is not one of its verbs.
func container(cmd *cobra.Command) {
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		var names []string
		for _, child := range cmd.Commands() {
			if child.IsAvailableCommand() {
				names = append(names, child.Name())
			}
		}
		hint := ""
		if nearest := plan.Nearest(args[0], names); nearest != "" {
			hint = fmt.Sprintf("; did you mean %s?", nearest)
		}
		return usagef("%s has no verb %q%s", cmd.CommandPath(), args[0], hint)
	}
}

// cacheDir is the directory for what builds share.
func cacheDir(cmd *cobra.Command, env environment) (string, error) {
	if dir, err := cmd.Flags().GetString("cache"); err != nil || dir != "" {
		return dir, err
	}
	if dir := env.getenv("KILN_CACHE"); dir != "" {
		return dir, nil
	}
	// The XDG Base Directory Specification has a relative path ignored.
	if dir := env.getenv("XDG_CACHE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "kiln"), nil
	}
	if home := env.getenv("HOME"); home != "" {
		return filepath.Join(home, ".cache", "kiln"), nil
	}
	return "", usagef("there is no directory for the cache: HOME is not set; give one with --cache or KILN_CACHE")
}

// operands wants exactly the arguments that the verb's use line names.
func operands(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < len(names):
			return usagef("%s: %s is missing; want %s", cmd.CommandPath(), names[len(args)], cmd.UseLine())
		case len(args) > len(names):
			return usagef("%s: %q is one argument too many; want %s", cmd.CommandPath(), strings.Join(args[len(names):], " "), cmd.UseLine())
		}
		return nil
	}
}

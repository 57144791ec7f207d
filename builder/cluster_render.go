package main

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/kiln-os/kiln/builder/authority"
	"github.com/kiln-os/kiln/internal/cluster"
)

func newClusterRender(env environment) *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:   "render CLUSTER.YAML -o DIR",
		Short: "Make the secrets of a cluster and the identity of every node",
		Long: `Make the identity of every node and pool of a cluster in DIR, each as a plain
document (identity.yaml) and as an Ignition config (config.ign), and a kubeconfig
of the administrator (admin.conf).

The cluster's secrets are made once and kept in DIR/secrets.yaml: rendering again
gives the same files, and a node that was added to the document changes no other
node's. What belongs to a node that the document no longer has is removed. A run
that was cut short is completed by the next.

DIR gets mode 0700 and its files 0600. Nothing is written when anything is wrong
with the document, and nothing at all into a directory that holds something else.
The directories of the nodes go to standard output.`,
		Example: `  kiln cluster new prod
  kiln cluster render cluster.yaml -o prod
  kiln vm out/control-plane --identity prod/nodes/cp1/config.ign`,
		Args: operands("CLUSTER.YAML"),
		RunE: func(cmd *cobra.Command, args []string) error {
			definition, err := define(cmd, args[0])
			if err := errors.Join(err, wantOut(out)); err != nil {
				return err
			}
			return renderCluster(cmd, env, definition, out)
		},
		ValidArgsFunction: documentFiles,
	}
	outFlag(cmd, &out)
	return cmd
}

// outFlag adds -o, the cluster's directory.
func outFlag(cmd *cobra.Command, out *string) {
	cmd.Flags().StringVarP(out, "output", "o", "", "the cluster's directory")
	_ = cmd.MarkFlagDirname("output")
}

func wantOut(out string) error {
	if out == "" {
		return usagef("--output is missing; want the cluster's directory")
	}
	return nil
}

// documentFiles completes paths of YAML documents.
func documentFiles(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return []string{"yaml", "yml"}, cobra.ShellCompDirectiveFilterFileExt
}

func renderCluster(cmd *cobra.Command, env environment, d cluster.Definition, out string) (err error) {
	// A first look before the directory is made: what is wrong with the document leaves nothing behind.
	trial, err := authority.NewSecrets(d, env.now())
	if err != nil {
		return err
	}
	if _, err := renderAll(env, d, trial); err != nil {
		return err
	}
	dir, err := openClusterDir(out, true, env.wrote)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dir.close()) }()
	secrets, found, err := dir.secrets(d.Name)
	if err != nil {
		return err
	}
	if !found {
		secrets = trial
	}
	all, err := renderAll(env, d, secrets)
	if err != nil {
		return err
	}
	warnAboutSecrets(cmd, d, secrets)
	all.warnAboutSizes(cmd)
	if err := dir.write(cmd, d, all); err != nil {
		return err
	}
	return dir.printMembers(cmd, all.members)
}

// warnAboutSecrets says what a change of the definition cannot change any more.
func warnAboutSecrets(cmd *cobra.Command, d cluster.Definition, s authority.Secrets) {
	for _, node := range d.ControlPlanes() {
		if node.Initialise && node.Name != s.Initialiser {
			warn(cmd, "%s initialises now, where %s did when the secrets were made; if that has founded the cluster already, only it may initialise", node.Name, s.Initialiser)
		}
	}
	if !s.NextToken.IsZero() {
		warn(cmd, "kiln cluster token was cut short; run it again, the identities have the token from before")
	}
}

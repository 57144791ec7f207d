package main

import (
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"github.com/kiln-os/kiln/builder/authority"
	"github.com/kiln-os/kiln/internal/cluster"
	"github.com/kiln-os/kiln/internal/document"
	"github.com/kiln-os/kiln/internal/nodefs"
	"github.com/kiln-os/kiln/internal/profile"
	"github.com/kiln-os/kiln/internal/release"
)

func newIdentity(env environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "identity",
		GroupID: groupClusters,
		Short:   "Make identities: who a node is and which cluster it belongs to",
		Long: `An identity is the document that tells a freshly booted node who it is, which
cluster it founds or joins, and the secrets it needs for that once.`,
	}
	cmd.AddCommand(newIdentityNew(env))
	container(cmd)
	return cmd
}

// newNode is what the flags of `identity new` say.
type newNode struct {
	identity cluster.Identity
	server   string
	out      string
}

func newIdentityNew(env environment) *cobra.Command {
	var n newNode
	node, common := &n.identity.Node, &n.identity.Cluster
	cmd := &cobra.Command{
		Use:   "new NAME --address IP --endpoint HOST:PORT -o DIR",
		Short: "Make the identity of a node that founds a cluster of its own",
		Long: `Make the identity of one node that founds a new cluster, with fresh certificate
authorities and a fresh bootstrap token. Three files go into DIR, which is made:
  identity.yaml  the identity, for a filesystem labelled KILN
  config.ign     the same as an Ignition config, for QEMU's fw_cfg
  admin.conf     a kubeconfig of the cluster's administrator
Each of them is a secret (mode 0600) and the only copy of the cluster's keys: kiln
never writes over a directory that holds something. Asked again for the identity
that DIR holds, it leaves it as it is.

The certificates are valid from a week ago, for machines whose clock is slow, and
for ten years; the administrator's for one year.`,
		Example: `  kiln identity new node-1 --address 10.0.2.15 --endpoint 10.0.2.15:6443 -o out/node-1
  kubectl --kubeconfig out/node-1/admin.conf get nodes

  # reach the cluster through a forwarded port of this machine
  kiln identity new node-1 --address 10.0.2.15 --endpoint 10.0.2.15:6443 \
    --server https://127.0.0.1:16443 -o out/node-1`,
		Args: operands("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			node.Name = args[0]
			if err := n.check(); err != nil {
				return err
			}
			return n.make(cmd, env)
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	flags := cmd.Flags()
	flags.StringVar(&node.Address, "address", "", "the node's IP address in the cluster's network")
	flags.StringVar(&common.Endpoint, "endpoint", "", "host:port through which nodes reach the API: the load balancer's, or the node's own")
	flags.StringVar(&node.Role, "role", profile.ControlPlane, "the node's role; only a control-plane node can found a cluster")
	flags.StringVarP(&n.identity.Release, "release", "r", onlyRelease(env), "the release that the node's image carries")
	flags.StringVar(&common.Name, "cluster", "kiln", "the cluster's name in kubeconfigs")
	flags.StringSliceVar(&common.CertificateNames, "certificate-name", nil, "a further host name or address that the API server's certificate is valid for (may be repeated)")
	flags.StringVar(&n.server, "server", "", "the API's URL in admin.conf (default https://ENDPOINT); its host is added to the certificate")
	flags.StringVarP(&n.out, "output", "o", "", "the directory to make")
	_ = cmd.RegisterFlagCompletionFunc("release", complete(env, release.Kind, true))
	_ = cmd.RegisterFlagCompletionFunc("role", cobra.FixedCompletions([]string{profile.ControlPlane}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// check says everything that is wrong with the flags as flags; what they say of the node is checked as a document.
func (n *newNode) check() error {
	var problems []error
	for _, flag := range []struct{ name, value, want string }{
		{"--address", n.identity.Node.Address, "the node's IP address"},
		{"--endpoint", n.identity.Cluster.Endpoint, "host:port of the API"},
		{"--release", n.identity.Release, "the name of the release that the node's image carries"},
		{"--output", n.out, "the directory to make"},
	} {
		if flag.value == "" {
			problems = append(problems, usagef("%s is missing; want %s", flag.name, flag.want))
		}
	}
	if n.identity.Node.Role != profile.ControlPlane {
		problems = append(problems, usagef("--role: %q cannot found a cluster; want %s", n.identity.Node.Role, profile.ControlPlane))
	}
	if n.server == "" {
		n.server = "https://" + n.identity.Cluster.Endpoint
	} else if u, err := url.Parse(n.server); err != nil || u.Scheme != "https" || u.Hostname() == "" {
		problems = append(problems, usagef("--server: %q is not the API's URL; want one as in https://127.0.0.1:6443", n.server))
	} else if names := n.identity.Cluster.CertificateNames; !slices.Contains(names, u.Hostname()) {
		n.identity.Cluster.CertificateNames = append(names, u.Hostname())
	}
	return errors.Join(problems...)
}

// make writes the files, unless they are there already, and prints where they are.
func (n *newNode) make(cmd *cobra.Command, env environment) error {
	files, err := n.render(env)
	if err != nil {
		return err
	}
	found, err := holdsSame(n.out, files)
	if err != nil {
		return err
	}
	if found {
		fmt.Fprintf(cmd.ErrOrStderr(), "kiln: %s holds this identity already and stays as it is\n", n.out)
	} else if err := writeSecrets(n.out, files); err != nil {
		return err
	}
	for _, file := range files {
		fmt.Fprintln(cmd.OutOrStdout(), filepath.Join(n.out, file.name))
	}
	return nil
}

func (n *newNode) render(env environment) ([]secretFile, error) {
	authorities, err := authority.New(env.now())
	if err != nil {
		return nil, err
	}
	token, err := authority.NewToken()
	if err != nil {
		return nil, fmt.Errorf("making a bootstrap token: %w", err)
	}
	rendered, err := authorities.Authorities()
	if err != nil {
		return nil, err
	}
	n.identity.Node.Initialise = true
	n.identity.Bootstrap = cluster.Bootstrap{Token: token, Authorities: &rendered}
	identity, err := authority.RenderIdentity("identity", n.identity)
	if document.IsInvalid(err) {
		// The document was made from the flags: they are what is wrong.
		return nil, usageError{err}
	}
	if err != nil {
		return nil, err
	}
	ignition, err := authority.Ignition(identity)
	if err != nil {
		return nil, err
	}
	admin := authority.Kubeconfig{
		Cluster: n.identity.Cluster.Name, Server: n.server, User: "kubernetes-admin", Groups: []string{"system:masters"},
	}
	kubeconfig, err := admin.Render(authorities)
	if err != nil {
		return nil, err
	}
	return []secretFile{{nodefs.IdentityFile, identity}, {nodefs.IgnitionFile, ignition}, {adminFile, kubeconfig}}, nil
}

package main

import (
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/kiln-os/kiln/builder/authority"
	"github.com/kiln-os/kiln/builder/enrol"
	"github.com/kiln-os/kiln/internal/cluster"
)

func newCluster(env environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "cluster",
		GroupID: groupClusters,
		Short:   "Define clusters: from one document to the identity of every node",
		Long: `A cluster.yaml says what a cluster is: its endpoint, its networks, its nodes. From
it and from secrets that are made once, kiln makes the identity of every node.
Power the nodes on, all at once and in any order: they become the cluster.`,
	}
	cmd.AddCommand(newClusterNew(env), newClusterRender(env), newClusterToken(env), newClusterKubeconfig(env))
	container(cmd)
	return cmd
}

// adminUser and adminGroup are who the administrator's certificate says it is: nothing is forbidden to that group.
const (
	adminUser  = "kubernetes-admin"
	adminGroup = "system:masters"
)

func admin(name, server string) authority.Kubeconfig {
	return authority.Kubeconfig{Cluster: name, Server: server, User: adminUser, Groups: []string{adminGroup}}
}

// define reads a cluster.yaml and prints its warnings.
func define(cmd *cobra.Command, file string) (cluster.Definition, error) {
	text, err := readDefinition(file)
	if err != nil {
		return cluster.Definition{}, err
	}
	definition, warnings, err := cluster.ParseDefinition(file, text)
	for _, warning := range warnings {
		warn(cmd, "%s", warning)
	}
	return definition, err
}

func warn(cmd *cobra.Command, format string, args ...any) {
	fmt.Fprintf(cmd.ErrOrStderr(), "kiln: warning: "+format+"\n", args...)
}

// userDataLimit is what EC2 takes as user data, the least of the well-known clouds.
const userDataLimit = 16 << 10

// rendered is everything that belongs into a cluster's directory but the administrator's kubeconfig.
type rendered struct {
	secrets authority.Secrets
	set     authority.Set
	members []enrol.Member
}

// renderAll makes and checks everything before the first byte is written.
func renderAll(env environment, d cluster.Definition, secrets authority.Secrets) (rendered, error) {
	set, err := authority.Open(secrets.Authorities, env.now())
	if err != nil {
		return rendered{}, err
	}
	members, err := enrol.Members(enrol.Options{Definition: d, Secrets: secrets, Set: set})
	return rendered{secrets, set, members}, err
}

func (r rendered) warnAboutSizes(cmd *cobra.Command) {
	for _, member := range r.members {
		if size := len(member.Ignition); size > userDataLimit {
			warn(cmd, "%s: its config.ign has %d bytes, and EC2 takes %d; use certificates: uploaded or a smaller customisation, or hand out identity.yaml another way",
				member.Dir, size, userDataLimit)
		}
	}
}

// write brings the whole directory to what it should be, the secrets first: everything else can be made again from them.
func (d *clusterDir) write(cmd *cobra.Command, definition cluster.Definition, r rendered) error {
	if err := d.putSecrets(r.secrets); err != nil {
		return err
	}
	if err := d.put(ignoreFile, []byte("*\n")); err != nil {
		return err
	}
	if err := d.put(readmeFile, []byte(fmt.Sprintf(readmeText, definition.Name))); err != nil {
		return err
	}
	if err := d.putAdmin(cmd, definition, r.set); err != nil {
		return err
	}
	return d.putMembers(r.members)
}

const readmeText = `EVERYTHING IN THIS DIRECTORY IS SECRET.

It is the only copy of the keys of cluster %s. Whoever has them is the cluster's
administrator. Keep it out of version control, mails and images; keep a copy of
secrets.yaml in a safe place: all else here can be rendered again from it and
from cluster.yaml.

secrets.yaml   certificate authorities, bootstrap token, certificate key
admin.conf     a kubeconfig of the administrator: kubectl --kubeconfig admin.conf get nodes
nodes/NAME     one node:
                 identity.yaml  for a filesystem labelled KILN
                 config.ign     the same as an Ignition config, for metadata and fw_cfg
pools/NAME     the same for all members of a pool; it holds no key
by-*/          nodes by what their hardware is, for a server that machines boot from

kiln cluster render makes all of it, and changes only what cluster.yaml changed.
`

// printMembers prints where everything is.
func (d *clusterDir) printMembers(cmd *cobra.Command, members []enrol.Member) error {
	for _, member := range members {
		if _, err := fmt.Fprintln(cmd.OutOrStdout(), filepath.Join(d.path, member.Dir)); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(cmd.ErrOrStderr(), "kiln: %s: %s written or removed, %s as they were\n", d.path, files(d.changed), files(d.same))
	return err
}

func files(n int) string {
	if n == 1 {
		return "1 file"
	}
	return fmt.Sprintf("%d files", n)
}

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/kiln-os/kiln/builder/authority"
	"github.com/kiln-os/kiln/internal/cluster"
)

// kubeconfigFlags are what the flags of `cluster kubeconfig` say.
type kubeconfigFlags struct{ dir, server, output string }

func newClusterKubeconfig(env environment) *cobra.Command {
	var f kubeconfigFlags
	cmd := &cobra.Command{
		Use:   "kubeconfig DIR | CLUSTER.YAML -o DIR",
		Short: "Make a fresh kubeconfig of the administrator",
		Long: `Make a kubeconfig of the cluster's administrator with a fresh certificate, valid
for a year, signed by the authority in DIR. It needs no cluster to be there.

It takes the place of DIR/admin.conf, or goes to the file given with --output
(mode 0600; - is standard output). Its path goes to standard output.`,
		Example: `  kiln cluster kubeconfig prod
  kiln cluster kubeconfig cluster.yaml -o prod
  # reach the cluster through a forwarded port of this machine
  kiln cluster kubeconfig prod --server https://127.0.0.1:16443 --output laptop.conf`,
		Args: operands("DIR"),
		RunE: func(cmd *cobra.Command, args []string) error { return f.run(cmd, env, args[0]) },
	}
	cmd.Flags().StringVarP(&f.dir, "directory", "o", "", "the cluster's directory, where a document is given instead")
	cmd.Flags().StringVar(&f.server, "server", "", "the API's URL (default: the endpoint's)")
	cmd.Flags().StringVar(&f.output, "output", "", "the file to write (default DIR/admin.conf)")
	_ = cmd.MarkFlagDirname("directory")
	return cmd
}

func (f kubeconfigFlags) run(cmd *cobra.Command, env environment, operand string) (err error) {
	if err := checkServer(f.server); err != nil {
		return err
	}
	path, name, server := operand, "", f.server
	if info, err := os.Stat(operand); err != nil || !info.IsDir() {
		definition, err := define(cmd, operand)
		if err != nil {
			return err
		}
		if f.dir == "" {
			return usagef("--directory is missing; want the cluster's directory, or give it instead of the document")
		}
		path, name = f.dir, definition.Name
		if server == "" {
			server = "https://" + definition.Endpoint
		}
	} else if f.dir != "" && filepath.Clean(f.dir) != filepath.Clean(operand) {
		return usagef("--directory: %s and %s are two directories; give one", f.dir, operand)
	}
	dir, err := openClusterDir(path, false, env.wrote)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dir.close()) }()
	if server == "" {
		if server, err = dir.server(); err != nil {
			return err
		}
	}
	secrets, _, err := dir.secrets(name)
	if err != nil {
		return err
	}
	set, err := authority.Open(secrets.Authorities, env.now())
	if err != nil {
		return err
	}
	text, err := admin(secrets.Cluster, server).Render(set)
	if err != nil {
		return err
	}
	return f.print(cmd, dir, text)
}

func (f kubeconfigFlags) print(cmd *cobra.Command, dir *clusterDir, text []byte) error {
	switch f.output {
	case "-":
		_, err := cmd.OutOrStdout().Write(text)
		return err
	case "":
		if err := dir.put(adminFile, text); err != nil {
			return err
		}
		f.output = filepath.Join(dir.path, adminFile)
	default:
		if err := writeSecret(f.output, text); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintln(cmd.OutOrStdout(), f.output)
	return err
}

func checkServer(server string) error {
	if server == "" {
		return nil
	}
	if u, err := url.Parse(server); err != nil || u.Scheme != "https" || u.Hostname() == "" {
		return usagef("--server: %q is not the API's URL; want one as in https://127.0.0.1:6443", server)
	}
	return nil
}

// server is the API's URL in the directory's kubeconfig.
func (d *clusterDir) server() (string, error) {
	text, err := os.ReadFile(filepath.Join(d.path, adminFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("reading the kubeconfig: %w", err)
	}
	found := server(text)
	if found == "" {
		return "", usagef("%s: has no %s that says where the API is; give --server, or the cluster's document and -o", d.path, adminFile)
	}
	return found, nil
}

// putAdmin writes the administrator's kubeconfig, unless one is there that serves: a certificate is different each time.
func (d *clusterDir) putAdmin(cmd *cobra.Command, definition cluster.Definition, set authority.Set) error {
	want := admin(definition.Name, "https://"+definition.Endpoint)
	path := filepath.Join(d.path, adminFile)
	have, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("reading the kubeconfig: %w", err)
	}
	if want.Stands(have, set) {
		if found := server(have); found != want.Server {
			warn(cmd, "%s leads to %s, and the endpoint is %s; kiln cluster kubeconfig makes another", path, found, want.Server)
		}
		return d.put(adminFile, have)
	}
	text, err := want.Render(set)
	if err != nil {
		return err
	}
	return d.put(adminFile, text)
}

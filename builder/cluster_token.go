package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/kiln-os/kiln/builder/authority"
	"github.com/kiln-os/kiln/internal/cluster"
	"github.com/kiln-os/kiln/internal/document"
)

// tokenFlags are what the flags of `cluster token` say.
type tokenFlags struct {
	out, server string
	print       bool
}

func newClusterToken(env environment) *cobra.Command {
	var f tokenFlags
	cmd := &cobra.Command{
		Use:   "token CLUSTER.YAML -o DIR",
		Short: "Let machines join after the cluster's token has expired",
		Long: `Make a fresh bootstrap token, valid for the document's tokenTTL from now, in the
running cluster and in every identity in DIR. Give the new identities to machines
that are still to come; one that waits with an expired token looks for its new
identity by itself. Nodes that have joined need nothing.

Where the document says certificates: uploaded, the certificates are uploaded again,
too, for control planes that are still to come, and stay for as long as the token.

The cluster is reached as its administrator, by a certificate that is made for it
and not kept. With --print the token's Secret goes to standard output instead, for
kubectl apply -f -: it holds the token in clear. A run that was cut short is
completed by the next. A cluster that is not founded yet needs no fresh token: the
validity of the first one begins with the cluster.`,
		Example: `  kiln cluster token cluster.yaml -o prod
  kiln cluster token cluster.yaml -o prod --server https://127.0.0.1:16443
  kiln cluster token cluster.yaml -o prod --print | kubectl apply -f -`,
		Args: operands("CLUSTER.YAML"),
		RunE: func(cmd *cobra.Command, args []string) error {
			definition, err := define(cmd, args[0])
			if err := errors.Join(err, wantOut(f.out), checkServer(f.server)); err != nil {
				return err
			}
			if f.server == "" {
				f.server = "https://" + definition.Endpoint
			}
			return f.renew(cmd, env, definition)
		},
		ValidArgsFunction: documentFiles,
	}
	outFlag(cmd, &f.out)
	cmd.Flags().StringVar(&f.server, "server", "", "the API's URL (default: the endpoint's)")
	cmd.Flags().BoolVar(&f.print, "print", false, "print the token's Secret, in clear, instead of creating it")
	return cmd
}

// renew goes in an order in which a cut leaves nothing half: the token is on the disk before the cluster has it, the
// cluster has it before an identity does, and it counts as the cluster's only when all identities do.
func (f tokenFlags) renew(cmd *cobra.Command, env environment, d cluster.Definition) (err error) {
	dir, err := openClusterDir(f.out, false, env.wrote)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dir.close()) }()
	secrets, _, err := dir.secrets(d.Name)
	if err != nil {
		return err
	}
	if secrets.NextToken.IsZero() {
		if secrets.NextToken, err = authority.NewToken(); err != nil {
			return fmt.Errorf("making a bootstrap token: %w", err)
		}
	}
	after := secrets
	after.Token, after.NextToken = secrets.NextToken, document.Secret{}
	all, err := renderAll(env, d, after)
	if err != nil {
		return err
	}
	if err := dir.putSecrets(secrets); err != nil {
		return err
	}
	token, err := newIssue(secrets.NextToken, d.TokenTTL, env.now())
	if err != nil {
		return err
	}
	if err := f.issue(cmd, d, all, token); err != nil {
		return err
	}
	if err := dir.putMembers(all.members); err != nil {
		return err
	}
	if err := dir.putSecrets(after); err != nil {
		return err
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "kiln: token %s is valid %s\n", token.id, token.until())
	if f.print {
		return nil
	}
	return dir.printMembers(cmd, all.members)
}

// issue brings the token into the cluster, or prints what does.
func (f tokenFlags) issue(cmd *cobra.Command, d cluster.Definition, all rendered, token issue) error {
	uploaded := d.Certificates == cluster.Uploaded
	if f.print {
		if uploaded {
			warn(cmd, "the certificates are not uploaded; for control planes that are still to come, run it without --print")
		}
		text, err := yaml.Marshal(token.object("stringData", token.data()))
		if err != nil {
			return fmt.Errorf("rendering the token's Secret: %w", err)
		}
		_, err = cmd.OutOrStdout().Write(text)
		return err
	}
	api, err := reach(f.server, all.set)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), time.Minute)
	defer cancel()
	uid, err := api.createToken(ctx, token)
	if err != nil {
		return err
	}
	if uploaded {
		if err := api.uploadCertificates(ctx, all.secrets, token, uid); err != nil {
			return err
		}
	}
	return api.recordToken(ctx, token)
}

// issue is a bootstrap token on its way into a cluster.
type issue struct {
	// id is the public part.
	id     string
	secret document.Secret
	// expires is the zero time for a token that does not.
	expires time.Time
}

func newIssue(token document.Secret, ttl string, now time.Time) (issue, error) {
	id, secret, _ := strings.Cut(token.Reveal(), ".")
	lasts, err := time.ParseDuration(ttl)
	if err != nil {
		return issue{}, fmt.Errorf("reading tokenTTL: %w", err)
	}
	i := issue{id: id, secret: document.NewSecret(secret)}
	if lasts > 0 {
		i.expires = now.Add(lasts).UTC()
	}
	return i, nil
}

// expiration is when the token ends, in RFC 3339, or empty.
func (i issue) expiration() string {
	if i.expires.IsZero() {
		return ""
	}
	return i.expires.Format(time.RFC3339)
}

func (i issue) until() string {
	if i.expires.IsZero() {
		return "for ever"
	}
	return "until " + i.expiration()
}

// joinersGroup is the group that kubeadm gives its tokens, and all its rules for nodes that join.
const joinersGroup = "system:bootstrappers:kubeadm:default-node-token"

// data is what the token's Secret says (kubernetes.io/docs/reference/access-authn-authz/bootstrap-tokens). It holds the token in clear.
func (i issue) data() map[string]string {
	data := map[string]string{
		"token-id":                       i.id,
		"token-secret":                   i.secret.Reveal(),
		"usage-bootstrap-authentication": "true",
		"usage-bootstrap-signing":        "true",
		"auth-extra-groups":              joinersGroup,
		"description":                    "token of the cluster's identities, by kiln cluster token",
	}
	if !i.expires.IsZero() {
		data["expiration"] = i.expiration()
	}
	return data
}

// object is the token's Secret with its data in the given field.
func (i issue) object(field string, data any) map[string]any {
	return map[string]any{
		"apiVersion": "v1", "kind": "Secret", "type": "bootstrap.kubernetes.io/token",
		"metadata": map[string]string{"name": "bootstrap-token-" + i.id, "namespace": "kube-system"},
		field:      data,
	}
}

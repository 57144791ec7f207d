package authority

import (
	"fmt"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/kiln-os/kiln/internal/cluster"
	"github.com/kiln-os/kiln/internal/document"
)

// SecretsKind is the kind of the document that keeps a cluster's secrets beside its identities.
const SecretsKind = "Secrets"

// Secrets are made once for a cluster. What is rendered from its definition follows from them, so that rendering again
// gives the same.
type Secrets struct {
	document.Header
	// Cluster is the cluster's name.
	Cluster string `json:"cluster"`
	// Made is when.
	Made time.Time `json:"made"`
	// Initialiser is the node that founds the cluster.
	Initialiser string `json:"initialiser"`
	// Founding are the names of the control planes there were then, the initialiser among them.
	Founding []string `json:"founding"`
	// Token is the bootstrap token in every identity.
	Token document.Secret `json:"token"`
	// NextToken is one that is on its way into the cluster and the identities.
	NextToken document.Secret `json:"nextToken,omitzero"`
	// CertificateKey is what uploaded certificates are encrypted with.
	CertificateKey document.Secret `json:"certificateKey"`
	// Authorities are the cluster's, with their keys.
	Authorities cluster.Authorities `json:"authorities"`
}

// NewSecrets makes the secrets of a cluster that is not founded yet.
func NewSecrets(d cluster.Definition, now time.Time) (Secrets, error) {
	s := Secrets{Cluster: d.Name, Made: now.UTC().Truncate(time.Second)}
	for _, node := range d.ControlPlanes() {
		s.Founding = append(s.Founding, node.Name)
		if node.Initialise {
			s.Initialiser = node.Name
		}
	}
	set, err := New(now)
	if err != nil {
		return Secrets{}, err
	}
	if s.Authorities, err = set.Authorities(); err != nil {
		return Secrets{}, err
	}
	if s.Token, err = NewToken(); err != nil {
		return Secrets{}, fmt.Errorf("making a bootstrap token: %w", err)
	}
	if s.CertificateKey, err = NewCertificateKey(); err != nil {
		return Secrets{}, fmt.Errorf("making a certificate key: %w", err)
	}
	return s, nil
}

// ParseSecrets reads a Secrets document; file is the name for messages, none of which shows a secret. What the secrets are
// is checked with the identities that are made from them.
func ParseSecrets(file string, text []byte) (Secrets, error) {
	var s Secrets
	if err := document.Decode(file, text, SecretsKind, &s); err != nil {
		return Secrets{}, err
	}
	problems := &document.Problems{File: file}
	const remedy = "put back a copy of the file as kiln wrote it"
	for field, missing := range map[string]bool{
		"cluster": s.Cluster == "", "token": s.Token.IsZero(), "certificateKey": s.CertificateKey.IsZero(),
		"authorities": s.Authorities.Cluster.Key.IsZero(),
	} {
		if missing {
			problems.Add(field, "missing; %s", remedy)
		}
	}
	if problems.Err() == nil {
		if _, err := Open(s.Authorities, s.Made); err != nil {
			problems.Add("authorities", "%s; %s", err, remedy)
		}
	}
	return s, problems.Err()
}

// Render writes the secrets in clear. The result is a secret: keep it at mode 0600.
func (s Secrets) Render() ([]byte, error) {
	s.Header = document.Header{APIVersion: document.APIVersion, Kind: SecretsKind}
	text, err := yaml.Marshal(struct {
		Secrets
		// These hide the fields of the same names.
		Token          string           `json:"token"`
		NextToken      string           `json:"nextToken,omitempty"`
		CertificateKey string           `json:"certificateKey"`
		Authorities    *openAuthorities `json:"authorities"`
	}{s, s.Token.Reveal(), s.NextToken.Reveal(), s.CertificateKey.Reveal(), revealAuthorities(s.Authorities)})
	if err != nil {
		return nil, fmt.Errorf("rendering the secrets: %w", err)
	}
	return text, nil
}

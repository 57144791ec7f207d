package authority

import (
	"encoding/base64"
	"encoding/json"
	"fmt"

	"sigs.k8s.io/yaml"

	"github.com/kiln-os/kiln/internal/cluster"
	"github.com/kiln-os/kiln/internal/document"
	"github.com/kiln-os/kiln/internal/nodefs"
)

// RenderIdentity writes an identity as YAML with its secrets in clear. The result is a secret: keep it at mode 0600. It
// has been read back and checked, so that no identity leaves here that a node would refuse; the error is then about the
// document called file.
func RenderIdentity(file string, id cluster.Identity) ([]byte, error) {
	id.Header = document.Header{APIVersion: document.APIVersion, Kind: cluster.IdentityKind}
	text, err := yaml.Marshal(reveal(id))
	if err != nil {
		return nil, fmt.Errorf("rendering the identity: %w", err)
	}
	if _, err := cluster.ParseIdentity(file, text); err != nil {
		return nil, err
	}
	return text, nil
}

// Secrets print themselves as [redacted] whatever encodes them. The fields that hold one are therefore written out here,
// each by name: what is revealed is what is listed.
type (
	openIdentity struct {
		cluster.Identity
		// Bootstrap hides the field of the same name.
		Bootstrap openBootstrap `json:"bootstrap"`
	}
	openBootstrap struct {
		Token          string           `json:"token"`
		TokenTTL       string           `json:"tokenTTL,omitempty"`
		CertificateKey string           `json:"certificateKey,omitempty"`
		Authorities    *openAuthorities `json:"authorities,omitempty"`
	}
	openAuthorities struct {
		Cluster        openPair    `json:"cluster"`
		FrontProxy     openPair    `json:"frontProxy,omitzero"`
		Etcd           openPair    `json:"etcd,omitzero"`
		ServiceAccount openAccount `json:"serviceAccount,omitzero"`
	}
	openPair struct {
		Certificate string `json:"certificate"`
		Key         string `json:"key,omitempty"`
	}
	openAccount struct {
		Public string `json:"public"`
		Key    string `json:"key,omitempty"`
	}
)

func reveal(id cluster.Identity) openIdentity {
	b := id.Bootstrap
	open := openIdentity{Identity: id, Bootstrap: openBootstrap{Token: b.Token.Reveal(), TokenTTL: b.TokenTTL, CertificateKey: b.CertificateKey.Reveal()}}
	if b.Authorities != nil {
		open.Bootstrap.Authorities = revealAuthorities(*b.Authorities)
	}
	return open
}

func revealAuthorities(a cluster.Authorities) *openAuthorities {
	pair := func(p cluster.KeyPair) openPair { return openPair{p.Certificate, p.Key.Reveal()} }
	return &openAuthorities{
		Cluster: pair(a.Cluster), FrontProxy: pair(a.FrontProxy), Etcd: pair(a.Etcd),
		ServiceAccount: openAccount{a.ServiceAccount.Public, a.ServiceAccount.Key.Reveal()},
	}
}

// ignitionVersion is the specification that the config follows.
const ignitionVersion = "3.5.0"

// Ignition wraps the text of an identity as an Ignition config with that one file, for platforms that hand such configs
// to a machine. The result is a secret: keep it at mode 0600.
func Ignition(identity []byte) ([]byte, error) {
	type contents struct {
		Source string `json:"source"`
	}
	type file struct {
		Path     string   `json:"path"`
		Mode     int      `json:"mode"`
		Contents contents `json:"contents"`
	}
	var config struct {
		Ignition struct {
			Version string `json:"version"`
		} `json:"ignition"`
		Storage struct {
			Files []file `json:"files"`
		} `json:"storage"`
	}
	config.Ignition.Version = ignitionVersion
	config.Storage.Files = []file{{
		Path: nodefs.IdentityInIgnition, Mode: 0o600,
		Contents: contents{Source: "data:;base64," + base64.StdEncoding.EncodeToString(identity)},
	}}
	text, err := json.MarshalIndent(config, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("rendering the Ignition config: %w", err)
	}
	return append(text, '\n'), nil
}

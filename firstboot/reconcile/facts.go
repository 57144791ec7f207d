package reconcile

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"

	"github.com/kiln-os/kiln/internal/cluster"
	"github.com/kiln-os/kiln/internal/nodefs"
	"github.com/kiln-os/kiln/internal/release"
)

// facts are what the node's files say about its cluster.
type facts struct {
	verifier
	// address is where the node's own API server listens.
	address string
	// planned are the names of the control planes that the cluster was planned with; only the node that founded it knows.
	planned []string
}

// readRole says what the node's image is for.
func readRole(root nodefs.Root) (string, error) {
	text, err := os.ReadFile(root.Path(nodefs.Node))
	if err != nil {
		return "", fmt.Errorf("reading what the image knows of itself: %w; boot an image that kiln built", err)
	}
	var baked release.Baked
	if err := json.Unmarshal(text, &baked); err != nil {
		return "", fmt.Errorf("%s: %w; build the image again", nodefs.Node, err)
	}
	return baked.Role, nil
}

// readFacts reads the copy of the identity and the cluster's certificate authority.
func readFacts(root nodefs.Root) (facts, error) {
	text, err := os.ReadFile(root.Path(nodefs.IdentityCopy))
	if err != nil {
		return facts{}, fmt.Errorf("reading identity: %w", err)
	}
	// Not by ParseIdentity: the secrets that it asks for have been taken out of the copy.
	var id cluster.Identity
	if err := json.Unmarshal(text, &id); err != nil {
		return facts{}, errors.New("reading identity: it is not JSON of the right shape")
	}
	if id.Node.Address == "" || id.Cluster.Name == "" {
		return facts{}, errors.New("reading identity: it lacks node.address or cluster.name")
	}
	f := facts{address: id.Node.Address, verifier: verifier{cluster: id.Cluster.Name}}
	for _, c := range id.Cluster.ControlPlanes {
		f.planned = append(f.planned, c.Name)
	}
	if f.authorities, err = readAuthorities(root.Path(nodefs.PKI + "/ca.crt")); err != nil {
		return facts{}, fmt.Errorf("reading certificate authority: %w", err)
	}
	return f, nil
}

// readAuthorities reads the certificates of a PEM file: one or, while one authority replaces another, two.
func readAuthorities(path string) ([]*x509.Certificate, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var authorities []*x509.Certificate
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		authority, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		authorities = append(authorities, authority)
	}
	if len(authorities) == 0 {
		return nil, errors.New("the file holds no certificate")
	}
	return authorities, nil
}

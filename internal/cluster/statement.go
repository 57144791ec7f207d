package cluster

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/kiln-os/kiln/internal/profile"
)

// Statement is what the cluster's operator lets a node be. NodeRestriction keeps a kubelet from giving itself a role or
// labels that scheduling relies on; a control plane sets them on its behalf, but only when the operator has signed for
// them, so that a worker that was broken into cannot promote itself.
type Statement struct {
	// Cluster is the cluster's name.
	Cluster string `json:"cluster"`
	// Node is the Node's name or, in a pool, the pattern of its members' names.
	Node string `json:"node"`
	// Pool is the pool's name, empty for a single node.
	Pool string `json:"pool,omitempty"`
	// Role is control-plane or worker.
	Role string `json:"role"`
	// Labels are those that a kubelet may not set itself (profile.KubeletMaySet), beside the role's.
	Labels map[string]string `json:"labels,omitempty"`
	// Taints are all that the node shall have.
	Taints []profile.Taint `json:"taints,omitempty"`
}

// statementContext keeps a signature from meaning anything else than a Statement.
const statementContext = "kiln.dev/registration v1\n"

// Sign renders s with a signature: base64url(JSON) "." base64url(signature). The same statement and key give the same
// text (RFC 6979; PKCS #1 v1.5 for RSA), so that rendering again changes nothing.
func (s Statement) Sign(key crypto.Signer) (string, error) {
	payload, err := json.Marshal(s)
	if err != nil {
		return "", fmt.Errorf("signing registration: %w", err)
	}
	digest := sha256.Sum256(append([]byte(statementContext), payload...))
	signature, err := key.Sign(nil, digest[:], crypto.SHA256)
	if err != nil {
		return "", fmt.Errorf("signing registration: %w", err)
	}
	encode := base64.RawURLEncoding.EncodeToString
	return encode(payload) + "." + encode(signature), nil
}

// VerifyStatement reads a signed statement and checks its signature against the cluster's certificate authority.
func VerifyStatement(text string, authority *x509.Certificate) (Statement, error) {
	first, second, found := strings.Cut(text, ".")
	payload, err := base64.RawURLEncoding.DecodeString(first)
	signature, sigErr := base64.RawURLEncoding.DecodeString(second)
	if !found || err != nil || sigErr != nil {
		return Statement{}, errors.New("reading registration: it is not two parts of base64url with a dot between")
	}
	digest := sha256.Sum256(append([]byte(statementContext), payload...))
	valid := false
	switch key := authority.PublicKey.(type) {
	case *ecdsa.PublicKey:
		valid = ecdsa.VerifyASN1(key, digest[:], signature)
	case *rsa.PublicKey:
		valid = rsa.VerifyPKCS1v15(key, crypto.SHA256, digest[:], signature) == nil
	}
	if !valid {
		return Statement{}, errors.New("reading registration: the cluster's certificate authority has not signed it")
	}
	var s Statement
	if err := json.Unmarshal(payload, &s); err != nil {
		return Statement{}, fmt.Errorf("reading registration: %w", err)
	}
	return s, nil
}

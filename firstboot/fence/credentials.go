package fence

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"

	"github.com/kiln-os/kiln/firstboot/endpoint"
)

// commonName is what certificates of the fence are called. It is nobody in the cluster: without a group, RBAC gives it
// nothing. A kubelet's certificate, which the same authority signs, has another name and is not let in.
const commonName = "kiln:fence"

// credentials makes a certificate in memory, with which nodes that hold the authority's key prove it to each other. It is
// valid as long as the authority: nodes may disagree on the time when they are new.
func credentials(authority *x509.Certificate, signer crypto.Signer) (*tls.Config, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making the fence's key: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, fmt.Errorf("making the fence's certificate: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: commonName},
		NotBefore:    authority.NotBefore,
		NotAfter:     authority.NotAfter,
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, authority, key.Public(), signer)
	if err != nil {
		return nil, fmt.Errorf("signing the fence's certificate: %w", err)
	}
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{{Certificate: [][]byte{raw}, PrivateKey: key}},
		ClientAuth:   tls.RequireAnyClientCert,
		// What the standard verification asks, names and times, says nothing here. VerifyConnection asks for what does.
		InsecureSkipVerify:     true,
		SessionTicketsDisabled: true,
		VerifyConnection: func(state tls.ConnectionState) error {
			chain := state.PeerCertificates
			if len(chain) == 0 || chain[0].Subject.CommonName != commonName || !endpoint.SignedBy(authority, chain) {
				return errors.New("the other node is not one that may initialise this cluster")
			}
			return nil
		},
	}, nil
}

package source

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"

	"github.com/kiln-os/kiln/internal/document"
)

// Pin is the SHA-256 of a certificate (DER): of an https server's own, or of an authority's that the server sends along.
type Pin [sha256.Size]byte

// ParsePin reads 64 hexadecimal digits, with colons or without (as `openssl x509 -fingerprint -sha256 -noout` writes them).
func ParsePin(text string) (Pin, error) {
	raw, err := hex.DecodeString(strings.ReplaceAll(text, ":", ""))
	if err != nil || len(raw) != sha256.Size {
		return Pin{}, fmt.Errorf("%q is no SHA-256; want 64 hexadecimal digits, as openssl x509 -fingerprint -sha256 -noout shows them", text)
	}
	return Pin(raw), nil
}

// String is p in hexadecimal digits.
func (p Pin) String() string { return hex.EncodeToString(p[:]) }

// Check says whether the certificates that the server host (a name or an address) showed, its own first, fit p. The server's
// own certificate has to be that one, whatever it says of names and times: the clock of a new machine may be wrong. One
// that an authority signed has to be valid for host.
func (p Pin) Check(host string, certificates []*x509.Certificate) error {
	var seen []string
	for i, certificate := range certificates {
		sum := Pin(sha256.Sum256(certificate.Raw))
		seen = append(seen, sum.String())
		if sum != p {
			continue
		}
		if i == 0 {
			return nil
		}
		roots, between := x509.NewCertPool(), x509.NewCertPool()
		roots.AddCert(certificate)
		for _, other := range certificates[1:] {
			between.AddCert(other)
		}
		if _, err := certificates[0].Verify(x509.VerifyOptions{DNSName: host, Roots: roots, Intermediates: between}); err != nil {
			return fmt.Errorf("the pinned authority does not vouch for %s: %w", host, err)
		}
		return nil
	}
	return mismatch{host: host, seen: seen}
}

// mismatch says that a server has shown other certificates.
type mismatch struct {
	host string
	seen []string
}

// Error implements error.
func (m mismatch) Error() string {
	if len(m.seen) == 0 {
		return m.host + " shows no certificate"
	}
	return fmt.Sprintf("%s shows other certificates (%s); correct the pin, or find out who answers there. An authority has to be sent by the server",
		m.host, strings.Join(m.seen, ", "))
}

// Transport makes to trust servers by p alone; field is the kernel parameter that gave it.
func (p Pin) Transport(to *http.Transport, field string) *http.Transport {
	dial := to.DialContext
	if dial == nil {
		dial = (&net.Dialer{Timeout: requestWait}).DialContext
	}
	to.DialTLSContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		raw, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		connection := tls.Client(raw, &tls.Config{
			ServerName: host, MinVersion: tls.VersionTLS12,
			// The pin is checked instead, below: it is stricter.
			InsecureSkipVerify: true,
			VerifyConnection:   func(s tls.ConnectionState) error { return p.Check(host, s.PeerCertificates) },
		})
		handshake, cancel := context.WithTimeout(ctx, requestWait)
		defer cancel()
		if err := connection.HandshakeContext(handshake); err != nil {
			raw.Close()
			if m, is := errors.AsType[mismatch](err); is {
				return nil, document.Problem{File: commandLineName, Field: field, Text: fmt.Sprintf("is %s, but %s", p, m)}
			}
			return nil, err
		}
		return connection, nil
	}
	return to
}

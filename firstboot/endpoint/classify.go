package endpoint

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"syscall"
	"time"
)

// Advice that the kubeadm high-availability guide gives in prose: "a connection refused error is expected because the API
// server is not yet running; a timeout, however, means the load balancer cannot communicate with the control plane node".
const (
	adviceRefused = "waiting: the first control plane or the load balancer is not up yet"
	adviceTimeout = "the load balancer cannot be reached, or it cannot communicate with a control plane: reconfigure the load balancer, " +
		"and check the address, the VLAN and firewalls on the way"
	adviceUnreachable = "check this node's address and routes, the switch port and the VLAN"
	adviceClosed      = "waiting: a load balancer does that while no control plane behind it is up"
	adviceTLS         = "let the load balancer pass TCP on to port 6443 of the control planes"
)

// classify says what a request that got no answer means.
func (s *session) classify(ctx context.Context, err error) *Problem {
	certificate, badCertificate := errors.AsType[*tls.CertificateVerificationError](err)
	dns, noName := errors.AsType[*net.DNSError](err)
	_, notTLS := errors.AsType[tls.RecordHeaderError](err)
	switch {
	case badCertificate && len(certificate.UnverifiedCertificates) > 0:
		return s.distrust(ctx, certificate.UnverifiedCertificates, err)
	case noName:
		return trouble(Unresolvable, "check the endpoint's name and this node's DNS servers", "the name %s cannot be resolved: %s", dns.Name, dns.Err)
	case notTLS || errors.Is(err, http.ErrSchemeMismatch):
		return trouble(NotTLS, adviceTLS, "what listens at %s does not speak TLS", s.Endpoint)
	case isAny(err, syscall.ECONNREFUSED):
		return trouble(Refused, adviceRefused, "nobody listens at %s yet (connection refused)", s.Endpoint)
	case isAny(err, syscall.EHOSTUNREACH, syscall.ENETUNREACH, syscall.ENETDOWN, syscall.EHOSTDOWN, syscall.EADDRNOTAVAIL, syscall.EACCES, syscall.EPERM):
		return trouble(Unreachable, adviceUnreachable, "there is no way to %s: %s", s.Endpoint, reason(err))
	case isTimeout(err) && s.connected.Load():
		return trouble(TimedOut, adviceTimeout, "%s takes connections and says nothing", s.Endpoint)
	case isTimeout(err):
		return trouble(TimedOut, adviceTimeout, "%s did not answer within %s", s.Endpoint, connectTime)
	case isAny(err, io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE):
		return trouble(Closed, adviceClosed, "%s closes the connection", s.Endpoint)
	}
	return trouble(NotReady, adviceTLS, "%s does not answer as an API server does: %s", s.Endpoint, reason(err))
}

func isAny(err error, of ...error) bool {
	for _, target := range of {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}

func isTimeout(err error) bool {
	timeout, ok := errors.AsType[net.Error](err)
	return ok && timeout.Timeout() || isAny(err, context.DeadlineExceeded, os.ErrDeadlineExceeded)
}

// reason is the innermost text of err: the outer ones repeat method, URL and addresses.
func reason(err error) string {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err.Error()
		}
		err = inner
	}
}

// distrust says why the certificate chain that the endpoint presented was not accepted. It does not go by x509's error:
// an authority that is not valid yet by a wrong clock shows there as an unknown one.
func (s *session) distrust(ctx context.Context, chain []*x509.Certificate, err error) *Problem {
	leaf, now := chain[0], s.now()
	host, _, _ := net.SplitHostPort(s.Endpoint)
	switch {
	case !SignedBy(s.Authority, chain):
		return s.otherCluster(ctx, chain)
	case outside(leaf, now):
		return s.badTime("the certificate of "+s.Endpoint, leaf, now)
	case outside(s.Authority, now):
		return s.badTime("the cluster's certificate authority", s.Authority, now)
	case leaf.VerifyHostname(host) != nil:
		return trouble(NameMismatch, "add the host to certificateNames in cluster.yaml and renew the API servers' certificates, or use an endpoint that they name",
			"the API server's certificate is not valid for %s, only for %s", host, names(leaf))
	}
	return trouble(NotReady, adviceTLS, "the certificate of %s cannot be used: %s", s.Endpoint, reason(err))
}

// SignedBy reports whether chain, the leaf first, leads to authority. Names and times do not matter.
func SignedBy(authority *x509.Certificate, chain []*x509.Certificate) bool {
	if authority == nil || len(chain) == 0 {
		return false
	}
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	// The moment is one at which as much as possible is valid.
	at := authority.NotBefore
	for _, c := range chain {
		if c.NotBefore.After(at) {
			at = c.NotBefore
		}
	}
	_, err := chain[0].Verify(x509.VerifyOptions{Roots: poolOf(authority), Intermediates: between, CurrentTime: at,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	return err == nil
}

func outside(c *x509.Certificate, now time.Time) bool {
	return now.Before(c.NotBefore) || now.After(c.NotAfter)
}

func (s *session) badTime(what string, c *x509.Certificate, now time.Time) *Problem {
	form := func(t time.Time) string { return t.UTC().Format(time.RFC3339) }
	if now.Before(c.NotBefore) {
		return trouble(CertificateTime, "set this machine's clock, or give it a time server",
			"%s is valid from %s, and this machine's clock says %s", what, form(c.NotBefore), form(now))
	}
	return trouble(CertificateTime, "set this machine's clock if it is wrong; otherwise renew the certificate",
		"%s was valid until %s, and this machine's clock says %s", what, form(c.NotAfter), form(now))
}

func names(c *x509.Certificate) string {
	all := c.DNSNames
	for _, ip := range c.IPAddresses {
		all = append(all[:len(all):len(all)], ip.String())
	}
	const most = 12
	if len(all) > most {
		return fmt.Sprintf("%s and %d more", join(all[:most]), len(all)-most)
	}
	return or(join(all), "no host at all")
}

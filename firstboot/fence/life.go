package fence

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"slices"
	"sync"

	"github.com/kiln-os/kiln/firstboot/endpoint"
)

// place is where an API server may answer.
type place struct {
	// address is host:port.
	address string
	// ours says that the place is the cluster's by its own documents: another cluster's API server has no business there.
	ours bool
}

// places are the endpoint, the planned control planes, and the endpoint's host, which may be one of them. An API server on
// this node itself would be that of an earlier life: whoever decides has no etcd data.
func (o Options) places() []place {
	list := []place{{o.Endpoint, true}}
	for _, other := range o.ControlPlanes {
		if other.Address != o.Address {
			list = append(list, place{net.JoinHostPort(other.Address, o.APIPort), true})
		}
	}
	if host, _, err := net.SplitHostPort(o.Endpoint); err == nil && host != o.Address {
		list = append(list, place{net.JoinHostPort(host, o.APIPort), false})
	}
	var known []string
	return slices.DeleteFunc(list, func(p place) bool {
		twice := slices.Contains(known, p.address) || p.address == ""
		known = append(known, p.address)
		return twice
	})
}

// life is what the places have shown.
type life struct {
	// ours are the addresses where this cluster's API server answers.
	ours []string
	// other is another cluster's, if there is one where this one should be.
	other *OtherCluster
}

// look asks all places at once. Silence is no answer: it holds nobody up.
func (o Options) look(ctx context.Context) life {
	places := o.places()
	chains := make([][]*x509.Certificate, len(places))
	var asking sync.WaitGroup
	for i, p := range places {
		asking.Go(func() { chains[i] = o.chain(ctx, p.address) })
	}
	asking.Wait()
	var l life
	for i, chain := range chains {
		switch {
		case len(chain) == 0:
		case endpoint.SignedBy(o.Authority, chain):
			l.ours = append(l.ours, places[i].address)
		case places[i].ours && l.other == nil:
			l.other = o.otherCluster(places[i].address, chain)
		}
	}
	return l
}

func (o Options) otherCluster(address string, chain []*x509.Certificate) *OtherCluster {
	other := &OtherCluster{Seen: address, Issuer: chain[0].Issuer.CommonName}
	if o.Authority != nil {
		other.Expected = endpoint.Pin(o.Authority)
	}
	return other
}

// chain is what a TLS server at address presents; nil when nobody does.
func (o Options) chain(ctx context.Context, address string) []*x509.Certificate {
	conn, err := connect(ctx, o, address)
	if err != nil {
		return nil
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	var chain []*x509.Certificate
	_ = tls.Client(conn, &tls.Config{
		MinVersion:         tls.VersionTLS12,
		InsecureSkipVerify: true, // who it is, is what is asked
		VerifyConnection: func(state tls.ConnectionState) error {
			chain = state.PeerCertificates
			return nil
		},
	}).HandshakeContext(ctx)
	return chain
}

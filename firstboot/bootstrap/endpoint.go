package bootstrap

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/kiln-os/kiln/firstboot/endpoint"
	"github.com/kiln-os/kiln/internal/cluster"
)

// endpoint waits until this node can join through the load balancer. What a person has to change ends it; a token that is
// refused leaves it looking for a renewed identity.
func (p plan) endpoint(ctx context.Context) (string, error) {
	if p.done("kubeadm-join") {
		return "joined before", nil
	}
	if !p.needsToken() {
		// The token may have expired since an earlier run was let in with it.
		return "not needed: the node has credentials of its own", nil
	}
	known, err := p.cluster()
	if err != nil {
		return "", err
	}
	seen, err := endpoint.Wait(ctx, endpoint.Options{Look: p.m.look(known), Say: p.saying("endpoint")})
	problem, ok := errors.AsType[*endpoint.Problem](err)
	switch {
	case err == nil:
		return fmt.Sprintf("%s answers, with Kubernetes %s", p.o.Identity.Cluster.Endpoint, seen.Kubernetes), nil
	case ok && problem.TokenRefused() && p.renewed(ctx):
		return "", errRenewed
	case ok && problem.Permanent():
		return "", Permanent{err}
	}
	return "", err
}

// look is how to look at the cluster: the test's way or the real one.
func (m *Machine) look(known endpoint.Cluster) func(context.Context) endpoint.Observation {
	if m.Look != nil {
		return func(ctx context.Context) endpoint.Observation { return m.Look(ctx, known) }
	}
	return known.Look
}

// saying makes a step's waiting visible: on the console and in `systemctl status`.
func (p plan) saying(step string) func(string) {
	return func(message string) {
		p.m.Report.say(event{step: step, message: message})
		p.m.Report.status("%s: %s", step, message)
	}
}

// cluster is what the identity knows of the cluster.
func (p plan) cluster() (endpoint.Cluster, error) {
	id := p.o.Identity
	authority, err := clusterAuthority(id)
	if err != nil {
		return endpoint.Cluster{}, err
	}
	machineID, _ := os.ReadFile(p.m.Root.Path("/etc/machine-id"))
	return endpoint.Cluster{
		Endpoint: id.Cluster.Endpoint, Authority: authority, Token: id.Bootstrap.Token, Baked: p.o.Baked.Kubernetes, Node: id.Node.Name,
		Machine: endpoint.Machine{ID: strings.TrimSpace(string(machineID)), UUID: p.machine.UUID}, Now: p.m.Now,
	}, nil
}

// clusterAuthority is the certificate by which the node knows its cluster.
func clusterAuthority(id cluster.Identity) (*x509.Certificate, error) {
	if a := id.Bootstrap.Authorities; a != nil {
		if block, _ := pem.Decode([]byte(a.Cluster.Certificate)); block != nil {
			if certificate, err := x509.ParseCertificate(block.Bytes); err == nil {
				return certificate, nil
			}
		}
	}
	return nil, Permanent{errors.New("the identity has no bootstrap.authorities.cluster.certificate, by which a node that joins knows its cluster; render it anew with `kiln cluster render`")}
}

// renewalLimit is how long the identity's source may take to say whether it has another token. It will be asked again.
const renewalLimit = 30 * time.Second

// renewed tells whether the identity's source has another token for this very node by now.
func (p plan) renewed(ctx context.Context) bool {
	fresh, err := p.m.readAgain(ctx, true)
	if err != nil || fresh.parse() != nil {
		return false
	}
	if fresh.id.Node.Pool != "" { // its name and address are this machine's business
		fresh.id.Node.Name, fresh.id.Node.Address = p.o.Identity.Node.Name, p.o.Identity.Node.Address
	}
	return sameNode(fresh.id, p.o.Identity) && fresh.id.Bootstrap.Token.Reveal() != p.o.Identity.Bootstrap.Token.Reveal()
}

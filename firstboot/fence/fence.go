// Package fence sees to it that a cluster is founded once. kubeadm itself does not: two nodes that both run kubeadm init
// make two clusters behind one endpoint. Whose identity says that it initialises has to get past the fence first.
//
// Every node that would initialise listens first and asks then, so that of two at least one sees the other. It asks the
// other planned control planes and the endpoint whether another node wants to initialise or does so already, and whether
// an API server of this cluster's certificate authority lives anywhere. It yields to who initialises; among those that
// only want to, the lowest name goes first, and starts once the others have yielded or are gone. Addresses that are silent
// hold nobody up: the first control plane needs neither the load balancer nor the others.
//
// What the fence cannot know is what nobody tells it: nodes that cannot reach each other at all, nor the endpoint, may both
// found. And a founder that is switched off is silent, so a node that once yielded has to remember that: see Options.
package fence

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"net"
	"time"

	"github.com/kiln-os/kiln/internal/cluster"
)

// Port is where a node listens while it founds a cluster, as far as control planes are let talk to each other: etcd's own
// ports come right behind it.
const Port = "2378"

// Options are what a node knows that would found its cluster.
type Options struct {
	// Name and Address are the node's own.
	Name, Address string
	// Nonce tells two machines with one name apart; NewNonce makes it, and the node keeps it as long as its disk.
	Nonce string
	// YieldedTo is the name that Remember was last called with on this disk. With it, the node never founds.
	YieldedTo string
	// Remember has to put the name of the node that this one yields to on the disk. Nobody is told before it has returned.
	Remember func(name string) error
	// Authority is the cluster's certificate authority, and Key its key. Without a key the node cannot prove who it is and
	// only looks for living clusters; without an authority it takes any cluster for another one.
	Authority *x509.Certificate
	Key       crypto.Signer
	// Endpoint is the load balancer's host:port.
	Endpoint string
	// ControlPlanes are the planned ones, this node among them. If it is not, the list is taken for incomplete, and the
	// node waits a little for others to find it.
	ControlPlanes []cluster.ControlPlane
	// Say gets a line about what is waited for.
	Say func(string)

	// Port and APIPort replace 2378 and 6443; Dial replaces how connections are made.
	Port, APIPort string
	Dial          func(ctx context.Context, network, address string) (net.Conn, error)
	// Pace replaces the fence's times; the zero value is what nodes use.
	Pace Pace
}

// Pace is the fence's times.
type Pace struct {
	// Connect is how long an address may take to take a connection, Talk how long to say something over it.
	Connect, Talk time.Duration
	// Round is between two rounds of asking, and between two announcements of who initialises.
	Round time.Duration
	// Linger is how long a node with an incomplete list lets others find it.
	Linger time.Duration
	// Record is how long a living cluster's record is waited for.
	Record time.Duration
}

// withDefaults fills in what is not given.
func (o Options) withDefaults() Options {
	if o.Port == "" {
		o.Port = Port
	}
	if o.APIPort == "" {
		o.APIPort = "6443"
	}
	if o.Dial == nil {
		o.Dial = (&net.Dialer{}).DialContext
	}
	if o.Say == nil {
		o.Say = func(string) {}
	}
	// A lost packet is sent again after a second; a busy machine needs its time for TLS. The record is written a minute
	// or two after the API server lives, on slow machines.
	for have, usual := range map[*time.Duration]time.Duration{
		&o.Pace.Connect: 2 * time.Second, &o.Pace.Talk: 8 * time.Second, &o.Pace.Round: time.Second,
		&o.Pace.Linger: 3 * time.Second, &o.Pace.Record: 10 * time.Minute,
	} {
		if *have == 0 {
			*have = usual
		}
	}
	return o
}

// NewNonce makes a nonce.
func NewNonce() string {
	raw := make([]byte, 16)
	_, _ = rand.Read(raw) // it never fails
	return hex.EncodeToString(raw)
}

// ParsePair reads an identity's authorities.cluster. Its errors quote nothing of it.
func ParsePair(pair cluster.KeyPair) (*x509.Certificate, crypto.Signer, error) {
	// The key is revealed to its parser alone.
	both, err := tls.X509KeyPair([]byte(pair.Certificate), []byte(pair.Key.Reveal()))
	if err != nil {
		return nil, nil, errors.New("reading certificate authority: certificate and key are not a pair of PEM texts")
	}
	key, ok := both.PrivateKey.(crypto.Signer)
	if !ok {
		return nil, nil, errors.New("reading certificate authority: the key cannot sign")
	}
	return both.Leaf, key, nil
}

// Action is what a node does next.
type Action int

// The two ways on.
const (
	// Found: run kubeadm init.
	Found Action = iota + 1
	// Join: the cluster lives; this node founded it once, or nobody is known to have.
	Join
)

// Decision is what came of it.
type Decision struct {
	Action Action
	// Claim keeps other nodes from founding while this one does. It is nil unless Action is Found and the node has a key.
	Claim *Claim
	// Founder is who founded the living cluster, if Action is Join; empty if it does not say.
	Founder string
	// Seen is what showed that the cluster lives, host:port.
	Seen string
}

// Decide asks around until it is clear what to do; ctx ends it. It must not be called by a node that has etcd data: such a
// node has founded already (see Hold). Errors that no retry mends are *Rival, *FoundedByOther and *OtherCluster.
func Decide(ctx context.Context, o Options) (Decision, error) {
	o = o.withDefaults()
	d := &decider{Options: o}
	if o.Key != nil && o.Authority != nil && o.YieldedTo == "" {
		claim, err := open(o, claiming)
		if err != nil {
			return Decision{}, err
		}
		d.claim = claim
	}
	decision, err := d.decide(ctx)
	if err != nil || decision.Action != Found {
		d.claim.Close()
		return decision, err
	}
	d.claim.announce()
	return decision, nil
}

// Hold lets a node that goes on with founding its cluster say so, after a power cut that left it etcd's data. It asks
// nobody.
func Hold(o Options) (*Claim, error) {
	o = o.withDefaults()
	if o.Key == nil || o.Authority == nil {
		return nil, nil
	}
	claim, err := open(o, initialising)
	if err != nil {
		return nil, err
	}
	claim.announce()
	return claim, nil
}

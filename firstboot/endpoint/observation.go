package endpoint

import (
	"fmt"
	"strings"
	"time"
)

// State is what a look came to.
type State string

// The states. Those above Ready wait for the cluster or for the network and go on for as long as it takes.
const (
	// Refused: nobody listens on the port.
	Refused State = "Refused"
	// TimedOut: packets are dropped on the way, or whoever took the connection says nothing.
	TimedOut State = "TimedOut"
	// Unreachable: there is no way to the address.
	Unreachable State = "Unreachable"
	// Unresolvable: the host name has no address.
	Unresolvable State = "Unresolvable"
	// Closed: the connection was accepted and closed, as TCP balancers do that have no living backend.
	Closed State = "Closed"
	// NotTLS: what answers does not speak TLS.
	NotTLS State = "NotTLS"
	// CertificateTime: by this machine's clock the certificate, or its authority, is not valid now.
	CertificateTime State = "CertificateTime"
	// NotReady: the cluster's API server answers, but not yet what is asked.
	NotReady State = "NotReady"
	// NotFounded: the API server works, and the cluster has not been made known in it yet.
	NotFounded State = "NotFounded"
	// Unsigned: the cluster has not signed its public information for this token yet; its controller manager does that.
	Unsigned State = "Unsigned"

	// Ready: the node can join.
	Ready State = "Ready"

	// OtherCluster: the certificate was signed by another authority.
	OtherCluster State = "OtherCluster"
	// NameMismatch: the certificate is the cluster's, but not valid for the endpoint's host.
	NameMismatch State = "NameMismatch"
	// TokenUnknown: the cluster does not take the token, for another reason than its age.
	TokenUnknown State = "TokenUnknown"
	// TokenExpired: the cluster does not take the token any more.
	TokenExpired State = "TokenExpired"
	// VersionDiffers: the cluster runs another Kubernetes than the image carries.
	VersionDiffers State = "VersionDiffers"
	// NameTaken: a Ready Node of this node's name runs on another machine.
	NameTaken State = "NameTaken"
)

// NeedsPerson reports whether only a person can change the state, once it has lasted.
func (s State) NeedsPerson() bool {
	switch s {
	case OtherCluster, NameMismatch, TokenUnknown, TokenExpired, VersionDiffers, NameTaken:
		return true
	}
	return false
}

// Observation is what one look saw.
type Observation struct {
	State State
	// Message says in one sentence what was seen. It names the endpoint and holds no secret.
	Message string
	// Advice says what to do, or what is waited for.
	Advice string
	// Kubernetes is the cluster's version, as in v1.36.3, once it was read.
	Kubernetes string
	// Node is the Node of this node's own name, if there is one and it was read.
	Node *Node
	// Expired is when the token ended, if State is TokenExpired.
	Expired time.Time
	// Expected and Presented are the pins of this node's authority and of the endpoint's, if State is OtherCluster. The
	// latter is empty when the endpoint does not show its authority.
	Expected, Presented string
}

// String is the message with its advice.
func (o Observation) String() string {
	if o.Advice == "" {
		return o.Message
	}
	return o.Message + "; " + o.Advice
}

// Problem is an observation as an error: what Wait ends with when a person is needed.
type Problem struct{ Observation }

// Error implements error.
func (p *Problem) Error() string { return "joining through the endpoint: " + p.String() }

// Permanent reports whether the same identity can never join as things stand. A token is not permanent: the node may be
// given another one, or the cluster may.
func (p *Problem) Permanent() bool {
	return p.State.NeedsPerson() && p.State != TokenUnknown && p.State != TokenExpired
}

// TokenRefused reports whether the cluster refuses the token and would take another one.
func (p *Problem) TokenRefused() bool { return p.State == TokenUnknown || p.State == TokenExpired }

func trouble(state State, advice, format string, args ...any) *Problem {
	return &Problem{Observation{State: state, Message: fmt.Sprintf(format, args...), Advice: advice}}
}

func (s *session) versionDiffers(version string) Observation {
	return Observation{State: VersionDiffers, Kubernetes: version,
		Message: fmt.Sprintf("the cluster at %s runs Kubernetes %s, this image carries %s", s.Endpoint, version, s.Baked),
		Advice:  fmt.Sprintf("boot an image of %s, or bring the cluster to %s first", version, s.Baked)}
}

// sameVersion compares what kubeadm-config and a release call a version; the v is a matter of taste there.
func sameVersion(a, b string) bool { return strings.TrimPrefix(a, "v") == strings.TrimPrefix(b, "v") }

func (s *session) unsigned(version string, node *Node) Observation {
	return Observation{State: Unsigned, Kubernetes: version, Node: node,
		Message: fmt.Sprintf("the cluster at %s has not signed its information for the token %s yet", s.Endpoint, s.tokenID()),
		Advice:  "waiting for its controller manager; if it stays so, kube-controller-manager does not run"}
}

func (s *session) nameTaken(n Node, version string) Observation {
	o := Observation{State: NameTaken, Kubernetes: version, Node: &n}
	if n.UUID != "" && strings.EqualFold(n.UUID, s.Machine.UUID) {
		o.Message = fmt.Sprintf("the Node %s is Ready, from an earlier installation on this machine or on one with the same product UUID %s", n.Name, n.UUID)
		o.Advice = "the cluster notices within a minute or two that it is gone; if it does not, another machine runs under this name: " +
			"give one of them another name"
		return o
	}
	o.Message = fmt.Sprintf("a Ready Node %s runs on another machine (product UUID %s, address %s)", n.Name, or(n.UUID, "unknown"), or(n.Address, "unknown"))
	o.Advice = "give this node another name, or switch that machine off and delete its Node"
	return o
}

func or(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}

package reconcile

import (
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/kiln-os/kiln/internal/cluster"
	"github.com/kiln-os/kiln/internal/profile"
)

// annotationRegistration holds the statement that the cluster's operator has signed about the Node.
const annotationRegistration = "kiln.dev/registration"

// rolePrefix is where the labels of roles are, which `kubectl get nodes` shows.
const rolePrefix = "node-role.kubernetes.io/"

// controlPlaneLabel marks the control planes; kubeadm sets it.
const controlPlaneLabel = rolePrefix + profile.ControlPlane

// verifier tells which statements count in this cluster.
type verifier struct {
	cluster string
	// authorities are the cluster's; there are several while one replaces another.
	authorities []*x509.Certificate
}

// granted gives the labels that the statement text lets the Node called name have and that its kubelet may not set: the
// role's, and those that NodeRestriction keeps for administrators. Labels that a kubelet may set never come from here: they
// are the kubelet's to change.
func (v verifier) granted(name, text string) (map[string]string, error) {
	s, err := v.verify(text)
	switch {
	case err != nil:
		return nil, err
	case s.Cluster != v.cluster:
		return nil, fmt.Errorf("it is about the cluster %q, and this is %q", s.Cluster, v.cluster)
	case !fits(name, s):
		return nil, fmt.Errorf("it is about nodes called %q, and this is %q", s.Node, name)
	case s.Role != profile.ControlPlane && s.Role != profile.Worker:
		return nil, fmt.Errorf("its role %q is neither %s nor %s", s.Role, profile.ControlPlane, profile.Worker)
	}
	labels := map[string]string{}
	for key, value := range s.Labels {
		// A role is more than a label: it comes from the statement's role alone.
		if !profile.KubeletMaySet(key) && !strings.HasPrefix(key, rolePrefix) {
			labels[key] = value
		}
	}
	labels[rolePrefix+s.Role] = ""
	return labels, nil
}

func (v verifier) verify(text string) (cluster.Statement, error) {
	err := errors.New("there is no certificate authority to check it against")
	for _, authority := range v.authorities {
		var s cluster.Statement
		if s, err = cluster.VerifyStatement(text, authority); err == nil {
			return s, nil
		}
	}
	return cluster.Statement{}, err
}

// missing are the labels of want that have lacks. One that has another value stays: somebody with the right to do so has
// set it.
func missing(have, want map[string]string) map[string]string {
	lacks := map[string]string{}
	for key, value := range want {
		if _, there := have[key]; !there {
			lacks[key] = value
		}
	}
	return lacks
}

// describe lists labels for people, sorted.
func describe(labels map[string]string) string {
	var parts []string
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		parts = append(parts, key+"="+labels[key])
	}
	return strings.Join(parts, ", ")
}

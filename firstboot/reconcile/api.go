package reconcile

import (
	"context"
	"strings"
	"time"

	"github.com/kiln-os/kiln/firstboot/node"
	"github.com/kiln-os/kiln/internal/nodefs"
)

// Watcher follows all Nodes of a cluster.
type Watcher interface {
	// List gives all Nodes for the empty selector.
	List(ctx context.Context, selector string) (nodes []node.Metadata, version string, err error)
	// Watch tells all Nodes and each change until the API server cannot be asked.
	Watch(ctx context.Context, seen func(node.Change)) error
}

// Nodes reads and changes single Nodes.
type Nodes interface {
	Get(ctx context.Context, name string) (node.Node, error)
	// RegisterParts sets what is wanted, and tells what of it the API server refused. When all is refused, that is the error.
	RegisterParts(ctx context.Context, name string, want node.Registration) ([]node.Refusal, error)
	// Delete removes the Node as it was read: it is a conflict (409) when it has changed or was made anew.
	Delete(ctx context.Context, n node.Node) error
}

// Notices tells people about a Node by way of the cluster, and whether an object is there.
type Notices interface {
	SetCondition(ctx context.Context, name string, c node.Condition) error
	Record(ctx context.Context, n node.Node, e node.Event) error
	Exists(ctx context.Context, path string) (bool, error)
}

// API is this node's own API server, asked as the cluster's administrator.
type API interface {
	Watcher
	Nodes
	Notices
}

// connect makes a client of the API server at a URL with the administrator's kubeconfig.
func connect(root nodefs.Root, server string) (API, error) {
	client, err := node.Open(root, nodefs.AdminConfig, server)
	if err != nil {
		return nil, err
	}
	// The work is tried again anyway, and one round shall not take long.
	client.Patience = 5 * time.Second
	return client, nil
}

// Node is what is kept of a Node: of its metadata, what the work is about.
type Node struct {
	Name, UID string
	Labels    map[string]string
	// Annotations are those of kiln's.
	Annotations map[string]string
}

// keep takes out of a Node's metadata what the work is about.
func keep(m node.Metadata) Node {
	n := Node{Name: m.Metadata.Name, UID: m.Metadata.UID, Labels: m.Metadata.Labels, Annotations: map[string]string{}}
	for key, value := range m.Metadata.Annotations {
		if strings.HasPrefix(key, "kiln.dev/") {
			n.Annotations[key] = value
		}
	}
	return n
}

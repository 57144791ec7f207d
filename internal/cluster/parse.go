package cluster

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/kiln-os/kiln/internal/document"
)

// ParseIdentity reads an Identity document and fills in defaults; file is the name for messages.
func ParseIdentity(file string, text []byte) (Identity, error) {
	var id Identity
	if err := document.Decode(file, text, IdentityKind, &id); err != nil {
		return Identity{}, err
	}
	id.setDefaults()
	problems := &document.Problems{File: file}
	checkIdentity(problems, id)
	return id, problems.Err()
}

// ParseIdentityOnNode reads an Identity document as a node does: a label, taint, zone or region that is wrong is left out,
// with a warning, for one of them is no reason to stay out of the cluster. In all else it is as strict as ParseIdentity.
func ParseIdentityOnNode(file string, text []byte) (Identity, []string, error) {
	var warnings []string
	drop := func(err error) error {
		fields := []string{}
		for _, problem := range document.List(err) {
			if !droppable(problem.Field) {
				return err
			}
			fields = append(fields, problem.Field)
			warnings = append(warnings, problem.Error()+"; the node goes without it")
		}
		if len(fields) == 0 {
			return err
		}
		var dropErr error
		text, dropErr = without(text, fields)
		return dropErr
	}
	var decoded Identity
	if err := document.Decode(file, text, IdentityKind, &decoded); err != nil {
		if err := drop(err); err != nil {
			return Identity{}, nil, err
		}
		decoded = Identity{}
		if err := document.Decode(file, text, IdentityKind, &decoded); err != nil {
			return Identity{}, nil, err
		}
	}
	problems := &document.Problems{File: file}
	checkRegistered(problems, "node", decoded.Node.common())
	if err := drop(problems.Err()); err != nil {
		return Identity{}, nil, err
	}
	id, err := ParseIdentity(file, text)
	return id, warnings, err
}

// droppable tells whether a field only says what a Node object shows of the node.
func droppable(field string) bool {
	for _, name := range []string{"node.labels", "node.taints", "node.zone", "node.region"} {
		if rest, ok := strings.CutPrefix(field, name); ok && (rest == "" || rest[0] == '.' || rest[0] == '[') {
			return true
		}
	}
	return false
}

// without is an identity's text, as JSON, without the droppable fields.
func without(text []byte, fields []string) ([]byte, error) {
	tree := map[string]any{}
	// Numbers keep their digits.
	if err := yaml.Unmarshal(text, &tree, func(d *json.Decoder) *json.Decoder { d.UseNumber(); return d }); err != nil {
		return nil, fmt.Errorf("reading identity: %w", err)
	}
	node, _ := tree["node"].(map[string]any)
	labels, _ := node["labels"].(map[string]any)
	taints, _ := node["taints"].([]any)
	bad := map[int]bool{}
	for _, field := range fields {
		name := strings.TrimPrefix(field, "node.")
		if key, ok := strings.CutPrefix(name, "labels."); ok {
			delete(labels, key)
		} else if rest, ok := strings.CutPrefix(name, "taints["); ok {
			index, _, _ := strings.Cut(rest, "]")
			i, _ := strconv.Atoi(index)
			bad[i] = true
		} else {
			delete(node, name)
		}
	}
	if len(bad) > 0 {
		kept := []any{}
		for i, taint := range taints {
			if !bad[i] {
				kept = append(kept, taint)
			}
		}
		node["taints"] = kept
	}
	return json.Marshal(tree)
}

// Scrubbed is the identity as it may stay on a node that has become a member: of its bootstrap secrets only the cluster's
// certificate is left, which is none.
func (id Identity) Scrubbed() Identity {
	scrubbed := id
	scrubbed.Bootstrap = Bootstrap{}
	if a := id.Bootstrap.Authorities; a != nil && a.Cluster.Certificate != "" {
		scrubbed.Bootstrap.Authorities = &Authorities{Cluster: KeyPair{Certificate: a.Cluster.Certificate}}
	}
	return scrubbed
}

// ReadScrubbed reads what was rendered from a Scrubbed identity, as YAML or JSON. It was checked when it was whole, and is
// not checked again; a whole identity is read too.
func ReadScrubbed(text []byte) (Identity, error) {
	var id Identity
	if err := document.Decode("identity", text, IdentityKind, &id); err != nil {
		return Identity{}, err
	}
	// An encoder writes a secret that is not there like every other: as redacted.
	for _, secret := range []*document.Secret{&id.Bootstrap.Token, &id.Bootstrap.CertificateKey} {
		if secret.Reveal() == secret.String() {
			*secret = document.Secret{}
		}
	}
	id.setDefaults()
	return id, nil
}

func (id *Identity) setDefaults() {
	id.Cluster.setDefaults()
	setDefault(&id.Bootstrap.TokenTTL, DefaultTokenTTL)
	id.Node.Match.normalise()
}

func (c *Cluster) setDefaults() {
	setDefault(&c.PodSubnet, DefaultPodSubnet)
	setDefault(&c.ServiceSubnet, DefaultServiceSubnet)
	setDefault(&c.DNSDomain, DefaultDNSDomain)
}

func setDefault(field *string, value string) {
	if *field == "" {
		*field = value
	}
}

// common is the part of a node that a Definition's nodes and pools have too.
func (n Node) common() Common {
	return Common{Zone: n.Zone, Region: n.Region, Labels: n.Labels, Taints: n.Taints, ProviderID: n.ProviderID, Kubelet: n.Kubelet, Network: n.Network}
}

// AllLabels are the node's labels with those of its zone and region.
func (n Node) AllLabels() map[string]string {
	all := map[string]string{}
	for key, value := range n.Labels {
		all[key] = value
	}
	for key, value := range map[string]string{labelZone: n.Zone, labelRegion: n.Region} {
		if value != "" {
			all[key] = value
		}
	}
	return all
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// under is the path of a field of a document's part; the document itself is the empty path.
func under(part, name string) string {
	if part == "" {
		return name
	}
	return part + "." + name
}

package node

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"sigs.k8s.io/yaml"
)

// FieldManager is the name under which firstboot owns the fields that it applies.
const FieldManager = "kiln-firstboot"

// Object is any Kubernetes object.
type Object map[string]any

// Objects splits a manifest of one or more YAML documents; file is the name for messages.
func Objects(file string, manifest []byte) ([]Object, error) {
	var objects []Object
	for i, text := range documents(manifest) {
		var object Object
		if err := yaml.Unmarshal(text, &object); err != nil {
			return nil, fmt.Errorf("reading document %d of %s: %w", i+1, file, err)
		}
		if len(object) == 0 {
			continue // only comments
		}
		if object.text("apiVersion") == "" || object.text("kind") == "" || object.Name() == "" {
			return nil, fmt.Errorf("reading document %d of %s: it lacks apiVersion, kind or metadata.name", i+1, file)
		}
		objects = append(objects, object)
	}
	return objects, nil
}

// documents splits at lines that are ---.
func documents(manifest []byte) [][]byte {
	var parts [][]byte
	var part bytes.Buffer
	for line := range bytes.Lines(manifest) {
		if trimmed := bytes.TrimRight(line, " \t\r\n"); bytes.Equal(trimmed, []byte("---")) || bytes.HasPrefix(line, []byte("--- ")) {
			parts = append(parts, bytes.Clone(part.Bytes()))
			part.Reset()
			continue
		}
		part.Write(line)
	}
	return append(parts, part.Bytes())
}

func (o Object) text(field string) string { s, _ := o[field].(string); return s }

func (o Object) metadata(field string) string {
	metadata, _ := o["metadata"].(map[string]any)
	s, _ := metadata[field].(string)
	return s
}

// Name is the object's metadata.name.
func (o Object) Name() string { return o.metadata("name") }

// String names the object for people: Kind/name.
func (o Object) String() string { return o.text("kind") + "/" + o.Name() }

// Apply applies an object server-side, taking over fields that someone else set: applying twice changes nothing.
func (c *Client) Apply(ctx context.Context, o Object) error {
	path, err := c.pathOf(ctx, o)
	if err != nil {
		return fmt.Errorf("applying %s: %w", o, err)
	}
	query := url.Values{"fieldManager": {FieldManager}, "force": {"true"}}
	// JSON is YAML: the content type's only form, and the body is JSON.
	r := request{method: http.MethodPatch, path: path + "?" + query.Encode(), contentType: typeApply, body: o}
	if err := c.call(ctx, r, nil); err != nil {
		return fmt.Errorf("applying %s: %w", o, err)
	}
	return nil
}

// resource is how the API server names a kind.
type resource struct {
	Name       string `json:"name"`
	Kind       string `json:"kind"`
	Namespaced bool   `json:"namespaced"`
}

// pathOf asks the API server for the name of the object's kind: plurals are not guessed.
func (c *Client) pathOf(ctx context.Context, o Object) (string, error) {
	version := o.text("apiVersion")
	base := "/apis/" + version
	if !strings.Contains(version, "/") {
		base = "/api/" + version
	}
	kinds, err := c.kindsOf(ctx, version, base)
	if err != nil {
		return "", err
	}
	kind, known := kinds[o.text("kind")]
	switch {
	case !known:
		// A definition that was just applied may bring it: ask again next time.
		delete(c.kinds, version)
		return "", fmt.Errorf("the API server knows no kind %s in %s", o.text("kind"), version)
	case !kind.Namespaced:
		return base + "/" + kind.Name + "/" + url.PathEscape(o.Name()), nil
	}
	namespace := o.metadata("namespace")
	if namespace == "" {
		namespace = "default"
	}
	return base + "/namespaces/" + url.PathEscape(namespace) + "/" + kind.Name + "/" + url.PathEscape(o.Name()), nil
}

func (c *Client) kindsOf(ctx context.Context, version, base string) (map[string]resource, error) {
	if kinds, known := c.kinds[version]; known {
		return kinds, nil
	}
	var list struct {
		Resources []resource `json:"resources"`
	}
	if err := c.call(ctx, request{method: http.MethodGet, path: base}, &list); err != nil {
		return nil, fmt.Errorf("asking for the kinds of %s: %w", version, err)
	}
	kinds := map[string]resource{}
	for _, r := range list.Resources {
		if !strings.Contains(r.Name, "/") { // deployments/status is a part, not a kind
			kinds[r.Kind] = r
		}
	}
	if c.kinds == nil {
		c.kinds = map[string]map[string]resource{}
	}
	c.kinds[version] = kinds
	return kinds, nil
}

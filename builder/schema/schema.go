// Package schema makes the JSON Schema (2020-12) of each document from its Go types, so that editors complete and
// check the files. The descriptions are the doc comments of the fields.
package schema

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	"github.com/invopop/jsonschema"

	"github.com/kiln-os/kiln/builder/plan"
	"github.com/kiln-os/kiln/internal/cluster"
	"github.com/kiln-os/kiln/internal/document"
	"github.com/kiln-os/kiln/internal/profile"
	"github.com/kiln-os/kiln/internal/release"
)

// kinds are the documents there are, in the order in which a user meets them.
func kinds() []kind {
	return []kind{
		{plan.ImageKind, reflect.TypeFor[plan.Image]()},
		{profile.Kind, reflect.TypeFor[profile.Profile]()},
		{release.Kind, reflect.TypeFor[release.Release]()},
		{cluster.Kind, reflect.TypeFor[cluster.Definition]()},
		{cluster.IdentityKind, reflect.TypeFor[cluster.Identity]()},
	}
}

type kind struct {
	name string
	root reflect.Type
}

// Kinds lists the kinds that have a schema.
func Kinds() []string {
	var names []string
	for _, k := range kinds() {
		names = append(names, k.name)
	}
	return names
}

// Render returns the schema of a kind as indented JSON with a final newline. Letter case does not matter.
func Render(name string) ([]byte, error) {
	for _, k := range kinds() {
		if strings.EqualFold(k.name, name) {
			return render(k)
		}
	}
	return nil, fmt.Errorf("unknown kind %q; want %s", name, strings.Join(Kinds(), ", "))
}

func render(k kind) ([]byte, error) {
	comments, err := readComments()
	if err != nil {
		return nil, err
	}
	reflector := &jsonschema.Reflector{
		Anonymous:      true,
		ExpandedStruct: true,
		Mapper:         leaf,
		LookupComment:  comments.lookup,
	}
	s := reflector.ReflectFromType(k.root)
	s.Title = "kiln " + k.name
	// A document is called by its kind, whatever its Go type is called.
	if rest, ok := strings.CutPrefix(s.Description, k.root.Name()+" "); ok {
		s.Description = k.name + " " + rest
	}
	for _, c := range choices() {
		c.apply(s, k.root)
	}
	constant(s, "apiVersion", document.APIVersion)
	constant(s, "kind", k.name)
	raw, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("rendering the schema of %s: %w", k.name, err)
	}
	return append(raw, '\n'), nil
}

// leaf gives the schemas of the types that decode themselves from a text.
func leaf(t reflect.Type) *jsonschema.Schema {
	switch t {
	case reflect.TypeFor[document.Size]():
		return &jsonschema.Schema{Type: "string", Pattern: "^[0-9]+(KiB|MiB|GiB|TiB)$", Examples: []any{"512MiB"}}
	case reflect.TypeFor[document.Secret]():
		return &jsonschema.Schema{Type: "string"}
	}
	return nil
}

func constant(s *jsonschema.Schema, field, value string) {
	if property, ok := s.Properties.Get(field); ok {
		property.Const = value
	}
}

// choice limits a field to the values that validation allows; both take them from the same list.
type choice struct {
	owner  reflect.Type
	field  string
	values []string
}

func choices() []choice {
	return []choice{
		{reflect.TypeFor[plan.Image](), "architecture", plan.Architectures()},
		{reflect.TypeFor[plan.Image](), "platform", plan.Platforms()},
		{reflect.TypeFor[plan.Image](), "format", plan.Formats()},
		{reflect.TypeFor[plan.Image](), "copies", plan.Copies()},
		{reflect.TypeFor[profile.Profile](), "role", profile.Roles()},
		{reflect.TypeFor[profile.Taint](), "effect", profile.Effects()},
		{reflect.TypeFor[release.ContainerImage](), "roles", profile.Roles()},
		{reflect.TypeFor[release.Binary](), "language", []string{"go", "c"}},
		{reflect.TypeFor[cluster.Definition](), "certificates", cluster.Certificates()},
		{reflect.TypeFor[cluster.DefinedNode](), "role", profile.Roles()},
		{reflect.TypeFor[cluster.Pool](), "role", []string{profile.Worker}},
		{reflect.TypeFor[cluster.Node](), "role", profile.Roles()},
	}
}

func (c choice) apply(s *jsonschema.Schema, root reflect.Type) {
	owner := s
	if c.owner != root {
		owner = s.Definitions[c.owner.Name()]
	}
	if owner == nil || owner.Properties == nil {
		return
	}
	property, ok := owner.Properties.Get(c.field)
	if !ok {
		return
	}
	if property.Type == "array" {
		property = property.Items
	}
	for _, value := range c.values {
		property.Enum = append(property.Enum, value)
	}
}

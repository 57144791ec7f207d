package schema_test

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/kiln-os/kiln/builder/schema"
	"github.com/kiln-os/kiln/images"
	"github.com/kiln-os/kiln/profiles"
)

func rendered(t *testing.T, kind string) map[string]any {
	t.Helper()
	text, err := schema.Render(kind)
	if err != nil {
		t.Fatal(err)
	}
	var value map[string]any
	if err := json.Unmarshal(text, &value); err != nil {
		t.Fatal(err)
	}
	return value
}

func parsed(t *testing.T, text string) any {
	t.Helper()
	var value any
	if err := yaml.Unmarshal([]byte(text), &value); err != nil {
		t.Fatal(err)
	}
	return value
}

func TestBuiltInDocumentsAreValid(t *testing.T) {
	for _, row := range []struct {
		kind    string
		tree    fs.FS
		pattern string
	}{{"Image", images.Definitions, "*.yaml"}, {"Profile", profiles.FS, "*.yaml"}, {"Release", images.Releases, "releases/*/release.yaml"}} {
		s := rendered(t, row.kind)
		files, err := fs.Glob(row.tree, row.pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("no documents of kind %s: %v", row.kind, err)
		}
		for _, file := range files {
			text, err := fs.ReadFile(row.tree, file)
			if err != nil {
				t.Fatal(err)
			}
			if problems := check(s, s, "", parsed(t, string(text))); len(problems) > 0 {
				t.Errorf("%s does not fit the schema:\n%s", file, strings.Join(problems, "\n"))
			}
		}
	}
}

const validIdentity = `
apiVersion: kiln/v1alpha1
kind: Identity
release: v1.36
node: {name: node-1, role: worker, address: 10.0.0.1, taints: []}
cluster: {name: kiln, endpoint: "10.0.0.1:6443"}
bootstrap: {token: abc, authorities: {cluster: {certificate: x}}}
`

func TestSchemaRefuses(t *testing.T) {
	s := rendered(t, "identity")
	if problems := check(s, s, "", parsed(t, validIdentity)); len(problems) > 0 {
		t.Fatalf("a worker's identity does not fit:\n%s", strings.Join(problems, "\n"))
	}
	for _, row := range []struct{ old, new, want string }{
		{"role: worker", "role: master", "node.role: not one of"},
		{"kind: Identity", "kind: Image", "kind: not"},
		{"release: v1.36", "relaese: v1.36", "relaese: unknown"},
		{"release: v1.36", "", "release: required"},
		{"address: 10.0.0.1", "address: 10", "node.address: not of type string"},
		{"taints: []", "taints: [{key: a, effect: Never}]", "node.taints[0].effect: not one of"},
		{"certificate: x", "cert: x", "bootstrap.authorities.cluster.cert: unknown"},
	} {
		problems := strings.Join(check(s, s, "", parsed(t, strings.Replace(validIdentity, row.old, row.new, 1))), "\n")
		if !strings.Contains(problems, row.want) {
			t.Errorf("%s: problems are %q; want %q", row.new, problems, row.want)
		}
	}
	image := rendered(t, "image")
	text, err := fs.ReadFile(images.Definitions, "vm-disk.yaml")
	if err != nil {
		t.Fatal(err)
	}
	broken := strings.Replace(string(text), "esp: 256MiB", "esp: 256MB", 1)
	if problems := strings.Join(check(image, image, "", parsed(t, broken)), "\n"); !strings.Contains(problems, "disk.esp: does not match") {
		t.Errorf("a size without a binary unit: problems are %q", problems)
	}
}

func TestSchemaOfTheCluster(t *testing.T) {
	template, err := os.ReadFile("../cluster.yaml.tmpl")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer("NAME", "prod", "RELEASE", "v1.36").Replace(string(template))
	s := rendered(t, "cluster")
	if problems := check(s, s, "", parsed(t, text)); len(problems) > 0 {
		t.Fatalf("what kiln cluster new writes does not fit:\n%s", strings.Join(problems, "\n"))
	}
	for _, row := range []struct{ old, new, want string }{
		{"certificates: staged", "certificates: copied", "certificates: not one of"},
		{"role: worker\n", "role: node\n", "nodes[3].role: not one of"},
		{"initialise: true", "initialise: 1", "nodes[0].initialise: not of type boolean"},
		{"initialise: true", "initialize: true", "nodes[0].initialize: unknown"},
		{"initialise: true", "zone: 7", "nodes[0].zone: not of type string"},
		{"initialise: true", "match: {mca: x}", "nodes[0].match.mca: unknown"},
		{"endpoint: 10.0.0.10:6443\n", "", "endpoint: required"},
		{"nodes:\n", "pools: [{name: a, role: control-plane}]\nnodes:\n", "pools[0].role: not one of [worker]"},
		{"nodes:\n", "customisation: {apiServer: {extraArgs: [{name: v}]}}\nnodes:\n", "customisation.apiServer.extraArgs[0].value: required"},
		{"nodes:\n", "customisation: {kubeApiServer: {}}\nnodes:\n", "customisation.kubeApiServer: unknown"},
	} {
		if !strings.Contains(text, row.old) {
			t.Fatalf("the document lacks %q", row.old)
		}
		problems := strings.Join(check(s, s, "", parsed(t, strings.Replace(text, row.old, row.new, 1))), "\n")
		if problems != row.want && !strings.HasPrefix(problems, row.want) {
			t.Errorf("%s: problems are %q; want %q", row.new, problems, row.want)
		}
	}
}

// Descriptions are the user's manual: each field has one, and it begins with the name that the field has in documents.
func TestEveryFieldIsDescribed(t *testing.T) {
	for _, kind := range schema.Kinds() {
		s := rendered(t, kind)
		objects := map[string]any{kind: s}
		if defs, ok := s["$defs"].(map[string]any); ok {
			for name, def := range defs {
				objects[name] = def
			}
		}
		for name, object := range objects {
			fields, ok := object.(map[string]any)
			if !ok || fields["additionalProperties"] != false || fields["type"] != "object" {
				t.Errorf("%s: %s is not a closed object", kind, name)
			}
			if text, _ := fields["description"].(string); !strings.HasPrefix(text, name+" ") {
				t.Errorf("%s: the description of %s is %q", kind, name, text)
			}
			properties, _ := fields["properties"].(map[string]any)
			for field, property := range properties {
				text, _ := property.(map[string]any)["description"].(string)
				if !strings.HasPrefix(text, field+" ") || !strings.HasSuffix(text, ".") {
					t.Errorf("%s: the description of %s.%s is %q", kind, name, field, text)
				}
			}
		}
		if s["$schema"] != "https://json-schema.org/draft/2020-12/schema" {
			t.Errorf("%s: schema of %v", kind, s["$schema"])
		}
	}
}

func TestRenderUnknownKind(t *testing.T) {
	_, err := schema.Render("pod")
	if want := `unknown kind "pod"; want Image, Profile, Release, Cluster, Identity`; err == nil || err.Error() != want {
		t.Errorf("error is %v; want %s", err, want)
	}
}

// check validates value against the part of JSON Schema that the generated schemas use. It panics at a keyword that it
// does not know, so that it never passes what it has not checked.
func check(root, s map[string]any, path string, value any) []string {
	var problems []string
	add := func(at, format string, args ...any) {
		problems = append(problems, at+": "+fmt.Sprintf(format, args...))
	}
	object, isObject := value.(map[string]any)
	for keyword, want := range s {
		switch keyword {
		case "$schema", "$defs", "description", "title", "examples", "format", "properties":
		case "$ref":
			name := strings.TrimPrefix(want.(string), "#/$defs/")
			problems = append(problems, check(root, root["$defs"].(map[string]any)[name].(map[string]any), path, value)...)
		case "type":
			if typeOf(value) != want {
				add(path, "not of type %v", want)
			}
		case "const":
			if value != want {
				add(path, "not %v", want)
			}
		case "enum":
			if !slices.Contains(want.([]any), value) {
				add(path, "not one of %v", want)
			}
		case "pattern":
			if text, ok := value.(string); ok && !regexp.MustCompile(want.(string)).MatchString(text) {
				add(path, "does not match %v", want)
			}
		case "required":
			for _, name := range want.([]any) {
				if _, ok := object[name.(string)]; isObject && !ok {
					add(join(path, name.(string)), "required")
				}
			}
		case "items":
			list, _ := value.([]any)
			for i, item := range list {
				problems = append(problems, check(root, want.(map[string]any), fmt.Sprintf("%s[%d]", path, i), item)...)
			}
		case "additionalProperties":
			properties, _ := s["properties"].(map[string]any)
			for name, member := range object {
				known, ok := properties[name].(map[string]any)
				switch schema, isSchema := want.(map[string]any); {
				case ok:
					problems = append(problems, check(root, known, join(path, name), member)...)
				case isSchema:
					problems = append(problems, check(root, schema, join(path, name), member)...)
				case want == false:
					add(join(path, name), "unknown")
				}
			}
		default:
			panic("the checker does not know the keyword " + keyword)
		}
	}
	return problems
}

func typeOf(value any) string {
	switch v := value.(type) {
	case map[string]any:
		return "object"
	case []any:
		return "array"
	case string:
		return "string"
	case bool:
		return "boolean"
	case float64:
		if v == float64(int64(v)) {
			return "integer"
		}
		return "number"
	default:
		return "null"
	}
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

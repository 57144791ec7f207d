package profile

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/kiln-os/kiln/internal/document"
)

// patchTargets are what kubeadm 1.36 can patch (cmd/kubeadm/app/util/patches).
var patchTargets = []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubeletconfiguration", "corednsdeployment"}

// CheckPatches refuses what kubeadm would silently ignore, or trip over on the node. Patches maps file names to contents;
// field is where the document has them.
func CheckPatches(p *document.Problems, field string, patches map[string]string) {
	for _, name := range sortedKeys(patches) {
		field := field + "." + name
		target, kind, ok := splitPatch(name)
		switch {
		case !ok:
			p.Add(field, "is not the name of a kubeadm patch; want target, an optional suffix, an optional +strategic, +merge or +json, and .yaml or .json, "+
				"as in kube-apiserver0+merge.yaml, with target one of %s", strings.Join(patchTargets, ", "))
		case kind != "" && kind != "strategic" && kind != "merge" && kind != "json":
			p.Add(field, "has the unknown patch type %q; want strategic, merge or json", kind)
		default:
			checkPatch(p, field, patch{target: target, kind: kind, text: patches[name]})
		}
	}
}

// splitPatch takes a file name apart as kubeadm does: target[suffix][+type].extension.
func splitPatch(name string) (target, kind string, ok bool) {
	extension := path.Ext(name)
	if extension != ".yaml" && extension != ".json" || strings.Contains(name, "/") {
		return "", "", false
	}
	stem, kind, typed := strings.Cut(strings.TrimSuffix(name, extension), "+")
	if typed && kind == "" {
		return "", "", false
	}
	for _, candidate := range patchTargets {
		if strings.HasPrefix(stem, candidate) {
			return candidate, kind, true
		}
	}
	return "", "", false
}

// patch is the content of one patch file.
type patch struct{ target, kind, text string }

// documentSeparator is where kubeadm divides a file of several patches.
var documentSeparator = regexp.MustCompile(`(?m)^---.*$`)

func checkPatch(p *document.Problems, field string, c patch) {
	found := false
	for _, part := range documentSeparator.Split(c.text, -1) {
		if strings.TrimSpace(part) == "" {
			continue
		}
		found = true
		var value any
		if err := yaml.Unmarshal([]byte(part), &value); err != nil {
			p.Add(field, "is not valid YAML or JSON; want a patch of %s", c.target)
			continue
		}
		operations, isList := value.([]any)
		fields, isMapping := value.(map[string]any)
		switch {
		case c.kind == "json" && !isList:
			p.Add(field, "is not a JSON patch; want a list of operations, or another type than +json")
		case c.kind == "json":
			checkOperations(p, field, operations)
		case !isMapping:
			p.Add(field, "is not a patch; want a mapping with the fields of %s to change, or the type +json", c.target)
		default:
			checkDirectives(p, field, c.kind, fields)
		}
	}
	if !found {
		p.Add(field, "is empty; want a patch of %s, or leave it out", c.target)
	}
}

// checkOperations checks the form of a JSON patch (RFC 6902, section 4). Whether a path exists only the node can tell.
func checkOperations(p *document.Problems, field string, operations []any) {
	for i, item := range operations {
		field := indexed(field, i)
		operation, ok := item.(map[string]any)
		if !ok {
			p.Add(field, "is not an operation; want a mapping with op and path")
			continue
		}
		name, _ := operation["op"].(string)
		needs, known := map[string]string{"add": "value", "replace": "value", "test": "value", "move": "from", "copy": "from", "remove": ""}[name]
		if !known {
			p.Add(field+".op", "%s; want add, remove, replace, move, copy or test", missingOr(textOf(operation["op"])))
		}
		checkPointer(p, field+".path", operation["path"])
		if _, given := operation[needs]; needs == "value" && !given {
			p.Add(field+".value", "missing; %s needs one", name)
		}
		if needs == "from" {
			checkPointer(p, field+".from", operation["from"])
		}
		for _, key := range sortedKeys(operation) {
			if !slices.Contains([]string{"op", "path", "value", "from"}, key) {
				p.Add(field+"."+key, "unknown field; want op, path, value or from")
			}
		}
	}
}

// badEscape finds a ~ that stands for neither ~ nor / (RFC 6901, section 3).
var badEscape = regexp.MustCompile(`~([^01]|$)`)

func checkPointer(p *document.Problems, field string, value any) {
	const want = "want a JSON pointer, as in /spec/containers/0/image"
	text, isText := value.(string)
	switch {
	case value == nil:
		p.Add(field, "missing; %s", want)
	case !isText || text != "" && !strings.HasPrefix(text, "/"):
		p.Add(field, "%q does not begin with /; %s", textOf(value), want)
	case badEscape.MatchString(text):
		p.Add(field, "%q has a ~ that is neither ~0 (for ~) nor ~1 (for /); %s", text, want)
	}
}

// checkDirectives finds strategic directives that no patch can apply (apimachinery, util/strategicpatch), at any depth.
func checkDirectives(p *document.Problems, field, kind string, value any) {
	switch v := value.(type) {
	case map[string]any:
		for _, key := range sortedKeys(v) {
			directive := textOf(v[key])
			switch {
			case strings.HasPrefix(key, "$") && kind == "merge":
				p.Add(field+"."+key, "is a directive of strategic patches; leave it out, or use the type +strategic")
			case key == "$patch" && !slices.Contains([]string{"replace", "merge", "delete"}, directive):
				p.Add(field+"."+key, "%s; want replace, merge or delete", missingOr(directive))
			}
			checkDirectives(p, field+"."+key, kind, v[key])
		}
	case []any:
		for i, item := range v {
			checkDirectives(p, indexed(field, i), kind, item)
		}
	}
}

func textOf(value any) string {
	if value == nil {
		return ""
	}
	return fmt.Sprint(value)
}

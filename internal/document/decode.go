package document

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"sort"
	"strings"
	"time"
)

// Decode fills into (a pointer to a struct with json tags) from the YAML or JSON text of the document called file.
// Kind is what the header has to say. The error joins every Problem found; into is then half filled and not for use.
func Decode(file string, text []byte, kind string, into any) error {
	problems := &Problems{File: file}
	if len(bytes.TrimSpace(text)) == 0 {
		problems.Add("", "the document is empty; want a %s document of %s", kind, APIVersion)
		return problems.Err()
	}
	tree, ok := readTree(problems, text)
	if !ok {
		return problems.Err()
	}
	checkHeader(problems, tree, kind)
	checkValue(problems, "", tree, reflect.TypeOf(into).Elem())
	if err := problems.Err(); err != nil {
		return err
	}
	raw, err := json.Marshal(tree)
	if err != nil {
		return Problem{File: file, Text: err.Error()}
	}
	// The tree was checked against the type, so this fails only for a number that its Go type cannot hold.
	if err := json.Unmarshal(raw, into); err != nil {
		return Problem{File: file, Text: strings.TrimPrefix(err.Error(), "json: ")}
	}
	return nil
}

func checkHeader(problems *Problems, tree map[string]any, kind string) {
	if got, _ := tree["apiVersion"].(string); got != APIVersion {
		problems.Add("apiVersion", "%s; want %s", quoteOrMissing(tree["apiVersion"]), APIVersion)
	}
	if got, _ := tree["kind"].(string); got != kind {
		problems.Add("kind", "%s; want %s", quoteOrMissing(tree["kind"]), kind)
	}
}

func quoteOrMissing(v any) string {
	if v == nil {
		return "missing"
	}
	return fmt.Sprintf("is %q", fmt.Sprint(v))
}

// custom is a type that decodes itself from one string.
var custom = reflect.TypeFor[json.Unmarshaler]()

func checkValue(problems *Problems, path string, value any, t reflect.Type) {
	if value == nil {
		return
	}
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if reflect.PointerTo(t).Implements(custom) {
		checkCustom(problems, path, value, t)
		return
	}
	switch t.Kind() {
	case reflect.Struct:
		checkStruct(problems, path, value, t)
	case reflect.Slice:
		items, ok := value.([]any)
		if !ok {
			problems.Add(path, "want a list, have %s", describe(value, t))
			return
		}
		for i, item := range items {
			checkValue(problems, fmt.Sprintf("%s[%d]", path, i), item, t.Elem())
		}
	case reflect.Map:
		entries, ok := value.(map[string]any)
		if !ok {
			problems.Add(path, "want a mapping, have %s", describe(value, t))
			return
		}
		for _, key := range sortedKeys(entries) {
			checkValue(problems, join(path, key), entries[key], t.Elem())
		}
	case reflect.Interface:
	default:
		checkScalar(problems, path, value, t)
	}
}

// checkCustom lets a type that decodes itself (a size, a secret) say what is wrong with a value.
func checkCustom(problems *Problems, path string, value any, t reflect.Type) {
	raw, err := json.Marshal(value)
	if err == nil {
		err = json.Unmarshal(raw, reflect.New(t).Interface())
	}
	if err != nil && t == reflect.TypeFor[time.Time]() {
		err = fmt.Errorf("%s is not a time; want RFC 3339, as in 2026-01-31T00:00:00Z", raw)
	}
	if err != nil {
		problems.Add(path, "%s", strings.TrimPrefix(err.Error(), "json: "))
	}
}

func checkStruct(problems *Problems, path string, value any, t reflect.Type) {
	entries, ok := value.(map[string]any)
	if !ok {
		problems.Add(path, "want a mapping of fields, have %s", describe(value, t))
		return
	}
	fields := fieldsOf(t)
	for _, key := range sortedKeys(entries) {
		field, known := fields[key]
		if !known {
			problems.Add(join(path, key), "unknown field; want one of %s", strings.Join(sortedKeys(fields), ", "))
			continue
		}
		checkValue(problems, join(path, key), entries[key], field)
	}
}

func checkScalar(problems *Problems, path string, value any, t reflect.Type) {
	want, ok := "", false
	switch t.Kind() {
	case reflect.String:
		want = "text (put quotes around it)"
		_, ok = value.(string)
	case reflect.Bool:
		want = "true or false"
		_, ok = value.(bool)
	case reflect.Float32, reflect.Float64:
		want = "a number"
		_, ok = value.(json.Number)
	default:
		want = "a whole number"
		if n, isNumber := value.(json.Number); isNumber {
			_, err := n.Int64()
			ok = err == nil
		}
	}
	if !ok {
		problems.Add(path, "want %s, have %s", want, describe(value, t))
	}
}

// fieldsOf lists the json names of a struct's fields, those of embedded structs included.
func fieldsOf(t reflect.Type) map[string]reflect.Type {
	fields := map[string]reflect.Type{}
	for i := range t.NumField() {
		field := t.Field(i)
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		switch {
		case name == "-" || !field.IsExported():
		case field.Anonymous && name == "":
			for k, v := range fieldsOf(field.Type) {
				fields[k] = v
			}
		default:
			fields[name] = field.Type
		}
	}
	return fields
}

// describe names a value that is not a t. It does not repeat a text where a secret was wanted, or something that
// holds one: a secret in the wrong place is still a secret.
func describe(value any, t reflect.Type) string {
	switch v := value.(type) {
	case nil:
		return "nothing"
	case map[string]any:
		return "a mapping"
	case []any:
		return "a list"
	case string:
		if holdsSecret(t) {
			return "a text"
		}
		return fmt.Sprintf("the text %q", v)
	default:
		if holdsSecret(t) {
			return "a number or true or false"
		}
		return fmt.Sprintf("%v", v)
	}
}

// holdsSecret reports whether a t is a Secret or has one anywhere inside.
func holdsSecret(t reflect.Type) bool {
	switch {
	case t == reflect.TypeFor[Secret]():
		return true
	case t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice || t.Kind() == reflect.Map:
		return holdsSecret(t.Elem())
	case t.Kind() == reflect.Struct && !reflect.PointerTo(t).Implements(custom):
		for _, field := range fieldsOf(t) {
			if holdsSecret(field) {
				return true
			}
		}
	}
	return false
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

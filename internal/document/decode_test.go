package document_test

import (
	"strings"
	"testing"
	"time"

	"github.com/kiln-os/kiln/internal/document"
)

type sample struct {
	document.Header
	Name     string            `json:"name"`
	Count    int               `json:"count,omitempty"`
	On       bool              `json:"active,omitempty"`
	Size     document.Size     `json:"size,omitempty"`
	Token    document.Secret   `json:"token,omitzero"`
	When     time.Time         `json:"when,omitzero"`
	Labels   map[string]string `json:"labels,omitempty"`
	Items    []item            `json:"items,omitempty"`
	Pointer  *item             `json:"pointer,omitempty"`
	Optional *[]item           `json:"optional,omitempty"`
	Any      map[string]any    `json:"any,omitempty"`
	Hidden   string            `json:"-"`
}

type item struct {
	Key   string          `json:"key"`
	Value document.Secret `json:"value,omitzero"`
	Plain plain           `json:"plain,omitzero"`
}

type plain struct {
	Text string `json:"text"`
}

const header = "apiVersion: kiln/v1alpha1\nkind: Sample\n"

func TestDecodeProblems(t *testing.T) {
	rows := []struct {
		summary, text string
		want          []string
	}{
		{"empty", "", []string{"s.yaml: the document is empty; want a Sample document of kiln/v1alpha1"}},
		{"only white space", " \n\t\n", []string{"s.yaml: the document is empty; want a Sample document of kiln/v1alpha1"}},
		{"only a comment", "# nothing here\n", []string{"s.yaml: want a mapping of fields, have nothing"}},
		{"a list", "- a\n- b\n", []string{"s.yaml: want a mapping of fields, have a list"}},
		{"a single value", "hello\n", []string{"s.yaml: want a mapping of fields, have a single value"}},
		{"not YAML", "name: [\n", []string{"s.yaml: not valid YAML: line 1: did not find expected node content"}},
		{"a tab", header + "\tname: x\n", []string{"s.yaml: not valid YAML: line 3: found a tab character that violates indentation"}},
		{"no header", "name: x\n", []string{
			"s.yaml: apiVersion: missing; want kiln/v1alpha1",
			"s.yaml: kind: missing; want Sample",
		}},
		{"another kind and version", "apiVersion: v1\nkind: Pod\n", []string{
			`s.yaml: apiVersion: is "v1"; want kiln/v1alpha1`,
			`s.yaml: kind: is "Pod"; want Sample`,
		}},
		{"header of the wrong type", "apiVersion: 1\nkind: [Sample]\n", []string{
			`s.yaml: apiVersion: is "1"; want kiln/v1alpha1`,
			"s.yaml: apiVersion: want text (put quotes around it), have 1",
			`s.yaml: kind: is "[Sample]"; want Sample`,
			"s.yaml: kind: want text (put quotes around it), have a list",
		}},
		{"every unknown field at once, at every depth", header + "nmae: x\nitems:\n- key: a\n  plain: {txt: b}\n- kye: b\npointer: {k: v}\nhidden: x\nHidden: x\n", []string{
			"s.yaml: Hidden: unknown field; want one of ",
			"s.yaml: hidden: unknown field; want one of ",
			"s.yaml: items[0].plain.txt: unknown field; want one of text",
			"s.yaml: items[1].kye: unknown field; want one of key, plain, value",
			"s.yaml: nmae: unknown field; want one of active, any, apiVersion, count, items, kind, labels, name, optional, pointer, size, token, when",
			"s.yaml: pointer.k: unknown field; want one of key, plain, value",
		}},
		{"every wrong type at once", header + "name: 1.30\ncount: many\nactive: \"yes\"\nlabels: [a]\nitems: {a: b}\npointer: [1]\nany: text\noptional: 3\n", []string{
			`s.yaml: active: want true or false, have the text "yes"`,
			`s.yaml: any: want a mapping, have the text "text"`,
			`s.yaml: count: want a whole number, have the text "many"`,
			"s.yaml: items: want a list, have a mapping",
			"s.yaml: labels: want a mapping, have a list",
			"s.yaml: name: want text (put quotes around it), have 1.3",
			"s.yaml: optional: want a list, have a number or true or false",
			"s.yaml: pointer: want a mapping of fields, have a list",
		}},
		{"types inside lists and mappings", header + "labels: {zone: 1, ok: \"1\"}\nitems:\n- text\n- key: true\ncount: 1.5\n", []string{
			"s.yaml: count: want a whole number, have 1.5",
			"s.yaml: items[0]: want a mapping of fields, have a text",
			"s.yaml: items[1].key: want text (put quotes around it), have true",
			"s.yaml: labels.zone: want text (put quotes around it), have 1",
		}},
		{"fields given twice do not hide other problems", header + "name: a\nname: b\nlabels:\n  x: a\n  x: b\nwrong: 1\n", []string{
			`s.yaml: line 4: field "name" is given twice; remove one of them`,
			`s.yaml: line 7: field "x" is given twice; remove one of them`,
			"s.yaml: wrong: unknown field; want one of ",
		}},
		{"sizes", header + "size: 512\nitems: []\n", []string{"s.yaml: size: 512 has no unit; want a whole number and KiB, MiB, GiB or TiB, as in 512MiB"}},
		{"size with a decimal unit", header + "size: 512MB\n", []string{`s.yaml: size: "512MB" is not a size; want a whole number and KiB, MiB, GiB or TiB, as in 512MiB`}},
		{"size beyond bounds", header + "size: 9999999TiB\n", []string{`s.yaml: size: "9999999TiB" is too large; want at most 1024TiB`}},
		{"a time", header + "when: yesterday\n", []string{`s.yaml: when: "yesterday" is not a time; want RFC 3339, as in 2026-01-31T00:00:00Z`}},
		{"several documents", header + "name: a\n---\n" + header + "name: b\n", []string{"s.yaml: holds several YAML documents; want one document in a file"}},
	}
	for _, row := range rows {
		t.Run(row.summary, func(t *testing.T) {
			var into sample
			err := document.Decode("s.yaml", []byte(row.text), "Sample", &into)
			if !document.IsInvalid(err) {
				t.Fatalf("error is %v; want a problem of the document", err)
			}
			lines := strings.Split(err.Error(), "\n")
			if len(lines) != len(row.want) {
				t.Fatalf("%d problems, want %d:\n%s", len(lines), len(row.want), err)
			}
			for i, want := range row.want {
				if !strings.HasPrefix(lines[i], want) {
					t.Errorf("problem %d\n is   %s\n want %s", i, lines[i], want)
				}
			}
		})
	}
}

func TestDecodeAccepts(t *testing.T) {
	text := "# a comment first\n---\n" + header + `name: "1.30"
count: 3
active: true
size: 512MiB
token: abc
when: 2026-01-31T00:00:00Z
labels: {1: one}
items:
- {key: a, value: hush}
pointer: {key: p}
optional: []
any: {deep: [1, {x: null}]}
`
	var got sample
	if err := document.Decode("s.yaml", []byte(text), "Sample", &got); err != nil {
		t.Fatal(err)
	}
	if got.Name != "1.30" || got.Count != 3 || !got.On || got.Size != 512*document.MiB || got.Token.Reveal() != "abc" {
		t.Errorf("scalars are %+v", got)
	}
	if !got.When.Equal(time.Date(2026, 1, 31, 0, 0, 0, 0, time.UTC)) || got.Labels["1"] != "one" {
		t.Errorf("time and labels are %v, %v", got.When, got.Labels)
	}
	if len(got.Items) != 1 || got.Items[0].Value.Reveal() != "hush" || got.Pointer == nil || got.Pointer.Key != "p" {
		t.Errorf("items and pointer are %+v, %+v", got.Items, got.Pointer)
	}
	if got.Optional == nil || len(*got.Optional) != 0 {
		t.Errorf("an empty list is %v; want it told apart from none", got.Optional)
	}
	if len(got.Any["deep"].([]any)) != 2 {
		t.Errorf("free-form value is %v", got.Any)
	}
}

func TestDecodeNullIsAbsent(t *testing.T) {
	var got sample
	if err := document.Decode("s.yaml", []byte(header+"name: null\nitems:\nlabels:\ntoken:\n"), "Sample", &got); err != nil {
		t.Fatal(err)
	}
	if got.Name != "" || got.Items != nil || !got.Token.IsZero() {
		t.Errorf("nulls became %+v", got)
	}
}

func TestProblemsAreOrderedByField(t *testing.T) {
	p := &document.Problems{File: "f.yaml"}
	p.Add("b", "second")
	p.Add("a", "first; want %d", 1)
	p.Add("b", "third")
	want := "f.yaml: a: first; want 1\nf.yaml: b: second\nf.yaml: b: third"
	if got := p.Err().Error(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if err := (&document.Problems{}).Err(); err != nil || document.IsInvalid(err) {
		t.Errorf("no problems give the error %v", err)
	}
}

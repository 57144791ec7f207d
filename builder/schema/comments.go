package schema

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"reflect"
	"strings"

	"github.com/kiln-os/kiln/builder/plan"
	"github.com/kiln-os/kiln/internal/cluster"
	"github.com/kiln-os/kiln/internal/document"
	"github.com/kiln-os/kiln/internal/profile"
	"github.com/kiln-os/kiln/internal/release"
)

// comments maps package path and type, and for fields the field's Go name, to the doc comment in one line.
type comments map[[3]string]string

// readComments collects the doc comments of all document types from their embedded sources.
func readComments() (comments, error) {
	all := comments{}
	for _, source := range []struct {
		sample reflect.Type
		text   string
	}{
		{reflect.TypeFor[document.Header](), document.Text},
		{reflect.TypeFor[plan.Image](), plan.ImageText},
		{reflect.TypeFor[profile.Profile](), profile.Text},
		{reflect.TypeFor[release.Release](), release.Text},
		{reflect.TypeFor[cluster.Identity](), cluster.Text},
		{reflect.TypeFor[cluster.Definition](), cluster.DefinitionText},
		{reflect.TypeFor[cluster.MachineNetwork](), cluster.MachineNetworkText},
		{reflect.TypeFor[cluster.Customisation](), cluster.CustomisationText},
	} {
		file, err := parser.ParseFile(token.NewFileSet(), "", source.text, parser.ParseComments)
		if err != nil {
			return nil, fmt.Errorf("reading the comments of %s: %w", source.sample.PkgPath(), err)
		}
		all.collect(source.sample.PkgPath(), file)
	}
	return all, nil
}

func (c comments) collect(path string, file *ast.File) {
	for _, declaration := range file.Decls {
		general, ok := declaration.(*ast.GenDecl)
		if !ok || general.Tok != token.TYPE {
			continue
		}
		for _, spec := range general.Specs {
			named := spec.(*ast.TypeSpec)
			c[[3]string{path, named.Name.Name, ""}] = oneLine(general.Doc)
			structure, ok := named.Type.(*ast.StructType)
			if !ok {
				continue
			}
			for _, field := range structure.Fields.List {
				for _, name := range field.Names {
					c[[3]string{path, named.Name.Name, name.Name}] = oneLine(field.Doc)
				}
			}
		}
	}
}

func oneLine(doc *ast.CommentGroup) string { return strings.Join(strings.Fields(doc.Text()), " ") }

// lookup is jsonschema's way of asking for a comment; field is empty for the type's own. A comment begins with the
// field's Go name, which is not what a document calls it.
func (c comments) lookup(t reflect.Type, field string) string {
	text := c[[3]string{t.PkgPath(), t.Name(), field}]
	if field == "" {
		return text
	}
	found, ok := t.FieldByName(field)
	if !ok {
		return text
	}
	name, _, _ := strings.Cut(found.Tag.Get("json"), ",")
	if rest, begins := strings.CutPrefix(text, field+" "); begins && name != "" {
		return name + " " + rest
	}
	return text
}

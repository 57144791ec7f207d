// Package walls keeps the rooms apart: it reads the imports of every package of the module and compares them with the
// rules of the house. It needs no network and no compiled package.
package walls

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/kiln-os/kiln"

// pkg is one directory with Go files, by its path within the module.
type pkg struct {
	dir  string
	name string
	// imports maps each import of the files that are not tests to one of the files; testImports does so for tests.
	imports, testImports map[string]string
	// doc is the package comment.
	doc   string
	files []*ast.File
}

// readModule parses every package, those behind build tags too. Directories that hold no part of the module are left out.
func readModule(t *testing.T) map[string]*pkg {
	t.Helper()
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]*pkg{}
	err = filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		relative := filepath.ToSlash(strings.TrimPrefix(strings.TrimPrefix(file, root), string(filepath.Separator)))
		if d.IsDir() {
			if relative != "" && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || relative == "bin" || relative == "out") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(file, ".go") {
			return nil
		}
		return readFile(all, file, relative)
	})
	if err != nil {
		t.Fatal(err)
	}
	if all["builder"] == nil || all["firstboot"] == nil {
		t.Fatalf("the programs are not among the %d packages below %s", len(all), root)
	}
	return all
}

func readFile(all map[string]*pkg, file, relative string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	parsed, err := parser.ParseFile(token.NewFileSet(), relative, text, parser.ParseComments)
	if err != nil {
		return err
	}
	dir := path.Dir(relative)
	p := all[dir]
	if p == nil {
		p = &pkg{dir: dir, imports: map[string]string{}, testImports: map[string]string{}}
		all[dir] = p
	}
	into := p.imports
	if strings.HasSuffix(relative, "_test.go") {
		into = p.testImports
	} else {
		p.files = append(p.files, parsed)
	}
	// A package of tests only is named by them.
	if p.name == "" || !strings.HasSuffix(relative, "_test.go") {
		p.name = strings.TrimSuffix(parsed.Name.Name, "_test")
	}
	p.doc += parsed.Doc.Text()
	for _, spec := range parsed.Imports {
		name, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return err
		}
		into[name] = relative
	}
	return nil
}

// within tells whether a path is tree or lies below it.
func within(path, tree string) bool { return path == tree || strings.HasPrefix(path, tree+"/") }

// within the module, an import's directory; false for other modules.
func local(imported string) (string, bool) {
	return strings.CutPrefix(imported, module+"/")
}

func sorted(all map[string]*pkg) []*pkg {
	var list []*pkg
	for _, p := range all {
		list = append(list, p)
	}
	slices.SortFunc(list, func(a, b *pkg) int { return strings.Compare(a.dir, b.dir) })
	return list
}

func TestRoomsAreApart(t *testing.T) {
	rules := []struct{ from, to, why string }{
		{"builder", "firstboot", "the programs meet in files that one bakes and the other reads; what both need belongs in internal"},
		{"firstboot", "builder", "the programs meet in files that one bakes and the other reads; what both need belongs in internal"},
		{"internal", "builder", "internal is what both programs use; it cannot use one of them"},
		{"internal", "firstboot", "internal is what both programs use; it cannot use one of them"},
		{"builder", "test", "programs do not depend on their tests"},
		{"firstboot", "test", "programs do not depend on their tests"},
		{"firstboot", "images", "a node reads what was baked into it, never what kiln comes with"},
		{"firstboot", "profiles", "a node reads what was baked into it, never what kiln comes with"},
	}
	for _, p := range sorted(readModule(t)) {
		for _, imports := range []map[string]string{p.imports, p.testImports} {
			for imported, file := range imports {
				dir, ours := local(imported)
				for _, rule := range rules {
					if ours && within(p.dir, rule.from) && within(dir, rule.to) {
						t.Errorf("%s imports %s: %s", file, imported, rule.why)
					}
				}
			}
		}
	}
}

// A package stays in internal only while both programs use it, directly or through another.
func TestInternalIsUsedByBoth(t *testing.T) {
	all := readModule(t)
	reached := map[string]map[string]bool{}
	for _, program := range []string{"builder", "firstboot"} {
		reached[program] = map[string]bool{}
		for _, p := range all {
			if within(p.dir, program) {
				reach(all, p.dir, reached[program])
			}
		}
	}
	for _, p := range sorted(all) {
		if !within(p.dir, "internal") {
			continue
		}
		for program, has := range reached {
			if !has[p.dir] {
				t.Errorf("%s is not used by %s: move it into the one program that uses it", p.dir, program)
			}
		}
	}
}

func reach(all map[string]*pkg, dir string, reached map[string]bool) {
	if reached[dir] || all[dir] == nil {
		return
	}
	reached[dir] = true
	for imported := range all[dir].imports {
		if next, ours := local(imported); ours {
			reach(all, next, reached)
		}
	}
}

// Each sharp dependency has few homes, so that what it does can be found, faked and replaced.
func TestSharpDependenciesHaveOneHome(t *testing.T) {
	rules := []struct {
		dependency string
		homes      []string
		why        string
	}{
		{"os/exec", []string{"internal/command"}, "every program is started one way, with a context, a kept end of its errors and a recorder for tests"},
		{"github.com/diskfs/go-diskfs", []string{"builder/output"}, "its known defects are mended or checked for in one place"},
		{"github.com/foxboron/go-uefi", []string{"builder/secureboot"}, "whoever signs holds the key, and that is one place"},
		{"github.com/google/go-containerregistry", []string{"builder/preload", "builder/payload"}, "container images are the payload's and the preload's concern"},
		{"github.com/coreos/ignition", []string{"firstboot/source", "firstboot/ignition"}, "an Ignition config is one of the sources of an identity, and may ask for more"},
		{"github.com/insomniacslk/dhcp", []string{"firstboot/source", "firstboot/initramfs"}, "leases that last are systemd-networkd's"},
		{"github.com/vishvananda/netlink", []string{"firstboot/initramfs"}, "in the booted system systemd-networkd makes the network"},
		{"github.com/foxboron/go-uefi", []string{"builder/secureboot"}, "its known defects are worked round in one place"},
		{"github.com/spf13/cobra", []string{"=builder", "=firstboot"}, "only the two programs have command lines"},
		{"github.com/coreos/go-systemd", []string{"firstboot"}, "only a node has a systemd to talk to"},
		{"github.com/invopop/jsonschema", []string{"builder/schema"}, "schemas are made in one place"},
		{"github.com/CycloneDX/cyclonedx-go", []string{"builder/sbom"}, "bills of materials are written in one place"},
		{"github.com/schollz/progressbar", []string{"builder/progress"}, "progress looks the same everywhere"},
		{"k8s.io/cri-api", []string{"firstboot"}, "only a node has a container runtime to ask"},
	}
	for _, p := range sorted(readModule(t)) {
		for imported, file := range p.imports {
			for _, rule := range rules {
				if within(imported, rule.dependency) && !slices.ContainsFunc(rule.homes, func(home string) bool { return livesIn(p.dir, home) }) && !within(p.dir, "test") {
					t.Errorf("%s imports %s, whose home is %s: %s", file, imported, strings.Join(rule.homes, ", "), rule.why)
				}
			}
		}
	}
}

// livesIn tells whether dir is in a home: a tree, or with = before it a single package.
func livesIn(dir, home string) bool {
	if exact, ok := strings.CutPrefix(home, "="); ok {
		return dir == exact
	}
	return within(dir, home)
}

// Documents, plans and rendering are pure: bytes in, values out. Whoever reads a file or a socket does so elsewhere.
func TestDocumentsArePure(t *testing.T) {
	pure := []string{
		"internal/document", "internal/release", "internal/profile", "internal/cluster", "internal/install", "internal/nodefs",
		"firstboot/kubeadm", "builder/plan", "builder/schema", "builder/authority", "builder/enrol", "builder/sbom",
	}
	impure := []string{"os", "net/http", "syscall", "=log", "golang.org/x/sys", module + "/internal/command"}
	// Of package net, only what takes texts apart.
	texts := []string{"SplitHostPort", "JoinHostPort", "ParseIP", "ParseCIDR", "IP", "IPNet", "IPMask", "CIDRMask"}
	all := readModule(t)
	for _, dir := range pure {
		p := all[dir]
		if p == nil {
			t.Errorf("there is no package %s: bring the list of pure packages up to date", dir)
			continue
		}
		for imported, file := range p.imports {
			for _, bad := range impure {
				if livesIn(imported, bad) {
					t.Errorf("%s imports %s: %s takes bytes and gives values; let its caller do the reading and writing", file, imported, dir)
				}
			}
		}
		for _, file := range p.files {
			ast.Inspect(file, func(node ast.Node) bool {
				if name, ok := selected(node, "net"); ok && !slices.Contains(texts, name) {
					t.Errorf("%s uses net.%s: it may take addresses apart, but not reach for the network", dir, name)
				}
				return true
			})
		}
	}
}

// selected is the name in an expression qualifier.name.
func selected(node ast.Node, qualifier string) (string, bool) {
	expression, ok := node.(*ast.SelectorExpr)
	if !ok {
		return "", false
	}
	left, ok := expression.X.(*ast.Ident)
	return expression.Sel.Name, ok && left.Name == qualifier
}

func TestHouseStyle(t *testing.T) {
	drawers := []string{"util", "utils", "common", "helper", "helpers", "types", "core", "api", "manager", "misc", "base", "shared"}
	for _, p := range sorted(readModule(t)) {
		if slices.Contains(drawers, p.name) || slices.Contains(drawers, path.Base(p.dir)) {
			t.Errorf("package %s has a name that says nothing: name it after what it holds", p.dir)
		}
		if problem := docProblem(p); problem != "" {
			t.Errorf("package %s %s", p.dir, problem)
		}
		for _, file := range p.files {
			for _, declaration := range file.Decls {
				if f, ok := declaration.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
					t.Errorf("package %s has a function init: what happens on import cannot be tested or left out; call it from main", p.dir)
				}
			}
		}
	}
}

func docProblem(p *pkg) string {
	switch {
	case strings.TrimSpace(p.doc) == "":
		return "has no package comment: say in its first sentence what it is for"
	// Nobody imports a rung of the tests.
	case p.name != "main" && !within(p.dir, "test") && !strings.HasPrefix(p.doc, "Package "+p.name+" "):
		return fmt.Sprintf("has a comment that does not begin with Package %s", p.name)
	}
	return ""
}

// The walls themselves would be silent if they read nothing: a rule broken on purpose has to be found.
func TestWallsWouldNotice(t *testing.T) {
	for _, row := range []struct {
		path, tree string
		want       bool
	}{
		{"builder", "builder", true}, {"builder/plan", "builder", true}, {"builderx", "builder", false}, {"os/exec", "os", true}, {"osx", "os", false},
	} {
		if within(row.path, row.tree) != row.want {
			t.Errorf("within(%q, %q) is not %v", row.path, row.tree, row.want)
		}
	}
	if livesIn("builder/plan", "=builder") || !livesIn("builder", "=builder") || !livesIn("builder/plan", "builder") {
		t.Error("homes are taken for what they are not")
	}
	if docProblem(&pkg{dir: "x", name: "x"}) == "" || docProblem(&pkg{dir: "x", name: "x", doc: "Package y does."}) == "" || docProblem(&pkg{dir: "x", name: "x", doc: "Package x does."}) != "" {
		t.Error("package comments are not told apart")
	}
	expression, err := parser.ParseExpr("net.Dial")
	if err != nil {
		t.Fatal(err)
	}
	if name, ok := selected(expression, "net"); !ok || name != "Dial" {
		t.Errorf("net.Dial is seen as %q, %v", name, ok)
	}
	all := readModule(t)
	if plan := all["builder/plan"]; plan == nil || plan.imports[module+"/internal/profile"] == "" || plan.testImports["testing"] == "" || plan.imports["testing"] != "" {
		t.Error("the imports of builder/plan are not read as they are")
	}
	reached := map[string]bool{}
	reach(all, "builder", reached)
	if !reached["internal/document"] || reached["firstboot"] {
		t.Error("what a package reaches is not found")
	}
}

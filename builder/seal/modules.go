package seal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"

	"github.com/kiln-os/kiln/internal/document"
	"github.com/kiln-os/kiln/internal/nodefs"
)

// kernelModules is what depmod wrote about the modules of one kernel. Names are the kernel's: _ for every -.
type kernelModules struct {
	// dir is usr/lib/modules/KVER in the root; the paths of files are relative to it.
	dir, version string
	files        map[string]string
	deps         map[string][]string
	builtin      map[string]bool
	// aliases are the lines of modules.alias as they stand, without comments.
	aliases []moduleAlias
	// soft are names or aliases that a module wants loaded before it, if they are there.
	soft map[string][]string
}

type moduleAlias struct{ pattern, module string }

// readModules reads the module lists of kernel version in the tree root; with version "" the only kernel there is.
func readModules(root, version string) (kernelModules, error) {
	if version == "" {
		var err error
		if version, err = onlyKernel(filepath.Join(root, nodefs.Modules)); err != nil {
			return kernelModules{}, err
		}
	}
	m := kernelModules{
		dir: filepath.Join(root, nodefs.Modules, version), version: version, files: map[string]string{}, deps: map[string][]string{},
		builtin: map[string]bool{}, soft: map[string][]string{},
	}
	for name, parse := range map[string]func(string){
		"modules.dep": m.addDependency, "modules.alias": m.addAlias, "modules.builtin": m.addBuiltin, "modules.softdep": m.addSoft,
	} {
		text, err := os.ReadFile(filepath.Join(m.dir, name))
		switch {
		case errors.Is(err, fs.ErrNotExist) && name == "modules.softdep":
		case err != nil:
			return m, fmt.Errorf("reading what depmod wrote for kernel %s: %w", version, err)
		}
		for line := range strings.Lines(string(text)) {
			parse(line)
		}
	}
	return m, nil
}

func onlyKernel(dir string) (string, error) {
	kernels, err := os.ReadDir(dir)
	if err != nil {
		return "", fmt.Errorf("looking for the kernel's modules: %w", err)
	}
	if len(kernels) != 1 {
		return "", fmt.Errorf("looking for the kernel's modules: %s holds %d kernels; want one: leave the others out of the packages", dir, len(kernels))
	}
	return kernels[0].Name(), nil
}

func (m *kernelModules) addDependency(line string) {
	if file, deps, ok := strings.Cut(line, ":"); ok {
		name := moduleName(file)
		m.files[name] = file
		for _, dep := range strings.Fields(deps) {
			m.deps[name] = append(m.deps[name], moduleName(dep))
		}
	}
}

func (m *kernelModules) addAlias(line string) {
	if fields := strings.Fields(line); len(fields) == 3 && fields[0] == "alias" {
		m.aliases = append(m.aliases, moduleAlias{pattern: fields[1], module: fields[2]})
	}
}

func (m *kernelModules) addBuiltin(line string) {
	m.builtin[moduleName(strings.TrimSpace(line))] = true
}

// addSoft reads `softdep MODULE pre: NAME... post: NAME...`; what comes after a module is not the initramfs's business.
func (m *kernelModules) addSoft(line string) {
	fields := strings.Fields(line)
	if len(fields) < 3 || fields[0] != "softdep" {
		return
	}
	before := false
	for _, field := range fields[2:] {
		switch {
		case strings.HasSuffix(field, ":"):
			before = field == "pre:"
		case before:
			m.soft[fields[1]] = append(m.soft[fields[1]], field)
		}
	}
}

// moduleName is the kernel's name of a module's file: without directory and suffixes, with _ for every -.
func moduleName(file string) string {
	name, _, _ := strings.Cut(filepath.Base(file), ".")
	return strings.ReplaceAll(name, "-", "_")
}

// selection is the modules of an initramfs.
type selection struct {
	// deps holds, by module, what is loaded before it: what is needed first comes last, as in modules.dep.
	deps map[string][]string
	// load are the asked-for modules that no device asks for.
	load []string
}

// names lists the modules, sorted.
func (s selection) names() []string { return slices.Sorted(maps.Keys(s.deps)) }

// choose selects names with all that they depend on. Optional names are left out when the kernel does not have them; any
// other name that the kernel has neither as a file nor built in is a problem of the document file, field modules.
func (m kernelModules) choose(file string, names, required, optional []string) (selection, error) {
	problems := &document.Problems{File: file}
	for i, name := range names {
		if !m.has(name) {
			problems.Add(fmt.Sprintf("modules[%d]", i), "%q is no module of kernel %s%s", name, m.version, m.similar(name))
		}
	}
	if err := problems.Err(); err != nil {
		return selection{}, err
	}
	for _, name := range required {
		if !m.has(name) {
			return selection{}, fmt.Errorf("kernel %s has no module %s, without which no node boots; choose another kernel package", m.version, name)
		}
	}
	chosen := selection{deps: map[string][]string{}}
	for _, name := range slices.Concat(names, required, optional) {
		name = strings.ReplaceAll(name, "-", "_")
		m.add(&chosen, name)
		if m.files[name] != "" && !m.isAskedFor(name) && !slices.Contains(chosen.load, name) {
			chosen.load = append(chosen.load, name)
		}
	}
	slices.Sort(chosen.load)
	return chosen, nil
}

func (m kernelModules) has(name string) bool {
	name = strings.ReplaceAll(name, "-", "_")
	return m.files[name] != "" || m.builtin[name]
}

// add takes a module and what it depends on; built-in ones need nothing. Soft dependencies become ordinary ones: what loads
// modules in the initramfs does not mind when one of them is refused.
func (m kernelModules) add(chosen *selection, name string) {
	if _, done := chosen.deps[name]; done || m.files[name] == "" {
		return
	}
	deps := slices.Clone(m.deps[name])
	for _, soft := range m.soft[name] {
		for _, module := range m.resolve(soft) {
			if module != name && !slices.Contains(deps, module) {
				deps = append(deps, module)
			}
		}
	}
	chosen.deps[name] = deps
	for _, dep := range deps {
		m.add(chosen, dep)
	}
}

// resolve lists the modules with a name or with exactly that alias.
func (m kernelModules) resolve(name string) []string {
	if plain := strings.ReplaceAll(name, "-", "_"); m.files[plain] != "" {
		return []string{plain}
	}
	var modules []string
	for _, a := range m.aliases {
		if a.pattern == name && !slices.Contains(modules, a.module) {
			modules = append(modules, a.module)
		}
	}
	return modules
}

// isAskedFor tells whether a device can ask for the module.
func (m kernelModules) isAskedFor(name string) bool {
	return slices.ContainsFunc(m.aliases, func(a moduleAlias) bool { return a.module == name && a.isDevice() })
}

// isDevice tells whether a device has such a modalias: those begin with a bus and a colon. Names of nodes in /dev
// (devname:) do as well, but nobody opens those before the module is there.
func (a moduleAlias) isDevice() bool {
	return strings.Contains(a.pattern, ":") && !strings.HasPrefix(a.pattern, "devname:")
}

// similar suggests modules with names like the one that does not exist.
func (m kernelModules) similar(name string) string {
	name = strings.ReplaceAll(name, "-", "_")
	type candidate struct {
		name     string
		distance int
	}
	var candidates []candidate
	allowed := min(2, len(name)/3) // Of a short name, two changes leave nothing.
	for _, known := range slices.Concat(slices.Collect(maps.Keys(m.files)), slices.Collect(maps.Keys(m.builtin))) {
		distance := editDistance(name, known)
		if strings.Contains(known, name) || strings.Contains(name, known) {
			distance = min(distance, allowed)
		}
		if distance <= allowed {
			candidates = append(candidates, candidate{known, distance})
		}
	}
	if len(candidates) == 0 {
		return "; its modules are listed in " + filepath.Join(nodefs.Modules, m.version, "modules.dep") + " of the root"
	}
	slices.SortFunc(candidates, func(a, b candidate) int {
		return 1000*(a.distance-b.distance) + strings.Compare(a.name, b.name)
	})
	var names []string
	for _, c := range candidates[:min(3, len(candidates))] {
		names = append(names, c.name)
	}
	return "; similar: " + strings.Join(names, ", ")
}

// editDistance is the number of characters to insert, delete or change (Levenshtein).
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		previous := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := previous
			if a[i] != b[j] {
				cost = 1 + min(previous, row[j], row[j+1])
			}
			previous, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}

// read returns a module's bytes, unpacked: many modules compress better together than each alone.
func (m kernelModules) read(name string) ([]byte, error) {
	path := filepath.Join(m.dir, m.files[name])
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading module %s: %w", name, err)
	}
	var reader io.Reader
	switch filepath.Ext(path) {
	case ".ko":
		return raw, nil
	case ".xz":
		reader, err = xz.NewReader(bytes.NewReader(raw))
	case ".zst":
		reader, err = zstd.NewReader(bytes.NewReader(raw))
	default:
		err = errors.New("unknown compression; want .ko, .ko.xz or .ko.zst")
	}
	if err != nil {
		return nil, fmt.Errorf("unpacking module %s: %w", path, err)
	}
	unpacked, err := io.ReadAll(reader)
	if err != nil {
		return nil, fmt.Errorf("unpacking module %s: %w", path, err)
	}
	return unpacked, nil
}

package initramfs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// modules loads kernel modules from the files that the builder put into the initramfs. u-root's kmodule was not used
// for it: it knows no aliases, and with it come three decompressors that stored modules do not need.
type modules struct {
	dir     string
	deps    map[string]module
	aliases []alias
	// insert loads one file into the kernel; a test replaces it.
	insert func(path string) error
	// tried holds every module that was loaded or refused, by its name.
	tried map[string]error
	// loaded lists what was loaded, in order.
	loaded []string
}

// module is one line of modules.dep: a file and the modules it needs, all paths below the directory.
type module struct {
	file string
	deps []string
}

// openModules reads modules.dep and modules.alias of the running kernel from dir (/usr/lib/modules/KVER).
func openModules(dir string) (*modules, error) {
	m := &modules{dir: dir, insert: insertModule, tried: map[string]error{}}
	deps, err := os.ReadFile(filepath.Join(dir, "modules.dep"))
	if err != nil {
		return nil, withHint(fmt.Errorf("reading the list of modules: %w", err),
			"the initramfs was made for another kernel than the one that runs; build the image again, or boot its own kernel")
	}
	m.deps = parseModulesDep(string(deps))
	aliases, err := os.ReadFile(filepath.Join(dir, "modules.alias"))
	if err != nil {
		return nil, fmt.Errorf("reading the aliases of modules: %w", err)
	}
	m.aliases = parseAliases(string(aliases))
	return m, nil
}

// parseModulesDep reads the text of modules.dep, `FILE: FILE...` lines, into a map by module name.
func parseModulesDep(text string) map[string]module {
	deps := map[string]module{}
	for line := range strings.Lines(text) {
		if file, rest, ok := strings.Cut(line, ":"); ok {
			deps[moduleName(file)] = module{file: file, deps: strings.Fields(rest)}
		}
	}
	return deps
}

// moduleName is the kernel's name of a module's file: without directory and suffixes, with _ for every -.
func moduleName(file string) string {
	name, _, _ := strings.Cut(filepath.Base(file), ".")
	return strings.ReplaceAll(name, "-", "_")
}

// load loads a module after all it depends on, each once. A name without a file is taken to be built into the kernel:
// the builder refuses names that are neither. What a dependency refuses shows when the module itself is refused:
// some (a checksum for another processor) may be lacking.
func (m *modules) load(name string) error {
	name = strings.ReplaceAll(name, "-", "_")
	if err, done := m.tried[name]; done {
		return err
	}
	entry, ok := m.deps[name]
	if !ok {
		return nil
	}
	m.tried[name] = nil // A circle of dependencies ends here.
	var errs []error
	// modules.dep names what is needed first last.
	for i := len(entry.deps) - 1; i >= 0; i-- {
		errs = append(errs, m.load(moduleName(entry.deps[i])))
	}
	if err := m.insert(filepath.Join(m.dir, entry.file)); err != nil {
		m.tried[name] = errors.Join(append(errs, fmt.Errorf("loading module %s: %w", name, err))...)
		return m.tried[name]
	}
	m.loaded = append(m.loaded, name)
	return nil
}

// insertModule gives a file to the kernel, which unpacks a compressed one itself.
func insertModule(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	flags := 0
	if filepath.Ext(path) != ".ko" {
		flags = unix.MODULE_INIT_COMPRESSED_FILE
	}
	if err := unix.FinitModule(int(file.Fd()), "", flags); !errors.Is(err, unix.EEXIST) {
		return err
	}
	return nil
}

// refused lists why modules were not loaded.
func (m *modules) refused() []string {
	var lines []string
	for _, err := range m.tried {
		if err != nil {
			lines = append(lines, err.Error())
		}
	}
	return lines
}

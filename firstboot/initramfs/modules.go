package initramfs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// modules loads kernel modules from the files that the builder put into the initramfs. Its methods may be called from several
// goroutines: a driver that waits for its devices must not hold up the others. u-root's kmodule was not used for it: it
// knows no aliases, and with it come three decompressors that stored modules do not need.
type modules struct {
	dir     string
	deps    map[string]module
	aliases []alias
	// insert loads one file into the kernel; a test replaces it.
	insert func(path string) error

	mu sync.Mutex
	// attempts holds every module that was loaded, refused, or is being loaded, by its name.
	attempts map[string]*attempt
	// loaded lists what was loaded, in order.
	loaded []string
}

// attempt is the one time that a module is given to the kernel.
type attempt struct {
	done chan struct{}
	err  error
}

// module is one line of modules.dep: a file and the modules it needs, all paths below the directory.
type module struct {
	file string
	deps []string
}

// openModules reads modules.dep and modules.alias of the running kernel from dir (/usr/lib/modules/KVER).
func openModules(dir string) (*modules, error) {
	m := &modules{dir: dir, insert: insertModule, attempts: map[string]*attempt{}}
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
	var errs []error
	for _, needed := range m.order(nil, strings.ReplaceAll(name, "-", "_")) {
		err := m.once(needed)
		errs = append(errs, err)
		if err == nil && needed == strings.ReplaceAll(name, "-", "_") {
			return nil
		}
	}
	return errors.Join(errs...)
}

// order appends to before what is loaded for a module: its dependencies, then itself. The order is found before anything is
// loaded, so that two modules that want each other first cannot wait for each other.
func (m *modules) order(before []string, name string) []string {
	entry, ok := m.deps[name]
	if !ok || slices.Contains(before, name) {
		return before
	}
	// The name holds its place, so that a circle of dependencies ends; it moves to the end afterwards.
	before = append(before, name)
	// modules.dep names what is needed first last.
	for _, dep := range slices.Backward(entry.deps) {
		before = m.order(before, moduleName(dep))
	}
	at := slices.Index(before, name)
	return append(slices.Delete(before, at, at+1), name)
}

// once gives a module to the kernel, or waits for the one who does.
func (m *modules) once(name string) error {
	m.mu.Lock()
	if a, begun := m.attempts[name]; begun {
		m.mu.Unlock()
		<-a.done
		return a.err
	}
	a := &attempt{done: make(chan struct{})}
	m.attempts[name] = a
	m.mu.Unlock()
	defer close(a.done)

	if err := m.insert(filepath.Join(m.dir, m.deps[name].file)); err != nil {
		a.err = fmt.Errorf("loading module %s: %w", name, err)
		return a.err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.loaded = append(m.loaded, name)
	return nil
}

// names lists what was loaded so far.
func (m *modules) names() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.loaded)
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

// refused lists why modules were not loaded, and which are still being loaded.
func (m *modules) refused() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var lines []string
	for name, a := range m.attempts {
		select {
		case <-a.done:
			if a.err != nil {
				lines = append(lines, a.err.Error())
			}
		default:
			lines = append(lines, "loading module "+name+": not done yet")
		}
	}
	slices.Sort(lines)
	return lines
}

package payload

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"sort"
	"strings"

	"github.com/kiln-os/kiln/builder/parts"
	"github.com/kiln-os/kiln/builder/progress"
	"github.com/kiln-os/kiln/internal/command"
	"github.com/kiln-os/kiln/internal/release"
)

// recipe is part of every key: raise it when the commands below change the bytes of a binary.
const recipe = 1

const (
	compiler  = "gcc"
	languageC = "c"
)

// builder builds one source into the directory of its part.
type builder struct {
	run   command.Runner
	pin   pin
	tools tools
	dir   string
	task  *progress.Task
	count *counter
}

// all builds every binary, checks that it is static and writes part.json. It returns the peak memory of the largest
// process, in bytes.
func (b builder) all(ctx context.Context) (int64, error) {
	module := filepath.Join(b.dir, "module")
	if err := errors.Join(os.Mkdir(module, 0o755), os.Mkdir(filepath.Join(b.dir, "bin"), 0o755), os.Mkdir(b.temporary(), 0o755)); err != nil {
		return 0, fmt.Errorf("making directories: %w", err)
	}
	err := errors.Join(
		os.WriteFile(filepath.Join(module, "go.mod"), []byte(b.pin.mod), 0o644),
		os.WriteFile(filepath.Join(module, "go.sum"), []byte(b.pin.sum), 0o644))
	if err != nil {
		return 0, fmt.Errorf("writing the pinned go.mod: %w", err)
	}
	inGo, inC := b.byLanguage()
	goPeak, err := b.buildGo(ctx, module, inGo)
	if err != nil {
		return 0, b.explain(err)
	}
	cPeak, err := b.buildC(ctx, module, inC)
	if err != nil {
		return 0, b.explain(err)
	}
	if err := errors.Join(parts.RemoveAll(module), parts.RemoveAll(b.temporary())); err != nil {
		return 0, fmt.Errorf("removing the build's module: %w", err)
	}
	return max(goPeak, cPeak), b.record()
}

// temporary is the compilers' directory for temporary files: within the part's, which is cleared when a build is cut off.
func (b builder) temporary() string { return filepath.Join(b.dir, "tmp") }

// environment is env with that directory.
func (b builder) environment(env ...string) []string {
	return append(env, "TMPDIR="+b.temporary(), "GOTMPDIR="+b.temporary())
}

func (b builder) byLanguage() (inGo, inC []release.Binary) {
	for _, binary := range b.pin.source.Binaries {
		if binary.Language == languageC {
			inC = append(inC, binary)
		} else {
			inGo = append(inGo, binary)
		}
	}
	return inGo, inC
}

// buildGo compiles all Go binaries by one command, which shares the loading of packages and uses all processors.
func (b builder) buildGo(ctx context.Context, module string, binaries []release.Binary) (int64, error) {
	if len(binaries) == 0 {
		return 0, nil
	}
	source := b.pin.source
	flags := []string{"-tags", strings.Join(source.Tags, ",")}
	packages := make([]string, len(binaries))
	for i, binary := range binaries {
		packages[i] = binary.Package
	}
	run := command.Command{Name: "go", Dir: module, Env: b.environment(append(goEnvironment(source.Cgo), b.tools.environment()...)...), Stderr: b.count}
	list := run
	list.Args = append(append([]string{"list", "-deps"}, flags...), packages...)
	deps, err := command.Output(ctx, b.run, list)
	if err != nil {
		return 0, fmt.Errorf("loading packages: %w", err)
	}
	b.count.expect(strings.Count(string(deps), "\n"))
	out := filepath.Join(b.dir, "bin")
	run.Args = append([]string{"build", "-v", "-trimpath", "-buildvcs=false", "-ldflags", goLinkFlags(source), "-o", out + "/"}, flags...)
	run.Args = append(run.Args, packages...)
	usage, err := b.run.Run(ctx, run)
	if err != nil {
		return 0, fmt.Errorf("compiling: %w", err)
	}
	for _, binary := range binaries {
		if err := os.Rename(filepath.Join(out, programName(binary.Package)), filepath.Join(out, binary.Name)); err != nil {
			return 0, fmt.Errorf("naming %s: %w", binary.Name, err)
		}
	}
	return usage.PeakBytes, nil
}

// goEnvironment fixes what would otherwise come from the caller's environment and change the bytes. The caches and the
// proxy stay the caller's.
func goEnvironment(cgo bool) []string {
	env := []string{"GOFLAGS=-mod=readonly", "GOTOOLCHAIN=local", "GOWORK=off", "GO111MODULE=on", "GOOS=linux", "GOARCH=amd64", "GOAMD64=v1",
		"GOEXPERIMENT=", "GODEBUG=", "GOFIPS140=off", "LC_ALL=C"}
	if cgo {
		return append(env, "CGO_ENABLED=1", "CC="+compiler, "CGO_CFLAGS=-O2 -g0", "CGO_CPPFLAGS=", "CGO_LDFLAGS=")
	}
	return append(env, "CGO_ENABLED=0")
}

// goLinkFlags is the value of -ldflags: no symbol tables, the stamps, and a static link where C is linked in.
func goLinkFlags(source release.Source) string {
	flags := []string{"-s", "-w"}
	for _, name := range sortedKeys(source.Stamp) {
		flags = append(flags, fmt.Sprintf("-X '%s=%s'", name, source.Stamp[name]))
	}
	if source.Cgo {
		flags = append(flags, "-linkmode=external", "-extldflags '-static -Wl,--build-id=none'")
	}
	if len(source.Libraries) > 0 {
		// Go's own build ID has the path of the libraries in it, which is the cache's.
		flags = append(flags, "-buildid=")
	}
	return strings.Join(flags, " ")
}

var majorSuffix = regexp.MustCompile(`^v[0-9]+$`)

// programName is what go build calls a package's program: the last element of its path that is not a major version.
func programName(importPath string) string {
	if base := path.Base(importPath); !majorSuffix.MatchString(base) || !strings.Contains(importPath, "/") {
		return base
	}
	return path.Base(path.Dir(importPath))
}

// buildC compiles C programs of one file each, statically.
func (b builder) buildC(ctx context.Context, module string, binaries []release.Binary) (int64, error) {
	if len(binaries) == 0 {
		return 0, nil
	}
	dir, err := b.moduleDir(ctx, module)
	if err != nil {
		return 0, err
	}
	var peak int64
	for _, binary := range binaries {
		args := []string{"-Os", "-Wall", "-static", "-s", "-Wl,--build-id=none"}
		for _, name := range sortedKeys(b.pin.source.Stamp) {
			args = append(args, "-D"+name+"="+b.pin.source.Stamp[name])
		}
		args = append(args, "-o", filepath.Join(b.dir, "bin", binary.Name), binary.Package)
		usage, err := b.run.Run(ctx, command.Command{Name: compiler, Args: args, Dir: dir, Env: b.environment("LC_ALL=C", "SOURCE_DATE_EPOCH=0")})
		if err != nil {
			return 0, fmt.Errorf("compiling %s: %w", binary.Name, err)
		}
		peak = max(peak, usage.PeakBytes)
	}
	return peak, nil
}

// moduleDir downloads the source's module, which Go checks against go.sum, and returns its directory.
func (b builder) moduleDir(ctx context.Context, module string) (string, error) {
	out, err := command.Output(ctx, b.run, command.Command{Name: "go", Args: []string{"mod", "download", "-json", b.pin.source.Module}, Dir: module,
		Env: b.environment(goEnvironment(false)...), Stderr: b.count})
	var answer struct{ Dir, Error string }
	if parseErr := json.Unmarshal(out, &answer); err == nil {
		err = parseErr
	}
	if err != nil {
		return "", fmt.Errorf("downloading %s: %w", b.pin.source.Module, errors.Join(err, textError(answer.Error)))
	}
	// Unlike go build, go mod download adds the checksums that go.sum lacks.
	if sum, err := os.ReadFile(filepath.Join(module, "go.sum")); err != nil || string(sum) != b.pin.sum {
		return "", errors.Join(errMissingSum, err)
	}
	return answer.Dir, nil
}

// textError is an error that a program reported in its output.
func textError(text string) error {
	if text == "" {
		return nil
	}
	return errors.New(text)
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	return keys
}

package payload

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/kiln-os/kiln/builder/parts"
	"github.com/kiln-os/kiln/internal/command"
	"github.com/kiln-os/kiln/internal/release"
)

// worldRelease is a small release with what the real one has: stamps, a major version in a package's path, cgo and C.
const worldRelease = `
apiVersion: kiln/v1alpha1
kind: Release
name: v0.1
kubernetes: v1.2.3
timestamp: "2026-09-15T00:00:00Z"
suite: trixie
packages: [systemd]
sources:
  - name: kube
    module: k8s.io/kubernetes
    version: v1.2.3
    tags: [one, two]
    stamp: {example.org/version.b: B, example.org/version.a: A}
    binaries: [{name: kubelet, package: k8s.io/kubernetes/cmd/kubelet}, {name: kube-proxy, package: k8s.io/kubernetes/cmd/kube-proxy/v3}]
  - name: net
    module: example.org/net
    version: v0.9.0
    cgo: true
    binaries: [{name: netd, package: example.org/net}]
  - name: pause
    module: example.org/pause
    version: v0.1.0
    reports: "3.10"
    stamp: {VERSION: v3.10}
    binaries: [{name: pause, package: linux/pause.c, language: c}]
node: [{binary: kubelet, path: /usr/bin/kubelet}]
containerImages:
  - name: registry.example.org/kube-proxy:v1.2.3
    roles: [control-plane, worker]
    packages: [nftables]
    files: [{binary: kube-proxy, path: /usr/local/bin/kube-proxy}]
    entrypoint: [/usr/local/bin/kube-proxy]
  - name: registry.example.org/pause:3.10
    roles: [control-plane, worker]
    files: [{binary: pause, path: /pause}]
    entrypoint: [/pause]
    user: "65535:65535"
    sandbox: true
  - name: registry.example.org/net:v0.9.0
    roles: [control-plane]
    files: [{binary: netd, path: /usr/local/bin/netd}]
`

// world is a machine with compilers that obey: each command is written down and makes the files it is asked for.
type world struct {
	t        *testing.T
	commands []string
	env      map[string][]string
	// goVersion is what go says of itself; failure, when set, is what go build writes before it fails.
	goVersion, failure string
	// interpreter makes the compilers link dynamically.
	interpreter bool
	libc        string
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, env: map[string][]string{}, goVersion: "go1.99.0"}
	bin := t.TempDir()
	for _, tool := range []string{"go", "gcc"} {
		writeFile(t, filepath.Join(bin, tool), "", 0o755)
	}
	t.Setenv("PATH", bin)
	w.libc = filepath.Join(t.TempDir(), "libc.a")
	writeFile(t, w.libc, "libc", 0o644)
	return w
}

// Run implements command.Runner.
func (w *world) Run(_ context.Context, c command.Command) (command.Usage, error) {
	line := strings.Join(append([]string{c.Name}, c.Args...), " ")
	w.commands, w.env[line] = append(w.commands, line), c.Env
	answer := func(format string, args ...any) { fmt.Fprintf(c.Stdout, format, args...) }
	switch {
	case line == "go env GOVERSION":
		answer("%s\n", w.goVersion)
	case line == "gcc --version":
		answer("gcc 99\nmore\n")
	case line == "gcc -print-file-name=libc.a":
		answer("%s\n", w.libc)
	case strings.HasPrefix(line, "go list -deps"):
		answer("a\nb\nc\n")
	case strings.HasPrefix(line, "go mod download -json"):
		answer("{\"Dir\": %q}", w.t.TempDir())
	case strings.HasPrefix(line, "go build"):
		if w.failure != "" {
			return command.Usage{}, &command.ExitError{Name: "go", Code: 1, Tail: w.failure}
		}
		io.WriteString(c.Stderr, "internal/abi\nexample.org/net\n")
		out := c.Args[slices.Index(c.Args, "-o")+1]
		for _, arg := range c.Args {
			if strings.Contains(arg, ".org/") || strings.Contains(arg, ".io/") {
				if name := programName(arg); !strings.ContainsAny(name, "' ") {
					writeFile(w.t, filepath.Join(out, name), string(program(w.interpreter))+name, 0o755)
				}
			}
		}
	case c.Name == "gcc":
		writeFile(w.t, c.Args[slices.Index(c.Args, "-o")+1], string(program(w.interpreter))+"pause", 0o755)
	default:
		w.t.Errorf("unexpected command: %s", line)
	}
	return command.Usage{PeakBytes: 1 << 20}, nil
}

// program is the smallest ELF file: a header, and one program header that asks for a loader if there is an interpreter.
func program(interpreter bool) []byte {
	kind := uint32(1)
	if interpreter {
		kind = 3
	}
	var file bytes.Buffer
	file.WriteString("\x7fELF\x02\x01\x01" + strings.Repeat("\x00", 9))
	header := []any{uint16(2), uint16(62), uint32(1), uint64(0), uint64(64), uint64(0), uint32(0),
		uint16(64), uint16(56), uint16(1), uint16(64), uint16(0), uint16(0)}
	for _, field := range append(header, kind, uint32(0), [48]byte{}) {
		binary.Write(&file, binary.LittleEndian, field)
	}
	return file.Bytes()
}

// source is a Source of the world, with the store in dir.
func (w *world) source(dir string) Source {
	return Source{Store: parts.Store{Dir: dir}, Run: w, PackageTar: func(context.Context, []string) (string, error) {
		path := filepath.Join(w.t.TempDir(), "extracted.tar")
		writeFile(w.t, path, string(extractedTree(w.t)), 0o644)
		return path, nil
	}}
}

// request asks for the whole of worldRelease.
func (w *world) request() Request {
	r, err := release.Parse("release.yaml", []byte(worldRelease))
	if err != nil {
		w.t.Fatal(err)
	}
	return Request{Release: r, Dir: "releases/v0.1", Files: fstest.MapFS{
		"kube.mod":  {Data: []byte("module x\nrequire k8s.io/kubernetes v1.2.3\n")},
		"kube.sum":  {Data: []byte("kube sums")},
		"net.mod":   {Data: []byte("module x\nrequire (\n\texample.org/net v0.9.0\n\texample.org/other v1.0.0 // indirect\n)\n")},
		"net.sum":   {Data: []byte("net sums")},
		"pause.mod": {Data: []byte("module x\nrequire example.org/pause v0.1.0\n")},
		"pause.sum": {Data: []byte("pause sums")},
	}}
}

func (w *world) timestamp() time.Time { return time.Date(2026, 9, 15, 0, 0, 0, 0, time.UTC) }

func writeFile(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

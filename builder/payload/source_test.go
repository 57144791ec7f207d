package payload

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/kiln-os/kiln/internal/document"
)

func TestProvideRunsTheseCommands(t *testing.T) {
	w := newWorld(t)
	store := t.TempDir()
	payload, err := w.source(store).Provide(context.Background(), w.request())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, line := range w.commands {
		line = strings.ReplaceAll(line, store, "STORE")
		for _, source := range []string{"kube", "net", "pause"} {
			if i := strings.Index(line, "/.source-"+source+"-"); i >= 0 {
				end := strings.Index(line[i:], ".part")
				line = line[:i] + "/PART" + line[i+end+len(".part"):]
			}
		}
		got = append(got, line)
	}
	want := []string{
		"go env GOVERSION", "gcc --version", "gcc -print-file-name=libc.a",
		"go list -deps -tags one,two k8s.io/kubernetes/cmd/kubelet k8s.io/kubernetes/cmd/kube-proxy/v3",
		"go build -v -trimpath -buildvcs=false -ldflags -s -w -X 'example.org/version.a=A' -X 'example.org/version.b=B' -o STORE/PART/bin/ -tags one,two k8s.io/kubernetes/cmd/kubelet k8s.io/kubernetes/cmd/kube-proxy/v3",
		"go list -deps -tags  example.org/net",
		"go build -v -trimpath -buildvcs=false -ldflags -s -w -linkmode=external -extldflags '-static -Wl,--build-id=none' -o STORE/PART/bin/ -tags  example.org/net",
		"go mod download -json example.org/pause",
		"gcc -Os -Wall -static -s -Wl,--build-id=none -DVERSION=v3.10 -o STORE/PART/bin/pause linux/pause.c",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("commands:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for line, env := range w.env {
		if strings.HasPrefix(line, "go build") && slices.Contains(env, "CGO_ENABLED=1") != strings.Contains(line, "example.org/net") {
			t.Errorf("%s: CGO_ENABLED is wrong in %v", line, env)
		}
		if strings.HasPrefix(line, "go ") && (!slices.Contains(env, "GOFLAGS=-mod=readonly") || !slices.Contains(env, "GOTOOLCHAIN=local")) {
			t.Errorf("%s: the pins are not enforced in %v", line, env)
		}
	}
	if version := payload.Binaries["pause"].Version; version != "3.10" {
		t.Errorf("pause reports %q, want 3.10", version)
	}
	for name, binary := range payload.Binaries {
		if info, err := os.Stat(binary.Path); err != nil || info.Size() != binary.Size || info.Mode().Perm()&0o111 == 0 {
			t.Errorf("%s: %v, %v; want a program of %d bytes", name, info, err, binary.Size)
		}
	}
}

func TestProvideBuildsOnce(t *testing.T) {
	w := newWorld(t)
	store := t.TempDir()
	builds := func(request Request) int {
		t.Helper()
		w.commands = nil
		if _, err := w.source(store).Provide(context.Background(), request); err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, line := range w.commands {
			if strings.HasPrefix(line, "go build") || strings.HasPrefix(line, "gcc -Os") {
				n++
			}
		}
		return n
	}
	if n := builds(w.request()); n != 3 {
		t.Errorf("the first time %d sources were built, want 3", n)
	}
	if n := builds(w.request()); n != 0 {
		t.Errorf("the second time %d sources were built, want none", n)
	}
	changed := w.request()
	changed.Files.(fstest.MapFS)["net.sum"].Data = []byte("other sums")
	if n := builds(changed); n != 1 {
		t.Errorf("after a change of net.sum %d sources were built, want 1", n)
	}
	writeFile(t, w.libc, "newer libc", 0o644)
	if n := builds(w.request()); n != 2 {
		t.Errorf("with another C library %d sources were built, want the two that link it", n)
	}
	w.goVersion = "go1.99.1"
	if n := builds(w.request()); n != 3 {
		t.Errorf("with another Go %d sources were built, want 3", n)
	}
}

func TestProvideForRole(t *testing.T) {
	w := newWorld(t)
	request := w.request()
	request.Roles = []string{"worker"}
	payload, err := w.source(t.TempDir()).Provide(context.Background(), request)
	if err != nil {
		t.Fatal(err)
	}
	if _, found := payload.Binaries["netd"]; found || len(payload.Images) != 2 {
		t.Errorf("a worker gets %d container images and netd %v; want 2 and no netd, which only control planes need", len(payload.Images), found)
	}
	if _, err := payload.ContainerImage(context.Background(), "registry.example.org/net:v0.9.0"); err == nil {
		t.Error("a container image of another role is given")
	}
}

func TestProvideRefusesWhatChanged(t *testing.T) {
	for name, damage := range map[string]func(part string) (file string, err error){
		"a flipped byte": func(part string) (string, error) {
			file := filepath.Join(part, "bin", "pause")
			text, err := os.ReadFile(file)
			if err != nil {
				return "", err
			}
			text[70] ^= 1
			return file, os.WriteFile(file, text, 0o755)
		},
		"a missing binary": func(part string) (string, error) {
			file := filepath.Join(part, "bin", "pause")
			return file, os.Remove(file)
		},
		"a broken record": func(part string) (string, error) {
			file := filepath.Join(part, "part.json")
			return file, os.WriteFile(file, []byte("{"), 0o644)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			store := t.TempDir()
			if _, err := w.source(store).Provide(context.Background(), w.request()); err != nil {
				t.Fatal(err)
			}
			found, err := filepath.Glob(filepath.Join(store, "source-pause-*"))
			if err != nil || len(found) != 1 {
				t.Fatalf("parts of pause: %v, %v", found, err)
			}
			file, err := damage(found[0])
			if err != nil {
				t.Fatal(err)
			}
			_, err = w.source(store).Provide(context.Background(), w.request())
			if !document.IsInvalid(err) || !strings.HasPrefix(err.Error(), file+": ") || !strings.HasSuffix(err.Error(), "; delete "+found[0]+" and build again") {
				t.Errorf("got %v; want a problem of %s that says to delete %s", err, file, found[0])
			}
		})
	}
}

func TestProvideExplains(t *testing.T) {
	for _, row := range []struct {
		name    string
		change  func(w *world, r *Request)
		invalid bool
		want    []string
	}{
		{"a module that is not the pinned one", func(w *world, _ *Request) {
			w.failure = "internal/abi\nverifying example.org/net@v0.9.0: checksum mismatch\n\tdownloaded: h1:got=\n\tgo.sum:     h1:want=\n\nSECURITY ERROR"
		}, true, []string{"releases/v0.1/kube.sum: what was downloaded is not what was pinned", "downloaded: h1:got=", "go.sum:     h1:want="}},
		{"a checksum that is missing", func(w *world, _ *Request) {
			w.failure = "missing go.sum entry for module providing package example.org/net"
		}, true, []string{"releases/v0.1/kube.sum: a checksum is missing"}},
		{"a module that is missing", func(w *world, _ *Request) { w.failure = "go: updates to go.mod needed" },
			true, []string{"releases/v0.1/kube.mod: a module is missing"}},
		{"a network that is down", func(w *world, _ *Request) { w.failure = "dial tcp: lookup proxy.example.org: no such host" },
			false, []string{"building kube: compiling: ", "no such host"}},
		{"pins of another version", func(_ *world, r *Request) {
			r.Files.(fstest.MapFS)["kube.mod"].Data = []byte("module x\nrequire k8s.io/kubernetes v1.2.4\n")
		}, true, []string{"releases/v0.1/kube.mod: require k8s.io/kubernetes: is v1.2.4, and the release says v1.2.3; make them the same"}},
		{"pins of another module, and no pins", func(_ *world, r *Request) {
			r.Files.(fstest.MapFS)["kube.mod"].Data = []byte("module x\nrequire (\n\tk8s.io/other v1.2.3\n)\nreplace k8s.io/kubernetes => ../x\n")
			delete(r.Files.(fstest.MapFS), "net.sum")
		}, true, []string{"releases/v0.1/kube.mod: does not require k8s.io/kubernetes; add it at v1.2.3", "releases/v0.1/release.yaml: sources: the pins of net cannot be read"}},
		{"no go", func(w *world, _ *Request) { w.t.Setenv("PATH", w.t.TempDir()) }, false, []string{"go is missing on this machine; install Debian's golang-go"}},
		{"no static C library", func(w *world, _ *Request) { w.libc = "libc.a" }, false, []string{"libc.a is missing on this machine; install Debian's libc6-dev"}},
		{"a dynamic program", func(w *world, _ *Request) { w.interpreter = true }, false, []string{"checking kubelet: it is linked dynamically"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := newWorld(t)
			request, store := w.request(), t.TempDir()
			row.change(w, &request)
			_, err := w.source(store).Provide(context.Background(), request)
			if err == nil || document.IsInvalid(err) != row.invalid {
				t.Fatalf("got %v; want an error that is a document's: %v", err, row.invalid)
			}
			for _, want := range row.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got:\n%v\nwhich lacks: %s", err, want)
				}
			}
			if left, _ := filepath.Glob(filepath.Join(store, "*source-kube*", "*")); len(left) > 0 {
				t.Errorf("a failed build left %v", left)
			}
		})
	}
}

func TestMissingCompilerNamesItsPackage(t *testing.T) {
	w := newWorld(t)
	bin := t.TempDir()
	writeFile(t, filepath.Join(bin, "go"), "", 0o755)
	t.Setenv("PATH", bin)
	_, err := w.source(t.TempDir()).Provide(context.Background(), w.request())
	missing, ok := errors.AsType[MissingTool](err)
	if !ok || missing.Tool != "gcc" || missing.Package != "gcc" {
		t.Errorf("got %v; want gcc and its package named", err)
	}
}

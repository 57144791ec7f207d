package sbom

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/CycloneDX/cyclonedx-go"
)

var update = flag.Bool("update", false, "rewrite the golden files, then fail")

const status = `Package: libc6
Status: install ok installed
Architecture: amd64
Source: glibc
Version: 2.41-12+deb13u4
Description: GNU C Library
 Package: is not a field here

Package: bash
Status: install ok installed
Architecture: amd64
Source: bash (5.2.37-2)
Version: 5.2.37-2+b10

Package: netbase
Status: install ok installed
Architecture: all
Version: 1:6.5~rc1

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1.0
`

const osRelease = "PRETTY_NAME=\"Debian GNU/Linux 13 (trixie)\"\nVERSION_ID=\"13\"\nID=debian\n"

func build(path, main, version string, dependencies ...*debug.Module) *debug.BuildInfo {
	return &debug.BuildInfo{GoVersion: "go1.26.8 X:some", Path: path, Main: debug.Module{Path: main, Version: version}, Deps: dependencies}
}

// small is an image with one of everything: packages in root and container image, a program in both, one in C, modules
// that are shared and replaced.
func small() Image {
	yaml := &debug.Module{Path: "sigs.k8s.io/yaml", Version: "v1.6.0"}
	replaced := &debug.Module{Path: "k8s.io/kms", Version: "v0.0.0", Replace: &debug.Module{Path: "k8s.io/kms", Version: "v0.36.3"}}
	local := &debug.Module{Path: "example.org/local", Version: "v1.0.0", Replace: &debug.Module{Path: "./local"}}
	upper := &debug.Module{Path: "github.com/Masterminds/semver", Version: "v1.5.0+incompatible"}
	return Image{
		Image: "vm-disk", Profile: "worker", Release: "v1.36", Version: "v1.36.3-0944f910", RootHash: strings.Repeat("ab", 32),
		Timestamp: time.Date(2026, 9, 15, 2, 0, 0, 0, time.FixedZone("CEST", 2*60*60)), OS: osRelease, Suite: "trixie",
		Packages: ParseStatus(status),
		Programs: []Program{
			{Name: "kubelet", Version: "v1.36.3", SHA256: strings.Repeat("1", 64), Paths: []string{"/usr/bin/kubelet"}, Go: build("k8s.io/kubernetes/cmd/kubelet", "k8s.io/kubernetes", "v1.36.3", yaml, replaced)},
			{Name: "etcd", Version: "v3.6.8", SHA256: strings.Repeat("2", 64), Go: build("go.etcd.io/etcd/server/v3", "go.etcd.io/etcd/server/v3", "v3.6.8", yaml, upper)},
			{Name: "firstboot", SHA256: strings.Repeat("3", 64), Paths: []string{"/usr/bin/firstboot"}, Go: build("github.com/kiln-os/kiln/firstboot", "github.com/kiln-os/kiln", "(devel)", local)},
			{Name: "pause", Version: "3.10.2", SHA256: strings.Repeat("4", 64), Module: "k8s.io/kubernetes", ModuleVersion: "v1.36.3", Package: "build/pause/linux/pause.c"},
		},
		Containers: []Container{
			{Name: "registry.k8s.io:443/etcd/etcd:3.6.8-0", Digest: "sha256:" + strings.Repeat("5", 64), Programs: []string{"etcd", "kubelet"},
				Packages: []Package{{Name: "libc6", Version: "2.41-12+deb13u4", Architecture: "amd64", Source: "glibc"}, {Name: "nftables", Version: "1.1.3-1", Architecture: "amd64"}}},
			{Name: "registry.k8s.io/pause:3.10.2", Digest: "sha256:" + strings.Repeat("6", 64), Programs: []string{"pause"}},
		},
	}
}

func TestGolden(t *testing.T) {
	got, err := Render(small())
	if err != nil {
		t.Fatal(err)
	}
	const file = "testdata/small.cdx.json"
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
		t.Fatalf("%s is rewritten; look at the difference", file)
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("the document is not %s; go test -update rewrites it. It is:\n%s", file, got)
	}
}

// The order in which a build finds things must not show.
func TestDeterministic(t *testing.T) {
	first, err := Render(small())
	if err != nil {
		t.Fatal(err)
	}
	i := small()
	slices.Reverse(i.Packages)
	slices.Reverse(i.Programs)
	slices.Reverse(i.Containers)
	for _, p := range i.Programs {
		if p.Go != nil {
			slices.Reverse(p.Go.Deps)
		}
	}
	for _, c := range i.Containers {
		slices.Reverse(c.Packages)
	}
	second, err := Render(i)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first, second) {
		t.Error("the order of the input changes the document")
	}
	i.RootHash = strings.Repeat("cd", 32)
	third, err := Render(i)
	if err != nil {
		t.Fatal(err)
	}
	if serial(t, first) == serial(t, third) {
		t.Error("two images have one serial number")
	}
}

func serial(t *testing.T, text []byte) string {
	t.Helper()
	var bom cyclonedx.BOM
	if err := json.Unmarshal(text, &bom); err != nil {
		t.Fatal(err)
	}
	return bom.SerialNumber
}

// What CycloneDX's schema cannot say: references are unique and lead somewhere, and everything is held by something.
func TestStructure(t *testing.T) {
	text, err := Render(small())
	if err != nil {
		t.Fatal(err)
	}
	var bom cyclonedx.BOM
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&bom); err != nil {
		t.Fatal(err)
	}
	if bom.SpecVersion != cyclonedx.SpecVersion1_6 || bom.Version != 1 || bom.Metadata.Timestamp != "2026-09-15T00:00:00Z" {
		t.Errorf("specification %s, version %d, time %s", bom.SpecVersion, bom.Version, bom.Metadata.Timestamp)
	}
	held := map[string]bool{bom.Metadata.Component.BOMRef: true}
	purls := map[string]string{}
	for _, c := range *bom.Components {
		if _, twice := held[c.BOMRef]; twice || c.BOMRef == "" || c.Name == "" {
			t.Errorf("component %q of reference %q: want one of each", c.Name, c.BOMRef)
		}
		if other := purls[c.PackageURL]; other != "" && c.PackageURL != "" {
			t.Errorf("%s and %s are both %s", other, c.BOMRef, c.PackageURL)
		}
		held[c.BOMRef], purls[c.PackageURL] = false, c.BOMRef
	}
	seen := map[string]bool{}
	for _, d := range *bom.Dependencies {
		if _, exists := held[d.Ref]; !exists || seen[d.Ref] {
			t.Errorf("dependencies of %q: it does not exist, or has two entries", d.Ref)
		}
		seen[d.Ref] = true
		for _, to := range *d.Dependencies {
			if _, exists := held[to]; !exists {
				t.Errorf("%s depends on %q, which does not exist", d.Ref, to)
			}
			held[to] = true
		}
	}
	for ref, ok := range held {
		if !ok {
			t.Errorf("nothing holds %s", ref)
		}
	}
}

func TestContradictions(t *testing.T) {
	for want, change := range map[string]func(*Image){
		"there are two of the name":    func(i *Image) { i.Programs = append(i.Programs, i.Programs[0]) },
		"kubelet: it has no place":     func(i *Image) { i.Programs[0].Paths, i.Containers[0].Programs = nil, []string{"etcd"} },
		"its program nosuch is not":    func(i *Image) { i.Containers[0].Programs = []string{"nosuch"} },
		"want a name with a tag":       func(i *Image) { i.Containers[0].Name = "registry.k8s.io:443/etcd" },
		`a digest of SHA-256, not ""`:  func(i *Image) { i.Containers[1].Digest = "" },
		"SHA-256, not \"sha512:abcd\"": func(i *Image) { i.Containers[1].Digest = "sha512:abcd" },
	} {
		i := small()
		change(&i)
		if _, err := Render(i); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want an error with %q, have %v", want, err)
		}
	}
}

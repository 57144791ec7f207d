package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func testEnvironment(t *testing.T, variables map[string]string) environment {
	t.Helper()
	env, err := newEnvironment()
	if err != nil {
		t.Fatal(err)
	}
	env.getenv = func(name string) string { return variables[name] }
	return env
}

// result is what a command line left behind.
type result struct {
	code     int
	out, err string
}

// kiln runs one command line in this process.
func kiln(t *testing.T, args ...string) result {
	t.Helper()
	var out, errs bytes.Buffer
	code := run(context.Background(), testEnvironment(t, nil), streams{args, &out, &errs})
	return result{code, out.String(), errs.String()}
}

// updating tells whether -update was given: it rewrites the goldens, and then fails so that nobody takes the run for a test.
func updating() bool {
	f := flag.Lookup("update")
	return f != nil && f.Value.String() == "true"
}

func TestMain(m *testing.M) {
	flag.Bool("update", false, "rewrite the goldens, then fail")
	os.Exit(m.Run())
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if updating() {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		t.Fatalf("%s is rewritten; read the difference, then run the test without -update", file)
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v; make it with go test ./builder -update", err)
	}
	if got != string(want) {
		t.Errorf("%s differs (go test ./builder -update rewrites it):\n%s", file, firstDifference(got, string(want)))
	}
}

func firstDifference(got, want string) string {
	gotLines, wantLines := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(gotLines), len(wantLines)) {
		if gotLines[i] != wantLines[i] {
			return "is   " + gotLines[i] + "\nwant " + wantLines[i]
		}
	}
	return "one is longer than the other"
}

func TestShowGolden(t *testing.T) {
	for _, row := range []struct{ image, profile string }{{"vm-disk", "control-plane"}, {"vm-disk", "worker"}, {"metal-disk", "worker"}, {"cloud-vmdk", "worker"}} {
		name := "show-" + row.image + "-" + row.profile
		t.Run(name, func(t *testing.T) {
			text := kiln(t, "show", row.image, "--profile", row.profile, "--release", "v1.36")
			asJSON := kiln(t, "show", row.image, "--profile", row.profile, "--release", "v1.36", "--json")
			for _, r := range []result{text, asJSON} {
				if r.code != exitDone || r.err != "" {
					t.Fatalf("exit code %d, errors %q", r.code, r.err)
				}
			}
			if !json.Valid([]byte(asJSON.out)) {
				t.Error("--json prints something that is not JSON")
			}
			t.Run("text", func(t *testing.T) { golden(t, name+".txt", text.out) })
			t.Run("json", func(t *testing.T) { golden(t, name+".json", asJSON.out) })
		})
	}
}

func TestListAndNamesAgree(t *testing.T) {
	text, asJSON := kiln(t, "list"), kiln(t, "list", "--json")
	var catalogue map[string][]struct{ Name, Description string }
	if err := json.Unmarshal([]byte(asJSON.out), &catalogue); err != nil || asJSON.code != exitDone {
		t.Fatalf("exit code %d, %v", asJSON.code, err)
	}
	for kind, want := range map[string]string{"images": "cloud-aws cloud-gce cloud-qcow2 cloud-vhd cloud-vmdk metal-disk metal-iso metal-pxe vm-disk", "profiles": "control-plane worker", "releases": "v1.36"} {
		var names []string
		for _, entry := range catalogue[kind] {
			// Names are what a user types: a document is called after its file.
			names = append(names, entry.Name)
			if entry.Description == "" || !strings.Contains(text.out, "  "+entry.Name+"  ") || !strings.Contains(text.out, entry.Description) {
				t.Errorf("%s has no description, or the text does not list it:\n%s", entry.Name, text.out)
			}
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("%s are %q; want %q", kind, got, want)
		}
	}
}

func TestWrongCommandLines(t *testing.T) {
	dir := t.TempDir()
	rows := []struct {
		summary string
		args    []string
		want    string
	}{
		{"unknown verb", []string{"shwo"}, "kiln: kiln has no verb \"shwo\"; did you mean show?\nkiln: see kiln --help\n"},
		{"unknown verb of a group", []string{"identity", "make"}, "kiln: kiln identity has no verb \"make\"\nkiln: see kiln identity --help\n"},
		{"unknown flag", []string{"list", "--jsn"}, "kiln: unknown flag: --jsn\nkiln: see kiln list --help\n"},
		{"missing operand", []string{"show"}, "kiln: kiln show: IMAGE is missing; want kiln show IMAGE --profile PROFILE --release RELEASE [flags]\nkiln: see kiln show --help\n"},
		{"too many operands", []string{"list", "a", "b"}, "kiln: kiln list: \"a b\" is one argument too many; want kiln list [flags]\nkiln: see kiln list --help\n"},
		{"missing profile", []string{"show", "vm-disk"}, "kiln: --profile is missing; want one of control-plane, worker, or the path of a document\nkiln: see kiln show --help\n"},
		{"every unknown name at once", []string{"show", "vm-dsk", "-p", "controlplane", "-r", "v1.35"}, `kiln: unknown image "vm-dsk"; did you mean vm-disk? kiln comes with cloud-aws, cloud-gce, cloud-qcow2, cloud-vhd, cloud-vmdk, metal-disk, metal-iso, metal-pxe, vm-disk (or give the path of a document, as in ./image.yaml)
kiln: unknown profile "controlplane"; did you mean control-plane? kiln comes with control-plane, worker (or give the path of a document, as in ./profile.yaml)
kiln: unknown release "v1.35"; did you mean v1.36? kiln comes with v1.36 (or give the path of a document, as in ./release.yaml)
`},
		{"no such file", []string{"show", dir + "/none.yaml", "-p", "worker"}, "kiln: image " + dir + "/none.yaml: there is no such file; give the path of a document or a name: kiln comes with cloud-aws, cloud-gce, cloud-qcow2, cloud-vhd, cloud-vmdk, metal-disk, metal-iso, metal-pxe, vm-disk\n"},
		{"unknown kind", []string{"schema", "pod"}, "kiln: unknown kind \"pod\"; want Image, Profile, Release, Cluster, Identity\nkiln: see kiln schema --help\n"},
		{"an image named twice", []string{"build", "vm-disk,cloud-gce,vm-disk", "-p", "worker", "-o", dir + "/out"}, "kiln: image vm-disk is named twice; name it once\nkiln: see kiln build --help\n"},
		{"one unknown image of several", []string{"build", "vm-disk,cloud-gcp", "-p", "worker", "-o", dir + "/out"}, "kiln: unknown image \"cloud-gcp\"; did you mean cloud-gce? kiln comes with cloud-aws, cloud-gce, cloud-qcow2, cloud-vhd, cloud-vmdk, metal-disk, metal-iso, metal-pxe, vm-disk (or give the path of a document, as in ./image.yaml)\n"},
		{"no name between commas", []string{"build", "vm-disk,", "-p", "worker", "-o", dir + "/out"}, "kiln: unknown image \"\"; kiln comes with cloud-aws, cloud-gce, cloud-qcow2, cloud-vhd, cloud-vmdk, metal-disk, metal-iso, metal-pxe, vm-disk (or give the path of a document, as in ./image.yaml)\n"},
		{"unknown image for build", []string{"build", "vm", "-p", "worker", "-o", dir + "/out"}, "kiln: unknown image \"vm\"; kiln comes with cloud-aws, cloud-gce, cloud-qcow2, cloud-vhd, cloud-vmdk, metal-disk, metal-iso, metal-pxe, vm-disk (or give the path of a document, as in ./image.yaml)\n"},
	}
	for _, row := range rows {
		t.Run(row.summary, func(t *testing.T) {
			r := kiln(t, row.args...)
			if r.code != exitUsage || r.out != "" {
				t.Errorf("exit code %d, output %q; want 2 and nothing", r.code, r.out)
			}
			if r.err != row.want {
				t.Errorf("errors are\n%s\nwant\n%s", r.err, row.want)
			}
		})
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("something was written: %v, %v", entries, err)
	}
}

func TestWrongDocuments(t *testing.T) {
	rows := []struct{ summary, image, profile, want string }{
		{"unknown fields and wrong types in two documents", `
apiVersion: kiln/v1alpha1
kind: Image
name: mine
architecture: amd64
platform: qemu
fromat: disk
format: disk
kernel: linux-image-amd64
modules: virtio_blk
disk: {esp: 256, root: 1GiB, verity: 16MiB, stateMinimum: 4GiB}
`, `
apiVersion: kiln/v1alpha1
kind: Profile
name: mine
role: [worker]
`, `kiln: IMAGE: disk.esp: 256 has no unit; want a whole number and KiB, MiB, GiB or TiB, as in 512MiB
kiln: IMAGE: fromat: unknown field; want one of apiVersion, architecture, compression, copies, description, disk, firmware, format, kernel, kernelArguments, kind, modules, name, packages, platform
kiln: IMAGE: modules: want a list, have the text "virtio_blk"
kiln: PROFILE: role: want text (put quotes around it), have a list
`},
		{"documents that contradict each other", `
apiVersion: kiln/v1alpha1
kind: Image
name: mine
architecture: amd64
platform: qemu
format: disk
kernel: linux-image-amd64
modules: [virtio_blk]
disk: {esp: 256MiB, root: 1GiB, verity: 16MiB, stateMinimum: 4GiB}
`, `
apiVersion: kiln/v1alpha1
kind: Profile
name: mine
role: worker
units: {kubelet.service: false}
files: {/usr/bin/kubelet: "not this one"}
`, `kiln: PROFILE: files./usr/bin/kubelet: is where release v1.36 puts kubelet; rename the file
kiln: PROFILE: units.kubelet.service: is disabled here, but every node needs it; leave it out
`},
		{"the wrong kind", "apiVersion: kiln/v1alpha1\nkind: Profile\nname: p1\nrole: worker\n", "", `kiln: IMAGE: kind: is "Profile"; want Image
kiln: IMAGE: role: unknown field; want one of apiVersion, architecture, compression, copies, description, disk, firmware, format, kernel, kernelArguments, kind, modules, name, packages, platform
kiln: PROFILE: the document is empty; want a Profile document of kiln/v1alpha1
`},
	}
	for _, row := range rows {
		t.Run(row.summary, func(t *testing.T) {
			dir := t.TempDir()
			image, profile := filepath.Join(dir, "image.yaml"), filepath.Join(dir, "profile.yaml")
			for file, text := range map[string]string{image: row.image, profile: row.profile} {
				if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			for _, args := range [][]string{
				{"show", image, "--profile", profile, "--release", "v1.36"},
				{"build", image, "--profile", profile, "--release", "v1.36", "-o", filepath.Join(dir, "out")},
			} {
				r := kiln(t, args...)
				if r.code != exitDocument || r.out != "" {
					t.Errorf("%s: exit code %d, output %q; want 78 and nothing", args[0], r.code, r.out)
				}
				if got := strings.NewReplacer(image, "IMAGE", profile, "PROFILE").Replace(r.err); got != row.want {
					t.Errorf("%s: errors are\n%s\nwant\n%s", args[0], got, row.want)
				}
			}
			if _, err := os.Stat(filepath.Join(dir, "out")); !os.IsNotExist(err) {
				t.Errorf("a build of wrong documents left its output directory: %v", err)
			}
		})
	}
}

func TestHelpTeaches(t *testing.T) {
	env := testEnvironment(t, nil)
	root := newRoot(env)
	for _, cmd := range root.Commands() {
		if cmd.Name() == "help" || cmd.Name() == "completion" {
			continue
		}
		verbs := cmd.Commands()
		if len(verbs) == 0 {
			verbs = append(verbs, cmd)
		}
		for _, verb := range verbs {
			if verb.Short == "" || verb.Example == "" || strings.HasSuffix(verb.Short, ".") {
				t.Errorf("%s: short text %q, example %q", verb.CommandPath(), verb.Short, verb.Example)
			}
			for line := range strings.SplitSeq(verb.Long+"\n"+verb.Example, "\n") {
				if len(line) > 100 {
					t.Errorf("%s: a line of the help is too long for a terminal: %s", verb.CommandPath(), line)
				}
			}
		}
	}
	for _, args := range [][]string{nil, {"help"}, {"--help"}, {"help", "show"}, {"identity"}} {
		if r := kiln(t, args...); r.code != exitDone || !strings.Contains(r.out, "Usage:") || r.err != "" {
			t.Errorf("kiln %v: exit code %d, output %q, errors %q", args, r.code, r.out, r.err)
		}
	}
}

func TestCompletion(t *testing.T) {
	for _, row := range []struct {
		args []string
		want string
	}{
		{[]string{"show", ""}, "cloud-aws cloud-gce cloud-qcow2 cloud-vhd cloud-vmdk metal-disk metal-iso metal-pxe vm-disk"},
		{[]string{"show", "v"}, "vm-disk"},
		{[]string{"build", ""}, "cloud-aws cloud-gce cloud-qcow2 cloud-vhd cloud-vmdk metal-disk metal-iso metal-pxe vm-disk"},
		{[]string{"build", "vm-disk,cloud-v"}, "vm-disk,cloud-vhd vm-disk,cloud-vmdk"},
		{[]string{"build", "vm-disk,v"}, ""},
		{[]string{"build", "vm-disk", ""}, ""},
		{[]string{"show", "vm-disk", "--profile", ""}, "control-plane worker"},
		{[]string{"show", "vm-disk", "--release", ""}, "v1.36"},
		{[]string{"schema", ""}, "image profile release cluster identity"},
		{[]string{"identity", "new", "n1", "--role", ""}, "control-plane"},
	} {
		r := kiln(t, append([]string{"__complete"}, row.args...)...)
		lines := strings.Split(strings.TrimSpace(r.out), "\n")
		// The last line is cobra's directive.
		if got := strings.Join(lines[:len(lines)-1], " "); got != row.want || r.code != exitDone {
			t.Errorf("completing %v gives %q, exit code %d; want %q", row.args, got, r.code, row.want)
		}
	}
	if r := kiln(t, "completion", "bash"); r.code != exitDone || !strings.Contains(r.out, "kiln") {
		t.Errorf("kiln completion bash: exit code %d", r.code)
	}
}

func TestVersion(t *testing.T) {
	var facts versionFacts
	if r := kiln(t, "version", "--json"); r.code != exitDone || json.Unmarshal([]byte(r.out), &facts) != nil || facts.Go == "" || facts.Version == "" {
		t.Errorf("version is %+v from %q", facts, r.out)
	}
	if r := kiln(t, "version"); !strings.HasPrefix(r.out, "kiln ") || strings.Count(r.out, "\n") != 1 {
		t.Errorf("version prints %q", r.out)
	}
}

func TestSchemaIsPrintedWhole(t *testing.T) {
	for _, kind := range []string{"image", "profile", "release", "cluster", "identity", "Image"} {
		if r := kiln(t, "schema", kind); r.code != exitDone || !json.Valid([]byte(r.out)) {
			t.Errorf("schema %s: exit code %d", kind, r.code)
		}
	}
}

func TestCacheDir(t *testing.T) {
	for _, row := range []struct {
		summary   string
		flag      string
		variables map[string]string
		want      string
	}{
		{"flag first", "/flag", map[string]string{"KILN_CACHE": "/env", "HOME": "/home/u"}, "/flag"},
		{"own variable", "", map[string]string{"KILN_CACHE": "/env", "XDG_CACHE_HOME": "/xdg", "HOME": "/home/u"}, "/env"},
		{"XDG", "", map[string]string{"XDG_CACHE_HOME": "/xdg", "HOME": "/home/u"}, "/xdg/kiln"},
		{"relative XDG is ignored", "", map[string]string{"XDG_CACHE_HOME": "xdg", "HOME": "/home/u"}, "/home/u/.cache/kiln"},
		{"nothing", "", nil, ""},
	} {
		args := []string{"cache", "path"}
		if row.flag != "" {
			args = append(args, "--cache", row.flag)
		}
		var out, errs bytes.Buffer
		code := run(context.Background(), testEnvironment(t, row.variables), streams{args, &out, &errs})
		if got := strings.TrimSpace(out.String()); got != row.want || (code == exitDone) != (row.want != "") {
			t.Errorf("%s: %q, exit code %d, %q; want %q", row.summary, got, code, errs.String(), row.want)
		}
	}
}

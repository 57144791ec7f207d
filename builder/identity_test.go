package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kiln-os/kiln/internal/cluster"
)

func identityArgs(out string, more ...string) []string {
	return append([]string{"identity", "new", "node-1", "--address", "10.0.2.15", "--endpoint", "10.0.2.15:6443", "-o", out}, more...)
}

func readAll(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, entry := range entries {
		text, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files[entry.Name()] = string(text)
	}
	return files
}

func TestIdentityNew(t *testing.T) {
	dir := t.TempDir()
	out := filepath.Join(dir, "deep", "node-1")
	r := kiln(t, identityArgs(out, "--server", "https://127.0.0.1:16443", "--certificate-name", "api.example.org", "--cluster", "prod")...)
	if want := out + "/identity.yaml\n" + out + "/config.ign\n" + out + "/admin.conf\n"; r.code != exitDone || r.out != want || r.err != "" {
		t.Fatalf("exit code %d, output %q, errors %q", r.code, r.out, r.err)
	}
	files := readAll(t, out)
	if len(files) != 3 {
		t.Errorf("%d files; want 3", len(files))
	}
	for path, want := range map[string]os.FileMode{out: 0o700, out + "/identity.yaml": 0o600, out + "/config.ign": 0o600, out + "/admin.conf": 0o600} {
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%s has mode %v, %v; want %v", path, info.Mode().Perm(), err, want)
		}
	}
	id, err := cluster.ParseIdentity("identity.yaml", []byte(files["identity.yaml"]))
	if err != nil {
		t.Fatal(err)
	}
	if !id.Node.Initialise || id.Node.Role != "control-plane" || id.Release != "v1.36" || id.Cluster.Name != "prod" || id.Bootstrap.Authorities == nil {
		t.Errorf("identity is %+v", id)
	}
	// Whoever reaches the API through the forwarded port has to be able to check its certificate.
	if got := strings.Join(id.Cluster.CertificateNames, " "); got != "api.example.org 127.0.0.1" {
		t.Errorf("certificate names are %q", got)
	}
	if !strings.Contains(files["admin.conf"], "server: https://127.0.0.1:16443\n") {
		t.Error("the kubeconfig has another server")
	}
	if entries, err := os.ReadDir(filepath.Dir(out)); err != nil || len(entries) != 1 {
		t.Errorf("beside the directory lies %v, %v", entries, err)
	}
	if strings.Contains(r.out+r.err, id.Bootstrap.Token.Reveal()) {
		t.Error("the token was printed")
	}
}

func TestIdentityNewNeverOverwrites(t *testing.T) {
	out := filepath.Join(t.TempDir(), "node-1")
	if r := kiln(t, identityArgs(out)...); r.code != exitDone {
		t.Fatalf("exit code %d: %s", r.code, r.err)
	}
	before := readAll(t, out)

	r := kiln(t, identityArgs(out)...)
	if r.code != exitDone || !strings.Contains(r.out, out+"/identity.yaml\n") || r.err != "kiln: "+out+" holds this identity already and stays as it is\n" {
		t.Errorf("asking again: exit code %d, output %q, errors %q", r.code, r.out, r.err)
	}
	for _, other := range [][]string{{"--cluster", "other"}, {"--server", "https://127.0.0.1:6443"}, {"--address", "10.0.2.16"}} {
		r := kiln(t, identityArgs(out, other...)...)
		if r.code != exitUsage || r.out != "" || !strings.Contains(r.err, out+": holds something else") {
			t.Errorf("%v: exit code %d, output %q, errors %q", other, r.code, r.out, r.err)
		}
	}
	after := readAll(t, out)
	for name, text := range before {
		if after[name] != text {
			t.Errorf("%s was changed", name)
		}
	}

	strange := t.TempDir()
	if err := os.WriteFile(filepath.Join(strange, "notes.txt"), []byte("mine"), 0o644); err != nil {
		t.Fatal(err)
	}
	if r := kiln(t, identityArgs(strange)...); r.code != exitUsage || len(readAll(t, strange)) != 1 {
		t.Errorf("a directory with other files: exit code %d, errors %q", r.code, r.err)
	}
	empty := t.TempDir()
	if r := kiln(t, identityArgs(empty)...); r.code != exitDone || len(readAll(t, empty)) != 3 {
		t.Errorf("an empty directory: exit code %d, errors %q", r.code, r.err)
	}
}

func TestIdentityNewWrongFlags(t *testing.T) {
	dir := t.TempDir()
	out := filepath.Join(dir, "out")
	rows := []struct {
		summary string
		args    []string
		want    []string
	}{
		{"nothing given", []string{"identity", "new", "node-1"}, []string{"kiln: --address is missing", "kiln: --endpoint is missing", "kiln: --output is missing"}},
		{"a worker", identityArgs(out, "--role", "worker"), []string{`kiln: --role: "worker" cannot found a cluster; want control-plane`}},
		{"no URL", identityArgs(out, "--server", "127.0.0.1:6443"), []string{`kiln: --server: "127.0.0.1:6443" is not the API's URL`}},
		{"values that an identity may not have", []string{"identity", "new", "Node_1", "--address", "10.0.2.400", "--endpoint", "10.0.2.15", "-o", out}, []string{
			`kiln: identity: cluster.endpoint: "10.0.2.15"`, `kiln: identity: node.address: "10.0.2.400"`, `kiln: identity: node.name: "Node_1"`}},
	}
	for _, row := range rows {
		t.Run(row.summary, func(t *testing.T) {
			r := kiln(t, row.args...)
			if r.code != exitUsage || r.out != "" {
				t.Errorf("exit code %d, output %q; want 2 and nothing", r.code, r.out)
			}
			for _, want := range row.want {
				if !strings.Contains(r.err, want) {
					t.Errorf("errors do not hold %q:\n%s", want, r.err)
				}
			}
		})
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("something was written: %v, %v", entries, err)
	}
}

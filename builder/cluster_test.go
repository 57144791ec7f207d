package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kiln-os/kiln/builder/authority"
	"github.com/kiln-os/kiln/internal/cluster"
)

// clusterWorld is a directory with a cluster.yaml, in which commands run at a time of their own.
type clusterWorld struct {
	t         *testing.T
	file, out string
	now       time.Time
	// cut ends the work after so many changes of the directory; 0 never does.
	cut int
}

func newClusterWorld(t *testing.T) *clusterWorld {
	t.Helper()
	dir := t.TempDir()
	w := &clusterWorld{t: t, file: filepath.Join(dir, "cluster.yaml"), out: filepath.Join(dir, "out"), now: time.Now()}
	if r := w.run("cluster", "new", "prod", "-o", w.file); r.code != exitDone || r.out != w.file+"\n" || r.err != "" {
		t.Fatalf("exit code %d, output %q, errors %q", r.code, r.out, r.err)
	}
	return w
}

var errCut = errors.New("the power was cut")

func (w *clusterWorld) run(args ...string) result {
	w.t.Helper()
	env := testEnvironment(w.t, nil)
	env.now = func() time.Time { return w.now }
	left := w.cut
	env.wrote = func(string) error {
		if left--; left == 0 {
			return errCut
		}
		return nil
	}
	var out, errs bytes.Buffer
	code := run(context.Background(), env, streams{args, &out, &errs})
	return result{code, out.String(), errs.String()}
}

func (w *clusterWorld) render() result {
	w.t.Helper()
	return w.run("cluster", "render", w.file, "-o", w.out)
}

// mustRender renders and returns the directory's state.
func (w *clusterWorld) mustRender() map[string]string {
	w.t.Helper()
	if r := w.render(); r.code != exitDone {
		w.t.Fatalf("exit code %d: %s", r.code, r.err)
	}
	return w.state()
}

// edit changes the document: the first old becomes new.
func (w *clusterWorld) edit(old, new string) {
	w.t.Helper()
	text := w.read(w.file)
	if !strings.Contains(text, old) {
		w.t.Fatalf("the document lacks %q", old)
	}
	if err := os.WriteFile(w.file, []byte(strings.Replace(text, old, new, 1)), 0o644); err != nil {
		w.t.Fatal(err)
	}
}

// shrink leaves two nodes, cp1 and worker1: each file that is written waits for the disk.
func (w *clusterWorld) shrink() {
	w.t.Helper()
	w.edit("  - name: cp2\n    role: control-plane\n    address: 10.0.0.12\n  - name: cp3\n    role: control-plane\n    address: 10.0.0.13\n", "")
	w.edit("  - name: worker2\n    role: worker\n    address: 10.0.0.22\n", "")
}

func (w *clusterWorld) read(path string) string {
	w.t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		w.t.Fatal(err)
	}
	return string(text)
}

// state maps what is in the directory to its mode and content, and to when a file was last put there.
func (w *clusterWorld) state() map[string]string {
	w.t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(w.out, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(w.out, path)
		switch {
		case entry.IsDir():
			found[name] = info.Mode().String()
		case entry.Type() == fs.ModeSymlink:
			target, err := os.Readlink(path)
			found[name] = "-> " + target
			return err
		default:
			text, err := os.ReadFile(path)
			found[name] = fmt.Sprintf("%s %d %s", info.Mode(), info.ModTime().UnixNano(), text)
			return err
		}
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return found
}

// changes lists what is not the same in two states.
func changes(before, after map[string]string) []string {
	var names []string
	for name := range before {
		if before[name] != after[name] {
			names = append(names, name)
		}
	}
	for name := range after {
		if _, was := before[name]; !was {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func (w *clusterWorld) identity(dir string) cluster.Identity {
	w.t.Helper()
	text := w.read(filepath.Join(w.out, dir, "identity.yaml"))
	id, err := cluster.ParseIdentity(dir, []byte(text))
	if err != nil {
		w.t.Fatal(err)
	}
	var config struct {
		Storage struct {
			Files []struct{ Contents struct{ Source string } }
		}
	}
	if err := json.Unmarshal([]byte(w.read(filepath.Join(w.out, dir, "config.ign"))), &config); err != nil {
		w.t.Fatal(err)
	}
	encoded, _ := strings.CutPrefix(config.Storage.Files[0].Contents.Source, "data:;base64,")
	if wrapped, err := base64.StdEncoding.DecodeString(encoded); err != nil || string(wrapped) != text {
		w.t.Errorf("%s: the Ignition config holds another identity, or %v", dir, err)
	}
	return id
}

func (w *clusterWorld) secrets() authority.Secrets {
	w.t.Helper()
	s, err := authority.ParseSecrets(secretsFile, []byte(w.read(filepath.Join(w.out, secretsFile))))
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

func TestClusterNewGolden(t *testing.T) {
	w := newClusterWorld(t)
	golden(t, "cluster-new.yaml", w.read(w.file))
	d, warnings, err := cluster.ParseDefinition("cluster.yaml", []byte(w.read(w.file)))
	if err != nil || len(warnings) > 0 || len(d.Nodes) != 5 || len(d.ControlPlanes()) != 3 {
		t.Errorf("%d nodes, warnings %q, %v", len(d.Nodes), warnings, err)
	}
	if r := w.run("cluster", "new", "prod", "-o", w.file); r.code != exitDone {
		t.Errorf("asking again: exit code %d, %s", r.code, r.err)
	}
	if r := w.run("cluster", "new", "other", "-o", w.file); r.code != exitUsage || !strings.Contains(r.err, "is there already and says something else") || !strings.Contains(w.read(w.file), "name: prod\n") {
		t.Errorf("writing over: exit code %d, %s", r.code, r.err)
	}
	if r := w.run("cluster", "new", "Not_A_Name", "-o", w.file+"2"); r.code != exitUsage || !strings.Contains(r.err, `name: "Not_A_Name" is not allowed`) {
		t.Errorf("a bad name: exit code %d, %s", r.code, r.err)
	}
	if _, err := os.Stat(w.file + "2"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("something was written: %v", err)
	}
}

// The examples in the comments are what people copy: all of them together have to be right.
func TestClusterNewExamples(t *testing.T) {
	text := newClusterWorld(t)
	document := text.read(text.file)
	line := regexp.MustCompile(`^( *)# ((?:certificateNames|dnsDomain|match|zone|region|labels|taints|kubelet): .*)$`)
	block := regexp.MustCompile(`^# (customisation|pools):$`)
	var lines []string
	inside := false
	for l := range strings.SplitSeq(document, "\n") {
		inside = strings.HasPrefix(l, "#") && (inside || block.MatchString(l))
		if inside {
			l = strings.TrimPrefix(l, "# ")
		} else {
			l = line.ReplaceAllString(l, "$1$2")
		}
		lines = append(lines, l)
	}
	d, warnings, err := cluster.ParseDefinition("cluster.yaml", []byte(strings.Join(lines, "\n")))
	if err != nil || len(warnings) > 0 {
		t.Fatalf("warnings %q, %v", warnings, err)
	}
	if len(d.Pools) != 1 || len(d.Customisation.Patches) != 1 || d.Nodes[0].Match == nil || d.Nodes[0].Region == "" || d.Nodes[3].Taints == nil || d.Nodes[3].Kubelet == nil || d.CertificateNames == nil {
		t.Errorf("an example was not seen: %+v", d)
	}
	dual := strings.NewReplacer("podSubnet: 10.244.0.0/16\n", "podSubnet: 10.244.0.0/16,fd00:10:244::/56\n", "serviceSubnet: 10.96.0.0/12\n", "serviceSubnet: 10.96.0.0/12,fd00:10:96::/112\n",
		"    # secondaryAddress:", "    secondaryAddress:").Replace(document)
	if d, _, err := cluster.ParseDefinition("cluster.yaml", []byte(dual)); err != nil || d.Nodes[0].SecondaryAddress == "" || !strings.Contains(d.PodSubnet, ",") {
		t.Errorf("the dual-stack example: %v", err)
	}
}

func TestRenderIsIdempotent(t *testing.T) {
	w := newClusterWorld(t)
	r := w.render()
	want := ""
	for _, name := range []string{"cp1", "cp2", "cp3", "worker1", "worker2"} {
		want += filepath.Join(w.out, "nodes", name) + "\n"
	}
	if r.code != exitDone || r.out != want || strings.Contains(r.err, "warning") {
		t.Fatalf("exit code %d, output %q, errors %q", r.code, r.out, r.err)
	}
	before := w.state()
	for name, state := range before {
		if !strings.HasPrefix(state, "drwx------") && !strings.HasPrefix(state, "-rw------- ") {
			t.Errorf("%s has mode %s", name, strings.Fields(state)[0])
		}
	}
	w.now = w.now.Add(48 * time.Hour)
	if changed := changes(before, w.mustRender()); len(changed) > 0 {
		t.Errorf("rendering again changed %q", changed)
	}
	secrets := w.secrets()
	for _, hidden := range []string{secrets.Token.Reveal(), secrets.CertificateKey.Reveal(), "PRIVATE KEY"} {
		if strings.Contains(r.out+r.err, hidden) {
			t.Error("a secret was printed")
		}
	}
	// A file that somebody changed, or made readable, is mended.
	path := filepath.Join(w.out, "nodes", "cp1", "identity.yaml")
	if err := errors.Join(os.WriteFile(path, []byte("x"), 0o644), os.Chmod(path, 0o644), os.Chmod(w.out, 0o755), os.Chmod(filepath.Join(w.out, "nodes"), 0o755)); err != nil {
		t.Fatal(err)
	}
	if changed := changes(before, w.mustRender()); !slices.Equal(changed, []string{"nodes/cp1/identity.yaml"}) {
		t.Errorf("mended: %q", changed)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("it has mode %v, %v", info.Mode(), err)
	}
	// The administrator's certificate is made anew only when it is of no use any more.
	before = w.state()
	w.now = w.now.AddDate(2, 0, 0)
	if changed := changes(before, w.mustRender()); !slices.Equal(changed, []string{"admin.conf"}) {
		t.Errorf("two years later: %q", changed)
	}
}

func TestStagedAndUploadedIdentities(t *testing.T) {
	for _, mode := range []string{"staged", "uploaded"} {
		t.Run(mode, func(t *testing.T) {
			w := newClusterWorld(t)
			w.edit("certificates: staged", "certificates: "+mode)
			w.edit("    # labels: {example.org/disk: ssd}", "    labels: {node-restriction.kubernetes.io/x: here, example.org/disk: ssd}")
			w.edit("    # taints:", "    taints:")
			w.edit("# pools:\n#   - name: batch\n#     role: worker\n#     nodeName: batch-${serial} ", "pools:\n  - name: batch\n    role: worker\n    nodeName: batch-${serial} ")
			w.mustRender()
			secrets := w.secrets()
			certificate, err := cluster.ParseCertificate(secrets.Authorities.Cluster.Certificate)
			if err != nil {
				t.Fatal(err)
			}
			for _, row := range []struct {
				dir, name, pool string
				keys, key       bool
			}{
				{"nodes/cp1", "cp1", "", true, mode == "uploaded"},
				{"nodes/cp2", "cp2", "", mode == "staged", mode == "uploaded"},
				{"nodes/cp3", "cp3", "", mode == "staged", mode == "uploaded"},
				{"nodes/worker1", "worker1", "", false, false},
				{"nodes/worker2", "worker2", "", false, false},
				{"pools/batch", "batch-${serial}", "batch", false, false},
			} {
				id := w.identity(row.dir)
				b := id.Bootstrap
				text := w.read(filepath.Join(w.out, row.dir, "identity.yaml"))
				if strings.Contains(text, "PRIVATE KEY") != row.keys || b.CertificateKey.IsZero() == row.key {
					t.Errorf("%s: keys %v, certificate key %v", row.dir, strings.Contains(text, "PRIVATE KEY"), !b.CertificateKey.IsZero())
				}
				if row.keys && (b.Authorities.ServiceAccount.Public == "" || b.Authorities.Etcd.Key.Reveal() != secrets.Authorities.Etcd.Key.Reveal()) {
					t.Errorf("%s has not the whole set", row.dir)
				}
				if b.Authorities.Cluster.Certificate != secrets.Authorities.Cluster.Certificate || b.Token.Reveal() != secrets.Token.Reveal() || b.TokenTTL != "24h" {
					t.Errorf("%s knows another cluster or token", row.dir)
				}
				if planned := len(id.Cluster.ControlPlanes); (planned == 3) != (row.name == "cp1") || planned != 0 && planned != 3 {
					t.Errorf("%s knows of %d control planes", row.dir, planned)
				}
				if id.Node.Name != row.name || id.Node.Pool != row.pool || id.Node.Initialise != (row.name == "cp1") {
					t.Errorf("%s is %+v", row.dir, id.Node)
				}
				statement, err := cluster.VerifyStatement(id.Node.Registration, certificate)
				if err != nil || statement.Cluster != "prod" || statement.Node != row.name || statement.Pool != row.pool || statement.Role != id.Node.Role {
					t.Errorf("%s: statement %+v, %v", row.dir, statement, err)
				}
				if wantLabels := row.name == "worker1"; (len(statement.Labels) == 1 && statement.Labels["node-restriction.kubernetes.io/x"] == "here" && len(statement.Taints) == 1) != wantLabels {
					t.Errorf("%s: signed for %v, %v", row.dir, statement.Labels, statement.Taints)
				}
			}
			if labels := w.identity("nodes/worker1").Node.Labels; len(labels) != 2 {
				t.Errorf("labels are %v", labels)
			}
		})
	}
}

func TestIsolationOfControlPlanes(t *testing.T) {
	w := newClusterWorld(t)
	w.mustRender()
	if taints := w.identity("nodes/cp2").Node.Taints; taints != nil {
		t.Errorf("isolated: taints are %v; want the role's own", *taints)
	}
	w.edit("isolateControlPlanes: true", "isolateControlPlanes: false")
	w.edit("    address: 10.0.0.12\n", "    address: 10.0.0.12\n    taints: [{key: a, effect: NoSchedule}]\n")
	w.mustRender()
	if taints := w.identity("nodes/cp1").Node.Taints; taints == nil || len(*taints) > 0 {
		t.Errorf("not isolated: taints are %v; want an empty list", taints)
	}
	if taints := w.identity("nodes/cp2").Node.Taints; taints == nil || len(*taints) != 1 {
		t.Errorf("own taints became %v", taints)
	}
	if taints := w.identity("nodes/worker1").Node.Taints; taints != nil {
		t.Errorf("a worker's taints are %v", *taints)
	}
}

func TestNodesComeAndGo(t *testing.T) {
	w := newClusterWorld(t)
	before := w.mustRender()
	step := func(summary string, want ...string) {
		t.Helper()
		after := w.mustRender()
		if changed := changes(before, after); !slices.Equal(changed, want) {
			t.Errorf("%s changed\n%q\nwant\n%q", summary, changed, want)
		}
		before = after
	}
	const worker3 = "  - name: worker3\n    role: worker\n    address: 10.0.0.23\n    match: {mac: 52-54-00-00-00-23, serial: a/7, uuid: 4c4c4544-0035-4a10-8051-b7c04f4d3132, hostname: rack7}\n"
	w.edit("nodes:\n", "nodes:\n"+worker3)
	step("a worker more", "by-hostname", "by-hostname/rack7", "by-mac", "by-mac/52-54-00-00-00-23", "by-serial", "by-serial/a%2F7",
		"by-uuid", "by-uuid/4c4c4544-0035-4a10-8051-b7c04f4d3132", "nodes/worker3", "nodes/worker3/config.ign", "nodes/worker3/identity.yaml")
	for _, link := range []string{"by-mac/52-54-00-00-00-23", "by-serial/a%2F7"} {
		if text, err := os.ReadFile(filepath.Join(w.out, link, "identity.yaml")); err != nil || !strings.Contains(string(text), "name: worker3") {
			t.Errorf("%s does not lead to the node: %v", link, err)
		}
	}
	w.edit("nodes:\n", "nodes:\n  - name: cp4\n    role: control-plane\n    address: 10.0.0.14\n  - name: cp5\n    role: control-plane\n    address: 10.0.0.15\n")
	step("control planes more", "nodes/cp4", "nodes/cp4/config.ign", "nodes/cp4/identity.yaml", "nodes/cp5", "nodes/cp5/config.ign", "nodes/cp5/identity.yaml")

	w.edit("52-54-00-00-00-23", "52-54-00-00-00-24")
	step("another interface", "by-mac/52-54-00-00-00-23", "by-mac/52-54-00-00-00-24", "nodes/worker3/config.ign", "nodes/worker3/identity.yaml")

	// What is not kiln's stays.
	note := filepath.Join(w.out, "nodes", "cp4", "note")
	if err := os.WriteFile(note, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	before = w.state()
	w.edit(strings.Replace(worker3, "00-23", "00-24", 1), "")
	w.edit("  - name: cp4\n    role: control-plane\n    address: 10.0.0.14\n", "")
	w.edit("  - name: cp5\n    role: control-plane\n    address: 10.0.0.15\n", "")
	step("nodes less", "by-hostname", "by-hostname/rack7", "by-mac", "by-mac/52-54-00-00-00-24", "by-serial", "by-serial/a%2F7", "by-uuid", "by-uuid/4c4c4544-0035-4a10-8051-b7c04f4d3132",
		"nodes/cp4/config.ign", "nodes/cp4/identity.yaml", "nodes/cp5", "nodes/cp5/config.ign", "nodes/cp5/identity.yaml", "nodes/worker3", "nodes/worker3/config.ign", "nodes/worker3/identity.yaml")
	if w.read(note) != "mine" {
		t.Error("somebody's file was changed")
	}
	w.edit("10.0.0.12", "10.0.0.112")
	step("another address", "nodes/cp1/config.ign", "nodes/cp1/identity.yaml", "nodes/cp2/config.ign", "nodes/cp2/identity.yaml")
	if planes := w.identity("nodes/cp1").Cluster.ControlPlanes; planes[1].Address != "10.0.0.112" {
		t.Errorf("the initialiser would ask %v", planes)
	}
}

func TestRenderSaysWhatItCannotChange(t *testing.T) {
	w := newClusterWorld(t)
	w.mustRender()
	w.edit("    initialise: true\n", "")
	w.edit("  - name: cp2\n", "  - name: cp2\n    initialise: true\n")
	if r := w.render(); r.code != exitDone || !strings.Contains(r.err, "kiln: warning: cp2 initialises now, where cp1 did") {
		t.Errorf("another initialiser: exit code %d, errors %q", r.code, r.err)
	}
	w.edit("endpoint: 10.0.0.10:6443", "endpoint: 10.0.0.9:6443")
	if r := w.render(); r.code != exitDone || !strings.Contains(r.err, "admin.conf leads to https://10.0.0.10:6443, and the endpoint is https://10.0.0.9:6443; kiln cluster kubeconfig makes another") {
		t.Errorf("another endpoint: exit code %d, errors %q", r.code, r.err)
	}
	w.edit("# customisation:\n", "customisation: {patches: {etcd.yaml: '{metadata: {annotations: {a: "+strings.Repeat("x", 12<<10)+"}}}'}}\n#\n")
	if r := w.render(); r.code != exitDone || strings.Count(r.err, "and EC2 takes 16384") != 5 || !strings.Contains(r.err, "kiln: warning: nodes/cp3: its config.ign has ") {
		t.Errorf("a large identity: exit code %d, errors %q", r.code, r.err)
	}
}

func TestRenderWritesNothingWhenSomethingIsWrong(t *testing.T) {
	w := newClusterWorld(t)
	good := w.read(w.file)
	w.edit("address: 10.0.0.12", "address: 10.0.0.11")
	w.edit("    initialise: true\n", "")
	r := w.render()
	if r.code != exitDocument || r.out != "" || !strings.Contains(r.err, "nodes: none initialises") || !strings.Contains(r.err, "nodes[1].address: 10.0.0.11 is nodes[0].address already") {
		t.Errorf("exit code %d, output %q, errors %q", r.code, r.out, r.err)
	}
	if _, err := os.Stat(w.out); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the directory was made: %v", err)
	}
	for _, row := range []struct {
		summary string
		args    []string
		code    int
		want    string
	}{
		{"no directory", []string{"render", w.file}, exitUsage, "kiln: --output is missing"},
		{"no document", []string{"render", w.file + ".not", "-o", w.out}, exitUsage, "is not there; kiln cluster new writes one"},
		{"a directory for a document", []string{"render", filepath.Dir(w.file), "-o", w.out}, exitDocument, "cannot be read"},
		{"a token of no cluster", []string{"token", w.file, "-o", w.out}, exitDocument, "nodes: none initialises"},
		{"a kubeconfig of no cluster", []string{"kubeconfig", w.out}, exitUsage, "is not there"},
	} {
		if r := w.run(append([]string{"cluster"}, row.args...)...); r.code != row.code || r.out != "" || !strings.Contains(r.err, row.want) {
			t.Errorf("%s: exit code %d, output %q, errors %q", row.summary, r.code, r.out, r.err)
		}
	}
	if err := os.WriteFile(w.file, []byte(good), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		summary string
		args    []string
		want    string
	}{
		{"a token of no cluster", []string{"token", w.file, "-o", w.out}, "is not there; make it with kiln cluster render"},
		{"a kubeconfig of no cluster", []string{"kubeconfig", w.file, "-o", w.out}, "is not there; make it with kiln cluster render"},
		{"no directory for a token", []string{"token", w.file}, "--output is missing"},
		{"no directory for a kubeconfig", []string{"kubeconfig", w.file}, "--directory is missing"},
		{"a server that is none", []string{"token", w.file, "-o", w.out, "--server", "127.0.0.1"}, "--server: \"127.0.0.1\" is not the API's URL"},
	} {
		if r := w.run(append([]string{"cluster"}, row.args...)...); r.code != exitUsage || r.out != "" || !strings.Contains(r.err, row.want) {
			t.Errorf("%s: exit code %d, output %q, errors %q", row.summary, r.code, r.out, r.err)
		}
	}
}

func TestRenderRefusesOtherDirectories(t *testing.T) {
	w := newClusterWorld(t)
	if err := errors.Join(os.Mkdir(w.out, 0o755), os.WriteFile(filepath.Join(w.out, "notes.txt"), []byte("mine"), 0o644)); err != nil {
		t.Fatal(err)
	}
	before := w.state()
	if r := w.render(); r.code != exitUsage || !strings.Contains(r.err, w.out+": holds something else (notes.txt)") {
		t.Errorf("a directory with other files: exit code %d, errors %q", r.code, r.err)
	}
	if changed := changes(before, w.state()); len(changed) > 0 {
		t.Errorf("it was changed: %q", changed)
	}
	if err := os.Remove(filepath.Join(w.out, "notes.txt")); err != nil {
		t.Fatal(err)
	}
	before = w.mustRender()
	if before["."] != "drwx------" {
		t.Errorf("the directory that was there has mode %s", before["."])
	}
	w.edit("name: prod\n", "name: other\n")
	for _, verb := range []string{"render", "token", "kubeconfig"} {
		if r := w.run("cluster", verb, w.file, "-o", w.out); r.code != exitUsage || !strings.Contains(r.err, w.out+": belongs to cluster prod, not to other") {
			t.Errorf("%s of another cluster: exit code %d, errors %q", verb, r.code, r.err)
		}
	}
	w.edit("name: other\n", "name: prod\n")
	if err := os.WriteFile(filepath.Join(w.out, secretsFile), []byte("kind: Secrets\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	before = w.state()
	if r := w.render(); r.code != exitDocument || !strings.Contains(r.err, "secrets.yaml: apiVersion: missing") {
		t.Errorf("broken secrets: exit code %d, errors %q", r.code, r.err)
	}
	if changed := changes(before, w.state()); len(changed) > 0 {
		t.Errorf("it was changed: %q", changed)
	}
	dir, err := openClusterDir(w.out, true, nil)
	if err != nil {
		t.Fatal(err)
	}
	if r := w.render(); r.code != exitRetry || !strings.Contains(r.err, "another kiln is at work in it") {
		t.Errorf("two at once: exit code %d, errors %q", r.code, r.err)
	}
	if err := dir.close(); err != nil {
		t.Fatal(err)
	}
}

// A run may end after any change of the directory: the next one completes it with the secrets of the first.
func TestRenderSurvivesCuts(t *testing.T) {
	for cut := 1; ; cut++ {
		w := newClusterWorld(t)
		w.shrink()
		w.edit("    # match:", "    match:")
		w.cut = cut
		if r := w.render(); r.code == exitDone {
			// Eight files and a link.
			if cut != 10 {
				t.Errorf("%d changes make a cluster's directory", cut-1)
			}
			return
		} else if !strings.Contains(r.err, errCut.Error()) {
			t.Fatalf("cut %d: exit code %d, errors %q", cut, r.code, r.err)
		}
		secrets := w.read(filepath.Join(w.out, secretsFile))
		// What a kill leaves while a file is written.
		for _, piece := range []string{".secrets.yaml123", "..gitignore5", "nodes/cp1/.identity.yaml42"} {
			if err := os.WriteFile(filepath.Join(w.out, piece), []byte("half"), 0o600); err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Fatal(err)
			}
		}
		w.cut = 0
		first := w.mustRender()
		if w.read(filepath.Join(w.out, secretsFile)) != secrets {
			t.Fatalf("cut %d: the secrets are others", cut)
		}
		w.identity("nodes/cp1")
		w.identity("nodes/worker1")
		for name := range first {
			if strings.Contains(name, "identity.yaml4") || strings.Contains(name, "secrets.yaml1") || strings.Contains(name, "gitignore5") {
				t.Errorf("cut %d: %s is left", cut, name)
			}
		}
		if changed := changes(first, w.mustRender()); len(changed) > 0 {
			t.Errorf("cut %d: the third run changed %q", cut, changed)
		}
		if first["by-mac/52-54-00-00-00-11"] != "-> ../nodes/cp1" {
			t.Errorf("cut %d: the link is missing", cut)
		}
	}
}

func TestPiecesBeforeTheSecretsAreOwn(t *testing.T) {
	w := newClusterWorld(t)
	if err := errors.Join(os.Mkdir(w.out, 0o700), os.WriteFile(filepath.Join(w.out, ".secrets.yaml991"), []byte("half"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if state := w.mustRender(); state[".secrets.yaml991"] != "" {
		t.Error("the piece is left")
	}
}

func TestClusterKubeconfig(t *testing.T) {
	w := newClusterWorld(t)
	w.mustRender()
	first := w.read(filepath.Join(w.out, adminFile))
	r := w.run("cluster", "kubeconfig", w.out)
	second := w.read(filepath.Join(w.out, adminFile))
	if r.code != exitDone || r.out != filepath.Join(w.out, adminFile)+"\n" || second == first || server([]byte(second)) != "https://10.0.0.10:6443" {
		t.Errorf("exit code %d, output %q, errors %q, server %s", r.code, r.out, r.err, server([]byte(second)))
	}
	w.edit("endpoint: 10.0.0.10:6443", "endpoint: 10.0.0.9:6443")
	if r := w.run("cluster", "kubeconfig", w.file, "-o", w.out); r.code != exitDone || server([]byte(w.read(filepath.Join(w.out, adminFile)))) != "https://10.0.0.9:6443" {
		t.Errorf("by document: exit code %d, errors %q", r.code, r.err)
	}
	other := filepath.Join(t.TempDir(), "laptop.conf")
	before := w.state()
	if r := w.run("cluster", "kubeconfig", w.out, "--server", "https://127.0.0.1:16443", "--output", other); r.code != exitDone || r.out != other+"\n" {
		t.Errorf("to a file: exit code %d, output %q, errors %q", r.code, r.out, r.err)
	}
	if info, err := os.Stat(other); err != nil || info.Mode() != 0o600 || server([]byte(w.read(other))) != "https://127.0.0.1:16443" {
		t.Errorf("the file: %v, %v", info, err)
	}
	if r := w.run("cluster", "kubeconfig", w.out, "--output", "-"); r.code != exitDone || server([]byte(r.out)) != "https://10.0.0.9:6443" {
		t.Errorf("to standard output: exit code %d", r.code)
	}
	if changed := changes(before, w.state()); len(changed) > 0 {
		t.Errorf("the directory was changed: %q", changed)
	}
	set, err := authority.Open(w.secrets().Authorities, w.now)
	if err != nil {
		t.Fatal(err)
	}
	if text := w.read(other); !admin("prod", "").Stands([]byte(text), set) || admin("x", "").Stands([]byte(text), set) || admin("prod", "").Stands([]byte(text[:300]), set) {
		t.Error("a kubeconfig that serves is not told from others")
	}
	if r := w.run("cluster", "kubeconfig", w.out, "-o", t.TempDir()); r.code != exitUsage || !strings.Contains(r.err, "are two directories") {
		t.Errorf("two directories: exit code %d, errors %q", r.code, r.err)
	}
}

func TestBuildRefusesSecrets(t *testing.T) {
	w := newClusterWorld(t)
	w.mustRender()
	profile := filepath.Join(t.TempDir(), "leaky.yaml")
	indented := "    " + strings.ReplaceAll(w.read(filepath.Join(w.out, "nodes", "worker1", "identity.yaml")), "\n", "\n    ")
	text := "apiVersion: kiln/v1alpha1\nkind: Profile\nname: leaky\nrole: worker\nfiles:\n  /etc/kiln/identity.yaml: |\n" + indented + "\n"
	if err := os.WriteFile(profile, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "out")
	r := w.run("build", "vm-disk", "--profile", profile, "--release", "v1.36", "-o", out)
	if r.code != exitDocument || r.out != "" || !strings.Contains(r.err, profile+": files./etc/kiln/identity.yaml: holds an identity or a cluster's secrets; an image is no place for secrets") {
		t.Errorf("exit code %d, output %q, errors %q", r.code, r.out, r.err)
	}
	if strings.Contains(r.err, w.secrets().Token.Reveal()) {
		t.Error("the message shows the token")
	}
	if _, err := os.Stat(out); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the output directory was made: %v", err)
	}
}

package kubeadm

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/kiln-os/kiln/internal/command"
	"github.com/kiln-os/kiln/internal/nodefs"
)

// realKubeadm is kubeadm itself, from the directories that KILN_KUBERNETES names, separated by colons; make test-tools
// sets it.
func realKubeadm(t *testing.T) string {
	t.Helper()
	directories := os.Getenv("KILN_KUBERNETES")
	if directories == "" {
		t.Skip("KILN_KUBERNETES is not set: no kubeadm to ask")
	}
	for _, directory := range filepath.SplitList(directories) {
		path := filepath.Join(directory, "kubeadm")
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	t.Fatalf("there is no kubeadm in %s", directories)
	return ""
}

// run runs kubeadm with the configuration and returns what it printed, and what it wrote to its standard error if it failed.
func run(t *testing.T, c command.Command, config []byte) (string, string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "kubeadm.yaml")
	if err := os.WriteFile(file, config, 0o600); err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr, c.Args = &out, &errs, append(c.Args, "--config="+file)
	if _, err := (command.Exec{}).Run(t.Context(), c); err != nil {
		return out.String(), cmp.Or(errs.String(), err.Error())
	}
	return out.String(), ""
}

// TestRealKubeadmAcceptsWhatIsRendered asks kubeadm's own validator, which knows every field, about every configuration
// that the tests render; and which container images it would use.
func TestRealKubeadmAcceptsWhatIsRendered(t *testing.T) {
	kubeadm := realKubeadm(t)
	for _, w := range append(worlds(), layered()) {
		t.Run(w.golden, func(t *testing.T) {
			o := w.options(t)
			text, err := w.render(o)
			if err != nil {
				t.Fatal(err)
			}
			if out, failed := run(t, command.Command{Name: kubeadm, Args: []string{"config", "validate"}}, text); failed != "" || strings.TrimSpace(out) != "ok" {
				t.Errorf("%s%s\n%s", out, failed, text)
			}
			if w.joins {
				return
			}
			out, failed := run(t, command.Command{Name: kubeadm, Args: []string{"config", "images", "list"}}, text)
			want := strings.Fields(strings.Replace(out, "registry.example.org/kubernetes/pause:", "registry.k8s.io/pause:", 1))
			slices.Sort(want)
			if got := RequiredImages(o); failed != "" || !slices.Equal(got, want) {
				t.Errorf("have %q\nwant %q %s", got, want, failed)
			}
		})
	}
}

// TestRealKubeadmTellsWrongFields proves that the validator of the test above does see mistakes.
func TestRealKubeadmTellsWrongFields(t *testing.T) {
	kubeadm := realKubeadm(t)
	text, err := RenderInit(world{node: founder}.options(t))
	if err != nil {
		t.Fatal(err)
	}
	for field, wrong := range map[string]string{
		"networking.podSubnet": strings.Replace(string(text), "10.244.0.0/16", "10.244.0.0/30", 1),
		"colour":               strings.Replace(string(text), "clusterName:", "colour: red\nclusterName:", 1),
	} {
		_, failed := run(t, command.Command{Name: kubeadm, Args: []string{"config", "validate"}}, []byte(wrong))
		if got := Classify(failed); got.Kind != ConfigRefused || !got.Permanent || !strings.Contains(got.Message, field) {
			t.Errorf("%s: have %+v of\n%s", field, got, failed)
		}
	}
}

// dryRun lets kubeadm write what a phase would write into a directory of the test, which it returns.
func dryRun(t *testing.T, w world, phase ...string) (string, string) {
	t.Helper()
	o, patches, into := w.options(t), t.TempDir(), t.TempDir()
	text, err := w.render(o)
	if err != nil {
		t.Fatal(err)
	}
	all, err := Patches(o)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range all {
		if err := os.WriteFile(filepath.Join(patches, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := command.Command{Name: realKubeadm(t), Args: append([]string{"init", "phase"}, append(phase, "--dry-run")...), Env: []string{"KUBEADM_INIT_DRYRUN_DIR=" + into}}
	_, failed := run(t, c, bytes.ReplaceAll(text, []byte(nodefs.Patches), []byte(patches)))
	return into, failed
}

func TestRealKubeadmAppliesPatchesInOrder(t *testing.T) {
	realKubeadm(t)
	into, failed := dryRun(t, layered(), "kubelet-start")
	if failed != "" {
		t.Fatal(failed)
	}
	var config struct {
		MaxPods, PodPidsLimit, ContainerLogMaxFiles, RegistryPullQPS, EventRecordQPS int
		SystemReserved                                                               map[string]string
		ShutdownGracePeriod, CgroupDriver                                            string
	}
	if err := yaml.Unmarshal([]byte(read(t, filepath.Join(into, "config.yaml"))), &config); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(config); got != "{80 60 50 70 40 map[cpu:50m memory:60Mi]  systemd}" {
		t.Errorf("the kubelet gets %s", got)
	}
	flags := read(t, filepath.Join(into, "kubeadm-flags.env"))
	if !strings.Contains(flags, " --node-ip=10.0.0.11 --node-labels=kiln.dev/profile=control-plane,kiln.dev/release=v1.36\"") {
		t.Errorf("the kubelet gets %s", flags)
	}
	into, failed = dryRun(t, layered(), "control-plane", "apiserver")
	if failed != "" {
		t.Fatal(failed)
	}
	if pod := read(t, filepath.Join(into, "kube-apiserver.yaml")); !strings.Contains(pod, "from: cluster\n") || !strings.Contains(pod, `profile: "yes"`) {
		t.Errorf("the API server's pod is\n%s", pod)
	}
}

func TestRealKubeadmRefusesPatches(t *testing.T) {
	realKubeadm(t)
	for _, patch := range []string{"kube-apiserver+json.yaml: '[{op: remove, path: /nothing}]'", "kube-apiserver.yaml: 'a: ['", "kube-apiserver+merge.yaml: 'spec: {containers: x}'"} {
		_, failed := dryRun(t, world{node: founder, cluster: "customisation: {patches: {" + patch + "}}"}, "control-plane", "apiserver")
		if got := Classify(failed); got.Kind != PatchRefused || !got.Permanent {
			t.Errorf("%s: have %+v of\n%s", patch, got, failed)
		}
	}
}

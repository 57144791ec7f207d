package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kiln-os/kiln/firstboot/bootstrap"
)

// call runs the program's commands in process and gives its exit code and outputs.
func call(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(&out)
	root.SetErr(&errs)
	code = exitCode(root.ExecuteContext(context.Background()), &errs)
	return code, out.String(), errs.String()
}

func put(t *testing.T, root, path, text string) {
	t.Helper()
	full := filepath.Join(root, path)
	if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(full, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// node is a root with what the builder bakes, and a kernel command line.
func node(t *testing.T, commandLine string) string {
	t.Helper()
	root := t.TempDir()
	put(t, root, "/usr/lib/kiln/node.json", `{"profile":"control-plane","release":"v1.36","role":"control-plane","version":"v1.36.3-4f1c2ab0","kubernetes":"v1.36.3"}`)
	put(t, root, "/usr/lib/kiln/profile.json", `{"apiVersion":"kiln/v1alpha1","kind":"Profile","name":"control-plane","role":"control-plane"}`)
	put(t, root, "/proc/cmdline", commandLine)
	return root
}

const fwcfg = "/sys/firmware/qemu_fw_cfg/by_name/opt/com.coreos/config/raw"

// config is an Ignition config around an identity whose lines are separated by |.
func config(identity string) string {
	escaped := strings.NewReplacer("|", "%0A", " ", "%20", "{", "%7B", "}", "%7D", `"`, "%22").Replace(identity)
	return `{"ignition":{"version":"3.5.0"},"storage":{"files":[{"path":"/etc/kiln/identity.yaml","mode":384,"contents":{"source":"data:,` + escaped + `"}}]}}`
}

const identity = `apiVersion: kiln/v1alpha1|kind: Identity|release: v1.36|node: {name: cp1, role: control-plane, initialise: true, address: 10.0.2.15}|` +
	`cluster: {name: demo, endpoint: "10.0.2.15:6443"}|bootstrap: {token: abcdef.0123456789abcdef}|`

func TestExitCodes(t *testing.T) {
	good := node(t, "kiln.platform=qemu")
	put(t, good, fwcfg, config(identity))
	wrong := node(t, "kiln.platform=qemu")
	put(t, wrong, fwcfg, config(strings.Replace(identity, "v1.36|", "v1.30|", 1)))
	tests := []struct {
		name string
		args []string
		code int
		// out and err are parts of the outputs.
		out, err string
	}{
		{"version", []string{"version"}, 0, "firstboot ", ""},
		{"help", []string{"run", "--help"}, 0, "--dry-run", ""},
		{"unknown verb", []string{"dance"}, 2, "", `unknown command "dance"`},
		{"unknown flag", []string{"run", "--fast"}, 2, "", "unknown flag: --fast"},
		{"too many arguments", []string{"status", "now"}, 2, "", "now"},
		{"dry run", []string{"run", "--dry-run", "--root", good}, 0, "kubeadm-init", ""},
		{"status before all", []string{"status", "--root", good}, 0, "first boot: pending", ""},
		{"other release", []string{"run", "--root", wrong}, 78, "QEMU fw_cfg opt/com.coreos/config: release: is v1.30, but this image carries v1.36", ""},
		{"no platform", []string{"run", "--dry-run", "--root", node(t, "quiet")}, 78, "", "kiln.platform: is missing; want aws, azure"},
		{"no image", []string{"run", "--dry-run", "--root", t.TempDir()}, 78, "", "boot an image that kiln built"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			code, stdout, stderr := call(t, tt.args...)
			if code != tt.code || !strings.Contains(stdout, tt.out) || !strings.Contains(stderr, tt.err) {
				t.Errorf("have %d, want %d\n%s\n%s", code, tt.code, stdout, stderr)
			}
			if strings.Contains(stdout+stderr, "0123456789abcdef") {
				t.Errorf("shows the token:\n%s\n%s", stdout, stderr)
			}
		})
	}
}

func TestStatusAsJSON(t *testing.T) {
	root := node(t, "")
	put(t, root, "/var/lib/kiln/firstboot/journal", `{"time":"2026-11-21T09:00:00Z","bootID":"b1","step":"identity","state":"began"}
{"time":"2026-11-21T09:00:01Z","bootID":"b1","step":"identity","state":"failed","seconds":0.5,"error":"why"}
`)
	code, stdout, _ := call(t, "status", "--json", "--root", root)
	var status bootstrap.Status
	if err := json.Unmarshal([]byte(stdout), &status); code != 0 || err != nil {
		t.Fatalf("have %d, %v:\n%s", code, err, stdout)
	}
	if status.State != "failed" || status.BootID != "b1" || status.Version != "v1.36.3-4f1c2ab0" || len(status.Steps) != 1 || status.Steps[0].Error != "why" {
		t.Errorf("have %+v", status)
	}
}

func TestExitCodeOfWorkThatMayBeTriedAgain(t *testing.T) {
	if code := exitCode(work(errors.New("x")), &bytes.Buffer{}); code != 1 {
		t.Errorf("have %d", code)
	}
}

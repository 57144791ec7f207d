//go:build machine

package vm_test

import (
	"encoding/json"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/kiln-os/kiln/builder/vm"
)

// object is a JSON object.
type object = map[string]any

// withIgnition makes an Ignition config of an identity's, and of what the user wants besides.
func withIgnition(t *testing.T, identity string, add object) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(identity, "config.ign"))
	must(t, err)
	var config object
	must(t, json.Unmarshal(text, &config))
	for section, fields := range add {
		have, _ := config[section].(object)
		if have == nil {
			have = object{}
			config[section] = have
		}
		for name, value := range fields.(object) {
			list, _ := have[name].([]any)
			have[name] = append(list, value.([]any)...)
		}
	}
	text, err = json.Marshal(config)
	must(t, err)
	path := filepath.Join(t.TempDir(), "config.ign")
	must(t, os.WriteFile(path, text, 0o600))
	return path
}

// dataURL is contents of a file in a config.
func dataURL(text string) object { return object{"source": "data:," + url.PathEscape(text)} }

// proof is a unit that says on the console what has become of the config: one line for each command, "proof NAME: ITS OUTPUT".
func proof(after string, commands map[string]string) object {
	script := ""
	for name, command := range commands {
		// A percent sign means something to systemd.
		script += "ExecStart=/usr/bin/sh -c 'echo proof " + name + ": $$(" + strings.ReplaceAll(command, "%", "%%") + " 2>&1)'\n"
	}
	return object{"name": "kiln-proof.service", "enabled": true, "contents": `[Unit]
Description=Say what has become of the config
` + after + `
[Service]
Type=oneshot
` + script + `StandardOutput=journal+console
[Install]
WantedBy=multi-user.target
`}
}

// plain is what a config asks for that needs no disk, and the lines that prove it.
func plain() (add object, commands, want map[string]string) {
	add = object{
		"storage": object{
			"files": []any{
				object{"path": "/etc/kiln-test/file", "mode": 0o640, "contents": dataURL("of the user")},
				object{"path": "/etc/hosts", "append": []any{dataURL("192.0.2.7 seven\n")}},
			},
			"directories": []any{object{"path": "/var/lib/kiln-test", "mode": 0o750}},
			"links":       []any{object{"path": "/etc/kiln-test/link", "target": "/etc/kiln-test/file"}},
		},
		"passwd": object{"users": []any{object{"name": "ops", "sshAuthorizedKeys": []any{"ssh-ed25519 AAAAC3 ops"}}}},
		"systemd": object{"units": []any{
			object{"name": "containerd.service", "dropins": []any{object{"name": "10-test.conf", "contents": "[Service]\nEnvironment=KILN_TEST=dropped-in\n"}}},
			object{"name": "systemd-timesyncd.service", "enabled": false},
		}},
	}
	commands = map[string]string{
		"file": "stat -c %a /etc/kiln-test/file; cat /etc/kiln-test/link", "directory": "stat -c %a /var/lib/kiln-test",
		"append": "grep -c seven /etc/hosts", "user": "id -un ops; cat /home/ops/.ssh/authorized_keys",
		"dropin": "systemctl show -p Environment containerd.service", "disabled": "systemctl is-active systemd-timesyncd.service",
	}
	want = map[string]string{
		"file": "640 of the user", "directory": "750", "append": "1", "user": "ops ssh-ed25519 AAAAC3 ops",
		"dropin": "Environment=KILN_TEST=dropped-in", "disabled": "inactive",
	}
	return add, commands, want
}

// proves waits for each line. They may have come before what was waited for last, and in any order.
func proves(t *testing.T, m *vm.Running, want map[string]string) {
	t.Helper()
	line := regexp.MustCompile(`\]: proof (\w+): (.*?)\s*$`)
	got := map[string]string{}
	for deadline := time.Now().Add(serviceTime); len(got) < len(want) && time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
		for _, l := range m.Console().Lines() {
			if match := line.FindStringSubmatch(l.Text); match != nil && want[match[1]] != "" {
				got[match[1]] = match[2]
			}
		}
	}
	if !maps.Equal(got, want) {
		t.Errorf("within %s the console proves %q, want %q", serviceTime, got, want)
	}
}

// addUnit adds a unit to a config.
func addUnit(add object, unit object) {
	systemd := add["systemd"].(object)
	systemd["units"] = append(systemd["units"].([]any), unit)
}

// TestIgnitionFromPartition: the config lies on a filesystem labelled KILN and asks for more than an identity. All of it is
// there on the first boot, and firstboot takes the identity from it. The boot is not awaited further.
func TestIgnitionFromPartition(t *testing.T) {
	w := newWorld(t)
	add, commands, want := plain()
	addUnit(add, proof("After=containerd.service", commands))
	config := withIgnition(t, w.identity(t, 6443), add)
	disk := w.filesystem(t, "KILN", map[string]string{"config.ign": config})
	m := w.boot(t, vm.Options{Dir: w.place(t, "ignition"), ExtraDisks: []string{disk}})
	defer m.Kill()
	expect(t, m, "the identity", `^identity: node-1, control-plane, from partition labelled KILN`, serviceTime)
	proves(t, m, want)
	for _, line := range m.Console().Lines() {
		if strings.Contains(line.Text, "BEGIN") && strings.Contains(line.Text, "KEY") {
			t.Errorf("the console shows a key: %s", line.Text)
		}
	}
}

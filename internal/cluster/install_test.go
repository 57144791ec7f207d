package cluster_test

import (
	"strings"
	"testing"

	"github.com/kiln-os/kiln/internal/cluster"
)

func TestInstall(t *testing.T) {
	const identity = `apiVersion: kiln/v1alpha1
kind: Identity
release: v1.36
node: {name: cp1, role: control-plane, initialise: true, address: 10.0.2.15}
cluster: {name: demo, endpoint: "10.0.2.15:6443"}
bootstrap: {token: abcdef.0123456789abcdef}
install: `
	for text, want := range map[string]string{
		`{disk: "serial:S3Z8NB0K"}`: "",
		`{disk: "path:/dev/sda, size:>=100GiB", wipe: 2026-01-31, boot: kexec}`: "",
		`{disk: "wwn:0x5000c500a1b2c3d4", wipe: ticket-17, boot: poweroff}`:     "",
		`{disk: "model:SAMSUNG*,size:<2TiB", boot: reboot}`:                     "",
		`{}`:                                 "id.yaml: install.disk: missing; want path:/dev/NAME",
		`{disk: /dev/sda}`:                   `id.yaml: install.disk: "/dev/sda" is no condition for a disk`,
		`{disk: "serial:"}`:                  `id.yaml: install.disk: "serial:" is no condition`,
		`{disk: "size:large"}`:               `id.yaml: install.disk: "size:large" is no condition`,
		`{disk: "serial:a,first"}`:           `id.yaml: install.disk: "first" is no condition`,
		`{disk: "serial:a", wipe: "a word"}`: `id.yaml: install.wipe: "a word" is not allowed`,
		`{disk: "serial:a", wipe: true}`:     "id.yaml: install.wipe: want text",
		`{disk: "serial:a", boot: halt}`:     `id.yaml: install.boot: unknown "halt"; want kexec, reboot or poweroff`,
		`{disk: "serial:a", first: true}`:    "id.yaml: install.first: unknown field",
	} {
		id, err := cluster.ParseIdentity("id.yaml", []byte(identity+text+"\n"))
		switch {
		case want == "" && (err != nil || id.Install == nil || id.Install.Disk == ""):
			t.Errorf("%s: %+v, %v", text, id.Install, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: error is %v; want %q", text, err, want)
		}
	}
}

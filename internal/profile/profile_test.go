package profile_test

import (
	"strings"
	"testing"

	"github.com/kiln-os/kiln/internal/document"
	"github.com/kiln-os/kiln/internal/profile"
)

const header = "apiVersion: kiln/v1alpha1\nkind: Profile\n"

func TestParseProblems(t *testing.T) {
	const named = header + "name: node\nrole: worker\n"
	rows := []struct {
		summary, text string
		want          []string
	}{
		{"nothing but the header", header, []string{"name: missing; want", "role: missing; want control-plane or worker"}},
		{"a bad name and role", header + "name: My Profile\nrole: master\n", []string{`name: unknown "My Profile"; want`, `role: unknown "master"; want control-plane or worker`}},
		{"fields are checked before values", header + "name: Node\nroles: worker\n", []string{"roles: unknown field; want one of apiVersion"}},
		{"packages", named + "packages: [chrony, Chrony, chrony=4.1]\n", []string{`packages[1]: "Chrony" is not the name`, `packages[2]: "chrony=4.1" is not the name`}},
		{"units", named + "units: {chrony: true, chrony.service: false, getty@.service: true, getty@tty1.service: true}\n", []string{
			"units.chrony: is not a unit's full name", "units.getty@.service: is not a unit's full name"}},
		{"files", named + `files:
  /etc/ok: x
  etc/relative: x
  /etc/../up: x
  /etc/dir/: x
  /top: x
  /var/lib/x: x
  /run/x: x
  /home/x: x
  /usr/lib/kiln/node.json: x
  /etc/ok/below: x
`, []string{
			"files./etc/../up: is not a plain absolute path", "files./etc/dir/: is not a plain absolute path",
			"files./etc/ok/below: lies below /etc/ok, which is a file too", "files./home/x: lies outside the image's tree",
			"files./run/x: lies below /run: it is empty", "files./top: is not a plain absolute path",
			"files./usr/lib/kiln/node.json: lies below /usr/lib/kiln", "files./var/lib/x: lies below /var: the state partition",
			"files.etc/relative: is not a plain absolute path"}},
		{"kubelet", named + "kubelet: {kind: X, clusterDNS: [10.0.0.1], rotateCertificates: false, imagePullCredentialsVerificationPolicy: AlwaysVerify, maxPods: 200}\n", []string{
			"kubelet.clusterDNS: is not to be set here: it follows from", "kubelet.imagePullCredentialsVerificationPolicy: would make",
			"kubelet.kind: is not to be set here", "kubelet.rotateCertificates: has to be true"}},
		{"labels", named + `labels:
  plain: ok
  example.org/rack: r1
  node.kubernetes.io/pool: a
  sub.node.kubernetes.io/x: ""
  topology.kubernetes.io/zone: z
  -bad: x
  a/b/c: x
  UPPER.org/x: x
  example.org/: x
  node-role.kubernetes.io/worker: ""
  node-restriction.kubernetes.io/x: here
  kiln.dev/version: "1"
  value: "with space"
`, []string{
			"labels.-bad: is not a label's name", "labels.UPPER.org/x: is not a label's name", "labels.a/b/c: is not a label's name",
			"labels.example.org/: is not a label's name", "labels.kiln.dev/version: belongs to kiln",
			"labels.node-restriction.kubernetes.io/x: is a label that a worker may not give itself",
			"labels.node-role.kubernetes.io/worker: is a role's label", `labels.value: has a value "with space"`}},
		{"taints", named + `taints:
- {key: example.org/gpu, effect: NoSchedule}
- {key: example.org/gpu, value: other, effect: NoSchedule}
- {key: example.org/gpu, effect: NoExecute}
- {key: "", value: "a b", effect: Never}
- {key: k}
`, []string{
			"taints[1]: has the key and effect of taints[0]", `taints[3].effect: unknown "Never"; want NoSchedule, PreferNoSchedule, NoExecute`,
			"taints[3].key: missing", `taints[3].value: "a b" is not`, "taints[4].effect: missing"}},
		{"patches", named + `patches:
  etcd.yaml: "{spec: {}}"
  kube-apiserver0+merge.yaml: "{spec: {}}"
  kube-scheduler-extra+json.json: "[]"
  kubeletconfiguration+strategic.yaml: "{maxPods: 3}"
  corednsdeployment.yaml: "{spec: {replicas: 1}}"
  kube-proxy.yaml: "{}"
  etcd.yml: "{}"
  etcd+.yaml: "{}"
  etcd+magic.yaml: "{}"
  etcd1+json.yaml: "{}"
  etcd2.yaml: "[]"
  etcd3.yaml: ""
  etcd4.yaml: "{"
  dir/etcd.yaml: "{}"
`, []string{
			"patches.dir/etcd.yaml: is not the name of a kubeadm patch", "patches.etcd+.yaml: is not the name", `patches.etcd+magic.yaml: has the unknown patch type "magic"`,
			"patches.etcd.yml: is not the name", "patches.etcd1+json.yaml: is not a JSON patch", "patches.etcd2.yaml: is not a patch", "patches.etcd3.yaml: is empty",
			"patches.etcd4.yaml: is not valid YAML", "patches.kube-proxy.yaml: is not the name of a kubeadm patch"}},
	}
	for _, row := range rows {
		t.Run(row.summary, func(t *testing.T) {
			_, err := profile.Parse("p.yaml", []byte(row.text))
			if !document.IsInvalid(err) {
				t.Fatalf("error is %v; want a problem of the document", err)
			}
			lines := strings.Split(err.Error(), "\n")
			if len(lines) != len(row.want) {
				t.Fatalf("%d problems, want %d:\n%s", len(lines), len(row.want), err)
			}
			for i, want := range row.want {
				if !strings.HasPrefix(lines[i], "p.yaml: "+want) {
					t.Errorf("problem %d\n is   %s\n want %s", i, lines[i], want)
				}
			}
		})
	}
}

func TestControlPlaneMayHaveRestrictedLabels(t *testing.T) {
	text := header + "name: node\nrole: control-plane\nlabels: {node-restriction.kubernetes.io/x: here}\n"
	p, err := profile.Parse("p.yaml", []byte(text))
	if err != nil || p.Labels["node-restriction.kubernetes.io/x"] != "here" {
		t.Errorf("profile is %+v, %v", p, err)
	}
}

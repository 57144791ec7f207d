package cluster

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/kiln-os/kiln/internal/document"
)

// joins makes the good identity one of a node of the role that joins, with the given lines below bootstrap.
func joins(t *testing.T, role, bootstrap string) string {
	t.Helper()
	return edit(t, good, change{"control-plane", role}, change{"  initialise: true\n", ""}) + bootstrap
}

func indent(text, by string) string {
	return by + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n"+by)
}

func TestWhoNeedsWhichSecrets(t *testing.T) {
	key := newECDSA(t)
	pair := func(name string) string {
		return "    " + name + ":\n      certificate: |\n" + indent(pemCertificate(t, key, true), "        ") + "\n      key: |\n" + indent(pemKey(t, key, false), "        ") + "\n"
	}
	certificate := "  authorities:\n    cluster:\n      certificate: |\n" + indent(pemCertificate(t, key, true), "        ") + "\n"
	account := "    serviceAccount:\n      public: |\n" + indent(pemPublic(t, key), "        ") + "\n      key: |\n" + indent(pemKey(t, key, false), "        ") + "\n"
	whole := "  authorities:\n" + pair("cluster") + pair("frontProxy") + pair("etcd") + account
	certificateKey := "  certificateKey: " + strings.Repeat("0a", 32) + "\n"
	for _, row := range []struct {
		summary, text string
		want          []string
	}{
		{"initialiser that makes its own", good, nil},
		{"initialiser with all", good + whole, nil},
		{"initialiser that uploads", good + whole + certificateKey, nil},
		{"initialiser with a certificate only", good + certificate, []string{"bootstrap.authorities.cluster.key: missing", "bootstrap.authorities.etcd.certificate: missing", "bootstrap.authorities.etcd.key",
			"bootstrap.authorities.frontProxy.certificate", "bootstrap.authorities.frontProxy.key", "bootstrap.authorities.serviceAccount.key", "bootstrap.authorities.serviceAccount.public"}},
		{"control plane, staged", joins(t, "control-plane", whole), nil},
		{"control plane, uploaded", joins(t, "control-plane", certificate+certificateKey), nil},
		{"control plane with nothing", joins(t, "control-plane", ""), []string{"bootstrap.authorities: missing; a control plane that joins wants all"}},
		{"control plane with a key only", joins(t, "control-plane", certificateKey), []string{"bootstrap.authorities: missing"}},
		{"control plane with a certificate only", joins(t, "control-plane", certificate), []string{"bootstrap.certificateKey: missing; a control plane that joins wants it"}},
		{"control plane with half", joins(t, "control-plane", "  authorities:\n"+pair("cluster")+pair("frontProxy")+account), []string{
			"bootstrap.authorities.etcd.certificate: missing", "bootstrap.authorities.etcd.key: missing"}},
		{"worker", joins(t, "worker", certificate), nil},
		{"worker with nothing", joins(t, "worker", ""), []string{"bootstrap.authorities.cluster.certificate: missing; want the certificate of the cluster's authority"}},
		{"worker with keys", joins(t, "worker", whole), []string{"bootstrap.authorities.cluster.key: a worker must not hold it", "bootstrap.authorities.etcd.key: a worker", "bootstrap.authorities.frontProxy.key: a worker",
			"bootstrap.authorities.serviceAccount.key: a worker"}},
		{"worker with a certificate key", joins(t, "worker", certificate+certificateKey), []string{"bootstrap.certificateKey: a worker must not hold it"}},
		{"planned control planes of a node that joins", edit(t, joins(t, "worker", certificate), change{"  name: demo", "  name: demo\n  controlPlanes: [{name: a, address: 10.0.0.1}]"}),
			[]string{"cluster.controlPlanes: is for the node that initialises"}},
		{"pool", edit(t, joins(t, "worker", certificate), change{"  name: cp1", "  pool: batch\n  subnet: 10.0.0.0/24"}, change{"  address: 10.0.0.11\n", ""}), nil},
		{"pool with a pattern", edit(t, joins(t, "worker", certificate), change{"  name: cp1", "  pool: batch\n  name: b-${serial}"}, change{"  address: 10.0.0.11\n", ""}), nil},
		{"member that knows itself", edit(t, joins(t, "worker", certificate), change{"  name: cp1", "  pool: batch\n  name: b-7"}), nil},
		{"pool that is wrong", edit(t, joins(t, "worker", certificate), change{"  name: cp1", "  pool: B\n  name: b-${x}\n  subnet: 10.96.0.0/24"}), []string{
			`node.name: "b-${x}" has an unknown variable`, `node.pool: "B" is not allowed`, "node.subnet: 10.96.0.0/24 overlaps cluster.serviceSubnet"}},
		{"dual-stack", edit(t, joins(t, "worker", certificate), change{"  name: demo", "  name: demo\n  podSubnet: '10.244.0.0/16,fd00:1::/56'\n  serviceSubnet: '10.96.0.0/12,fd00:2::/112'"},
			change{"  address: 10.0.0.11", "  address: 10.0.0.11\n  secondaryAddress: fd00::11"}), nil},
	} {
		t.Run(row.summary, func(t *testing.T) {
			_, err := ParseIdentity("id.yaml", []byte(row.text))
			if row.want != nil {
				wantProblems(t, err, "id.yaml", row.want)
			} else if err != nil {
				t.Errorf("error is %v", err)
			}
		})
	}
}

func TestOneBadLabelCostsAWarning(t *testing.T) {
	text := edit(t, good,
		change{"rack: r7", `rack: "r 7", example.org/count: 7, kiln.dev/x: "", fine: yes-it-is`},
		change{"taints: [", "taints: [{key: a, effect: Never}, {key: 7, effect: NoSchedule}, {key: kept, effect: NoSchedule}, "},
		change{"address: 10.0.0.11", "address: 10.0.0.11\n  zone: b\n  region: [x]"})
	if _, err := ParseIdentity("id.yaml", []byte(text)); !document.IsInvalid(err) {
		t.Fatalf("strictly: error is %v", err)
	}
	id, warnings, err := ParseIdentityOnNode("id.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"id.yaml: node.labels.example.org/count: want text", "id.yaml: node.region: want text", "id.yaml: node.taints[1].key: want text",
		"id.yaml: node.labels.example.org/rack: has a value", "id.yaml: node.labels.kiln.dev/x: labels below", "id.yaml: node.labels.topology.kubernetes.io/zone: says",
		"id.yaml: node.taints[0].effect: unknown",
	}
	if len(warnings) != len(want) {
		t.Fatalf("%d warnings; want %d:\n%s", len(warnings), len(want), strings.Join(warnings, "\n"))
	}
	for i := range want {
		if !strings.HasPrefix(warnings[i], want[i]) || !strings.HasSuffix(warnings[i], "; the node goes without it") {
			t.Errorf("warning is %s; want %s", warnings[i], want[i])
		}
	}
	labels := id.Node.AllLabels()
	if len(labels) != 3 || labels["fine"] != "yes-it-is" || labels["topology.kubernetes.io/zone"] != "b" {
		t.Errorf("labels are %v", labels)
	}
	taints := *id.Node.Taints
	if len(taints) != 2 || taints[0].Key != "kept" || taints[1].Key != "example.org/gpu" || id.Node.Region != "" {
		t.Errorf("taints are %v, region %q", taints, id.Node.Region)
	}
	if id.Bootstrap.Token.Reveal() != secretToken {
		t.Error("the token was lost")
	}
}

func TestOnANodeAllElseIsStrict(t *testing.T) {
	for _, row := range []struct {
		summary string
		change  change
		want    []string
	}{
		{"another field", change{"release: v1.36", "release: 7"}, []string{"release: want text"}},
		{"another field beside a label", change{"name: cp1", "name: CP1\n  zone: [x]"}, []string{`node.name: "CP1" is not allowed`}},
		{"an unknown field beside a label", change{"name: cp1", "nmae: cp1\n  zone: [x]"}, []string{"node.nmae: unknown field", "node.zone: want text"}},
	} {
		_, _, err := ParseIdentityOnNode("id.yaml", []byte(edit(t, good, row.change)))
		wantProblems(t, err, "id.yaml", row.want)
	}
	id, warnings, err := ParseIdentityOnNode("id.yaml", []byte(good))
	if err != nil || len(warnings) > 0 || id.Node.Labels["example.org/rack"] != "r7" {
		t.Errorf("a good identity: %v, %q, %v", id.Node, warnings, err)
	}
	if _, warnings, err := ParseIdentityOnNode("id.yaml", []byte(edit(t, good, change{"labels: {", "labels: [x]\n  #"}, change{"taints: [", "taints: x\n  #"}))); err != nil || len(warnings) != 2 {
		t.Errorf("labels and taints that are none: %q, %v", warnings, err)
	}
}

func TestScrubbedIdentity(t *testing.T) {
	key := newECDSA(t)
	id, err := ParseIdentity("id.yaml", []byte(good))
	if err != nil {
		t.Fatal(err)
	}
	certificate := pemCertificate(t, key, true)
	id.Bootstrap.CertificateKey = document.NewSecret(strings.Repeat("0a", 32))
	id.Bootstrap.Authorities = &Authorities{Cluster: KeyPair{Certificate: certificate, Key: document.NewSecret(pemKey(t, key, false))}, Etcd: KeyPair{Certificate: certificate}}
	scrubbed := id.Scrubbed()
	b := scrubbed.Bootstrap
	if !b.Token.IsZero() || !b.CertificateKey.IsZero() || *b.Authorities != (Authorities{Cluster: KeyPair{Certificate: certificate}}) {
		t.Errorf("what is left is %+v", b)
	}
	if id.Bootstrap.Token.IsZero() || id.Bootstrap.Authorities.Cluster.Key.IsZero() {
		t.Error("the whole identity was changed")
	}
	text, err := json.Marshal(scrubbed)
	if err != nil {
		t.Fatal(err)
	}
	back, err := ReadScrubbed(text)
	if err != nil || back.Node.Name != "cp1" || !back.Bootstrap.Token.IsZero() || back.Bootstrap.Authorities.Cluster.Certificate != certificate {
		t.Errorf("it came back as %+v, %v", back, err)
	}
	if whole, err := ReadScrubbed([]byte(good)); err != nil || whole.Bootstrap.Token.Reveal() != secretToken {
		t.Errorf("a whole identity: %v", err)
	}
	if _, err := ReadScrubbed([]byte(good[:200])); !document.IsInvalid(err) {
		t.Errorf("a piece of an identity: %v", err)
	}
	if none := (Identity{}).Scrubbed(); none.Bootstrap.Authorities != nil {
		t.Error("authorities appeared")
	}
}

func TestStatementIsSignedAndChecked(t *testing.T) {
	key, other := newECDSA(t), newECDSA(t)
	authority, err := ParseCertificate(pemCertificate(t, key, true))
	if err != nil {
		t.Fatal(err)
	}
	s := Statement{Cluster: "demo", Node: "w1", Role: "worker", Labels: map[string]string{"node-restriction.kubernetes.io/x": "here"}}
	text, err := s.Sign(key)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := s.Sign(key); err != nil || again != text {
		t.Errorf("signing again gives something else: %v", err)
	}
	if !registrationForm.MatchString(text) {
		t.Errorf("an identity would not take %s", text)
	}
	back, err := VerifyStatement(text, authority)
	if err != nil || back.Node != "w1" || back.Labels["node-restriction.kubernetes.io/x"] != "here" {
		t.Errorf("it came back as %+v, %v", back, err)
	}
	promoted, _ := Statement{Cluster: "demo", Node: "w1", Role: "control-plane"}.Sign(other)
	payload, _, _ := strings.Cut(promoted, ".")
	_, signature, _ := strings.Cut(text, ".")
	for summary, forged := range map[string]string{"another's key": promoted, "another's statement": payload + "." + signature, "no signature": payload, "junk": "a b.c", "nothing": ""} {
		if _, err := VerifyStatement(forged, authority); err == nil {
			t.Errorf("%s is taken", summary)
		}
	}
}

func TestEveryOwnedFlagHasAForm(t *testing.T) {
	for _, flags := range []map[string]string{ownedByAPIServer, ownedByControllerManager, ownedByScheduler, ownedByEtcd} {
		for name, why := range flags {
			if !flagForm.MatchString(name) || why == "" || slices.Contains([]string{".", ";"}, why[len(why)-1:]) {
				t.Errorf("%q: %q", name, why)
			}
		}
	}
}

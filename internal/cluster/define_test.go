package cluster

import (
	"strings"
	"testing"

	"github.com/kiln-os/kiln/internal/document"
)

const goodDefinition = `apiVersion: kiln/v1alpha1
kind: Cluster
name: demo
release: v1.36
endpoint: 10.0.0.10:6443
nodes:
  - {name: cp1, role: control-plane, initialise: true, address: 10.0.0.11, zone: a}
  - {name: cp2, role: control-plane, address: 10.0.0.12, match: {mac: 52-54-00-AB-00-12, uuid: 4C4C4544-0035-4A10-8051-B7C04F4D3132}}
  - {name: cp3, role: control-plane, address: 10.0.0.13, match: {serial: "7/SN 1", hostname: Rack7}}
  - {name: w1, role: worker, address: 10.0.0.21, labels: {node-restriction.kubernetes.io/x: here}, taints: []}
pools:
  - {name: batch, role: worker, nodeName: "batch-${serial}", subnet: 10.0.0.0/24}
  - {name: any, role: worker}
`

func TestGoodDefinition(t *testing.T) {
	d, warnings, err := ParseDefinition("cluster.yaml", []byte(goodDefinition))
	if err != nil || len(warnings) > 0 {
		t.Fatalf("error %v, warnings %q", err, warnings)
	}
	if d.PodSubnet != DefaultPodSubnet || d.ServiceSubnet != DefaultServiceSubnet || d.DNSDomain != DefaultDNSDomain ||
		d.Certificates != Staged || d.TokenTTL != DefaultTokenTTL || !*d.IsolateControlPlanes || d.Pools[1].NodeName != AnyName {
		t.Errorf("defaults are not filled in: %+v", d)
	}
	if m := d.Nodes[1].Match; m.MAC != "52:54:00:ab:00:12" || m.UUID != "4c4c4544-0035-4a10-8051-b7c04f4d3132" || d.Nodes[2].Match.Hostname != "rack7" {
		t.Errorf("matches are not normalised: %+v, %+v", m, d.Nodes[2].Match)
	}
	if planes := d.ControlPlanes(); len(planes) != 3 || planes[2].Name != "cp3" {
		t.Errorf("control planes are %v", planes)
	}
}

// change is one edit of a document: the first old becomes new.
type change struct{ old, new string }

func edit(t *testing.T, text string, changes ...change) string {
	t.Helper()
	for _, c := range changes {
		if !strings.Contains(text, c.old) {
			t.Fatalf("the document lacks %q", c.old)
		}
		text = strings.Replace(text, c.old, c.new, 1)
	}
	return text
}

// wantProblems compares the problems of an error with how each has to begin, in their order.
func wantProblems(t *testing.T, err error, file string, want []string) {
	t.Helper()
	if !document.IsInvalid(err) {
		t.Fatalf("error is %v; want problems of the document", err)
	}
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != len(want) {
		t.Fatalf("%d problems; want %d:\n%v", len(lines), len(want), err)
	}
	for i := range want {
		if !strings.HasPrefix(lines[i], file+": "+want[i]) {
			t.Errorf("problem %d\n is   %s\n want %s", i, lines[i], want[i])
		}
		if !strings.Contains(lines[i], "; ") && !strings.Contains(lines[i], "want ") && !strings.Contains(lines[i], ": it ") {
			t.Errorf("problem says not what to do: %s", lines[i])
		}
	}
}

func TestDefinitionProblems(t *testing.T) {
	top := func(line string) change { return change{"name: demo\n", "name: demo\n" + line + "\n"} }
	custom := func(text string) change { return top("customisation: " + text) }
	node := func(old, new string) change { return change{old, new} }
	tests := []struct {
		name    string
		changes []change
		want    []string
	}{
		{"no initialiser", []change{node("initialise: true, ", "")}, []string{"nodes: none initialises; set initialise: true on one control plane"}},
		{"two initialisers", []change{node("cp2, role: control-plane, ", "cp2, role: control-plane, initialise: true, ")},
			[]string{"nodes[1].initialise: cp1 initialises already"}},
		{"a worker initialises", []change{node("initialise: true, ", ""), node("w1, role: worker, ", "w1, role: worker, initialise: true, ")},
			[]string{"nodes[3].initialise: only a control-plane node"}},
		{"no nodes", []change{{goodDefinition[strings.Index(goodDefinition, "nodes:"):], "nodes: []\n"}}, []string{"nodes: none initialises"}},
		{"role", []change{node("w1, role: worker", "w1, role: node")}, []string{`nodes[3].role: unknown "node"; want control-plane or worker`}},
		{"no role", []change{node("w1, role: worker, ", "w1, ")}, []string{"nodes[3].role: missing"}},

		{"name twice", []change{node("name: cp2", "name: cp1")}, []string{"nodes[1].name: cp1 is nodes[0].name already; no two nodes can have the same name"}},
		{"address twice", []change{node("10.0.0.12", "10.0.0.11")}, []string{"nodes[1].address: 10.0.0.11 is nodes[0].address already"}},
		{"MAC twice", []change{node("{serial: ", "{mac: 525400ab0012, serial: ")}, []string{"nodes[2].match.mac: 52:54:00:ab:00:12 is nodes[1].match.mac already"}},
		{"UUID twice", []change{node("{serial: ", "{uuid: 4c4c454400354a108051b7c04f4d3132, serial: ")}, []string{"nodes[2].match.uuid: 4c4c4544-0035-4a10-8051-b7c04f4d3132 is nodes[1]"}},
		{"serial twice", []change{node("{mac: ", "{serial: 7/SN 1, mac: ")}, []string{"nodes[2].match.serial: 7/SN 1 is nodes[1].match.serial already"}},
		{"hostname twice", []change{node("{mac: ", "{hostname: rack7, mac: ")}, []string{"nodes[2].match.hostname: rack7 is nodes[1]"}},
		{"pool twice", []change{node("name: any", "name: batch")}, []string{"pools[1].name: batch is pools[0].name already"}},

		{"subnets overlap", []change{top("podSubnet: 10.96.0.0/16")}, []string{"serviceSubnet: 10.96.0.0/12 overlaps podSubnet 10.96.0.0/16"}},
		{"node among pods", []change{node("10.0.0.12", "10.244.7.1")}, []string{"nodes[1].address: 10.244.7.1 lies in podSubnet 10.244.0.0/16"}},
		{"node among services", []change{node("10.0.0.12", "10.96.0.12")}, []string{"nodes[1].address: 10.96.0.12 lies in serviceSubnet"}},
		{"endpoint among services", []change{node("10.0.0.10:", "10.96.0.10:")}, []string{"endpoint: 10.96.0.10 lies in serviceSubnet"}},
		{"pool among pods", []change{node("subnet: 10.0.0.0/24", "subnet: 10.244.9.0/24")}, []string{"pools[0].subnet: 10.244.9.0/24 overlaps podSubnet"}},
		{"pool of another family", []change{node("subnet: 10.0.0.0/24", "subnet: 'fd00::/64'")}, []string{"pools[0].subnet: fd00:: and serviceSubnet"}},
		{"pool with host bits", []change{node("subnet: 10.0.0.0/24", "subnet: 10.0.0.1/24")}, []string{"pools[0].subnet: 10.0.0.1/24 has host bits set; want 10.0.0.0/24"}},
		{"three subnets", []change{top("podSubnet: '10.244.0.0/16,fd00:1::/56,fd00:2::/56'")}, []string{"podSubnet: 10.244.0.0/16,fd00:1::/56,fd00:2::/56 is not one of each"}},
		{"two of one family", []change{top("podSubnet: '10.244.0.0/16,10.245.0.0/16'")}, []string{"podSubnet: 10.244.0.0/16,10.245.0.0/16 is not one of each"}},
		{"half dual-stack", []change{top("podSubnet: '10.244.0.0/16,fd00:1::/56'")}, []string{"serviceSubnet: 10.96.0.0/12 and podSubnet 10.244.0.0/16,fd00:1::/56 are not as many"}},
		{"dual-stack in two orders", []change{top("podSubnet: '10.244.0.0/16,fd00:1::/56'\nserviceSubnet: 'fd00:2::/112,10.96.0.0/12'"),
			{goodDefinition[strings.Index(goodDefinition, "  - {name: cp2"):], ""}},
			[]string{"nodes[0].address: 10.0.0.11 and serviceSubnet fd00:2::/112 are of different", "serviceSubnet: fd00:2::/112 and podSubnet 10.244.0.0/16 are of different"}},
		{"secondary address without dual-stack", []change{node("10.0.0.21", "10.0.0.21, secondaryAddress: 'fd00::21'")},
			[]string{"nodes[3].secondaryAddress: is set, but the cluster is not dual-stack"}},
		{"secondary address of the same family", []change{node("10.0.0.21", "10.0.0.21, secondaryAddress: 10.0.1.21")},
			[]string{"nodes[3].secondaryAddress: 10.0.1.21 is of the same address family"}},
		{"mapped address", []change{node("10.0.0.21", "'::ffff:10.0.0.21'")}, []string{"nodes[3].address: ::ffff:10.0.0.21 is an IPv4 address in the clothes of IPv6; write 10.0.0.21"}},

		{"endpoint is a node's name", []change{node("10.0.0.10:", "cp2:")}, []string{"endpoint: cp2 is a node's own name"}},
		{"endpoint is a worker", []change{node("10.0.0.10:", "10.0.0.21:")}, []string{"endpoint: 10.0.0.21 is the address of worker w1"}},
		{"endpoint is a control plane's other port", []change{node("10.0.0.10:6443", "10.0.0.11:443")},
			[]string{"endpoint: 10.0.0.11:443 is the address of cp1, whose API server listens on 6443"}},

		{"MAC", []change{node("52-54-00-AB-00-12", "52-54-00-AB-00")}, []string{`nodes[1].match.mac: "52:54:00:ab:00" is not a hardware address`}},
		{"group MAC", []change{node("52-54-00-AB-00-12", "01:00:5e:00:00:01")}, []string{"nodes[1].match.mac: 01:00:5e:00:00:01 is no machine's own"}},
		{"UUID", []change{node("4C4C4544-", "4C4C-")}, []string{"nodes[1].match.uuid: "}},
		{"UUID that is none", []change{node("4C4C4544-0035-4A10-8051-B7C04F4D3132", "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF")}, []string{"nodes[1].match.uuid: ffffffff-ffff"}},
		{"serial", []change{node("7/SN 1", " 7")}, []string{`nodes[2].match.serial: " 7" is not a serial number`}},
		{"hidden serial", []change{node("7/SN 1", "..")}, []string{`nodes[2].match.serial: ".." is not a serial number`}},
		{"hostname", []change{node("Rack7", "rack_7")}, []string{`nodes[2].match.hostname: "rack_7" is not a host name`}},
		{"empty match", []change{node(`{serial: "7/SN 1", hostname: Rack7}`, "{}")}, []string{"nodes[2].match: is empty"}},

		{"label", []change{node("labels: {", "labels: {a b: c, ")}, []string{"nodes[3].labels.a b: is not a label's name"}},
		{"label that is a number", []change{node("labels: {", "labels: {a: 1, ")}, []string{"nodes[3].labels.a: want text (put quotes around it)"}},
		{"role label", []change{node("labels: {", "labels: {node-role.kubernetes.io/x: '', ")}, []string{"nodes[3].labels.node-role.kubernetes.io/x: role labels are not set by hand"}},
		{"kubelet's label", []change{node("labels: {", "labels: {kubernetes.io/hostname: x, ")}, []string{"nodes[3].labels.kubernetes.io/hostname: the kubelet sets it itself"}},
		{"two zones", []change{node("zone: a", "zone: a, labels: {topology.kubernetes.io/zone: b}")}, []string{`nodes[0].labels.topology.kubernetes.io/zone: says "b", but zone says "a"`}},
		{"zone", []change{node("zone: a", "zone: a b")}, []string{`nodes[0].zone: "a b" is not a label's value`}},
		{"taint", []change{node("taints: []", "taints: [{key: x, effect: Never}]")}, []string{`nodes[3].taints[0].effect: unknown "Never"`}},
		{"provider ID", []change{node("taints: []", "providerID: a b")}, []string{"nodes[3].providerID: holds a space"}},
		{"node's kubelet", []change{node("taints: []", "kubelet: {clusterDNS: [10.96.0.10], registerNode: false}")},
			[]string{"nodes[3].kubelet.clusterDNS: is not to be set here: it follows", "nodes[3].kubelet.registerNode: has to be true"}},

		{"control planes in a pool", []change{node("any, role: worker", "any, role: control-plane")}, []string{"pools[1].role: control planes have to be known one by one"}},
		{"pool without a role", []change{node("any, role: worker", "any")}, []string{"pools[1].role: missing"}},
		{"one name for a pool", []change{node("batch-${serial}", "batch")}, []string{`pools[0].nodeName: "batch" gives all members one name`}},
		{"unknown variable", []change{node("batch-${serial}", "batch-${number}")}, []string{`pools[0].nodeName: "batch-${number}" has an unknown variable`}},
		{"pattern that makes no name", []change{node("batch-${serial}", "Batch_${serial}")}, []string{`pools[0].nodeName: "Batch_${serial}" does not make a node's name`}},

		{"certificates", []change{top("certificates: copied")}, []string{`certificates: unknown "copied"; want staged or uploaded`}},
		{"TTL", []change{top("tokenTTL: 1d")}, []string{`tokenTTL: "1d" is not a length of time`}},
		{"negative TTL", []change{top("tokenTTL: -1h")}, []string{`tokenTTL: "-1h" is not a length of time`}},
		{"unknown field", []change{top("endpiont: x:1")}, []string{"endpiont: unknown field"}},

		{"unknown target", []change{custom("{kubeApiServer: {}}")}, []string{"customisation.kubeApiServer: unknown field; want one of apiServer"}},
		{"unknown patch", []change{custom("{patches: {kube-proxy.yaml: '{}'}}")}, []string{"customisation.patches.kube-proxy.yaml: is not the name of a kubeadm patch"}},
		{"patch that is a list", []change{custom("{patches: {etcd+merge.yaml: '[]'}}")}, []string{"customisation.patches.etcd+merge.yaml: is not a patch; want a mapping"}},
		{"patch that is a mapping", []change{custom("{patches: {etcd+json.yaml: '{}'}}")}, []string{"customisation.patches.etcd+json.yaml: is not a JSON patch"}},
		{"patch in pieces", []change{custom("{patches: {etcd.yaml: '{spec: ['}}")}, []string{"customisation.patches.etcd.yaml: is not valid YAML"}},
		{"JSON patch", []change{custom(`{patches: {etcd+json.yaml: '[{op: put, path: /a}, {op: add, path: a, value: 1}, {op: replace, path: /a}, {op: move, path: /a}, {path: /a~2}, 7, {op: remove, path: /a, vlaue: 1}]'}}`)},
			[]string{`customisation.patches.etcd+json.yaml[0].op: unknown "put"`, `customisation.patches.etcd+json.yaml[1].path: "a" does not begin with /`,
				"customisation.patches.etcd+json.yaml[2].value: missing; replace needs one", "customisation.patches.etcd+json.yaml[3].from: missing; want a JSON pointer",
				"customisation.patches.etcd+json.yaml[4].op: missing", `customisation.patches.etcd+json.yaml[4].path: "/a~2" has a ~`,
				"customisation.patches.etcd+json.yaml[5]: is not an operation", "customisation.patches.etcd+json.yaml[6].vlaue: unknown field"}},
		{"strategic patch", []change{custom("{patches: {etcd.yaml: '{spec: {containers: [{name: etcd, $patch: drop}]}}', etcd1+merge.yaml: '{$patch: delete}'}}")},
			[]string{"customisation.patches.etcd.yaml.spec.containers[0].$patch: unknown \"drop\"", "customisation.patches.etcd1+merge.yaml.$patch: is a directive of strategic"}},
		{"second of two patches", []change{custom("{patches: {etcd.yaml: \"{spec: {}}\\n---\\n[]\\n\"}}")}, []string{"customisation.patches.etcd.yaml: is not a patch"}},

		{"argument without a name", []change{custom("{apiServer: {extraArgs: [{value: x}]}}")}, []string{"customisation.apiServer.extraArgs[0].name: missing"}},
		{"argument with dashes", []change{custom("{scheduler: {extraArgs: [{name: --v, value: '2'}]}}")}, []string{`customisation.scheduler.extraArgs[0].name: "--v" begins with a dash; want v`}},
		{"argument with =", []change{custom("{etcd: {extraArgs: [{name: a=b, value: ''}]}}")}, []string{`customisation.etcd.extraArgs[0].name: "a=b" holds an equals sign`}},
		{"argument with a space", []change{custom("{etcd: {extraArgs: [{name: a b, value: ''}]}}")}, []string{`customisation.etcd.extraArgs[0].name: "a b" is not a flag's name`}},
		{"same argument twice", []change{custom("{apiServer: {extraArgs: [{name: v, value: '2'}, {name: v, value: '2'}]}}")}, []string{"customisation.apiServer.extraArgs[1]: says the same"}},
		{"kiln's arguments", []change{custom("{apiServer: {extraArgs: [{name: advertise-address, value: x}]}, etcd: {extraArgs: [{name: data-dir, value: /x}]}, controllerManager: {extraArgs: [{name: cluster-cidr, value: x}]}, scheduler: {extraArgs: [{name: kubeconfig, value: x}]}}")},
			[]string{"customisation.apiServer.extraArgs[0].name: advertise-address is not to be set here: it is the node's own",
				"customisation.controllerManager.extraArgs[0].name: cluster-cidr is not", "customisation.etcd.extraArgs[0].name: data-dir is not", "customisation.scheduler.extraArgs[0].name: kubeconfig is not"}},
		{"arguments that lock out", []change{custom("{apiServer: {extraArgs: [{name: authorization-mode, value: RBAC}, {name: anonymous-auth, value: 'false'}, {name: enable-admission-plugins, value: PodSecurity}, {name: disable-admission-plugins, value: 'A,NodeRestriction'}]}, controllerManager: {extraArgs: [{name: controllers, value: '*'}]}}")},
			[]string{`customisation.apiServer.extraArgs[0].value: "RBAC" lacks Node`, `customisation.apiServer.extraArgs[1].value: "false" would keep out`,
				`customisation.apiServer.extraArgs[2].value: "PodSecurity" lacks NodeRestriction`, `customisation.apiServer.extraArgs[3].value: "A,NodeRestriction" drops NodeRestriction`,
				`customisation.controllerManager.extraArgs[0].value: "*" lacks bootstrapsigner`, `customisation.controllerManager.extraArgs[0].value: "*" lacks tokencleaner`}},
		{"kubelet and kube-proxy", []change{custom("{kubelet: {staticPodPath: /x, cgroupDriver: cgroupfs}, kubeProxy: {clusterCIDR: 10.0.0.0/8, mode: userspace}}")},
			[]string{"customisation.kubeProxy.clusterCIDR: is not to be set here: it follows", `customisation.kubeProxy.mode: unknown "userspace"; want nftables`,
				"customisation.kubelet.cgroupDriver: has to be systemd", "customisation.kubelet.staticPodPath: is not to be set here: kubeadm writes"}},
		{"repository", []change{custom("{imageRepository: 'https://registry.example.org/'}")}, []string{"customisation.imageRepository: \"https://registry.example.org/\" is not"}},
		{"preflight", []change{custom("{ignorePreflightErrors: [All, 'Num CPU', NumCPU]}")},
			[]string{"customisation.ignorePreflightErrors[0]: would hide", `customisation.ignorePreflightErrors[1]: "Num CPU" is not`}},
		{"all at once", []change{{goodDefinition[strings.Index(goodDefinition, "name: demo"):], "nodes: [{}]\n"}}, []string{
			"endpoint: missing", "name: missing", "nodes: none initialises", "nodes[0].address: missing", "nodes[0].name: missing", "nodes[0].role: missing", "release: missing"}},
		{"truncated", []change{{goodDefinition[strings.Index(goodDefinition, "{name: cp3"):], "{name: cp3, ro"}}, []string{"not valid YAML"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, _, err := ParseDefinition("cluster.yaml", []byte(edit(t, goodDefinition, tt.changes...)))
			if tt.name == "truncated" {
				if !document.IsInvalid(err) || !strings.Contains(err.Error(), "cluster.yaml: not valid YAML") {
					t.Fatalf("error is %v", err)
				}
				return
			}
			wantProblems(t, err, "cluster.yaml", tt.want)
		})
	}
}

func TestDefinitionWarnings(t *testing.T) {
	dual := change{"name: demo\n", "name: demo\npodSubnet: '10.244.0.0/16,fd00:1::/56'\nserviceSubnet: '10.96.0.0/12,fd00:2::/112'\n"}
	for _, row := range []struct {
		summary string
		changes []change
		want    []string
	}{
		{"even", []change{{"  - {name: cp3, role: control-plane", "  - {name: cp3, role: worker"}}, []string{"nodes: 2 control planes survive the loss of 0"}},
		{"endpoint is a control plane", []change{{"10.0.0.10:6443", "10.0.0.12:6443"}}, []string{"endpoint: 10.0.0.12 is the address of cp2 itself"}},
		{"dual-stack with one address", []change{dual, {"10.0.0.11", "10.0.0.11, secondaryAddress: 'fd00::11'"}}, []string{
			"nodes[1].secondaryAddress: missing", "nodes[2].secondaryAddress: missing", "nodes[3].secondaryAddress: missing"}},
		{"an argument given twice", []change{{"name: demo\n", "name: demo\ncustomisation: {apiServer: {extraArgs: [{name: service-account-issuer, value: a}, {name: service-account-issuer, value: b}]}}\n"}}, nil},
		{"one control plane is its own endpoint", []change{{goodDefinition[strings.Index(goodDefinition, "  - {name: cp2"):], ""}, {"10.0.0.10:", "10.0.0.11:"}}, nil},
	} {
		_, warnings, err := ParseDefinition("c.yaml", []byte(edit(t, goodDefinition, row.changes...)))
		if err != nil || len(warnings) != len(row.want) {
			t.Errorf("%s: warnings %q, error %v; want %q", row.summary, warnings, err, row.want)
			continue
		}
		for i, want := range row.want {
			if !strings.HasPrefix(warnings[i], "c.yaml: "+want) {
				t.Errorf("%s: warning is %s; want %s", row.summary, warnings[i], want)
			}
		}
	}
}

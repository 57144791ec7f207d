package kubeadm

import (
	"regexp"
	"strings"
	"testing"
)

// What kubeadm writes around an error.
const (
	noise = "[preflight] Running pre-flight checks\n\t[WARNING Hostname]: hostname \"w1\": lookup w1 on 10.0.0.53:53: no such host\n" +
		"W1121 12:00:00.000000     512 joinconfiguration.go:98] error unmarshaling configuration: strict decoding error: unknown field \"x\"\n" +
		`{"level":"warn","msg":"retrying of unary invoker failed","error":"rpc error: code = FailedPrecondition desc = etcdserver: too many learner members in cluster"}` + "\n"
	trace = "\nTo see the stack trace of this error execute with --v=5 or higher\n"
)

const (
	identityOf = "error execution phase preflight: couldn't validate the identity of the API Server: "
	configOf   = "error execution phase preflight: unable to fetch the kubeadm-config ConfigMap: failed to get config map: "
	etcdJoin   = "error execution phase etcd-join: error creating local etcd static pod manifest file: "
	info       = `failed to request the cluster-info ConfigMap: Get "https://api.example.org:6443/api/v1/namespaces/kube-public/configmaps/cluster-info?timeout=10s": `
	notSigned  = identityOf + `could not find a JWS signature in the cluster-info ConfigMap for token ID "abcdef"`
)

func TestClassify(t *testing.T) {
	tests := []struct {
		// words are the error alone, as kubeadm words it.
		words     string
		want      Kind
		permanent bool
		// says is a piece of the message.
		says string
	}{
		// Time's.
		{identityOf + info + "dial tcp 10.0.0.100:6443: connect: connection refused", NotReachable, false, "nobody listens at 10.0.0.100:6443 yet"},
		{identityOf + info + "dial tcp 10.0.0.100:6443: connect: no route to host", NotReachable, false, "no way to 10.0.0.100:6443"},
		{identityOf + info + "dial tcp 10.0.0.100:6443: i/o timeout", TimedOut, false, "10.0.0.100:6443 does not answer"},
		{identityOf + info + "dial tcp: lookup api.example.org on 10.0.0.53:53: no such host", NameUnresolved, false, "no name server knows api.example.org"},
		{identityOf + info + "dial tcp: lookup api.example.org on [fd00::53]:53: server misbehaving", NameUnresolved, false, "api.example.org"},
		{identityOf + info + "dial tcp: lookup api.example.org: Temporary failure in name resolution", NameUnresolved, false, "api.example.org"},
		{identityOf + info + "EOF", NotReachable, false, "cut or refused"},
		{identityOf + info + "read tcp 10.0.0.21:4711->10.0.0.100:6443: read: connection reset by peer", NotReachable, false, "cut or refused"},
		{identityOf + info + "net/http: TLS handshake timeout", TimedOut, false, "did not come in time"},
		{identityOf + info + "context deadline exceeded (Client.Timeout exceeded while awaiting headers)", TimedOut, false, "did not come in time"},
		{identityOf + `failed to request the cluster-info ConfigMap: configmaps "cluster-info" not found`, APINotReady, false, "no cluster-info yet"},
		{identityOf + `failed to request the cluster-info ConfigMap: configmaps "cluster-info" is forbidden: User "system:anonymous" cannot get resource "configmaps" in API group "" in the namespace "kube-public"`,
			APINotReady, false, "let system:anonymous join"},
		{identityOf + "failed to request the cluster-info ConfigMap: the server is currently unable to handle the request (get configmaps cluster-info)", APINotReady, false, "asked again"},
		{identityOf + `failed to request the cluster-info ConfigMap: an error on the server ("Internal Server Error: \"/api/v1\": etcdserver: request timed out") has prevented the request from succeeding (get configmaps cluster-info)`,
			EtcdUnhealthy, false, "etcd is not healthy"},
		{configOf + "the server has received too many requests and has asked us to try again later (get configmaps kubeadm-config)", APINotReady, false, "asked again"},
		{configOf + "Get \"https://api.example.org:6443/api/v1/namespaces/kube-system/configmaps/kubeadm-config?timeout=10s\": http2: client connection lost", NotReachable, false, "cut or refused"},
		{notSigned, TokenNotSigned, false, "does not show the token abcdef: it does not know it yet, or no longer"},
		{identityOf + info + "tls: failed to verify certificate: x509: certificate has expired or is not yet valid: current time 2019-01-01T00:00:09Z is before 2026-11-20T10:00:00Z", Clock, false, "not valid yet at 2019-01-01T00:00:09Z"},
		{identityOf + info + "tls: failed to verify certificate: x509: certificate has expired or is not yet valid: current time 2038-01-01T00:00:09Z is after 2036-11-20T10:00:00Z", Clock, false, "has expired at 2038-01-01T00:00:09Z"},
		{identityOf + info + `tls: failed to verify certificate: x509: certificate signed by unknown authority (possibly because of "x509: certificate has expired or is not yet valid: current time 2019-01-01T00:00:09Z is before 2026-11-20T10:00:00Z" while trying to verify candidate authority certificate "kubernetes")`,
			Clock, false, "set the clocks"},
		{etcdJoin + "etcdserver: too many learner members in cluster", EtcdBusy, false, "one at a time"},
		{etcdJoin + "etcdserver: can only promote a learner member which is in sync with leader", EtcdBusy, false, "not caught up"},
		{etcdJoin + "the etcd member 8e9e05c52164694d is not started", EtcdBusy, false, "2379 and 2380"},
		{etcdJoin + "etcdserver: leader changed", EtcdUnhealthy, false, "asked again"},
		{etcdJoin + "etcdserver: unhealthy cluster", EtcdUnhealthy, false, "asked again"},
		{etcdJoin + "etcdserver: re-configuration failed due to not enough started members", EtcdUnhealthy, false, "asked again"},
		{etcdJoin + "timeout waiting for etcd cluster to be available", EtcdUnhealthy, false, "asked again"},
		{etcdJoin + "could not retrieve the list of etcd endpoints: context deadline exceeded", EtcdUnhealthy, false, "asked again"},
		{etcdJoin + "context deadline exceeded", TimedOut, false, "in time"},
		{etcdJoin + "etcdserver: mvcc: database space exceeded", EtcdBroken, false, "etcd says: mvcc: database space exceeded"},
		{`error execution phase check-etcd: etcd cluster is not healthy: the status of member https://10.0.0.11:2379 is not available: context deadline exceeded`, EtcdUnhealthy, false, "asked again"},
		{"error execution phase check-etcd: error syncing endpoints with etcd: context deadline exceeded", EtcdUnhealthy, false, "asked again"},
		{`error execution phase control-plane-prepare/download-certs: error downloading certs: error downloading the secret: Secret "kubeadm-certs" was not found in the "kube-system" Namespace. This Secret might have expired. Please, run ` +
			"`kubeadm init phase upload-certs --upload-certs` on a control plane to generate a new one", CertificatesMissing, false, "uploads them again"},
		{`error execution phase control-plane-prepare/download-certs: error downloading certs: error downloading the secret: secrets "kubeadm-certs" is forbidden: User "system:bootstrap:abcdef" cannot get resource "secrets" in API group "" in the namespace "kube-system"`,
			CertificatesMissing, false, "uploads them again"},
		{`error execution phase kubelet-start: cannot get Node "w1": nodes "w1" is forbidden: User "system:bootstrap:abcdef" cannot get resource "nodes" in API group "" at the cluster scope`, APINotReady, false, "system:bootstrap:abcdef"},
		{"error execution phase kubelet-wait-bootstrap: failed while waiting for the kubelet to start: The HTTP call equal to 'curl -sSL http://127.0.0.1:10248/healthz' returned error: Get \"http://127.0.0.1:10248/healthz\": dial tcp 127.0.0.1:10248: connect: connection refused\n",
			KubeletUnhealthy, false, "journalctl -u kubelet"},
		{"error execution phase kubelet-wait-bootstrap: failed while waiting for TLS bootstrap: context deadline exceeded", KubeletNotBootstrapped, false, "certificate in time"},
		{`error execution phase wait-control-plane: failed while waiting for the control plane to start: kube-apiserver check failed at https://10.0.0.11:6443/livez: Get "https://10.0.0.11:6443/livez?timeout=10s": dial tcp 10.0.0.11:6443: connect: connection refused`,
			ControlPlaneUnhealthy, false, "kube-apiserver did not become healthy in time at https://10.0.0.11:6443/livez"},
		{`error execution phase wait-control-plane: failed while waiting for the control plane to start: [kube-scheduler check failed at https://127.0.0.1:10259/livez with status: 500, kube-controller-manager check failed at https://127.0.0.1:10257/healthz: EOF]`,
			ControlPlaneUnhealthy, false, "kube-scheduler did not become healthy in time at https://127.0.0.1:10259/livez;"},
		{"error execution phase mark-control-plane: error applying control-plane label and taints: Unauthorized", CertificateRefused, false, "set the clocks"},
		{"error execution phase upload-config/kubeadm: error uploading the kubeadm ClusterConfiguration: Unauthorized", CertificateRefused, false, "set the clocks"},
		{"error execution phase certs/apiserver: [certs] certificate apiserver not signed by CA certificate ca: x", Unknown, false, "[certs] certificate apiserver not signed"},
		{"error execution phase certs/apiserver: error creating PKI assets: failed to write or validate certificate \"apiserver\": certificate apiserver is invalid: x509: certificate is valid for 10.0.0.12, not 10.0.0.11", Leftovers, false, "certificate apiserver of an earlier run"},
		{`error execution phase kubeconfig/admin: a kubeconfig file "/etc/kubernetes/admin.conf" exists but does not contain a trusted CA in its current context's cluster`, Leftovers, false, "/etc/kubernetes/admin.conf of an earlier run"},

		// For people.
		{identityOf + `cluster CA found in cluster-info ConfigMap is invalid: none of the public keys "sha256:0011" are pinned`, AuthorityDiffers, true, "its certificate authority is sha256:0011;"},
		{identityOf + info + `tls: failed to verify certificate: x509: certificate signed by unknown authority (possibly because of "x509: ECDSA verification failure" while trying to verify candidate authority certificate "kubernetes")`, AuthorityDiffers, true, "pass TLS through"},
		{"error execution phase check-etcd: error syncing endpoints with etcd: rpc error: code = Unavailable desc = connection error: desc = \"transport: authentication handshake failed: tls: failed to verify certificate: x509: certificate signed by unknown authority\"",
			AuthorityDiffers, true, "bootstrap.authorities.etcd"},
		{identityOf + info + "tls: failed to verify certificate: x509: certificate is valid for 10.96.0.1, 10.0.0.11, not 10.0.0.100", EndpointNotNamed, true, "not valid for 10.0.0.100;"},
		{identityOf + info + "tls: failed to verify certificate: x509: certificate is valid for cp1, kubernetes, not api.example.org", EndpointNotNamed, true, "not valid for api.example.org;"},
		{identityOf + "failed to verify JWS signature of received cluster info object, can't trust this API Server", TokenInvalid, true, "kiln cluster token"},
		{identityOf + `token id "abcdef" is invalid for this cluster or it has expired. Use "kubeadm token create" on the control-plane node to create a new valid token`, TokenInvalid, true, "kiln cluster token"},
		{configOf + "Unauthorized", TokenInvalid, true, "kiln cluster token"},
		{`error execution phase kubelet-start: cannot get Node "w1": Unauthorized`, TokenInvalid, true, "kiln cluster token"},
		{"error execution phase control-plane-prepare/download-certs: error downloading certs: error downloading the secret: Unauthorized", TokenInvalid, true, "kiln cluster token"},
		{`error execution phase kubelet-start: a Node with name "w1" and status "Ready" already exists in the cluster. You must delete the existing Node or change the name of this new joining Node`, NameTaken, true, "a Node called w1 is Ready"},
		{"error execution phase control-plane-prepare/download-certs: error downloading certs: error decoding secret data with provided key: cipher: message authentication failed", CertificateKeyWrong, true, "certificate key"},
		{`controlPlane.certificateKey: Invalid value: "00ff": certificate key decoding error: x`, CertificateKeyWrong, true, "certificate key"},
		{"error execution phase preflight: unable to fetch the kubeadm-config ConfigMap: this version of kubeadm only supports deploying clusters with the control plane version >= 1.35.0. Current version: v1.34.1", VersionSkew, true, "the cluster is of v1.34.1, and this image supports 1.35.0"},
		{`error execution phase preflight: unable to fetch the kubeadm-config ConfigMap: failed to decode cluster configuration data: no kind "ClusterConfiguration" is registered for version "kubeadm.k8s.io/v1beta9" in scheme "x"`, VersionSkew, true, "does not understand"},
		{"error execution phase preflight: \nOne or more conditions for hosting a new control plane instance is not satisfied.\n\nunable to add a new control plane instance to a cluster that doesn't have a stable controlPlaneEndpoint address\n\nPlease ensure that:\n* The cluster has a stable controlPlaneEndpoint address.\n",
			ConfigRefused, true, "founded without an endpoint"},
		{"error execution phase preflight: \nOne or more conditions for hosting a new control plane instance is not satisfied.\n\nfailure loading key for service account: couldn't load the private key file /etc/kubernetes/pki/sa.key: open /etc/kubernetes/pki/sa.key: no such file or directory\n\nPlease ensure that:\n",
			AuthoritiesIncomplete, true, "/etc/kubernetes/pki/sa.key is missing or cannot be read"},
		{"error execution phase control-plane/apiserver: failed to patch static Pod manifest file for \"kube-apiserver\": could not apply the following patch of type \"application/json-patch+json\" to target \"kube-apiserver\":\n[{\"op\":\"remove\",\"path\":\"/nothing\",\"value\":\"connection refused\"}]\n: error in remove for path: '/nothing': Unable to remove nonexistent key: nothing: missing value",
			PatchRefused, true, "a patch of kube-apiserver does not apply"},
		{"error execution phase kubelet-start: error writing kubelet configuration to disk: could not apply patches to the KubeletConfiguration: could not list patch files for path \"/var/lib/kiln/firstboot/patches\": could not convert patch to JSON:\nspec: {nodeName: [}\n: yaml: did not find expected node content",
			PatchRefused, true, "neither YAML nor JSON"},
		{`[networking.podSubnet: Invalid value: "10.244.0.0/25": pod subnet size is too small, apiServer.extraArgs: Invalid value: "index 0": argument has no name]`, ConfigRefused, true, "kubeadm does not accept networking.podSubnet of its configuration"},
		{"couldn't parse Kubernetes version \"x\": could not parse \"x\" as version", ConfigRefused, true, "customisation"},
		{`error unmarshaling configuration schema.GroupVersionKind{Group:"kubeadm.k8s.io", Version:"v1beta4", Kind:"JoinConfiguration"}: strict decoding error: unknown field "colour"`, ConfigRefused, true, "the field colour"},
		{`error execution phase mark-control-plane: error applying control-plane label and taints: Node "cp2" is invalid: metadata.labels: Invalid value: "a b"`, ConfigRefused, true, "the Node cp2 because of metadata.labels;"},

		{"something that nobody has seen", Unknown, false, "something that nobody has seen"},
		{"", Unknown, false, "without saying why"},
	}
	for _, tt := range tests {
		for _, output := range []string{noise + "error: " + tt.words + trace, "error: " + tt.words + trace} {
			got := Classify(output)
			if got.Kind != tt.want || got.Permanent != tt.permanent || !strings.Contains(got.Message, tt.says) {
				t.Errorf("%s\nis %s, %v: %s\nwant %s, %v: …%s…", tt.words, got.Kind, got.Permanent, got.Message, tt.want, tt.permanent, tt.says)
			}
			if strings.Contains(got.Message, "${") || strings.Contains(got.Message, "  ") {
				t.Errorf("%s\nhas a message with a hole in it: %s", tt.words, got.Message)
			}
		}
	}
}

// Preflight's last words say nothing; the checks stand before them.
func TestClassifyChecks(t *testing.T) {
	const before, after = "[preflight] Some fatal errors occurred:\n", "[preflight] If you know what you are doing, you can make a check non-fatal with `--ignore-preflight-errors=...`\n" +
		"error: error execution phase preflight: preflight checks failed" + trace
	tests := []struct {
		name, checks string
		want         Kind
		permanent    bool
		says         string
	}{
		{"the machine", "\t[ERROR NumCPU]: the number of available CPUs 1 is less than the required 2\n\t[ERROR Port-10250]: Port 10250 is in use\n", ChecksFatal, true,
			"checks NumCPU, Port-10250 (the number of available CPUs 1 is less than the required 2; Port 10250 is in use); use another machine"},
		{"a port", "\t[ERROR Port-6443]: Port 6443 is in use\n", ChecksFailed, false, "Port-6443 (Port 6443 is in use)"},
		{"an earlier run", "\t[ERROR FileAvailable--etc-kubernetes-kubelet.conf]: /etc/kubernetes/kubelet.conf already exists\n", ChecksFailed, false, "made again"},
		{"containerd is slow", "\t[ERROR CRI]: could not connect to the container runtime: connection refused\n", ChecksFailed, false, "CRI (could not connect"},
		{"the version", "\t[ERROR KubeletVersion]: the kubelet version is higher than the control plane version. This is not a supported version skew. Kubelet version: \"1.36.3\" Control plane version: \"1.35.1\"\n",
			VersionSkew, true, "boot an image of the cluster's release"},
		{"no kubelet", "\t[ERROR KubeletVersion]: couldn't get kubelet version: cannot execute 'kubelet --version': executable file not found in $PATH\n", ChecksFatal, true, "does not meet"},
		{"warnings only", "\t[WARNING Mem]: little\n", ChecksFailed, false, "without saying which"},
	}
	for _, tt := range tests {
		got := Classify(noise + before + tt.checks + after)
		if got.Kind != tt.want || got.Permanent != tt.permanent || !strings.Contains(got.Message, tt.says) {
			t.Errorf("%s: have %+v, want %s, %v, %q", tt.name, got, tt.want, tt.permanent, tt.says)
		}
	}
}

func TestOnlyTheLastWordsCount(t *testing.T) {
	first := "error: " + notSigned + trace
	if got := Classify(first + "error: " + configOf + "Unauthorized" + trace); got.Kind != TokenInvalid {
		t.Errorf("have %+v", got)
	}
	if got := Classify("Unauthorized\n" + first); got.Kind != TokenNotSigned {
		t.Errorf("have %+v", got)
	}
}

// Every row is a regular expression, and none is without a way out for the reader.
func TestTable(t *testing.T) {
	for _, row := range failures() {
		pattern, err := regexp.Compile(row.pattern)
		if err != nil {
			t.Errorf("%s: %v", row.kind, err)
			continue
		}
		if pattern.MatchString("") || row.message == "" || row.kind == "" {
			t.Errorf("%s: %q fits everything, or says nothing", row.kind, row.pattern)
		}
		if row.permanent && !strings.Contains(row.message, ";") {
			t.Errorf("%s is permanent and does not say what to do: %s", row.kind, row.message)
		}
	}
}

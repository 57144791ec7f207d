package kubeadm

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kiln-os/kiln/internal/cluster"
	"github.com/kiln-os/kiln/internal/document"
	"github.com/kiln-os/kiln/internal/profile"
	"github.com/kiln-os/kiln/internal/release"
)

var update = flag.Bool("update", false, "rewrite the golden files, then fail")

// world is all that a configuration is rendered from.
type world struct {
	golden string
	// node, cluster and bootstrap are added to the identity's mappings.
	node, cluster, bootstrap string
	profile                  profile.Profile
	// joins renders the JoinConfiguration, with authorities of which the keys are there or not.
	joins, keys bool
}

const (
	founder = "name: cp1, role: control-plane, initialise: true, address: 10.0.0.11"
	second  = "name: cp2, role: control-plane, address: 10.0.0.12"
	worker  = "name: w1, role: worker, address: 10.0.0.21"
	key     = "certificateKey: 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	six     = "podSubnet: 'fd00:200::/56', serviceSubnet: 'fd00:100::/112', dnsDomain: example.internal"
	dual    = "podSubnet: '10.244.0.0/16,fd00:200::/56', serviceSubnet: '10.96.0.0/12,fd00:100::/112'"
	custom  = `certificateNames: [api.example.org, 192.0.2.7, "*.api.example.org"], customisation: {
  apiServer: {extraArgs: [{name: audit-log-maxage, value: "7"}, {name: service-account-issuer, value: "https://a"}, {name: service-account-issuer, value: "https://b"}]},
  controllerManager: {extraArgs: [{name: leader-elect-retry-period, value: 2s}]},
  scheduler: {extraArgs: [{name: v, value: "2"}]},
  etcd: {extraArgs: [{name: quota-backend-bytes, value: "8589934592"}]},
  kubelet: {maxPods: 200, evictionHard: {memory.available: 200Mi}},
  kubeProxy: {mode: iptables, conntrack: {maxPerCore: 0}},
  patches: {etcd+json.yaml: '[{"op": "add", "path": "/metadata/labels/a", "value": "b"}]', kubeletconfiguration.yaml: "maxPods: 201"},
  imageRepository: registry.example.org/kubernetes,
  ignorePreflightErrors: [NumCPU, Mem]}`
)

// tuned is a profile with everything that reaches a configuration.
func tuned() profile.Profile {
	return profile.Profile{
		Kubelet: map[string]any{"maxPods": 50, "shutdownGracePeriod": "30s", "cgroupDriver": "systemd"},
		Labels:  map[string]string{"example.org/disk": "nvme", "node-restriction.kubernetes.io/tier": "gold"},
		Taints:  []profile.Taint{{Key: "example.org/gpu", Value: "a100", Effect: "NoExecute"}},
		Patches: map[string]string{"etcd0+strategic.yaml": "{}"},
	}
}

func worlds() []world {
	place := ", zone: a, region: eu, labels: {example.org/rack: r7, node-restriction.kubernetes.io/pci: 'yes'}, providerID: 'aws:///eu-west-1a/i-0123'"
	return []world{
		{golden: "init-plain", node: founder},
		{golden: "init-tuned", node: founder + place + ", kubelet: {maxPods: 60}", profile: tuned()},
		{golden: "init-customised", node: founder, cluster: custom, profile: tuned()},
		{golden: "init-single-node", node: founder + ", taints: []", bootstrap: "tokenTTL: 0s"},
		{golden: "init-staged", node: founder, bootstrap: "tokenTTL: 90m", keys: true},
		{golden: "init-uploaded", node: founder, bootstrap: key, keys: true},
		{golden: "init-ipv6", node: "name: cp1, role: control-plane, initialise: true, address: 'fd00:10::11'", cluster: six},
		{golden: "init-dual-stack", node: founder + ", secondaryAddress: 'fd00:10::11'", cluster: dual},
		{golden: "join-control-plane-staged", node: second, joins: true, keys: true},
		{golden: "join-control-plane-staged-with-key", node: second, bootstrap: key, joins: true, keys: true},
		{golden: "join-control-plane-uploaded", node: second, bootstrap: key, joins: true},
		{golden: "join-control-plane-untainted", node: second + ", taints: []", joins: true, keys: true},
		{golden: "join-control-plane-tuned", node: second + place, cluster: custom, profile: tuned(), joins: true, keys: true},
		{golden: "join-worker", node: worker, joins: true},
		{golden: "join-worker-tuned", node: worker + place + ", kubelet: {maxPods: 60}", cluster: custom, profile: tuned(), joins: true},
		{golden: "join-worker-of-pool", node: worker + ", pool: workers", joins: true},
		{golden: "join-worker-ipv6", node: "name: w1, role: worker, address: 'fd00:10::21'", cluster: six, joins: true},
		{golden: "join-worker-dual-stack", node: worker + ", secondaryAddress: 'fd00:10::21'", cluster: dual, joins: true},
	}
}

// options parses the world's identity. The authorities are added afterwards: their keys never get into a configuration,
// so that none has to lie in the repository.
func (w world) options(t *testing.T) Options {
	t.Helper()
	text := fmt.Sprintf("apiVersion: kiln/v1alpha1\nkind: Identity\nrelease: v1.36\nnode: {%s}\n"+
		"cluster: {name: demo, endpoint: 'api.example.org:6443', %s}\nbootstrap: {token: abcdef.0123456789abcdef, %s}\n", w.node, w.cluster, w.bootstrap)
	var id cluster.Identity
	if err := document.Decode("identity.yaml", []byte(text), cluster.IdentityKind, &id); err != nil {
		t.Fatal(err)
	}
	for field, value := range map[*string]string{&id.Cluster.PodSubnet: cluster.DefaultPodSubnet, &id.Cluster.ServiceSubnet: cluster.DefaultServiceSubnet,
		&id.Cluster.DNSDomain: cluster.DefaultDNSDomain} {
		if *field == "" {
			*field = value
		}
	}
	if w.joins || w.keys {
		id.Bootstrap.Authorities = &cluster.Authorities{Cluster: cluster.KeyPair{Certificate: read(t, "testdata/ca.crt")}}
	}
	if w.keys {
		id.Bootstrap.Authorities.Cluster.Key = document.NewSecret("the cluster's key")
	}
	baked := release.Baked{Kubernetes: "v1.36.3", SandboxImage: "registry.k8s.io/pause:3.10.2", Profile: id.Node.Role, Release: "v1.36"}
	return Options{Baked: baked, Profile: w.profile, Identity: id}
}

func (w world) render(o Options) ([]byte, error) {
	if w.joins {
		return RenderJoin(o)
	}
	return RenderInit(o)
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestRender(t *testing.T) {
	known := map[string]bool{"ca.crt": true}
	for _, w := range worlds() {
		known[w.golden+".yaml"] = true
		t.Run(w.golden, func(t *testing.T) {
			got, err := w.render(w.options(t))
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join("testdata", w.golden+".yaml")
			if *update {
				if err := os.WriteFile(path, got, 0o644); err != nil {
					t.Fatal(err)
				}
				t.Fatal("rewrote the golden file; run again without -update")
			}
			if want := read(t, path); string(got) != want {
				t.Errorf("differs from %s (run with -update):\n%s", path, got)
			}
		})
	}
	files, err := os.ReadDir("testdata")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if !known[file.Name()] {
			t.Errorf("testdata/%s belongs to no test; remove it", file.Name())
		}
	}
}

func TestRedactedHidesTheSecretsAndChangesNothingElse(t *testing.T) {
	for _, w := range worlds() {
		o := w.options(t)
		plain, err := w.render(o)
		if err != nil {
			t.Fatal(err)
		}
		got, err := w.render(o.Redacted())
		if err != nil {
			t.Fatal(err)
		}
		want := strings.NewReplacer("abcdef.0123456789abcdef", "'[redacted]'", strings.TrimPrefix(key, "certificateKey: "), "'[redacted]'").Replace(string(plain))
		if string(got) != want || want == string(plain) {
			t.Errorf("%s: have:\n%s", w.golden, got)
		}
		if o.Identity.Bootstrap.Token.Reveal() != "abcdef.0123456789abcdef" {
			t.Errorf("%s: the original was changed", w.golden)
		}
	}
}

func TestWhatCannotBeRendered(t *testing.T) {
	fixed := map[string]any{"cgroupDriver": "cgroupfs", "rotateCertificates": false}
	tests := []struct {
		name   string
		w      world
		change func(*Options)
		want   []string
	}{
		{"profile against the image", world{node: founder, profile: profile.Profile{Kubelet: fixed}}, nil,
			[]string{"profile.json: kubelet.cgroupDriver: is cgroupfs, but the image needs systemd", "profile.json: kubelet.rotateCertificates: is false"}},
		{"node against the image", world{node: worker + ", kubelet: {staticPodPath: /x}", joins: true}, nil, []string{"identity.json: node.kubelet.staticPodPath: is /x"}},
		{"cluster against the image", world{node: founder, cluster: "customisation: {kubelet: {volumePluginDir: /x}}"}, nil, []string{"identity.json: cluster.customisation.kubelet.volumePluginDir: is /x"}},
		{"another kind", world{node: founder, cluster: "customisation: {kubeProxy: {kind: Other}}"}, nil, []string{"cluster.customisation.kubeProxy.kind: is Other, but the image needs KubeProxyConfiguration"}},
		{"a list where a word belongs", world{node: founder, cluster: "customisation: {kubelet: {cgroupDriver: [systemd]}}"}, nil, []string{"cluster.customisation.kubelet.cgroupDriver: is [systemd]"}},
		{"token's time", world{node: founder, bootstrap: "tokenTTL: a day"}, nil, []string{`bootstrap.tokenTTL: "a day" is not a length of time`}},
		{"no authority", world{node: worker, joins: true}, func(o *Options) { o.Identity.Bootstrap.Authorities = nil }, []string{"bootstrap.authorities.cluster.certificate: missing"}},
		{"broken authority", world{node: worker, joins: true}, func(o *Options) { o.Identity.Bootstrap.Authorities.Cluster.Certificate = "x" }, []string{"bootstrap.authorities.cluster.certificate: is not a certificate as PEM"}},
		{"neither keys nor certificate key", world{node: second, joins: true}, nil, []string{"bootstrap.certificateKey: missing"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := tt.w.options(t)
			if tt.change != nil {
				tt.change(&o)
			}
			_, err := tt.w.render(o)
			if !document.IsInvalid(err) {
				t.Fatalf("have %v", err)
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("message lacks %q:\n%v", want, err)
				}
			}
		})
	}
}

// The pin was computed with openssl: x509 -pubkey | pkey -pubin -outform der | sha256sum.
func TestCAHash(t *testing.T) {
	got, err := CAHash(read(t, "testdata/ca.crt"))
	if err != nil || got != "sha256:82f292634872fcf9a7d702883d0ec6aa3f42f4213066a85966853ac3d80062cb" {
		t.Errorf("have %s, %v", got, err)
	}
}

func TestTaints(t *testing.T) {
	own := []profile.Taint{{Key: "a", Effect: "NoSchedule"}}
	extra := []profile.Taint{{Key: "b", Effect: "NoSchedule"}}
	tests := []struct {
		name, role string
		own        *[]profile.Taint
		want       string
	}{
		{"control plane", profile.ControlPlane, nil, ControlPlaneTaint + " b"},
		{"worker", profile.Worker, nil, "b"},
		{"identity replaces", profile.ControlPlane, &own, "a"},
		{"identity empties", profile.ControlPlane, &[]profile.Taint{}, ""},
	}
	for _, tt := range tests {
		o := Options{Profile: profile.Profile{Taints: extra}}
		o.Identity.Node.Role, o.Identity.Node.Taints = tt.role, tt.own
		var keys []string
		for _, taint := range o.Taints() {
			keys = append(keys, taint.Key)
		}
		if got := strings.Join(keys, " "); got != tt.want {
			t.Errorf("%s: have %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestLabels(t *testing.T) {
	o := world{node: worker + ", pool: big, zone: a, region: eu, labels: {example.org/disk: hdd, node-restriction.kubernetes.io/pci: 'yes', x.k8s.io/y: z, empty: ''}",
		profile: tuned()}.options(t)
	own := "empty= example.org/disk=hdd kiln.dev/pool=big kiln.dev/profile=worker kiln.dev/release=v1.36 topology.kubernetes.io/region=eu topology.kubernetes.io/zone=a"
	if got := listed(o.OwnLabels()); got != own {
		t.Errorf("own labels are\n%s, want\n%s", got, own)
	}
	rest := o.Labels()
	maps.DeleteFunc(rest, func(key, _ string) bool { _, is := o.OwnLabels()[key]; return is })
	if got := listed(rest); got != "node-restriction.kubernetes.io/pci=yes node-restriction.kubernetes.io/tier=gold x.k8s.io/y=z" {
		t.Errorf("the others are %s", got)
	}
	if o.Profile.Labels["example.org/disk"] != "nvme" || len(o.Identity.Node.Labels) != 4 {
		t.Errorf("the documents were changed: %v, %v", o.Profile.Labels, o.Identity.Node.Labels)
	}
}

func listed(m map[string]string) string {
	var all []string
	for _, key := range slices.Sorted(maps.Keys(m)) {
		all = append(all, key+"="+m[key])
	}
	return strings.Join(all, " ")
}

func TestRequiredImages(t *testing.T) {
	mirror := "customisation: {imageRepository: registry.example.org/k8s}"
	tests := []struct{ node, cluster, kubernetes, want string }{
		{second, "", "v1.36.3", "registry.k8s.io/coredns/coredns:v1.14.2 registry.k8s.io/etcd:3.6.8-0 registry.k8s.io/kube-apiserver:v1.36.3 " +
			"registry.k8s.io/kube-controller-manager:v1.36.3 registry.k8s.io/kube-proxy:v1.36.3 registry.k8s.io/kube-scheduler:v1.36.3 registry.k8s.io/pause:3.10.2"},
		{worker, "", "v1.36.3", "registry.k8s.io/coredns/coredns:v1.14.2 registry.k8s.io/kube-proxy:v1.36.3 registry.k8s.io/pause:3.10.2"},
		{worker, mirror, "v1.36.3", "registry.example.org/k8s/coredns:v1.14.2 registry.example.org/k8s/kube-proxy:v1.36.3 registry.k8s.io/pause:3.10.2"},
		{worker, "", "v1.99.0+own", "registry.k8s.io/kube-proxy:v1.99.0_own registry.k8s.io/pause:3.10.2"},
	}
	for _, tt := range tests {
		o := world{node: tt.node, cluster: tt.cluster}.options(t)
		o.Baked.Kubernetes = tt.kubernetes
		if got := strings.Join(RequiredImages(o), " "); got != tt.want {
			t.Errorf("%s of %s: have\n%s, want\n%s", tt.node, tt.kubernetes, got, tt.want)
		}
	}
}

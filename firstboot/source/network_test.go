package source

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kiln-os/kiln/internal/command"
	"github.com/kiln-os/kiln/internal/document"
	"github.com/kiln-os/kiln/internal/nodefs"
)

// network stands for the network of a machine: servers by HOST:PORT. Nothing else can be reached.
type network map[string]*httptest.Server

func (n network) dial(ctx context.Context, kind, address string) (net.Conn, error) {
	server := n[address]
	if server == nil {
		return nil, fmt.Errorf("no route to %s", address)
	}
	return (&net.Dialer{}).DialContext(ctx, kind, server.Listener.Addr().String())
}

// metadataServer answers METHOD PATH with a text, and knows which requests came.
type metadataServer struct {
	answers map[string]string
	// header is what each GET has to carry, NAME: VALUE.
	header string
	// flavor is put into each answer.
	flavor string
	// early is how many requests are answered by it first.
	early  int
	status int

	mu   sync.Mutex
	seen []string
}

func (s *metadataServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := r.Method + " " + r.URL.RequestURI()
	s.seen = append(s.seen, key)
	if name, value, _ := strings.Cut(s.flavor, ": "); name != "" {
		w.Header().Set(name, value)
	}
	if s.early > 0 {
		s.early--
		w.WriteHeader(s.status)
		return
	}
	if name, value, _ := strings.Cut(s.header, ": "); r.Method == "GET" && name != "" && r.Header.Get(name) != value {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	text, ok := s.answers[key]
	if !ok {
		http.NotFound(w, r)
		return
	}
	fmt.Fprint(w, text)
}

func serve(t *testing.T, handler http.Handler) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server
}

func zipped(t *testing.T, text string) string {
	t.Helper()
	var buffer bytes.Buffer
	w := gzip.NewWriter(&buffer)
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buffer.String()
}

func base(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }

// facts is a machine that tells everything.
func facts() Facts {
	return Facts{Hostname: "rack1", MACs: []string{"52:54:00:00:00:01", "52:54:00:00:00:02"}, UUID: "4c4c4544", Serial: "AB 1/2"}
}

// message is user-data with parts of the given types.
func message(parts ...string) string {
	text := "Content-Type: multipart/mixed; boundary=\"XX\"\nMIME-Version: 1.0\n\n"
	for _, part := range parts {
		text += "--XX\nContent-Type: text/plain\n\n" + part + "\n"
	}
	return text + "--XX--\n"
}

const identity = "kind: Identity\nnode: {}\n"

// Each platform's service, as its documentation has it.
func TestMetadataServices(t *testing.T) {
	tests := []struct {
		name, platform string
		server         *metadataServer
		want           string
		wantMetadata   Metadata
	}{
		{name: "EC2, gzip", platform: "aws", want: identity,
			server: &metadataServer{header: "X-Aws-Ec2-Metadata-Token: TOKEN", answers: map[string]string{
				"PUT /latest/api/token":                              "TOKEN",
				"GET /2019-10-01/user-data":                          zipped(t, identity),
				"GET /2019-10-01/dynamic/instance-identity/document": `{"instanceId":"i-0abc","availabilityZone":"eu-west-1a","region":"eu-west-1","accountId":"1"}`,
				"GET /2019-10-01/meta-data/local-hostname":           "ip-10-0-0-7.eu-west-1.compute.internal",
			}},
			wantMetadata: Metadata{Hostname: "ip-10-0-0-7.eu-west-1.compute.internal", InstanceID: "i-0abc", Zone: "eu-west-1a", Region: "eu-west-1", ProviderID: "aws:///eu-west-1a/i-0abc"}},
		{name: "EC2, Ignition in a message", platform: "aws", want: "from-config",
			server: &metadataServer{answers: map[string]string{
				"PUT /latest/api/token":                              "TOKEN",
				"GET /2019-10-01/user-data":                          message(config),
				"GET /2019-10-01/dynamic/instance-identity/document": `{"instanceId":"i-1","availabilityZone":"us-gov-west-1b","region":"us-gov-west-1"}`,
			}},
			wantMetadata: Metadata{InstanceID: "i-1", Zone: "us-gov-west-1b", Region: "us-gov-west-1", ProviderID: "aws:///us-gov-west-1b/i-1"}},
		{name: "GCE", platform: "gcp", want: identity,
			server: &metadataServer{header: "Metadata-Flavor: Google", flavor: "Metadata-Flavor: Google", answers: map[string]string{
				"GET /computeMetadata/v1/instance/attributes/user-data":          base(zipped(t, identity)),
				"GET /computeMetadata/v1/instance/attributes/user-data-encoding": "base64",
				"GET /computeMetadata/v1/instance/id":                            "123",
				"GET /computeMetadata/v1/instance/name":                          "vm1",
				"GET /computeMetadata/v1/instance/hostname":                      "vm1.c.proj.internal",
				"GET /computeMetadata/v1/instance/zone":                          "projects/42/zones/europe-west1-b",
				"GET /computeMetadata/v1/project/project-id":                     "proj",
			}},
			wantMetadata: Metadata{Hostname: "vm1.c.proj.internal", InstanceID: "123", Zone: "europe-west1-b", Region: "europe-west1", ProviderID: "gce://proj/europe-west1-b/vm1"}},
		{name: "Azure", platform: "azure", want: identity,
			server: &metadataServer{header: "Metadata: true", answers: map[string]string{
				"GET /metadata/instance/compute/userData?api-version=2021-02-01&format=text": base(identity),
				"GET /metadata/instance/compute?api-version=2021-02-01&format=json": `{"name":"vm","location":"WestEurope","zone":"2","vmId":"02aa","osProfile":{"computerName":"Node1"},
					"resourceId":"/subscriptions/S/resourceGroups/MyGroup/providers/Microsoft.Compute/virtualMachines/vm"}`,
			}},
			wantMetadata: Metadata{Hostname: "node1", InstanceID: "02aa", Zone: "westeurope-2", Region: "westeurope",
				ProviderID: "azure:///subscriptions/S/resourceGroups/mygroup/providers/Microsoft.Compute/virtualMachines/vm"}},
		{name: "OpenStack", platform: "openstack", want: identity,
			server: &metadataServer{answers: map[string]string{
				"GET /openstack/latest/user_data":      zipped(t, identity),
				"GET /openstack/latest/meta_data.json": `{"uuid":"d8e0","hostname":"Vm.novalocal","availability_zone":"nova","keys":[]}`,
			}},
			wantMetadata: Metadata{Hostname: "vm.novalocal", InstanceID: "d8e0", Zone: "nova", ProviderID: "openstack:///d8e0"}},
		{name: "DigitalOcean", platform: "digitalocean", want: identity,
			server: &metadataServer{answers: map[string]string{
				"GET /metadata/v1/user-data": identity, "GET /metadata/v1/id": "2756294", "GET /metadata/v1/hostname": "do1", "GET /metadata/v1/region": "nyc3",
			}},
			wantMetadata: Metadata{Hostname: "do1", InstanceID: "2756294", Region: "nyc3", ProviderID: "digitalocean://2756294"}},
		{name: "Hetzner, gzip in base64", platform: "hetzner", want: identity,
			server: &metadataServer{answers: map[string]string{
				"GET /hetzner/v1/userdata": base(zipped(t, identity)), "GET /hetzner/v1/metadata/instance-id": "42", "GET /hetzner/v1/metadata/hostname": "h1",
				"GET /hetzner/v1/metadata/availability-zone": "fsn1-dc14",
			}},
			wantMetadata: Metadata{Hostname: "h1", InstanceID: "42", Zone: "fsn1-dc14", Region: "fsn1", ProviderID: "hcloud://42"}},
		{name: "refused at first", platform: "hetzner", want: identity,
			server: &metadataServer{early: 2, status: http.StatusForbidden, answers: map[string]string{"GET /hetzner/v1/userdata": identity}}},
		{name: "not there at first", platform: "hetzner", want: identity,
			server: &metadataServer{early: 1, status: http.StatusNotFound, answers: map[string]string{"GET /hetzner/v1/userdata": identity}}},
		{name: "out of order at first", platform: "hetzner", want: identity,
			server: &metadataServer{early: 1, status: http.StatusServiceUnavailable, answers: map[string]string{"GET /hetzner/v1/userdata": identity}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			server := tt.server
			reachable := network{serviceAddress + ":80": serve(t, server)}
			sources, err := ForPlatform(tt.platform, Machine{Root: nodefs.Root(t.TempDir()), Runner: &recorder{}, Facts: facts, Dial: reachable.dial})
			if err != nil {
				t.Fatal(err)
			}
			for i := range sources {
				sources[i].Appears = 0
			}
			found, err := Search{Sources: sources, Budget: time.Minute}.Find(t.Context())
			if err != nil || string(found.Text) != tt.want {
				t.Fatalf("have %q, %v\nasked: %q", found.Text, err, server.seen)
			}
			if found.Metadata != tt.wantMetadata {
				t.Errorf("have %+v\nwant %+v", found.Metadata, tt.wantMetadata)
			}
		})
	}
}

// Whoever can make a machine send a GET gets what version 1 of EC2's service answers.
func TestEC2NeedsToken(t *testing.T) {
	server := &metadataServer{answers: map[string]string{"GET /2019-10-01/user-data": identity}}
	m := Machine{Dial: network{serviceAddress + ":80": serve(t, server)}.dial}
	_, err := m.ec2().Find(t.Context())
	if _, early := errors.AsType[refused](err); !early {
		t.Errorf("have %v", err)
	}
	if len(server.seen) != 1 || server.seen[0] != "PUT /latest/api/token" {
		t.Errorf("asked %q", server.seen)
	}
}

func TestAnswerOfAnotherFlavorIsNotGoogles(t *testing.T) {
	m := Machine{Dial: network{serviceAddress + ":80": serve(t, &metadataServer{answers: map[string]string{"GET /computeMetadata/v1/instance/attributes/user-data": identity}})}.dial}
	if found, err := m.gce().Find(t.Context()); err == nil || !strings.Contains(err.Error(), "something else has answered") {
		t.Errorf("have %q, %v", found.Text, err)
	}
}

func TestEmptyUserDataIsNone(t *testing.T) {
	m := Machine{Dial: network{serviceAddress + ":80": serve(t, &metadataServer{answers: map[string]string{"GET /openstack/latest/user_data": ""}})}.dial}
	if _, err := m.openStack().Find(t.Context()); !errors.Is(err, ErrNothing) {
		t.Errorf("have %v", err)
	}
}

// No platform without a metadata service of its own asks at its address, and none does because of a URL.
func TestLinkLocalIsNeverAskedUnlessPlatformsOwn(t *testing.T) {
	asked := []string{}
	dial := func(_ context.Context, _, address string) (net.Conn, error) {
		asked = append(asked, address)
		return nil, errors.New("no route")
	}
	lines := []string{"", "kiln.identity=http://169.254.169.254/x", "kiln.identity=http://[fe80::1]/x", "kiln.identity=http://[fd00:ec2::254]/x",
		"kiln.identity=http://[::ffff:169.254.169.254]/x", "ds=nocloud;s=http://169.254.169.254/x/", "kiln.identity.dhcp=224"}
	offers := func(context.Context, DHCPOption) ([]Offer, error) {
		return []Offer{{Interface: "eth0", Packet: packet(t, 224, []byte("http://169.254.169.254/"))}}, nil
	}
	for _, platform := range []string{PlatformMetal, PlatformQEMU, PlatformVMware} {
		for _, line := range lines {
			root := t.TempDir()
			write(t, filepath.Join(root, "/proc/cmdline"), line)
			sources, err := ForPlatform(platform, Machine{Root: nodefs.Root(root), Runner: &recorder{}, Facts: facts, Dial: dial, Offers: offers})
			if err != nil {
				t.Fatal(err)
			}
			for i := range sources {
				sources[i].Appears = 0
			}
			_, err = Search{Sources: sources, Budget: time.Millisecond}.Find(t.Context())
			if err == nil || line != "" && !strings.Contains(err.Error(), "is link-local") {
				t.Errorf("%s %s: have %v", platform, line, err)
			}
		}
	}
	if len(asked) > 0 {
		t.Errorf("asked %q", asked)
	}
	// A name may stand for it, too: there the dialer looks at what it is going to connect to.
	if _, err := (Machine{}).dialer(beyondLink)(t.Context(), "tcp", "169.254.169.254:80"); err == nil || !strings.Contains(err.Error(), "is link-local") {
		t.Errorf("have %v", err)
	}
}

// tool stands for vmware-rpctool.
type tool map[string]string

func (t tool) Run(_ context.Context, c command.Command) (command.Usage, error) {
	key, asks := strings.CutPrefix(strings.Join(c.Args, " "), "info-get ")
	if c.Name != nodefs.GuestInfoTool || !asks {
		return command.Usage{}, fmt.Errorf("unexpected command %s %q", c.Name, c.Args)
	}
	text, ok := t[key]
	if !ok {
		return command.Usage{}, &command.ExitError{Name: c.Name, Code: 1, Tail: "Fail: No value found"}
	}
	fmt.Fprintln(c.Stdout, text)
	return command.Usage{}, nil
}

func TestGuestInfo(t *testing.T) {
	const environment = `<?xml version="1.0"?><Environment xmlns="http://schemas.dmtf.org/ovf/environment/1" xmlns:oe="http://schemas.dmtf.org/ovf/environment/1">
		<PropertySection><Property oe:key="guestinfo.kiln.identity" oe:value="%s"/></PropertySection></Environment>`
	tests := []struct {
		name         string
		values       tool
		want         string
		wantErr      string
		wantMetadata Metadata
	}{
		{name: "plain, with metadata", values: tool{"guestinfo.kiln.identity": identity, "guestinfo.metadata": base("instance-id: i1\nlocal-hostname: Node7\n"), "guestinfo.metadata.encoding": "base64"},
			want: identity, wantMetadata: Metadata{Hostname: "node7", InstanceID: "i1"}},
		{name: "Ignition, packed", values: tool{"guestinfo.ignition.config.data": base(zipped(t, config)), "guestinfo.ignition.config.data.encoding": "gzip+base64"}, want: "from-config"},
		{name: "property of a vApp", values: tool{"guestinfo.ovfEnv": fmt.Sprintf(environment, base(identity)), "guestinfo.kiln.identity.encoding": "base64"}, want: identity},
		{name: "none", values: tool{"guestinfo.userdata": "---"}, wantErr: "nothing here: the machine was given none of guestinfo.kiln.identity"},
		{name: "two that differ", values: tool{"guestinfo.kiln.identity": identity, "guestinfo.ignition.config.data": config},
			wantErr: "VMware guestinfo, guestinfo.ignition.config.data: has another identity"},
		{name: "two that agree", values: tool{"guestinfo.kiln.identity": "from-config", "guestinfo.ignition.config.data": config}, want: "from-config"},
		{name: "unknown encoding", values: tool{"guestinfo.userdata": identity, "guestinfo.userdata.encoding": "rot13"}, wantErr: `guestinfo.userdata.encoding: unknown "rot13"`},
		{name: "broken environment", values: tool{"guestinfo.ovfEnv": "<a"}, wantErr: "guestinfo.ovfEnv: is not XML"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			found, err := Machine{Runner: tt.values}.guestInfo().Find(t.Context())
			if tt.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tt.wantErr) {
					t.Errorf("have %v; want %s", err, tt.wantErr)
				}
				return
			}
			if err != nil || strings.TrimSpace(string(found.Text)) != strings.TrimSpace(tt.want) || found.Metadata != tt.wantMetadata {
				t.Errorf("have %q, %+v, %v", found.Text, found.Metadata, err)
			}
		})
	}
	m := Machine{Runner: tool{"guestinfo.userdata": identity}, Facts: func() Facts { return Facts{Serial: "VMware-42 1c 2d aa 00 11 22 33-44 55 66 77 88 99 aa bb"} }}
	if found, err := m.guestInfo().Find(t.Context()); err != nil || found.Metadata.ProviderID != "vsphere://421c2daa-0011-2233-4455-66778899aabb" {
		t.Errorf("have %+v, %v", found.Metadata, err)
	}
}

func TestMediaMetadataAndAzuresCD(t *testing.T) {
	const environment = `<?xml version="1.0" encoding="utf-8"?><Environment xmlns="http://schemas.dmtf.org/ovf/environment/1" xmlns:wa="http://schemas.microsoft.com/windowsazure">
		<wa:ProvisioningSection><wa:Version>1.0</wa:Version><LinuxProvisioningConfigurationSet xmlns="http://schemas.microsoft.com/windowsazure">
		<HostName>n1</HostName><CustomData>%s</CustomData></LinuxProvisioningConfigurationSet></wa:ProvisioningSection></Environment>`
	tests := []struct {
		name    string
		source  func(Machine) Source
		files   map[string]string
		want    string
		meta    Metadata
		wantErr string
	}{
		{name: "config drive", source: Machine.configDrive, want: identity, meta: Metadata{Hostname: "vm1", InstanceID: "u1", Zone: "az1", ProviderID: "openstack:///u1"}, files: map[string]string{
			"/dev/disk/by-label/config-2": "", "/medium/openstack/latest/user_data": identity, "/medium/openstack/latest/meta_data.json": `{"uuid":"u1","hostname":"vm1","availability_zone":"az1"}`}},
		{name: "config drive with broken metadata", source: Machine.configDrive, wantErr: "meta_data.json", files: map[string]string{
			"/dev/disk/by-label/config-2": "", "/medium/openstack/latest/user_data": identity, "/medium/openstack/latest/meta_data.json": `{`}},
		{name: "NoCloud", source: Machine.noCloudMedium, want: identity, meta: Metadata{Hostname: "vm1", InstanceID: "i1"}, files: map[string]string{
			"/dev/disk/by-label/cidata": "", "/medium/user-data": identity, "/medium/meta-data": "instance-id: i1\nlocal-hostname: vm1\n"}},
		{name: "Azure", source: Machine.azureMedium, want: identity, files: map[string]string{"/dev/sr0": "", "/medium/ovf-env.xml": fmt.Sprintf(environment, base(identity))}},
		{name: "Azure without custom data", source: Machine.azureMedium, wantErr: "nothing here: the machine was given no custom data",
			files: map[string]string{"/dev/sr0": "", "/medium/ovf-env.xml": fmt.Sprintf(environment, "")}},
		{name: "another CD", source: Machine.azureMedium, wantErr: "nothing here: it holds no ovf-env.xml", files: map[string]string{"/dev/sr0": "", "/medium/README": ""}},
		{name: "no device", source: Machine.azureMedium, wantErr: "nothing here: no device at /dev/sr0 or /dev/sr1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			root := t.TempDir()
			for path, text := range tt.files {
				write(t, filepath.Join(root, path), text)
			}
			done := 0
			found, err := tt.source(Machine{Root: nodefs.Root(root), Mount: func(string) (string, func(), error) {
				return filepath.Join(root, "medium"), func() { done++ }, nil
			}}).Find(t.Context())
			if _, mounted := os.Stat(filepath.Join(root, "medium")); mounted == nil && done != 1 {
				t.Errorf("unmounted %d times", done)
			}
			if tt.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tt.wantErr) {
					t.Errorf("have %v; want %s", err, tt.wantErr)
				}
				return
			}
			if err != nil || string(found.Text) != tt.want || found.Metadata != tt.meta {
				t.Errorf("have %q, %+v, %v", found.Text, found.Metadata, err)
			}
		})
	}
}

// What lies at a URL may be anything.
func TestURL(t *testing.T) {
	sum := func(text string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(text))) }
	mux := http.NewServeMux()
	answer := func(path, text string) {
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, text) })
	}
	answer("/identity", identity)
	answer("/52:54:00:00:00:02/AB%201%2F2/4c4c4544/rack1", identity)
	answer("/52:54:00:00:00:02", identity)
	answer("/html", "<!DOCTYPE html>\n<html><body>Sign in "+secret+"</body></html>")
	answer("/empty", "")
	answer("/cloud-config", "#cloud-config\npassword: "+secret)
	answer("/script", "#!/bin/sh\n")
	answer("/spec2", `{"ignition":{"version":"2.3.0"}}`)
	answer("/junk", strings.Repeat("\x00\x17"+secret, 10<<20/25))
	answer("/small-junk", "\x00\x17"+secret)
	answer("/bomb", zipped(t, strings.Repeat("a", 20<<20)))
	answer("/torn-gzip", zipped(t, strings.Repeat(identity, 100))[:40])
	answer("/gzip", zipped(t, identity))
	answer("/torn-config", config[:50])
	mux.HandleFunc("/cut", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1000")
		fmt.Fprint(w, identity)
	})
	mux.HandleFunc("/to-plain", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://plain.test/identity", http.StatusFound)
	})
	mux.HandleFunc("/to-other", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/identity", http.StatusFound) })
	mux.HandleFunc("/round", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/round", http.StatusFound) })
	mux.HandleFunc("/broken", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
	secure := httptest.NewUnstartedServer(mux)
	// It would say that its certificate is refused.
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	t.Cleanup(secure.Close)
	pin := sum(string(secure.Certificate().Raw))
	reachable := network{"example.com:443": secure, "plain.test:80": serve(t, mux)}
	tests := []struct {
		name, line string
		// want is an identity, wantErr a part of the message otherwise; wrong says that the message blames a document, which no retry mends.
		want, wantErr string
		wrong         bool
	}{
		{name: "plain http", line: "kiln.identity=http://plain.test/identity", want: identity},
		{name: "pinned", line: "kiln.identity=https://example.com/identity kiln.identity.ca=" + pin, want: identity},
		{name: "all variables, all addresses", line: "kiln.identity=http://plain.test/${mac}/${serial}/${uuid}/${hostname}", want: identity},
		{name: "its SHA-256", line: "kiln.identity=http://plain.test/identity kiln.identity.sha256=" + sum(identity), want: identity},
		{name: "another SHA-256", line: "kiln.identity=http://plain.test/identity kiln.identity.sha256=" + sum("x"), wrong: true,
			wantErr: "http://plain.test/identity: has the SHA-256 " + sum(identity) + ", but kiln.identity.sha256 is " + sum("x")},
		{name: "gzip", line: "kiln.identity=http://plain.test/gzip", want: identity},
		{name: "redirect that stays", line: "kiln.identity=https://example.com/to-other kiln.identity.ca=" + pin, want: identity},
		{name: "redirect to plain http", line: "kiln.identity=https://example.com/to-plain kiln.identity.ca=" + pin, wrong: true,
			wantErr: "https://example.com/to-plain: redirects to http://plain.test/identity, which is not https"},
		{name: "redirects for ever", line: "kiln.identity=http://plain.test/round", wantErr: "redirected more than 5 times"},
		{name: "wrong pin", line: "kiln.identity=https://example.com/identity kiln.identity.ca=" + sum("x"), wrong: true,
			wantErr: "kernel command line: kiln.identity.ca: is " + sum("x") + ", but example.com shows other certificates (" + pin + ")"},
		{name: "no pin, unknown authority", line: "kiln.identity=https://example.com/identity", wantErr: "certificate signed by unknown authority"},
		{name: "404", line: "kiln.identity=http://plain.test/nowhere?key=" + secret, wantErr: "http://plain.test/nowhere answers 404 Not Found"},
		{name: "502", line: "kiln.identity=http://plain.test/broken", wantErr: "http://plain.test/broken answers 502 Bad Gateway"},
		{name: "nobody there", line: "kiln.identity=http://u:" + secret + "@nowhere.test/x?key=" + secret, wantErr: "no route to nowhere.test:80"},
		{name: "HTML", line: "kiln.identity=http://plain.test/html", wrong: true, wantErr: "http://plain.test/html: is a web page or XML, and not an identity; put an identity there"},
		{name: "empty", line: "kiln.identity=http://plain.test/empty", wrong: true, wantErr: "http://plain.test/empty: is empty; put an identity there"},
		{name: "cut in the middle", line: "kiln.identity=http://plain.test/cut", wantErr: "http://plain.test/cut ends after 24 of 1000 bytes"},
		{name: "cut before it was served", line: "kiln.identity=http://plain.test/torn-config", wrong: true, wantErr: "http://plain.test/torn-config: unexpected end of JSON input"},
		{name: "cut in gzip", line: "kiln.identity=http://plain.test/torn-gzip", wrong: true, wantErr: "ends in the middle of what gzip packed"},
		{name: "10 MB of junk", line: "kiln.identity=http://plain.test/junk", wrong: true, wantErr: "has more than 1048576 bytes"},
		{name: "junk", line: "kiln.identity=http://plain.test/small-junk", wrong: true, wantErr: "is no text"},
		{name: "gzip bomb", line: "kiln.identity=http://plain.test/bomb", wrong: true, wantErr: "has more than 1048576 bytes, unpacked"},
		{name: "cloud-config", line: "kiln.identity=http://plain.test/cloud-config", wrong: true, wantErr: "is a cloud-config, which kiln does not apply"},
		{name: "script", line: "kiln.identity=http://plain.test/script", wrong: true, wantErr: "is a script, which kiln does not run"},
		{name: "Ignition spec 2", line: "kiln.identity=http://plain.test/spec2", wrong: true, wantErr: "ignition.version: is 2.3.0; want 3.0.0 to 3.5.0: convert the config"},
		{name: "seed", line: "ds=nocloud;s=http://plain.test/seed/", wantErr: "http://plain.test/seed/user-data answers 404"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			root := t.TempDir()
			write(t, filepath.Join(root, "/proc/cmdline"), tt.line)
			sources, err := Machine{Root: nodefs.Root(root), Facts: facts, Dial: reachable.dial}.named(PlatformMetal)
			if err != nil || len(sources) != 1 {
				t.Fatalf("have %d sources, %v", len(sources), err)
			}
			found, err := sources[0].Find(t.Context())
			if tt.wantErr == "" {
				if err != nil || string(found.Text) != tt.want {
					t.Fatalf("have %q, %v", found.Text, err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.wantErr) {
				t.Fatalf("have %v\nwant %s", err, tt.wantErr)
			}
			if document.IsInvalid(err) != tt.wrong {
				t.Errorf("says that a document is wrong: %v; want %v", !tt.wrong, tt.wrong)
			}
			if strings.Contains(err.Error(), secret[7:]) {
				t.Errorf("message shows the secret: %v", err)
			}
		})
	}
}

func TestParametersThatCannotBe(t *testing.T) {
	for line, want := range map[string]string{
		"kiln.identity=ftp://a/b":                           `kiln.identity: has the scheme "ftp"; want https or http`,
		"kiln.identity=/a/b":                                "kiln.identity: is no URL",
		"kiln.identity=http://a/${name}":                    "kiln.identity: has ${name}; want ${mac}, ${uuid}, ${serial} or ${hostname}",
		"kiln.identity=https://a/ kiln.identity.ca=abc":     `kiln.identity.ca: "abc" is no SHA-256`,
		"kiln.identity=http://a/ kiln.identity.ca=" + hex64: "kiln.identity.ca: pins a certificate, and plain http has none",
		"kiln.identity=https://a/ kiln.identity.sha256=abc": `kiln.identity.sha256: "abc" is no SHA-256`,
		"kiln.identity.ca=" + hex64:                         "kiln.identity.ca: is given without a URL",
		"kiln.identity.dhcp=0":                              `kiln.identity.dhcp: is "0"; want the number of an option`,
		"kiln.identity.dhcp=256":                            `kiln.identity.dhcp: is "256"`,
		"kiln.identity.dhcp=44.1":                           `kiln.identity.dhcp: is "44.1"`,
		"ds=nocloud;s=http:///x":                            "ds: is no URL",
	} {
		root := t.TempDir()
		write(t, filepath.Join(root, "/proc/cmdline"), line)
		_, err := ForPlatform(PlatformMetal, Machine{Root: nodefs.Root(root), Facts: facts})
		if !document.IsInvalid(err) || !strings.Contains(err.Error(), "kernel command line: "+want) {
			t.Errorf("%s: have %v", line, err)
		}
	}
	for _, text := range []string{"0", "-1", "x", "1.5"} {
		if _, err := BudgetOn("kiln.identity.wait=" + text); !document.IsInvalid(err) {
			t.Errorf("%s: have %v", text, err)
		}
	}
	if budget, err := BudgetOn("quiet kiln.identity.wait=7"); err != nil || budget != 7*time.Second {
		t.Errorf("have %v, %v", budget, err)
	}
	if budget, err := BudgetOn("quiet"); err != nil || budget != defaultBudget {
		t.Errorf("have %v, %v", budget, err)
	}
}

const hex64 = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"

func TestBootInterfaceComesFirst(t *testing.T) {
	f := fetcher{facts: facts, bootMAC: bootMAC("a BOOTIF=01-52-54-00-00-00-02 b")}
	urls, err := f.expand("kiln.identity", "http://a/${mac}")
	if err != nil || strings.Join(urls, " ") != "http://a/52:54:00:00:00:02 http://a/52:54:00:00:00:01" {
		t.Errorf("have %q, %v", urls, err)
	}
	f.facts = func() Facts { return Facts{MACs: []string{"m"}} }
	if _, err := f.expand("kiln.identity", "http://a/${serial}"); !document.IsInvalid(err) {
		t.Errorf("have %v", err)
	}
	if _, err := f.expand("kiln.identity", "http://a/${hostname}"); err == nil || document.IsInvalid(err) {
		t.Errorf("a name that may still come: have %v", err)
	}
}

func TestNoCloudSeed(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/s/user-data", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, message(identity)) })
	mux.HandleFunc("/s/meta-data", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "instance-id: i1\nlocal-hostname: n1\n") })
	mux.HandleFunc("/bare/user-data", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, identity) })
	reachable := network{"seed.test:80": serve(t, mux)}
	for _, tt := range []struct {
		platform, line, serial string
		want                   Metadata
		sources                int
	}{
		{PlatformMetal, "ds=nocloud;s=http://seed.test/s/", "", Metadata{Hostname: "n1", InstanceID: "i1"}, 1},
		{PlatformMetal, "ds=nocloud-net;seedfrom=http://seed.test/bare/", "", Metadata{}, 1},
		{PlatformQEMU, "", "ds=nocloud;h=x;s=http://seed.test/s/", Metadata{Hostname: "n1", InstanceID: "i1"}, 1},
		{PlatformMetal, "", "ds=nocloud;s=http://seed.test/s/", Metadata{}, 0},
	} {
		root := t.TempDir()
		write(t, filepath.Join(root, "/proc/cmdline"), tt.line)
		m := Machine{Root: nodefs.Root(root), Dial: reachable.dial, Facts: func() Facts { return Facts{Serial: tt.serial} }}
		sources, err := m.named(tt.platform)
		if err != nil || len(sources) != tt.sources {
			t.Fatalf("%+v: have %d sources, %v", tt, len(sources), err)
		}
		for _, s := range sources {
			found, err := s.Find(t.Context())
			if err != nil || strings.TrimSpace(string(found.Text)) != strings.TrimSpace(identity) || found.Metadata != tt.want {
				t.Errorf("%+v: have %q, %+v, %v", tt, found.Text, found.Metadata, err)
			}
		}
	}
}

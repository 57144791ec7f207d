package source

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

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

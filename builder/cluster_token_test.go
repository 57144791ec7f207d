package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"maps"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/kiln-os/kiln/internal/cluster"
)

// livingCluster is an API server with the certificate authority of a rendered directory. It keeps what it is told.
type livingCluster struct {
	t      *testing.T
	server *httptest.Server
	// secrets maps names to the Secrets that were applied, rules those of roles and bindings.
	secrets, rules map[string]map[string]any
	// record is the ConfigMap kube-public/kiln, nil for none.
	record map[string]any
	// conflicts is how many updates of the record somebody else is faster than.
	conflicts int
	// refuse answers everything with this status code.
	refuse int
}

func newLivingCluster(t *testing.T, authorities cluster.Authorities, host string) *livingCluster {
	t.Helper()
	l := &livingCluster{t: t, secrets: map[string]map[string]any{}, rules: map[string]map[string]any{}}
	authority, err := cluster.ParseCertificate(authorities.Cluster.Certificate)
	if err != nil {
		t.Fatal(err)
	}
	clients := x509.NewCertPool()
	clients.AddCert(authority)
	l.server = httptest.NewUnstartedServer(http.HandlerFunc(l.answer))
	l.server.TLS = &tls.Config{
		Certificates: []tls.Certificate{servingCertificate(t, authorities, host)}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients,
	}
	// Handshakes that fail on purpose are no news.
	l.server.Config.ErrorLog = log.New(io.Discard, "", 0)
	l.server.StartTLS()
	t.Cleanup(l.server.Close)
	return l
}

// servingCertificate is what kubeadm would make for an API server called host.
func servingCertificate(t *testing.T, authorities cluster.Authorities, host string) tls.Certificate {
	t.Helper()
	authority, err := cluster.ParseCertificate(authorities.Cluster.Certificate)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := cluster.ParsePrivateKey(authorities.Cluster.Key.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "kube-apiserver"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, DNSNames: []string{host}}
	if ip := net.ParseIP(host); ip != nil {
		template.DNSNames, template.IPAddresses = nil, []net.IP{ip}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, authority, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func (l *livingCluster) answer(w http.ResponseWriter, r *http.Request) {
	client := r.TLS.PeerCertificates[0]
	if !slices.Contains(client.Subject.Organization, "system:masters") {
		l.t.Errorf("the client is %s", client.Subject)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		l.t.Error(err)
	}
	applies := r.Method == http.MethodPatch && r.Header.Get("Content-Type") == "application/apply-patch+yaml" && r.URL.Query().Get("fieldManager") != "" &&
		r.URL.Query().Get("force") == "true"
	secret, isSecret := strings.CutPrefix(r.URL.Path, "/api/v1/namespaces/kube-system/secrets/")
	rule, isRule := strings.CutPrefix(r.URL.Path, "/apis/rbac.authorization.k8s.io/v1/namespaces/kube-system/")
	switch {
	case l.refuse != 0:
		w.WriteHeader(l.refuse)
		fmt.Fprintf(w, `{"kind":"Status","reason":"Unready","message":"it was sent %x"}`, body)
	case applies && (isSecret || isRule):
		var object map[string]any
		if err := json.Unmarshal(body, &object); err != nil {
			l.t.Error(err)
		}
		if isSecret {
			l.secrets[secret] = object
		} else {
			l.rules[rule] = object
		}
		fmt.Fprintf(w, `{"metadata": {"uid": "uid of %s"}}`, secret)
	case r.URL.Path == "/api/v1/namespaces/kube-public/configmaps/kiln":
		l.answerRecord(w, r, body)
	default:
		l.t.Errorf("the API was asked %s %s (%s)", r.Method, r.URL, r.Header.Get("Content-Type"))
		w.WriteHeader(http.StatusBadRequest)
	}
}

func (l *livingCluster) answerRecord(w http.ResponseWriter, r *http.Request, body []byte) {
	switch {
	case l.record == nil:
		w.WriteHeader(http.StatusNotFound)
	case r.Method == http.MethodGet:
		if err := json.NewEncoder(w).Encode(l.record); err != nil {
			l.t.Error(err)
		}
	case l.conflicts > 0:
		l.conflicts--
		l.record["metadata"] = map[string]any{"name": "kiln", "resourceVersion": fmt.Sprint(100 + l.conflicts)}
		w.WriteHeader(http.StatusConflict)
	default:
		var object map[string]any
		if err := json.Unmarshal(body, &object); err != nil {
			l.t.Error(err)
		}
		if have, want := fmt.Sprint(object["metadata"]), fmt.Sprint(l.record["metadata"]); r.Method != http.MethodPut || have != want {
			l.t.Errorf("%s of version %s; want PUT of %s", r.Method, have, want)
		}
		l.record = object
	}
}

func newRecord(tokens string) map[string]any {
	return map[string]any{
		"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": "kiln", "resourceVersion": "9"},
		"data": map[string]any{"founder": "cp1", "tokens": tokens},
	}
}

// livingWorld is a world whose cluster lives at the address of an httptest server.
func livingWorld(t *testing.T) (*clusterWorld, *livingCluster) {
	t.Helper()
	w := newClusterWorld(t)
	// Rounding makes times comparable with what RFC 3339 says.
	w.now = w.now.UTC().Truncate(time.Second)
	w.mustRender()
	return w, newLivingCluster(t, w.secrets().Authorities, "127.0.0.1")
}

func (w *clusterWorld) token(l *livingCluster, more ...string) result {
	w.t.Helper()
	return w.run(append([]string{"cluster", "token", w.file, "-o", w.out, "--server", l.server.URL}, more...)...)
}

func TestClusterToken(t *testing.T) {
	w, l := livingWorld(t)
	l.record, l.conflicts = newRecord(`{"`+w.secrets().Token.Reveal()[:6]+`":"2020-01-01T00:00:00Z"}`), 2
	old := w.secrets()
	before := w.state()
	r := w.token(l)
	if r.code != exitDone {
		t.Fatalf("exit code %d: %s", r.code, r.err)
	}
	fresh := w.secrets()
	id, secret, _ := strings.Cut(fresh.Token.Reveal(), ".")
	end := w.now.Add(24 * time.Hour).Format(time.RFC3339)
	if fresh.Token.Reveal() == old.Token.Reveal() || !fresh.NextToken.IsZero() || fresh.CertificateKey.Reveal() != old.CertificateKey.Reveal() {
		t.Error("the secrets are not those from before with another token")
	}
	if !strings.Contains(r.err, "kiln: token "+id+" is valid until "+end) || strings.Contains(r.out+r.err, secret) || !strings.Contains(r.out, filepath.Join(w.out, "nodes", "worker2")+"\n") {
		t.Errorf("output %q, errors %q", r.out, r.err)
	}
	wantData := map[string]string{"token-id": id, "token-secret": secret, "expiration": end, "usage-bootstrap-authentication": "true", "usage-bootstrap-signing": "true",
		"auth-extra-groups": "system:bootstrappers:kubeadm:default-node-token"}
	object := l.secrets["bootstrap-token-"+id]
	if len(l.secrets) != 1 || object["type"] != "bootstrap.kubernetes.io/token" || object["kind"] != "Secret" {
		t.Fatalf("the cluster has %v", slices.Collect(maps.Keys(l.secrets)))
	}
	raw, _ := json.Marshal(object["data"])
	var data map[string][]byte
	if err := json.Unmarshal(raw, &data); err != nil {
		t.Fatal(err)
	}
	for key, want := range wantData {
		if string(data[key]) != want {
			t.Errorf("%s is %q; want %q", key, data[key], want)
		}
	}
	var tokens map[string]string
	recorded := l.record["data"].(map[string]any)
	if err := json.Unmarshal([]byte(recorded["tokens"].(string)), &tokens); err != nil || len(tokens) != 2 || tokens[id] != end || recorded["founder"] != "cp1" {
		t.Errorf("the record is %v, %v", l.record, err)
	}
	want := []string{"secrets.yaml"}
	for _, name := range []string{"cp1", "cp2", "cp3", "worker1", "worker2"} {
		want = append(want, "nodes/"+name+"/config.ign", "nodes/"+name+"/identity.yaml")
		if w.identity("nodes/"+name).Bootstrap.Token.Reveal() != fresh.Token.Reveal() {
			t.Errorf("%s has another token", name)
		}
	}
	slices.Sort(want)
	if changed := changes(before, w.state()); !slices.Equal(changed, want) {
		t.Errorf("changed are %q", changed)
	}
	before = w.state()
	if changed := changes(before, w.mustRender()); len(changed) > 0 {
		t.Errorf("rendering changed %q", changed)
	}
}

// A control plane that comes when the founder has forgotten the key finds the certificates all the same.
func TestTokenBringsTheCertificates(t *testing.T) {
	w, l := livingWorld(t)
	w.edit("certificates: staged", "certificates: uploaded")
	if r := w.token(l); r.code != exitDone {
		t.Fatalf("exit code %d: %s", r.code, r.err)
	}
	s := w.secrets()
	id, _, _ := strings.Cut(s.Token.Reveal(), ".")
	var uploaded struct {
		Metadata struct{ OwnerReferences []map[string]any }
		Data     map[string][]byte
	}
	raw, _ := json.Marshal(l.secrets["kubeadm-certs"])
	if err := json.Unmarshal(raw, &uploaded); err != nil {
		t.Fatal(err)
	}
	owner := map[string]any{"apiVersion": "v1", "kind": "Secret", "name": "bootstrap-token-" + id, "uid": "uid of bootstrap-token-" + id}
	if o := uploaded.Metadata.OwnerReferences; len(o) != 1 || !maps.Equal(o[0], owner) {
		t.Errorf("the certificates belong to %v", o)
	}
	if len(uploaded.Data) != 8 || strings.Contains(string(raw), "PRIVATE KEY") {
		t.Errorf("uploaded are %v", slices.Sorted(maps.Keys(uploaded.Data)))
	}
	role, binding := fmt.Sprint(l.rules["roles/kubeadm:kubeadm-certs"]), fmt.Sprint(l.rules["rolebindings/kubeadm:kubeadm-certs"])
	if !strings.Contains(role, "resourceNames:[kubeadm-certs]") || !strings.Contains(role, "verbs:[get]") || !strings.Contains(binding, "system:bootstrappers:kubeadm:default-node-token") {
		t.Errorf("the rules are %s, %s", role, binding)
	}
	if key := w.identity("nodes/cp2").Bootstrap.CertificateKey.Reveal(); key == "" || key != s.CertificateKey.Reveal() {
		t.Error("the identity of a control plane that joins has another key")
	}
	if r := w.token(l, "--print"); r.code != exitDone || !strings.Contains(r.err, "warning: the certificates are not uploaded") {
		t.Errorf("printing: exit code %d, errors %q", r.code, r.err)
	}
}

func TestTokenThatNeverEnds(t *testing.T) {
	w, l := livingWorld(t)
	w.edit("tokenTTL: 24h", "tokenTTL: 0s")
	l.record = newRecord("junk")
	if r := w.token(l); r.code != exitDone || !strings.Contains(r.err, "is valid for ever") {
		t.Fatalf("exit code %d: %s", r.code, r.err)
	}
	id, _, _ := strings.Cut(w.secrets().Token.Reveal(), ".")
	if data := l.secrets["bootstrap-token-"+id]["data"].(map[string]any); data["token-id"] == nil || data["expiration"] != nil {
		t.Errorf("the Secret has %v", slices.Collect(maps.Keys(data)))
	}
	if tokens := l.record["data"].(map[string]any)["tokens"]; tokens != `{"`+id+`":""}` {
		t.Errorf("the record's tokens are %v", tokens)
	}
}

func TestTokenIsPrinted(t *testing.T) {
	w, l := livingWorld(t)
	r := w.token(l, "--print")
	var object struct {
		Kind       string
		Type       string
		Metadata   struct{ Name, Namespace string }
		StringData map[string]string `json:"stringData"`
	}
	if err := yaml.Unmarshal([]byte(r.out), &object); err != nil || r.code != exitDone {
		t.Fatalf("exit code %d, %v: %s", r.code, err, r.err)
	}
	id, secret, _ := strings.Cut(w.secrets().Token.Reveal(), ".")
	if object.Kind != "Secret" || object.Metadata.Name != "bootstrap-token-"+id || object.Metadata.Namespace != "kube-system" || object.StringData["token-secret"] != secret {
		t.Errorf("printed is %+v", object)
	}
	if len(l.secrets) > 0 || strings.Contains(r.err, secret) {
		t.Errorf("the cluster has %v, errors are %q", l.secrets, r.err)
	}
	if w.identity("nodes/cp1").Bootstrap.Token.Reveal() != w.secrets().Token.Reveal() {
		t.Error("the identities have another token")
	}
}

func TestTokenOfAClusterThatCannotBeReached(t *testing.T) {
	w, l := livingWorld(t)
	old := w.secrets().Token.Reveal()
	foreign := newClusterWorld(t)
	foreign.mustRender()
	refusing := newLivingCluster(t, w.secrets().Authorities, "127.0.0.1")
	refusing.refuse = http.StatusServiceUnavailable
	gone := newLivingCluster(t, w.secrets().Authorities, "127.0.0.1")
	gone.server.Close()
	next := ""
	for _, row := range []struct {
		summary string
		living  *livingCluster
		code    int
		want    string
	}{
		{"nobody listens", gone, exitRetry, "reaching the API at https://127.0.0.1:"},
		{"another cluster", newLivingCluster(t, foreign.secrets().Authorities, "127.0.0.1"), exitUsage, "is not this cluster's API: the authority in the directory has not signed its certificate"},
		{"another name", newLivingCluster(t, w.secrets().Authorities, "api.example.org"), exitUsage, `its certificate is not valid for "127.0.0.1"; give a name that it has with --server`},
		{"not ready", refusing, exitRetry, "creating the token: the API at https://127.0.0.1"},
	} {
		t.Run(row.summary, func(t *testing.T) {
			r := w.token(row.living)
			if r.code != row.code || r.out != "" || !strings.Contains(r.err, row.want) {
				t.Errorf("exit code %d, output %q, errors %q", r.code, r.out, r.err)
			}
			s := w.secrets()
			if s.Token.Reveal() != old || s.NextToken.IsZero() || next != "" && s.NextToken.Reveal() != next {
				t.Error("the token on its way is not kept, or another")
			}
			next = s.NextToken.Reveal()
			if strings.Contains(r.err, next[7:]) || strings.Contains(r.err, fmt.Sprintf("%x", next[7:])) {
				t.Errorf("the token was printed: %s", r.err)
			}
			if w.identity("nodes/worker1").Bootstrap.Token.Reveal() != old {
				t.Error("an identity has a token that the cluster does not have")
			}
		})
	}
	if r := w.render(); r.code != exitDone || !strings.Contains(r.err, "kiln: warning: kiln cluster token was cut short; run it again") {
		t.Errorf("rendering: exit code %d, errors %q", r.code, r.err)
	}
	if r := w.token(l); r.code != exitDone || w.secrets().Token.Reveal() != next || l.secrets["bootstrap-token-"+next[:6]] == nil {
		t.Errorf("at last: exit code %d, errors %q", r.code, r.err)
	}
}

// Wherever it is cut, no identity has a token that the cluster does not know, and the next run completes it with the same.
func TestTokenSurvivesCuts(t *testing.T) {
	for cut := 1; ; cut++ {
		w, l := livingWorld(t)
		w.shrink()
		w.mustRender()
		old := w.secrets().Token.Reveal()
		w.cut = cut
		r := w.token(l)
		if r.code == exitDone {
			// The secrets twice, and the files of two nodes.
			if cut != 7 {
				t.Errorf("%d changes renew a token", cut-1)
			}
			return
		}
		if !strings.Contains(r.err, errCut.Error()) {
			t.Fatalf("cut %d: exit code %d, errors %q", cut, r.code, r.err)
		}
		known := []string{old}
		for name := range l.secrets {
			known = append(known, name)
		}
		for _, name := range []string{"cp1", "worker1"} {
			text := w.read(filepath.Join(w.out, "nodes", name, "identity.yaml"))
			id, err := cluster.ParseIdentity(name, []byte(text))
			if token := id.Bootstrap.Token.Reveal(); err != nil || !slices.Contains(known, token) && !slices.Contains(known, "bootstrap-token-"+token[:6]) {
				t.Errorf("cut %d: %s has a token that the cluster does not know, or %v", cut, name, err)
			}
		}
		next := w.secrets().NextToken
		w.cut = 0
		if r := w.token(l); r.code != exitDone {
			t.Fatalf("cut %d: exit code %d, errors %q", cut, r.code, r.err)
		}
		s := w.secrets()
		if !s.NextToken.IsZero() || s.Token.Reveal() == old || !next.IsZero() && (s.Token.Reveal() != next.Reveal() || len(l.secrets) != 1) {
			t.Errorf("cut %d: the token is another than the one on its way; the cluster has %d", cut, len(l.secrets))
		}
		if w.identity("nodes/worker1").Bootstrap.Token.Reveal() != s.Token.Reveal() || l.secrets["bootstrap-token-"+s.Token.Reveal()[:6]] == nil {
			t.Errorf("cut %d: not all have the token", cut)
		}
	}
}

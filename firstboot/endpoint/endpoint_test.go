package endpoint

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

func check(t *testing.T, seen Observation, state State, says ...string) {
	t.Helper()
	if seen.State != state {
		t.Fatalf("state is %s (%s); want %s", seen.State, seen, state)
	}
	for _, text := range says {
		if !strings.Contains(seen.String(), text) {
			t.Errorf("%q does not say %q", seen, text)
		}
	}
	if strings.Contains(fmt.Sprintf("%+v", seen), "0123456789abcdef") {
		t.Errorf("%+v shows the token", seen)
	}
}

func TestReady(t *testing.T) {
	ca := newAuthority(t)
	seen := joiner(ca, start(t, newAPI(t, ca), ca.serving(t, nil))).Look(t.Context())
	check(t, seen, Ready)
	if seen.Kubernetes != version || seen.Node != nil {
		t.Errorf("saw %+v", seen)
	}
}

// What the objects of the cluster say.
func TestObjects(t *testing.T) {
	node := func(ready, machine, uuid string) string {
		return `{"kind":"Node","status":{"addresses":[{"type":"Hostname","address":"w1"},{"type":"InternalIP","address":"10.0.0.31"}],
			"conditions":[{"type":"DiskPressure","status":"True"},{"type":"Ready","status":"` + ready + `"}],
			"nodeInfo":{"machineID":"` + machine + `","systemUUID":"` + uuid + `"}}}`
	}
	long := func(w http.ResponseWriter) {
		for range 10 << 10 {
			if _, err := w.Write(make([]byte, 1<<10)); err != nil {
				return
			}
		}
	}
	cutShort := func(w http.ResponseWriter) {
		w.Header().Set("Content-Length", "4000")
		_, _ = w.Write([]byte(`{"kind":"ConfigMap","data":{"kubecon`))
	}
	elsewhere := func(w http.ResponseWriter) {
		w.Header().Set("Location", "https://127.0.0.1:1/")
		w.WriteHeader(http.StatusFound)
	}
	headers := func(w http.ResponseWriter) { w.Header().Set("X", strings.Repeat("x", 200<<10)) }
	tests := []struct {
		name   string
		change map[string]any
		state  State
		says   string
	}{
		{"no cluster-info", map[string]any{pathClusterInfo: nil}, NotFounded, "is being founded"},
		{"cluster-info not shown", map[string]any{pathClusterInfo: 403}, NotReady, "does not show cluster-info yet"},
		{"nobody is anonymous", map[string]any{pathClusterInfo: 401}, NotReady, "anonymous-auth"},
		{"API server begins", map[string]any{pathClusterInfo: 503}, NotReady, "503 Service Unavailable"},
		{"API server is busy", map[string]any{pathClusterInfo: 429}, NotReady, "429 Too Many Requests"},
		{"busy later", map[string]any{pathKubeadmConfig: 429}, NotReady, "429 Too Many Requests"},
		{"a code without a name", map[string]any{pathClusterInfo: 599}, NotReady, "answers 599"},
		{"teapot", map[string]any{pathClusterInfo: 418}, NotReady, "cannot be read"},
		{"redirect", map[string]any{pathClusterInfo: elsewhere}, NotReady, "redirects"},
		{"redirect with token", map[string]any{pathKubeadmConfig: elsewhere}, NotReady, "redirects"},
		{"not JSON", map[string]any{pathClusterInfo: "<html>hello</html>"}, NotReady, "about cluster-info cannot be read"},
		{"no data", map[string]any{pathClusterInfo: "{}"}, NotReady, "about cluster-info cannot be read"},
		{"10 MB", map[string]any{pathClusterInfo: long}, NotReady, "longer than anything"},
		{"10 MB with token", map[string]any{pathKubeadmConfig: long}, NotReady, "longer than anything"},
		{"cut short", map[string]any{pathClusterInfo: cutShort}, Closed, ""},
		{"headers without end", map[string]any{pathClusterInfo: headers}, NotReady, "does not answer as an API server does"},
		{"no kubeadm-config", map[string]any{pathKubeadmConfig: nil}, NotFounded, "no kubeadm-config"},
		{"token in another group", map[string]any{pathKubeadmConfig: 403}, NotReady, "default-node-token"},
		{"kubeadm-config of junk", map[string]any{pathKubeadmConfig: data(map[string]string{"ClusterConfiguration": "{"})}, NotReady, "about kubeadm-config cannot be read"},
		{"kubeadm-config without version", map[string]any{pathKubeadmConfig: data(map[string]string{"ClusterConfiguration": "{}"})}, NotReady, "cannot be read"},
		{"another version", map[string]any{pathKubeadmConfig: data(map[string]string{"ClusterConfiguration": "kubernetesVersion: v1.35.9"})}, VersionDiffers, "runs Kubernetes v1.35.9, this image carries v1.36.3"},
		{"version without v", map[string]any{pathKubeadmConfig: data(map[string]string{"ClusterConfiguration": "kubernetesVersion: 1.36.3"})}, Ready, ""},
		{"not signed", map[string]any{pathClusterInfo: data(map[string]string{"kubeconfig": "", signaturePrefix + "fedcba": "x"})}, Unsigned, "not signed its information for the token abcdef"},
		{"Nodes not shown", map[string]any{pathNodes + "w1": 403}, NotReady, "may not read Nodes"},
		{"Node of junk", map[string]any{pathNodes + "w1": "junk"}, NotReady, "about the Node w1 cannot be read"},
		{"Node of another machine", map[string]any{pathNodes + "w1": node("True", "feed", "bbbb-2")}, NameTaken, "runs on another machine (product UUID bbbb-2, address 10.0.0.31)"},
		{"Node of a dead machine", map[string]any{pathNodes + "w1": node("Unknown", "feed", "bbbb-2")}, Ready, ""},
		{"Node of this installation", map[string]any{pathNodes + "w1": node("True", "0badc0de", "aaaa-1")}, Ready, ""},
		{"Node of an earlier installation", map[string]any{pathNodes + "w1": node("True", "feed", "aaaa-1")}, NameTaken, "from an earlier installation on this machine"},
		{"Node that says nothing", map[string]any{pathNodes + "w1": node("True", "", "")}, NameTaken, "product UUID unknown"},
	}
	ca := newAuthority(t)
	certificate := ca.serving(t, nil)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			server := newAPI(t, ca)
			for path, object := range test.change {
				server.objects[path] = object
			}
			check(t, joiner(ca, start(t, server, certificate)).Look(t.Context()), test.state, test.says)
		})
	}
}

func TestOwnNode(t *testing.T) {
	ca := newAuthority(t)
	server := newAPI(t, ca)
	server.objects[pathNodes+"w1"] = `{"status":{"conditions":[{"type":"Ready","status":"True"}],"nodeInfo":{"machineID":"0BADC0DE","systemUUID":"x"}}}`
	seen := joiner(ca, start(t, server, ca.serving(t, nil))).Look(t.Context())
	check(t, seen, Ready)
	if seen.Node == nil || !seen.Node.Ours || !seen.Node.Ready || seen.Node.UUID != "x" {
		t.Errorf("saw %+v", seen.Node)
	}
}

func TestTokens(t *testing.T) {
	past, future := time.Now().Add(-time.Hour).UTC().Format(time.RFC3339), time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	record := func(tokens string) string { return data(map[string]string{"founder": "cp1", "tokens": tokens}) }
	tests := []struct {
		name   string
		record any
		state  State
		says   string
	}{
		{"expired", record(`{"abcdef":"` + past + `"}`), TokenExpired, "token expired: "},
		{"deleted", record(`{"abcdef":"` + future + `"}`), TokenUnknown, "not with this secret, or it was deleted"},
		{"deleted, for ever", record(`{"abcdef":""}`), TokenUnknown, "not with this secret, or it was deleted"},
		{"of another cluster", record(`{"fedcba":""}`), TokenUnknown, "has never had a token abcdef"},
		{"no record", nil, TokenUnknown, "it has expired or was never its own"},
		{"record not shown", 403, TokenUnknown, "it has expired or was never its own"},
		{"tokens of junk", record("junk"), TokenUnknown, "it has expired or was never its own"},
		{"record of junk", "junk", NotReady, "about kube-public/kiln cannot be read"},
		{"busy", 503, NotReady, "503"},
	}
	ca := newAuthority(t)
	certificate := ca.serving(t, nil)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			server := newAPI(t, ca)
			server.token, server.objects[pathRecord] = "", test.record
			seen := joiner(ca, start(t, server, certificate)).Look(t.Context())
			check(t, seen, test.state, test.says)
			if problem := (&Problem{seen}); seen.State != NotReady && (problem.Permanent() || !problem.TokenRefused() || !strings.Contains(problem.Error(), "kiln cluster token")) {
				t.Errorf("%v: permanent %v, refused %v", problem, problem.Permanent(), problem.TokenRefused())
			}
			if want := test.state == TokenExpired; seen.Expired.UTC().Format(time.RFC3339) == past != want {
				t.Errorf("expired at %s", seen.Expired)
			}
		})
	}
}

// By a clock that is wrong, a token has not expired before the cluster says so.
func TestTokenExpiresByTheClusterClock(t *testing.T) {
	ca := newAuthority(t)
	server := newAPI(t, ca)
	server.token = ""
	server.objects[pathRecord] = data(map[string]string{"tokens": `{"abcdef":"` + time.Now().Add(20*time.Minute).Format(time.RFC3339) + `"}`})
	c := joiner(ca, start(t, server, ca.serving(t, nil)))
	c.Now = func() time.Time { return time.Now().Add(30 * time.Minute) }
	check(t, c.Look(t.Context()), TokenUnknown)
}

func TestPublic(t *testing.T) {
	ca := newAuthority(t)
	server := newAPI(t, ca)
	c := joiner(ca, start(t, server, ca.serving(t, nil)))
	record, seen := c.Public(t.Context())
	check(t, seen, Ready)
	if _, has := record.Tokens[tokenID]; record.Founder != "cp1" || record.Kubernetes != version || record.Release != "v1.36" || !has {
		t.Errorf("read %+v", record)
	}
	delete(server.objects, pathRecord)
	if record, seen = c.Public(t.Context()); seen.State != Ready || record.Founder != "" {
		t.Errorf("read %+v, saw %s", record, seen)
	}
	delete(server.objects, pathClusterInfo)
	_, seen = c.Public(t.Context())
	check(t, seen, NotFounded)
}

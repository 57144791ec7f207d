package kubeadm

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/kiln-os/kiln/internal/command"
)

// authority is a certificate authority of a test's cluster, in memory.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	text        string
}

// sign makes a certificate. It needs a fresh key each time, so that nothing of one test fits another.
func sign(t *testing.T, template x509.Certificate, by *authority) authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if by == nil {
		by = &authority{certificate: &template, key: key}
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	der, err := x509.CreateCertificate(rand.Reader, &template, by.certificate, key.Public(), by.key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return authority{certificate, key, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))}
}

func newAuthority(t *testing.T) authority {
	return sign(t, x509.Certificate{Subject: pkix.Name{CommonName: "kubernetes"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, nil)
}

// api is an API server that answers as a test wants: as far as `kubeadm join` asks it before it changes the machine.
type api struct {
	own authority
	// shown is the authority in cluster-info, signer the one of the serving certificate, names what that is for.
	shown, signer authority
	names         []net.IP
	notBefore     time.Time
	// token signs cluster-info; empty for none. answers are by the last part of the path: a status, and an object if 200.
	token   string
	answers map[string]func(http.ResponseWriter)
}

// start returns the address of the endpoint.
func (a api) start(t *testing.T) string {
	t.Helper()
	server := httptest.NewUnstartedServer(a)
	leaf := sign(t, x509.Certificate{Subject: pkix.Name{CommonName: "kube-apiserver"}, NotBefore: a.notBefore, NotAfter: time.Now().Add(time.Hour), IPAddresses: a.names}, &a.signer)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{leaf.certificate.Raw}, PrivateKey: leaf.key}}}
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

func (a api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name := r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]
	if answer, given := a.answers[name]; given {
		answer(w)
		return
	}
	if name != "cluster-info" {
		refuse(http.StatusNotFound, "NotFound", name)(w)
		return
	}
	kubeconfig := fmt.Sprintf("apiVersion: v1\nkind: Config\nclusters:\n- name: \"\"\n  cluster:\n    server: https://%s\n    certificate-authority-data: %s\n",
		r.Host, base64.StdEncoding.EncodeToString([]byte(a.shown.text)))
	data := map[string]string{"kubeconfig": kubeconfig}
	if id, secret, found := strings.Cut(a.token, "."); found {
		data["jws-kubeconfig-"+id] = signature(id, secret, kubeconfig)
	}
	object("ConfigMap", data)(w)
}

// signature is a detached JWS (RFC 7515, appendix F) as the bootstrap signer makes it.
func signature(id, secret, text string) string {
	encode := base64.RawURLEncoding.EncodeToString
	header := encode(fmt.Appendf(nil, `{"alg":"HS256","kid":%q}`, id))
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(header + "." + encode([]byte(text))))
	return header + ".." + encode(mac.Sum(nil))
}

func object(kind string, data any) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{"apiVersion": "v1", "kind": kind, "metadata": map[string]any{"name": "x"}, "data": data})
	}
}

// refuse answers as apimachinery's api/errors words it.
func refuse(code int, reason, name string) func(http.ResponseWriter) {
	message := map[string]string{"NotFound": fmt.Sprintf("configmaps %q not found", name), "Unauthorized": "Unauthorized",
		"Forbidden": fmt.Sprintf(`configmaps %q is forbidden: User "system:bootstrap:abcdef" cannot get resource "configmaps" in API group "" in the namespace "kube-system"`, name)}[reason]
	return func(w http.ResponseWriter) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		_ = json.NewEncoder(w).Encode(map[string]any{"apiVersion": "v1", "kind": "Status", "status": "Failure", "message": message, "reason": reason, "code": code})
	}
}

// TestRealKubeadmJoins lets kubeadm itself try to join clusters that are not ready, or not its own, and classifies what it says.
func TestRealKubeadmJoins(t *testing.T) {
	realKubeadm(t)
	own, other := newAuthority(t), newAuthority(t)
	const token = "abcdef.0123456789abcdef"
	older := object("ConfigMap", map[string]string{"ClusterConfiguration": "apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\nkubernetesVersion: v1.33.0\n"})
	kubelets := object("ConfigMap", map[string]string{"kubelet": "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n"})
	future := object("ConfigMap", map[string]string{"ClusterConfiguration": "apiVersion: kubeadm.k8s.io/v1beta9\nkind: ClusterConfiguration\nkubernetesVersion: v1.36.3\n"})
	status := func(code int) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) { w.WriteHeader(code) }
	}
	tests := []struct {
		name   string
		change func(*api)
		want   Kind
	}{
		{"nobody has founded it", func(a *api) { a.answers["cluster-info"] = refuse(http.StatusNotFound, "NotFound", "cluster-info") }, APINotReady},
		{"no rules yet", func(a *api) { a.answers["cluster-info"] = refuse(http.StatusForbidden, "Forbidden", "cluster-info") }, APINotReady},
		{"the balancer has no control plane", func(a *api) { a.answers["cluster-info"] = status(http.StatusServiceUnavailable) }, APINotReady},
		{"the API server is ill", func(a *api) { a.answers["cluster-info"] = status(http.StatusInternalServerError) }, APINotReady},
		{"too much to do", func(a *api) { a.answers["cluster-info"] = status(http.StatusTooManyRequests) }, APINotReady},
		{"cut off", func(a *api) { a.answers["cluster-info"] = func(http.ResponseWriter) { panic(http.ErrAbortHandler) } }, NotReachable},
		{"token not signed", func(a *api) { a.token = "" }, TokenNotSigned},
		{"another token only", func(a *api) { a.token = "fedcba.0123456789abcdef" }, TokenNotSigned},
		{"another secret", func(a *api) { a.token = "abcdef.fedcba9876543210" }, TokenInvalid},
		{"another cluster", func(a *api) { a.shown, a.signer = other, other }, AuthorityDiffers},
		{"another cluster behind the balancer", func(a *api) { a.signer = other }, AuthorityDiffers},
		{"another name", func(a *api) { a.names = []net.IP{net.IPv4(192, 0, 2, 1)} }, EndpointNotNamed},
		{"the clock is slow", func(a *api) { a.notBefore = time.Now().Add(30 * time.Minute) }, Clock},
		{"token refused", func(a *api) {
			a.answers["kubeadm-config"] = refuse(http.StatusUnauthorized, "Unauthorized", "kubeadm-config")
		}, TokenInvalid},
		{"not set up yet", func(*api) {}, APINotReady},
		{"no rules for the token yet", func(a *api) {
			a.answers["kubeadm-config"] = refuse(http.StatusForbidden, "Forbidden", "kubeadm-config")
		}, APINotReady},
		{"an older cluster", func(a *api) { a.answers["kubeadm-config"], a.answers["kubelet-config"] = older, kubelets }, VersionSkew},
		{"a cluster of the future", func(a *api) { a.answers["kubeadm-config"] = future }, VersionSkew},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a := api{shown: own, signer: own, names: []net.IP{net.IPv4(127, 0, 0, 1)}, notBefore: time.Now().Add(-time.Hour), token: token, answers: map[string]func(http.ResponseWriter){}}
			tt.change(&a)
			said := tryJoin(t, attempt{world{node: worker, joins: true}, a.start(t), own, []string{"preflight", "--ignore-preflight-errors=all"}})
			if got := Classify(said); got.Kind != tt.want {
				t.Errorf("have %+v, want %s, of\n%s", got, tt.want, said)
			}
		})
	}
	t.Run("nobody listens", func(t *testing.T) {
		server := httptest.NewServer(nil)
		server.Close()
		said := tryJoin(t, attempt{world{node: worker, joins: true}, server.Listener.Addr().String(), own, []string{"preflight", "--ignore-preflight-errors=all"}})
		if got := Classify(said); got.Kind != NotReachable || !strings.Contains(got.Message, "nobody listens at 127.0.0.1:") {
			t.Errorf("have %+v of\n%s", got, said)
		}
	})
}

// TestRealKubeadmDownloads lets a control plane of the uploaded kind fetch certificates that it cannot have.
func TestRealKubeadmDownloads(t *testing.T) {
	realKubeadm(t)
	own := newAuthority(t)
	config := object("ConfigMap", map[string]string{"ClusterConfiguration": "apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\nkubernetesVersion: v1.36.3\n" +
		"certificatesDir: " + t.TempDir() + "\ncontrolPlaneEndpoint: api.example.org:6443\n"})
	kubelets := object("ConfigMap", map[string]string{"kubelet": "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n"})
	const id, secret = "abcdef", "0123456789abcdef"
	for name, tt := range map[string]struct {
		certificates func(http.ResponseWriter)
		want         Kind
	}{
		"not uploaded":         {refuse(http.StatusNotFound, "NotFound", "kubeadm-certs"), CertificatesMissing},
		"token refused":        {refuse(http.StatusUnauthorized, "Unauthorized", "kubeadm-certs"), TokenInvalid},
		"not all uploaded":     {object("Secret", map[string]string{}), CertificatesMissing},
		"under another key":    {object("Secret", map[string][]byte{"ca.crt": make([]byte, 64)}), CertificateKeyWrong},
		"cut short on its way": {object("Secret", map[string][]byte{"ca.crt": {1}}), CertificateKeyWrong},
	} {
		a := api{shown: own, signer: own, names: []net.IP{net.IPv4(127, 0, 0, 1)}, notBefore: time.Now().Add(-time.Hour), token: id + "." + secret,
			answers: map[string]func(http.ResponseWriter){"kubeadm-config": config, "kubelet-config": kubelets, "kubeadm-certs": tt.certificates}}
		said := tryJoin(t, attempt{world{node: second, bootstrap: key, joins: true}, a.start(t), own, []string{"control-plane-prepare", "download-certs"}})
		if got := Classify(said); got.Kind != tt.want {
			t.Errorf("%s: have %+v, want %s, of\n%s", name, got, tt.want, said)
		}
	}
}

// attempt is one phase of `kubeadm join` against a test's cluster.
type attempt struct {
	world    world
	endpoint string
	own      authority
	phase    []string
}

// tryJoin runs a phase that changes nothing on this machine, and returns what kubeadm says; it has to fail.
func tryJoin(t *testing.T, a attempt) string {
	t.Helper()
	o := a.world.options(t)
	o.Identity.Cluster.Endpoint = a.endpoint
	o.Identity.Bootstrap.Authorities.Cluster.Certificate = a.own.text
	// The node's own name is looked up, and shall not be asked for outside this machine.
	o.Identity.Node.Name = "localhost"
	text, err := RenderJoin(o)
	if err != nil {
		t.Fatal(err)
	}
	quick := regexp.MustCompile(`(discovery|kubernetesAPICall): \d+m0s`).ReplaceAll(text, []byte("$1: 1s"))
	_, failed := run(t, command.Command{Name: realKubeadm(t), Args: append([]string{"join", "phase"}, a.phase...)}, quick)
	if failed == "" {
		t.Fatal("kubeadm did not fail")
	}
	return failed
}

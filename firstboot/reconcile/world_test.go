package reconcile

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kiln-os/kiln/firstboot/node"
	"github.com/kiln-os/kiln/firstboot/node/apitest"
	"github.com/kiln-os/kiln/internal/cluster"
	"github.com/kiln-os/kiln/internal/command"
	"github.com/kiln-os/kiln/internal/nodefs"
)

// authority is a cluster's certificate authority.
type authority struct {
	key         *ecdsa.PrivateKey
	certificate *x509.Certificate
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "kubernetes"}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return authority{key, certificate}
}

func (a authority) sign(t *testing.T, s cluster.Statement) string {
	t.Helper()
	text, err := s.Sign(a.key)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// world is an API server and what control planes of it have on their disks.
type world struct {
	t      *testing.T
	server *apitest.Server
	authority
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return &world{t: t, server: apitest.New(t), authority: newAuthority(t)}
}

const identity = `{"apiVersion": "kiln/v1alpha1", "kind": "Identity", "release": "v1.36",
"node": {"name": "cp1", "role": "control-plane", "initialise": true, "address": "192.0.2.11"},
"cluster": {"name": "demo", "endpoint": "192.0.2.10:6443", "controlPlanes": [
  {"name": "cp1", "address": "192.0.2.11"}, {"name": "cp2", "address": "192.0.2.12"}, {"name": "cp3", "address": "192.0.2.13"}]}}`

// controlPlane is one control plane's reconciler: its log, and its disk.
type controlPlane struct {
	*Reconciler
	log  *log
	root nodefs.Root
	runs *recorder
	// reads counts looks at the clock: a few in each round of work.
	reads *atomic.Int32
}

// controlPlane makes one with a disk of its own.
func (w *world) controlPlane() controlPlane {
	w.t.Helper()
	root := nodefs.Root(w.t.TempDir())
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: w.certificate.Raw})
	for path, text := range map[string][]byte{
		nodefs.Node:            []byte(`{"role": "control-plane"}`),
		nodefs.IdentityCopy:    []byte(identity),
		nodefs.PKI + "/ca.crt": certificate,
		nodefs.AdminConfig:     w.server.Admin,
	} {
		put(w.t, root, path, text)
	}
	c := controlPlane{log: &log{}, root: root, runs: &recorder{}, reads: &atomic.Int32{}}
	c.Reconciler = OnNode(root, c.log, func() bool { return true })
	c.Runner = c.runs
	c.Now = func() time.Time { c.reads.Add(1); return time.Now() }
	c.Server = func(address string) string {
		if address != "192.0.2.11" {
			w.t.Errorf("asked for the API server at %s", address)
		}
		return w.server.URL
	}
	c.Pace = Pace{FirstBoot: time.Millisecond, Settle: time.Millisecond, Tick: 5 * time.Millisecond, Pause: time.Millisecond,
		MostPause: 20 * time.Millisecond, Renew: time.Minute, Left: time.Hour, Upload: 30 * time.Minute}
	return c
}

// start runs the reconciler until the test ends, or stop is called.
func (c controlPlane) start(t *testing.T) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-ended; err != nil {
				t.Errorf("the reconciler ended with %v", err)
			}
		})
	}
	t.Cleanup(stop)
	return stop
}

// waitForRound waits until the control plane has worked through everything once more.
func (c controlPlane) waitForRound(w *world) {
	w.t.Helper()
	before := c.reads.Load()
	w.eventually("another round", func() bool { return c.reads.Load() > before+16 })
}

func put(t *testing.T, root nodefs.Root, path string, text []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(root.Path(path)), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(root.Path(path), text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// delete removes a Node, as an administrator would.
func (w *world) delete(name string) {
	w.t.Helper()
	client, err := node.NewClient(w.server.URL, w.server.Admin)
	if err != nil {
		w.t.Fatal(err)
	}
	n, err := client.Get(w.t.Context(), name)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := client.Delete(w.t.Context(), n); err != nil {
		w.t.Fatal(err)
	}
}

func nodePath(name string) string { return "/api/v1/nodes/" + name }

// put stores a Node as its kubelet made it.
func (w *world) put(name string, labels, annotations map[string]string, conditions ...map[string]any) {
	object := apitest.Object{"metadata": map[string]any{"name": name, "uid": "uid-" + name, "labels": anyOf(labels), "annotations": anyOf(annotations)}}
	var list []any
	for _, c := range conditions {
		list = append(list, c)
	}
	object["status"] = map[string]any{"conditions": list}
	w.server.Put(nodePath(name), object)
}

func anyOf(texts map[string]string) map[string]any {
	values := map[string]any{}
	for key, value := range texts {
		values[key] = value
	}
	return values
}

// metadata gives a field of a Node's metadata as "key=value" lines.
func (w *world) metadata(name, field string) string {
	metadata, _ := w.server.Object(nodePath(name))["metadata"].(map[string]any)
	values, _ := metadata[field].(map[string]any)
	texts := map[string]string{}
	for key, value := range values {
		texts[key] = fmt.Sprint(value)
	}
	return describe(texts)
}

// condition is "status reason message" of a Node's condition, "" without it.
func (w *world) condition(name string) string {
	status, _ := w.server.Object(nodePath(name))["status"].(map[string]any)
	list, _ := status["conditions"].([]any)
	for _, each := range list {
		if c := each.(map[string]any); c["type"] == ConditionUnique {
			return fmt.Sprintf("%s %s %s", c["status"], c["reason"], c["message"])
		}
	}
	return ""
}

// event is the message of a Node's event, "" without it.
func (w *world) event(name, reason string) string {
	object := w.server.Object("/api/v1/namespaces/default/events/" + name + "." + strings.ToLower(reason))
	message, _ := object["message"].(string)
	return message
}

// writes are the requests so far that change something.
func (w *world) writes() []string {
	return slices.DeleteFunc(w.server.Requests(), func(r string) bool {
		return strings.HasPrefix(r, "GET ") || strings.HasPrefix(r, "WATCH ")
	})
}

// eventually waits for something that is bound to happen.
func (w *world) eventually(what string, is func() bool) {
	w.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !is(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.t.Fatalf("waited 20 s for: %s; writes:\n%s", what, strings.Join(w.writes(), "\n"))
		}
	}
}

// quiet makes a Node that all control planes have to register, one after the other, and waits until it is: what they saw
// before it, they have acted upon.
func (w *world) quiet(name string) {
	w.t.Helper()
	w.put(name, nil, map[string]string{annotationRegistration: w.sign(w.t, cluster.Statement{Cluster: "demo", Node: name, Role: "worker"})})
	w.eventually(name+" registered", func() bool { return w.metadata(name, "labels") != "" })
}

// log is a buffer for several goroutines.
type log struct {
	mutex sync.Mutex
	text  bytes.Buffer
}

func (l *log) Write(p []byte) (int, error) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return l.text.Write(p)
}

func (l *log) String() string {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return l.text.String()
}

// recorder runs nothing, and remembers what it should have run.
type recorder struct {
	mutex sync.Mutex
	lines []string
	// do is called instead of the program, when set.
	do func() error
}

func (r *recorder) Run(_ context.Context, c command.Command) (command.Usage, error) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.lines = append(r.lines, c.Name+" "+strings.Join(c.Args, " "))
	if r.do != nil {
		return command.Usage{}, r.do()
	}
	return command.Usage{}, nil
}

func (r *recorder) ran() []string {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	return slices.Clone(r.lines)
}

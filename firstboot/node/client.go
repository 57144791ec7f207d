// Package node talks to the Kubernetes API for the one node it runs on: it applies manifests, and labels, taints,
// annotates and reports on the Node object. It is a REST client of a few requests over a kubeconfig's client
// certificate; client-go would add 30 MB to a program that is also the initramfs's /init.
package node

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/kiln-os/kiln/firstboot/mint"
	"github.com/kiln-os/kiln/internal/nodefs"
)

// Client sends requests to one API server.
type Client struct {
	// Server is the API server's URL, without a slash at the end.
	Server string
	// HTTP has the credentials.
	HTTP *http.Client
	// FirstPause is how long to wait before a request is sent again; each further pause is twice as long, up to 4 s.
	FirstPause time.Duration
	// Patience is how long a request is sent again for, in all.
	Patience time.Duration

	kinds map[string]map[string]resource
}

// Content types of request bodies.
const (
	typeJSON           = "application/json"
	typeApply          = "application/apply-patch+yaml"
	typeMergePatch     = "application/merge-patch+json"
	typeStrategicPatch = "application/strategic-merge-patch+json"
)

// maxAnswer is the most of an answer that is read; none that is asked for comes near it.
const maxAnswer = 16 << 20

// NewClient makes a client of server with the certificates of a kubeconfig that has them inline, and whose own server is
// ignored: while a cluster is founded, its load balancer may not work yet.
func NewClient(server string, kubeconfig []byte) (*Client, error) {
	k, err := parseKubeconfig("", kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("reading kubeconfig: %w", err)
	}
	k.server = server
	return k.client()
}

// Open makes a client from the kubeconfig at path below root, as kubeadm or a kubelet wrote it: its certificate and key may
// be in files of their own, also below root. An empty server means the kubeconfig's own.
func Open(root nodefs.Root, path, server string) (*Client, error) {
	text, err := os.ReadFile(root.Path(path))
	if err != nil {
		return nil, fmt.Errorf("reading kubeconfig: %w", err)
	}
	k, err := parseKubeconfig(root, text)
	if err != nil {
		return nil, fmt.Errorf("reading kubeconfig %s: %w", path, err)
	}
	if server != "" {
		k.server = server
	}
	return k.client()
}

// MintAdmin makes a client of server for the administrator that the cluster's authority makes him: a certificate of the
// group system:masters, in memory and for a few hours. A control plane has the authority's key before it has a kubeconfig.
func MintAdmin(server string, authority mint.Pair) (*Client, error) {
	pair, err := mint.Client(authority, pkix.Name{CommonName: "kiln-firstboot", Organization: []string{"system:masters"}})
	if err != nil {
		return nil, fmt.Errorf("making administrator's client: %w", err)
	}
	return kubeconfig{server: server, authority: authority.Certificate, certificate: pair.Certificate, key: pair.Key}.client()
}

func (k kubeconfig) client() (*Client, error) {
	pair, err := tls.X509KeyPair(k.certificate, k.key)
	if err != nil {
		return nil, errors.New("reading kubeconfig: its client certificate and key do not make a pair")
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(k.authority) {
		return nil, errors.New("reading kubeconfig: its certificate authority cannot be read")
	}
	transport := &http.Transport{
		TLSClientConfig:     &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12},
		ForceAttemptHTTP2:   true,
		TLSHandshakeTimeout: 30 * time.Second,
		// A load balancer may hold a connection whose control plane lost its power. All requests share that one: without this
		// they would time out one after the other, for a quarter of an hour.
		HTTP2: &http.HTTP2Config{SendPingTimeout: 10 * time.Second, PingTimeout: 10 * time.Second},
	}
	return &Client{Server: k.server, HTTP: &http.Client{Transport: transport, Timeout: time.Minute},
		FirstPause: 250 * time.Millisecond, Patience: time.Minute}, nil
}

// StatusError is an answer other than success.
type StatusError struct {
	Method, Path string
	Code         int
	// Message is the API server's.
	Message string
}

// Error implements error.
func (e *StatusError) Error() string {
	return fmt.Sprintf("%s %s: %d: %s", e.Method, e.Path, e.Code, e.Message)
}

// HasCode reports whether err is an answer with the status code.
func HasCode(err error, code int) bool {
	status, ok := errors.AsType[*StatusError](err)
	return ok && status.Code == code
}

// request is one call of the API.
type request struct {
	method, path string
	// contentType and body are empty for a GET.
	contentType string
	body        any
	// accept is the wanted form of the answer; empty is JSON.
	accept string
}

// call sends r, again while the server is not ready to answer, and decodes the answer into into unless that is nil.
func (c *Client) call(ctx context.Context, r request, into any) error {
	var body []byte
	if r.body != nil {
		var err error
		if body, err = json.Marshal(r.body); err != nil {
			return fmt.Errorf("encoding body of %s %s: %w", r.method, r.path, err)
		}
	}
	deadline := time.Now().Add(c.Patience)
	for pause := c.FirstPause; ; pause = min(2*pause, 4*time.Second) {
		err := c.once(ctx, r, body, into)
		if err == nil || !again(err) || time.Now().Add(pause).After(deadline) {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(pause):
		}
	}
}

// again reports whether the same request may succeed later: too many requests, a server's failure, no connection.
func again(err error) bool {
	if status, ok := errors.AsType[*StatusError](err); ok {
		return status.Code == http.StatusTooManyRequests || status.Code >= 500
	}
	// A certificate that does not fit will not fit later either.
	_, authority := errors.AsType[x509.UnknownAuthorityError](err)
	_, hostname := errors.AsType[x509.HostnameError](err)
	return !authority && !hostname && !errors.Is(err, context.Canceled)
}

func (c *Client) once(ctx context.Context, r request, body []byte, into any) error {
	req, err := http.NewRequestWithContext(ctx, r.method, c.Server+r.path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Accept", cmp.Or(r.accept, typeJSON))
	if r.contentType != "" {
		req.Header.Set("Content-Type", r.contentType)
	}
	resp, err := c.HTTP.Do(req)
	if err != nil {
		return fmt.Errorf("asking API server: %w", err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("reading answer to %s %s: %w", r.method, r.path, err)
	}
	if resp.StatusCode >= 300 {
		return &StatusError{Method: r.method, Path: r.path, Code: resp.StatusCode, Message: message(answer)}
	}
	if into == nil {
		return nil
	}
	if err := json.Unmarshal(answer, into); err != nil {
		return fmt.Errorf("decoding answer to %s %s: %w", r.method, r.path, err)
	}
	return nil
}

// message takes the text out of a Status object, or the beginning of any other answer.
func message(answer []byte) string {
	var status struct {
		Message string `json:"message"`
	}
	if json.Unmarshal(answer, &status) == nil && status.Message != "" {
		return status.Message
	}
	text := strings.TrimSpace(string(answer))
	return text[:min(len(text), 200)]
}

// Healthy asks once whether the API server is ready to work (/readyz).
func (c *Client) Healthy(ctx context.Context) error {
	return c.once(ctx, request{method: http.MethodGet, path: "/readyz"}, nil, nil)
}

// Exists asks once whether there is an object at path.
func (c *Client) Exists(ctx context.Context, path string) (bool, error) {
	err := c.once(ctx, request{method: http.MethodGet, path: path}, nil, nil)
	if HasCode(err, http.StatusNotFound) {
		return false, nil
	}
	return err == nil, err
}

// Read reads the object at path into into. One that is not there is a StatusError with code 404.
func (c *Client) Read(ctx context.Context, path string, into any) error {
	return c.call(ctx, request{method: http.MethodGet, path: path}, into)
}

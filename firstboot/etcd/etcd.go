// Package etcd asks an etcd cluster about its members, and removes one, through etcd's HTTP/JSON gateway
// (etcd v3.6, api/etcdserverpb/gw/rpc.pb.gw.go; on by default, --enable-grpc-gateway). etcd's own client would add 10 MB to a
// program that is also the initramfs's /init.
package etcd

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/kiln-os/kiln/firstboot/mint"
)

// Ports that kubeadm gives to every member.
const (
	ClientPort = 2379
	PeerPort   = 2380
)

// ClientURL is where the member on the machine with this address answers clients; PeerURL is by which the others know it.
func ClientURL(address string) string { return url(address, ClientPort) }

// PeerURL is the member's peer URL, in the form in which kubeadm announces it.
func PeerURL(address string) string { return url(address, PeerPort) }

func url(address string, port int) string {
	return "https://" + net.JoinHostPort(address, strconv.Itoa(port))
}

// Member is one member of an etcd cluster.
type Member struct {
	// ID is a number; JSON has it as text.
	ID uint64 `json:"ID,string"`
	// Name is empty until the member has started for the first time.
	Name       string   `json:"name"`
	PeerURLs   []string `json:"peerURLs"`
	ClientURLs []string `json:"clientURLs"`
	// IsLearner is set until the member may vote.
	IsLearner bool `json:"isLearner"`
}

// Started tells whether the member ever ran (etcd's own rule: Member.IsStarted).
func (m Member) Started() bool { return m.Name != "" }

// HasPeer tells whether the member is the one with this peer URL.
func (m Member) HasPeer(url string) bool { return slices.Contains(m.PeerURLs, url) }

// Client asks the members of one cluster.
type Client struct {
	// Endpoints are client URLs, asked in this order until one answers.
	Endpoints []string
	// HTTP has the credentials.
	HTTP *http.Client
	// Limit is how long one member may take to answer.
	Limit time.Duration
}

// NewClient makes a client with a certificate signed by etcd's authority, which also has to have signed the members'.
func NewClient(authority mint.Pair, endpoints []string) (*Client, error) {
	pair, err := mint.Client(authority, pkix.Name{CommonName: "kiln-firstboot"})
	if err != nil {
		return nil, fmt.Errorf("making client of etcd: %w", err)
	}
	certificate, err := tls.X509KeyPair(pair.Certificate, pair.Key)
	if err != nil {
		return nil, fmt.Errorf("making client of etcd: %w", err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(authority.Certificate)
	transport := &http.Transport{
		TLSClientConfig:   &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12},
		DisableKeepAlives: true,
	}
	return &Client{Endpoints: endpoints, HTTP: &http.Client{Transport: transport}, Limit: 5 * time.Second}, nil
}

// Error is a refusal of etcd's.
type Error struct {
	// Code is the gRPC status code: https://grpc.github.io/grpc/core/md_doc_statuscodes.html.
	Code int `json:"code"`
	// Message is etcd's, as in "etcdserver: unhealthy cluster".
	Message string `json:"message"`
}

// Error implements error.
func (e *Error) Error() string { return e.Message }

// gRPC status codes that matter here.
const (
	codeDeadline    = 4
	codeNotFound    = 5
	codeUnavailable = 14
)

// Members lists the members as a majority of them knows them: it does not answer without a quorum.
func (c *Client) Members(ctx context.Context) ([]Member, error) {
	var answer struct {
		Members []Member `json:"members"`
	}
	if err := c.ask(ctx, "/v3/cluster/member/list", map[string]any{"linearizable": true}, &answer); err != nil {
		return nil, fmt.Errorf("listing etcd's members: %w", err)
	}
	if len(answer.Members) == 0 {
		return nil, errors.New("listing etcd's members: the answer has none")
	}
	return answer.Members, nil
}

// Remove removes the member with this ID. One that is gone already is no error. etcd refuses what would cost the quorum.
func (c *Client) Remove(ctx context.Context, id uint64) error {
	err := c.ask(ctx, "/v3/cluster/member/remove", map[string]any{"ID": strconv.FormatUint(id, 10)}, nil)
	if refusal, ok := errors.AsType[*Error](err); ok && refusal.Code == codeNotFound {
		return nil
	}
	if err != nil {
		return fmt.Errorf("removing etcd's member %x: %w", id, err)
	}
	return nil
}

// Answers reports whether a member answers at one of urls, healthy or not.
func (c *Client) Answers(ctx context.Context, urls []string) bool {
	for _, at := range urls {
		if err := c.once(ctx, http.MethodGet, at+"/health", nil, nil); err == nil || isRefusal(err) {
			return true
		}
	}
	return false
}

// Healthy asks the member at url whether it has a leader and can commit (/health).
func (c *Client) Healthy(ctx context.Context, url string) error {
	var answer struct {
		Health string `json:"health"`
		Reason string `json:"reason"`
	}
	if err := c.once(ctx, http.MethodGet, url+"/health", nil, &answer); err != nil {
		return fmt.Errorf("asking etcd for its health: %w", err)
	}
	if answer.Health != "true" {
		return fmt.Errorf("asking etcd for its health: it is not healthy: %s", answer.Reason)
	}
	return nil
}

// ask sends a request to one endpoint after the other. A refusal that every member would repeat is the answer; one for
// want of a leader is not.
func (c *Client) ask(ctx context.Context, path string, body, into any) error {
	raw, err := json.Marshal(body)
	if err != nil {
		return err
	}
	failures := []error{}
	for _, endpoint := range c.Endpoints {
		err := c.once(ctx, http.MethodPost, endpoint+path, raw, into)
		if err == nil {
			return nil
		}
		refusal, refused := errors.AsType[*Error](err)
		if refused && refusal.Code != codeUnavailable && refusal.Code != codeDeadline {
			return err
		}
		failures = append(failures, fmt.Errorf("%s: %w", endpoint, err))
	}
	if len(failures) == 0 {
		return errors.New("no member is known")
	}
	return errors.Join(failures...)
}

func isRefusal(err error) bool {
	_, refused := errors.AsType[*Error](err)
	return refused
}

func (c *Client) once(ctx context.Context, method, url string, body []byte, into any) error {
	ctx, cancel := context.WithTimeout(ctx, c.Limit)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := c.HTTP.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		refusal := &Error{}
		if json.Unmarshal(answer, refusal) != nil || refusal.Message == "" {
			refusal = &Error{Code: codeUnavailable, Message: fmt.Sprintf("%s: %.200s", response.Status, answer)}
		}
		return refusal
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(answer, into)
}

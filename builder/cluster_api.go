package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/kiln-os/kiln/builder/authority"
	"github.com/kiln-os/kiln/internal/cluster"
)

// clusterAPI is the API of a running cluster, reached as its administrator.
type clusterAPI struct {
	server string
	client *http.Client
}

// reach prepares to talk to the API at server with a certificate of its own; it does not connect yet.
func reach(server string, set authority.Set) (clusterAPI, error) {
	pair, err := set.Client("kiln", []string{adminGroup})
	if err != nil {
		return clusterAPI{}, err
	}
	certificate, err := tls.X509KeyPair([]byte(pair.Certificate), []byte(pair.Key.Reveal()))
	if err != nil {
		return clusterAPI{}, fmt.Errorf("using the client's certificate: %w", err)
	}
	roots := x509.NewCertPool()
	authority, err := cluster.ParseCertificate(set.Certificate())
	if err != nil {
		return clusterAPI{}, fmt.Errorf("using the cluster's certificate: it is %w", err)
	}
	roots.AddCert(authority)
	transport := &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		TLSClientConfig:     &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout: 10 * time.Second,
		// One verb asks a few times and ends.
		DisableKeepAlives: true,
	}
	return clusterAPI{server: strings.TrimRight(server, "/"), client: &http.Client{Transport: transport, Timeout: 20 * time.Second}}, nil
}

// request is one question to the API.
type request struct {
	method, path, contentType string
	body                      any
}

// do returns the status code and the answer. No error holds what was sent, or what was answered: both may be a secret.
func (a clusterAPI) do(ctx context.Context, r request) (int, []byte, error) {
	var body io.Reader
	if r.body != nil {
		text, err := json.Marshal(r.body)
		if err != nil {
			return 0, nil, fmt.Errorf("rendering a request: %w", err)
		}
		body = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, r.method, a.server+r.path, body)
	if err != nil {
		return 0, nil, fmt.Errorf("asking the API: %w", err)
	}
	req.Header.Set("Accept", "application/json")
	if r.contentType != "" {
		req.Header.Set("Content-Type", r.contentType)
	}
	response, err := a.client.Do(req)
	if err != nil {
		return 0, nil, a.explain(err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, 4<<20))
	if err != nil {
		return 0, nil, fmt.Errorf("reading the answer of the API at %s: %w", a.server, err)
	}
	return response.StatusCode, answer, nil
}

// explain tells a cluster that is not there from one that is another's.
func (a clusterAPI) explain(err error) error {
	if _, other := errors.AsType[x509.UnknownAuthorityError](err); other {
		return usagef("%s: is not this cluster's API: the authority in the directory has not signed its certificate; give another with --server", a.server)
	}
	if name, wrong := errors.AsType[x509.HostnameError](err); wrong {
		return usagef("%s: its certificate is not valid for %q; give a name that it has with --server, or add it to certificateNames before the cluster is founded", a.server, name.Host)
	}
	return fmt.Errorf("reaching the API at %s: %w; try again when the cluster can be reached, or give its URL with --server", a.server, err)
}

// refused is an answer that is not the one hoped for.
func (a clusterAPI) refused(what string, code int, answer []byte) error {
	var status struct {
		Reason string `json:"reason"`
	}
	_ = json.Unmarshal(answer, &status) // a proxy's answer is no Status, and has no reason
	return fmt.Errorf("%s: the API at %s answered %d %s %s", what, a.server, code, http.StatusText(code), status.Reason)
}

// createToken makes or replaces the token's Secret, and returns its UID.
func (a clusterAPI) createToken(ctx context.Context, token issue) (uid string, err error) {
	// An applied Secret holds data: stringData would never be seen as the same. Bytes become base64.
	data := map[string][]byte{}
	for key, value := range token.data() {
		data[key] = []byte(value)
	}
	return a.apply(ctx, applied{"creating the token", "/api/v1/namespaces/kube-system/secrets/bootstrap-token-" + token.id, token.object("data", data)})
}

// recordPath is the cluster's public record, by which a node tells an expired token from one that is not the cluster's.
const recordPath = "/api/v1/namespaces/kube-public/configmaps/kiln"

// recordToken adds the token's id and end to the cluster's public record, if the cluster has one.
func (a clusterAPI) recordToken(ctx context.Context, token issue) error {
	const what = "recording the token"
	for attempt := 1; ; attempt++ {
		code, answer, err := a.do(ctx, request{method: http.MethodGet, path: recordPath})
		switch {
		case err != nil:
			return err
		case code == http.StatusNotFound:
			return nil
		case code != http.StatusOK:
			return a.refused(what, code, answer)
		}
		record, err := withToken(answer, token)
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		code, answer, err = a.do(ctx, request{method: http.MethodPut, path: recordPath, contentType: "application/json", body: record})
		switch {
		case err != nil:
			return err
		case code == http.StatusOK:
			return nil
		// Somebody changed it since it was read.
		case code != http.StatusConflict || attempt == 5:
			return a.refused(what, code, answer)
		}
	}
}

// withToken is the record, a ConfigMap, with the token among its tokens: JSON of public ids and ends.
func withToken(record []byte, token issue) (map[string]any, error) {
	var object map[string]any
	decoder := json.NewDecoder(bytes.NewReader(record))
	decoder.UseNumber()
	if err := decoder.Decode(&object); err != nil {
		return nil, fmt.Errorf("reading the record: %w", err)
	}
	data, _ := object["data"].(map[string]any)
	if data == nil {
		data = map[string]any{}
	}
	tokens := map[string]string{}
	if text, _ := data["tokens"].(string); json.Unmarshal([]byte(text), &tokens) != nil {
		// Nodes cannot read it either: what is written now is better.
		tokens = map[string]string{}
	}
	tokens[token.id] = token.expiration()
	text, err := json.Marshal(tokens)
	if err != nil {
		return nil, fmt.Errorf("rendering the record's tokens: %w", err)
	}
	data["tokens"] = string(text)
	object["data"] = data
	return object, nil
}

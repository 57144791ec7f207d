package endpoint

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// session is the connections of one look.
type session struct {
	Cluster
	client *http.Client
	// connected says that the last connection got as far as TLS: it tells a dropped packet from a silent listener.
	connected atomic.Bool
}

// open makes a client that follows no redirect and asks no proxy: a node that joins has to reach the endpoint itself, as
// its kubelet will.
func (c Cluster) open() *session {
	s := &session{Cluster: c}
	s.client = s.newClient(&tls.Config{RootCAs: poolOf(c.Authority), MinVersion: tls.VersionTLS12, Time: s.now})
	return s
}

func (s *session) newClient(config *tls.Config) *http.Client {
	return &http.Client{
		Timeout:       answerTime,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			Proxy:                  nil,
			DialContext:            s.dial,
			TLSClientConfig:        config,
			TLSHandshakeTimeout:    connectTime,
			DisableCompression:     true,
			MaxResponseHeaderBytes: 64 << 10,
		},
	}
}

func (s *session) close() { s.client.CloseIdleConnections() }

// poolOf is never nil: a nil pool would mean the machine's own authorities.
func poolOf(authority *x509.Certificate) *x509.CertPool {
	pool := x509.NewCertPool()
	if authority != nil {
		pool.AddCert(authority)
	}
	return pool
}

func (s *session) dial(ctx context.Context, network, address string) (net.Conn, error) {
	s.connected.Store(false)
	dial := s.Dial
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	ctx, cancel := context.WithTimeout(ctx, connectTime)
	defer cancel()
	conn, err := dial(ctx, network, address)
	s.connected.Store(err == nil)
	return conn, err
}

// answer is an API server's.
type answer struct {
	code int
	body []byte
	// date is the server's clock, or zero.
	date time.Time
}

var errTooLong = errors.New("answer is longer than anything that was asked for")

// get asks for path. With a token it says who it is; TLS has proved by then that the cluster listens.
func (s *session) get(ctx context.Context, path, token string) (answer, *Problem) {
	a, err := send(ctx, s.client, "https://"+s.Endpoint+path, token)
	if err != nil {
		return answer{}, s.classify(ctx, err)
	}
	return a, s.unready(a)
}

func send(ctx context.Context, client *http.Client, url, token string) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return answer{}, err
	}
	req.Header.Set("Accept", "application/json")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return answer{}, fmt.Errorf("reading answer: %w", err)
	}
	if len(body) > maxAnswer {
		return answer{}, errTooLong
	}
	date, _ := http.ParseTime(resp.Header.Get("Date"))
	return answer{code: resp.StatusCode, body: body, date: date}, nil
}

// unready tells the answers that mean the same whatever was asked.
func (s *session) unready(a answer) *Problem {
	switch {
	case a.code == http.StatusTooManyRequests || a.code >= 500:
		return trouble(NotReady, "waiting for it", "the API server behind %s is not ready: it answers %s", s.Endpoint, status(a.code))
	case a.code >= 300 && a.code < 400:
		return trouble(NotReady, "an API server never does that: let the load balancer pass TCP on to port 6443 of the control planes",
			"%s redirects: it answers %s", s.Endpoint, status(a.code))
	}
	return nil
}

func status(code int) string {
	if text := http.StatusText(code); text != "" {
		return fmt.Sprintf("%d %s", code, text)
	}
	return fmt.Sprint(code)
}

// Package azure tells Azure that a virtual machine is ready. Without that, Azure takes a machine made from a generalized image
// for failed (OSProvisioningTimedOut) and may restart it; see learn.microsoft.com, "Creating generalized images without a
// provisioning agent".
package azure

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// WireServer is the host's end, which speaks for Azure's fabric.
type WireServer struct {
	// Base is its URL without a path.
	Base string
	// Budget bounds a report with all its tries and pauses, Wait a single request.
	Budget, Wait time.Duration
	// Pause is how long to wait after the first failure; each further pause is twice as long, up to longestPause.
	Pause time.Duration
}

const longestPause = 15 * time.Second

// OfHost is the one that every machine on Azure has, at an address that is always the same ("What is IP address
// 168.63.129.16?").
func OfHost() WireServer {
	return WireServer{Base: "http://168.63.129.16", Budget: 2 * time.Minute, Wait: 30 * time.Second, Pause: time.Second}
}

// passing is a failure that time may mend.
type passing struct{ error }

// Unwrap gives the error itself.
func (p passing) Unwrap() error { return p.error }

// Ready reports that the machine is ready. say gets each failure after which it tries again. Ready ends when the report was
// taken, when a failure is one that time does not mend, and when the budget is used up.
func (s WireServer) Ready(ctx context.Context, say func(string)) error {
	ctx, cancel := context.WithTimeout(ctx, s.Budget)
	defer cancel()
	deadline, _ := ctx.Deadline()
	for pause := s.Pause; ; pause = min(2*pause, longestPause) {
		err := s.report(ctx)
		if _, again := errors.AsType[passing](err); !again {
			return err
		}
		if time.Until(deadline) <= pause {
			return fmt.Errorf("giving up after %s: %w", s.Budget, err)
		}
		say(fmt.Sprintf("%s; again in %s", err, pause))
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(pause):
		}
	}
}

// report is one try. It begins with the goal state, since a report on one that has changed meanwhile is refused.
func (s WireServer) report(ctx context.Context) error {
	text, err := s.ask(ctx, http.MethodGet, "goalstate", nil)
	if err != nil {
		return fmt.Errorf("asking for the goal state: %w", err)
	}
	state, err := parseGoalState(text)
	if err != nil {
		return err
	}
	health, err := state.renderReady()
	if err != nil {
		return err
	}
	if _, err := s.ask(ctx, http.MethodPost, "health", health); err != nil {
		return fmt.Errorf("reporting health: %w", err)
	}
	return nil
}

// mostBytes is more than any answer has: a goal state has a few thousand.
const mostBytes = 256 << 10

func (s WireServer) ask(ctx context.Context, method, component string, body []byte) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, method, s.Base+"/machine/?comp="+component, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("x-ms-version", "2012-11-30")
	request.Header.Set("x-ms-agent-name", "kiln")
	if body != nil {
		request.Header.Set("Content-Type", "text/xml;charset=utf-8")
	}
	client := http.Client{
		// Without a proxy: the address means something else anywhere but on this host.
		Transport: &http.Transport{DisableKeepAlives: true}, Timeout: s.Wait,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	response, err := client.Do(request)
	if err != nil {
		// Whatever it is: the routes of a young machine come after its address.
		return nil, passing{err}
	}
	defer response.Body.Close()
	if status := response.StatusCode; status != http.StatusOK {
		err := fmt.Errorf("the wire server answers %s", response.Status)
		// 410 says that the goal state has changed.
		if status == http.StatusGone || status == http.StatusTooManyRequests || status >= http.StatusInternalServerError {
			return nil, passing{err}
		}
		return nil, err
	}
	// One byte more than allowed shows that there is too much.
	text, err := io.ReadAll(io.LimitReader(response.Body, mostBytes+1))
	switch {
	case err != nil:
		return nil, passing{fmt.Errorf("reading the wire server's answer: %w", err)}
	case len(text) > mostBytes:
		return nil, fmt.Errorf("the wire server answers with more than %d bytes", mostBytes)
	}
	return text, nil
}

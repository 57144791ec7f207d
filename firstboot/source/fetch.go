package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"syscall"

	"github.com/kiln-os/kiln/internal/document"
)

// refused is an answer that may be there only because the machine is young: a metadata service does not know it yet, or
// nobody has put its identity there. Ignition ends a boot on it.
type refused struct {
	status int
	// url is without what may be secret.
	url string
}

// Error implements error.
func (r refused) Error() string {
	return fmt.Sprintf("%s answers %d %s", r.url, r.status, http.StatusText(r.status))
}

// fetch sends request and reads the answer, whole and of at most maxBytes. place begins the message of a document.Problem.
func fetch(client *http.Client, request *http.Request, place string) ([]byte, http.Header, error) {
	response, err := client.Do(request)
	if err != nil {
		return nil, nil, plainError(err)
	}
	defer response.Body.Close()
	at := shown(response.Request.URL)
	switch status := response.StatusCode; {
	case status == http.StatusUnauthorized || status == http.StatusForbidden || status == http.StatusNotFound:
		return nil, nil, refused{status: status, url: at}
	case status != http.StatusOK:
		return nil, nil, fmt.Errorf("%s answers %s", at, response.Status)
	}
	// One byte more than allowed shows that there is too much.
	text, err := io.ReadAll(io.LimitReader(response.Body, maxBytes+1))
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return nil, nil, fmt.Errorf("%s ends after %d of %d bytes", at, len(text), response.ContentLength)
	case err != nil:
		return nil, nil, fmt.Errorf("reading %s: %w", at, plainError(err))
	case len(text) > maxBytes:
		return nil, nil, document.Problem{File: place, Text: fmt.Sprintf("has more than %d bytes; an identity has at most that", maxBytes)}
	}
	return text, response.Header, nil
}

// plainError takes off what net/http puts around an error: the URL may hold what is secret, and the source's name says it.
func plainError(err error) error {
	if problem, is := errors.AsType[document.Problem](err); is {
		return problem
	}
	if wrapped, is := errors.AsType[*url.Error](err); is {
		return fmt.Errorf("%s: %w", hostOf(wrapped.URL), wrapped.Err)
	}
	return err
}

func hostOf(text string) string {
	if u, err := url.Parse(text); err == nil {
		return u.Host
	}
	return "the server"
}

// shown is a URL for people: without a password and without a query, which may hold a key.
func shown(u *url.URL) string {
	short := *u
	short.User, short.RawQuery, short.Fragment = nil, "", ""
	return short.String()
}

// reach says whether a connection to address is allowed.
type reach func(address netip.Addr) error

// anywhere is for the metadata services, whose address is link-local.
func anywhere(netip.Addr) error { return nil }

// beyondLink is for URLs, whoever gave them: on a cloud they could name the metadata service, and on metal anybody on
// the network can answer at a link-local address.
func beyondLink(address netip.Addr) error {
	if address = address.Unmap(); address.IsLinkLocalUnicast() || address == netip.MustParseAddr("fd00:ec2::254") {
		return fmt.Errorf("%s is link-local, where anybody may answer; give an identity a routed address", address)
	}
	return nil
}

// transport is one without a proxy, as the network of a first boot has none, and without decompression, as what is
// unpacked has to be bounded.
func (m Machine) transport(allowed reach) *http.Transport {
	return &http.Transport{
		DialContext:           m.dialer(allowed),
		DisableCompression:    true,
		ResponseHeaderTimeout: requestWait,
		TLSHandshakeTimeout:   requestWait,
		// A search asks now and then; an idle connection is of no use to it.
		DisableKeepAlives: true,
		ForceAttemptHTTP2: false,
	}
}

// dialer opens connections to where it is allowed, whatever a name turns out to be.
func (m Machine) dialer(allowed reach) func(ctx context.Context, network, address string) (net.Conn, error) {
	check := func(address string) error {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return err
		}
		if parsed, err := netip.ParseAddr(host); err == nil {
			return allowed(parsed)
		}
		return nil
	}
	dial := m.Dial
	if dial == nil {
		real := net.Dialer{Timeout: requestWait, Control: func(_, address string, _ syscall.RawConn) error { return check(address) }}
		dial = real.DialContext
	}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		if err := check(address); err != nil {
			return nil, err
		}
		return dial(ctx, network, address)
	}
}

package source

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// service is a metadata service of a platform, at the link-local address that they all have.
type service struct {
	// name begins messages.
	name   string
	base   string
	client *http.Client
	// header gives what each request has to carry; nil for nothing.
	header func(ctx context.Context) (http.Header, error)
	// flavor is a header that each answer carries, NAME: VALUE; empty for none. Without it, somebody else has answered.
	flavor string
}

// serviceAddress is where a platform's own network answers. Nothing else in kiln talks to it.
const serviceAddress = "169.254.169.254"

// requestWait bounds one request: what hangs is asked again.
const requestWait = 10 * time.Second

func (m Machine) service(name string) service {
	return service{name: name, base: "http://" + serviceAddress, client: &http.Client{
		Transport: m.transport(anywhere), Timeout: requestWait,
		// A metadata service does not redirect; another server that is in its place may.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// get fetches path.
func (s service) get(ctx context.Context, path string) ([]byte, error) {
	return s.ask(ctx, http.MethodGet, path)
}

func (s service) ask(ctx context.Context, method, path string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, method, s.base+path, nil)
	if err != nil {
		return nil, err
	}
	if s.header != nil {
		header, err := s.header(ctx)
		if err != nil {
			return nil, err
		}
		request.Header = header
	}
	text, header, err := fetch(s.client, request, s.name)
	if err != nil {
		return nil, err
	}
	if name, want, _ := strings.Cut(s.flavor, ": "); s.flavor != "" && header.Get(name) != want {
		return nil, fmt.Errorf("%s answers without %q; something else has answered", path, s.flavor)
	}
	return text, nil
}

// userData fetches the identity from path. Clouds tell that there is no user-data by an empty text or by 404, which an early
// boot may get, too.
func (s service) userData(ctx context.Context, path string, w wrapping) (Found, error) {
	text, err := s.get(ctx, path)
	if err != nil {
		return Found{}, err
	}
	return s.found(text, w)
}

func (s service) found(text []byte, w wrapping) (Found, error) {
	if len(text) == 0 {
		return Found{}, nothing("the machine was given no user-data")
	}
	return w.read(s.name, text)
}

// field fetches a short text that may not be there.
func (s service) field(ctx context.Context, path string) (string, error) {
	text, err := s.get(ctx, path)
	if r, is := errors.AsType[refused](err); is && r.status == http.StatusNotFound {
		return "", nil
	}
	return strings.TrimSpace(string(text)), err
}

// fields fetches several into where each is wanted.
func (s service) fields(ctx context.Context, wanted map[string]*string) error {
	for path, to := range wanted {
		text, err := s.field(ctx, path)
		if err != nil {
			return err
		}
		*to = text
	}
	return nil
}

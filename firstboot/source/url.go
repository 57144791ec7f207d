package source

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/kiln-os/kiln/internal/document"
	"github.com/kiln-os/kiln/internal/nodefs"
)

// fetcher fetches from URLs that people or DHCP servers gave.
type fetcher struct {
	client *http.Client
	// sum is the SHA-256 that the identity has to have, as it lies there; empty for any.
	sum string
	// pinned says that only a server with a certificate may be asked.
	pinned bool
	// bootMAC is the address of the interface that the machine was booted from; empty when the boot loader did not say.
	bootMAC string
	facts   func() Facts
}

// maxRedirects is how often a server may send the search elsewhere.
const maxRedirects = 5

func (m Machine) fetcher(commandLine string, problems *document.Problems) fetcher {
	f := fetcher{facts: m.facts, bootMAC: bootMAC(commandLine)}
	transport := m.transport(beyondLink)
	if text := Parameter(commandLine, nodefs.ParamIdentityCA); text != "" {
		pin, err := ParsePin(text)
		if err != nil {
			problems.Add(nodefs.ParamIdentityCA, "%s", err)
		}
		pin.Transport(transport, nodefs.ParamIdentityCA)
		f.pinned = true
		if u := Parameter(commandLine, nodefs.ParamIdentity); strings.HasPrefix(u, "http:") {
			problems.Add(nodefs.ParamIdentityCA, "pins a certificate, and plain http has none; give %s as https://", nodefs.ParamIdentity)
		}
	}
	if text := Parameter(commandLine, nodefs.ParamIdentitySHA256); text != "" {
		sum, err := ParsePin(text)
		if err != nil {
			problems.Add(nodefs.ParamIdentitySHA256, "%q is no SHA-256; want 64 hexadecimal digits, as sha256sum shows them", text)
		}
		f.sum = sum.String()
	}
	f.client = &http.Client{Transport: transport, Timeout: 3 * requestWait, CheckRedirect: checkRedirect}
	return f
}

// checkRedirect keeps a search that began with https there: a redirect to plain HTTP could be anybody's.
func checkRedirect(next *http.Request, before []*http.Request) error {
	last := before[len(before)-1].URL
	switch {
	case last.Scheme == "https" && next.URL.Scheme != "https":
		return document.Problem{File: shown(before[0].URL), Text: fmt.Sprintf("redirects to %s, which is not https; serve the identity by https, or give its own URL", shown(next.URL))}
	case len(before) > maxRedirects:
		return fmt.Errorf("redirected more than %d times", maxRedirects)
	}
	return nil
}

// bootMAC reads the address of the boot interface as PXELINUX and iPXE write it: BOOTIF=01-52-54-00-12-34-56.
func bootMAC(commandLine string) string {
	text := strings.ToLower(Parameter(commandLine, "BOOTIF"))
	if len(text) == len("01-52-54-00-12-34-56") {
		text = text[3:]
	}
	return strings.ReplaceAll(text, "-", ":")
}

// urlVariable is one in a URL.
var urlVariable = regexp.MustCompile(`\$\{([^}]*)\}`)

// checkURL notes what is wrong with the URL text that the parameter field has.
func checkURL(problems *document.Problems, field, text string) {
	u, err := url.Parse(urlVariable.ReplaceAllString(text, "x"))
	switch {
	case err != nil || u.Host == "":
		problems.Add(field, "is no URL; want one as in https://10.0.0.1/identities/${mac}")
	case u.Scheme != "http" && u.Scheme != "https":
		problems.Add(field, "has the scheme %q; want https or http", u.Scheme)
	}
	for _, match := range urlVariable.FindAllStringSubmatch(text, -1) {
		if !slices.Contains([]string{"mac", "uuid", "serial", "hostname"}, match[1]) {
			problems.Add(field, "has ${%s}; want ${mac}, ${uuid}, ${serial} or ${hostname}", match[1])
		}
	}
}

// url asks at the URL that the kernel command line gives.
func (m Machine) url(text string, f fetcher) Source {
	return Source{Name: "URL of " + nodefs.ParamIdentity, Find: func(ctx context.Context) (Found, error) {
		return f.find(ctx, nodefs.ParamIdentity, text)
	}}
}

// find asks at the URL text, which field gave. Where that has ${mac}, the interfaces' addresses are tried in order, that of
// the boot interface first; the first one that is there counts.
func (f fetcher) find(ctx context.Context, field, text string) (Found, error) {
	urls, err := f.expand(field, text)
	if err != nil {
		return Found{}, err
	}
	var refusals []error
	for _, u := range urls {
		found, err := f.get(ctx, u)
		if _, is := errors.AsType[refused](err); is {
			refusals = append(refusals, err)
			continue
		}
		return found, err
	}
	return Found{}, errors.Join(refusals...)
}

// expand fills in what the machine is.
func (f fetcher) expand(field, text string) ([]string, error) {
	if !strings.Contains(text, "${") {
		return []string{text}, nil
	}
	facts := f.facts()
	macs := slices.Clone(facts.MACs)
	if i := slices.Index(macs, f.bootMAC); i > 0 {
		macs = slices.Insert(slices.Delete(macs, i, i+1), 0, f.bootMAC)
	}
	if !strings.Contains(text, "${mac}") || len(macs) == 0 {
		macs = []string{""} // one URL
	}
	var urls []string
	for _, mac := range macs {
		values := map[string]string{"mac": mac, "uuid": facts.UUID, "serial": facts.Serial, "hostname": facts.Hostname}
		for _, match := range urlVariable.FindAllStringSubmatch(text, -1) {
			switch name := match[1]; {
			case values[name] != "":
			case name == "hostname" || name == "mac":
				return nil, fmt.Errorf("the URL needs ${%s}, and this machine has none yet", name)
			default:
				return nil, document.Problem{File: commandLineName, Field: field, Text: fmt.Sprintf("needs ${%s}, and this machine does not tell it; use another variable", name)}
			}
		}
		urls = append(urls, urlVariable.ReplaceAllStringFunc(text, func(v string) string { return escaped(values[v[2:len(v)-1]]) }))
	}
	return urls, nil
}

// escaped is text as it may stand in a URL's path and in its query; colons stay, as iPXE has them in ${mac}.
func escaped(text string) string {
	return strings.NewReplacer("&", "%26", "+", "%2B", "=", "%3D").Replace(url.PathEscape(text))
}

// get fetches an identity.
func (f fetcher) get(ctx context.Context, text string) (Found, error) {
	raw, place, err := f.text(ctx, text)
	if err != nil {
		return Found{}, err
	}
	if sum := sha256.Sum256(raw); f.sum != "" && hex.EncodeToString(sum[:]) != f.sum {
		return Found{}, document.Problem{File: place, Text: fmt.Sprintf("has the SHA-256 %x, but %s is %s; correct one of them", sum, nodefs.ParamIdentitySHA256, f.sum)}
	}
	return fetched.read(place, raw)
}

// text fetches what is there, and names the place for messages.
func (f fetcher) text(ctx context.Context, text string) (raw []byte, place string, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, text, nil)
	if err != nil {
		return nil, "", errors.New("the URL cannot be asked")
	}
	place = shown(request.URL)
	if f.pinned && request.URL.Scheme != "https" {
		return nil, place, document.Problem{File: place, Text: "is plain http, and " + nodefs.ParamIdentityCA + " pins a certificate; serve the identity by https"}
	}
	if address, err := netip.ParseAddr(request.URL.Hostname()); err == nil {
		if err := beyondLink(address); err != nil {
			return nil, place, document.Problem{File: place, Text: err.Error()}
		}
	}
	raw, _, err = fetch(f.client, request, place)
	return raw, place, err
}

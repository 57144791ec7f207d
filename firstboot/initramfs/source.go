package initramfs

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/kiln-os/kiln/firstboot/disks"
	"github.com/kiln-os/kiln/firstboot/source"
	"github.com/kiln-os/kiln/internal/nodefs"
)

// Source is where the root comes from; the zero value is a disk.
type Source struct {
	kind sourceKind
	// url is that of root.img.
	url string
	// ca is the pin of the server's certificate, nil when there is none.
	ca *source.Pin
}

type sourceKind int

const (
	fromDisk sourceKind = iota
	fromURL
	fromDHCP
	fromMedium
)

// live tells that the root is on none of the machine's disks.
func (s Source) live() bool { return s.kind != fromDisk }

func (s Source) overNetwork() bool { return s.kind == fromURL || s.kind == fromDHCP }

// parseSource reads kiln.root.
func parseSource(value string) (sourceKind, string, error) {
	switch value {
	case nodefs.RootDHCP:
		return fromDHCP, "", nil
	case nodefs.RootMedium:
		return fromMedium, "", nil
	}
	u, err := url.Parse(value)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || !strings.HasSuffix(u.Path, "/"+nodefs.LiveRoot) {
		return fromDisk, "", fmt.Errorf("kernel command line: %s: %q is no place of a root; want http://SERVER/PATH/%s, the same with https, %s or %s",
			nodefs.ParamRoot, value, nodefs.LiveRoot, nodefs.RootDHCP, nodefs.RootMedium)
	}
	return fromURL, value, nil
}

// parsePin reads kiln.root.ca.
func parsePin(value string) (*source.Pin, error) {
	pin, err := source.ParsePin(value)
	if err != nil {
		return nil, fmt.Errorf("kernel command line: %s: %w", nodefs.ParamRootCA, err)
	}
	return &pin, nil
}

// parseState reads kiln.state; memory is no rule.
func parseState(value string) (disks.Rule, error) {
	if value == nodefs.StateMemory {
		return disks.Rule{}, nil
	}
	rule, err := disks.ParseRule(value)
	if err != nil {
		err = fmt.Errorf("kernel command line: %s: %w; or %s", nodefs.ParamState, err, nodefs.StateMemory)
	}
	return rule, err
}

// contradictions are parameters that do not go together.
func (p Params) contradictions() error {
	var errs []error
	if !p.Root.live() && !p.State.IsZero() {
		errs = append(errs, fmt.Errorf("kernel command line: %s: is for live boots, and there is no %s; leave it out, or say where the root comes from",
			nodefs.ParamState, nodefs.ParamRoot))
	}
	if strings.HasPrefix(p.Root.url, "https:") && p.Root.ca == nil {
		errs = append(errs, fmt.Errorf("kernel command line: %s: missing; %s is an https URL, and the initramfs trusts only a certificate whose SHA-256 it is told",
			nodefs.ParamRootCA, nodefs.ParamRoot))
	}
	return errors.Join(errs...)
}

// beside is the URL of a file in the same directory as that of another, whose query stays.
func beside(address, name string) (string, error) {
	u, err := url.Parse(address)
	if err != nil {
		return "", err
	}
	u.Path = u.Path[:strings.LastIndex(u.Path, "/")+1] + name
	u.RawPath = ""
	return u.String(), nil
}

package source

import (
	"context"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/kiln-os/kiln/internal/document"
	"github.com/kiln-os/kiln/internal/nodefs"
)

// packet is an offer as it comes over the wire.
func packet(t *testing.T, code uint8, value []byte) *dhcpv4.DHCPv4 {
	t.Helper()
	p, err := dhcpv4.New(dhcpv4.WithMessageType(dhcpv4.MessageTypeOffer), dhcpv4.WithGeneric(dhcpv4.GenericOptionCode(code), value))
	if err != nil {
		t.Fatal(err)
	}
	if p, err = dhcpv4.FromBytes(p.ToBytes()); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestDHCP(t *testing.T) {
	reachable := network{"plain.test:80": serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, "/i/") {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write([]byte(strings.TrimPrefix(r.URL.Path, "/i/")))
	}))}
	// Longer than the 255 bytes that one option has (RFC 3396).
	long := "http://plain.test/i/" + strings.Repeat("x", 300)
	tests := []struct {
		name, option string
		// line is what else the kernel command line has.
		line    string
		offers  []Offer
		want    string
		wantErr string
		wrong   bool
	}{
		{name: "private", option: "224", offers: []Offer{{"eth0", packet(t, 224, []byte("http://plain.test/i/a"))}}, want: "a"},
		{name: "ended by NUL, with a variable", option: "225", offers: []Offer{{"eth0", packet(t, 225, []byte("http://plain.test/i/${hostname}\x00"))}}, want: "rack1"},
		{name: "vendor's own", option: "43.7", offers: []Offer{{"eth0", packet(t, 43, append([]byte{1, 1, 'x', 7, 21}, "http://plain.test/i/v"...))}}, want: "v"},
		{name: "long", option: "224", offers: []Offer{{"eth0", packet(t, 224, []byte(long))}}, want: strings.Repeat("x", 300)},
		{name: "two networks agree", option: "224", want: "a",
			offers: []Offer{{"eth0", packet(t, 224, []byte("http://plain.test/i/a"))}, {"eth1", packet(t, 6, nil)}, {"eth2", packet(t, 224, []byte("http://plain.test/i/a"))}}},
		{name: "two networks disagree", option: "224", wrong: true, wantErr: "DHCP option 224: is not the same on eth0 and on eth2",
			offers: []Offer{{"eth0", packet(t, 224, []byte("http://plain.test/i/a"))}, {"eth2", packet(t, 224, []byte("http://plain.test/i/b"))}}},
		{name: "other options", option: "224", offers: []Offer{{"eth0", packet(t, 225, []byte("x"))}}, wantErr: "1 offers, none of them with option 224"},
		{name: "no URL", option: "224", offers: []Offer{{"eth0", packet(t, 224, []byte{1, 2, 3})}}, wrong: true, wantErr: "DHCP on eth0: option 224: is no URL"},
		{name: "broken vendor option", option: "43.1", offers: []Offer{{"eth0", packet(t, 43, []byte{1, 200, 'x'})}}, wantErr: "none of them with option 43.1"},
		{name: "plain http, though a certificate is pinned", option: "224", line: "kiln.identity.ca=" + hex64, wrong: true,
			offers: []Offer{{"eth0", packet(t, 224, []byte("http://plain.test/i/a"))}}, wantErr: "http://plain.test/i/a: is plain http, and kiln.identity.ca pins a certificate"},
		{name: "nothing there", option: "224", offers: []Offer{{"eth0", packet(t, 224, []byte("http://plain.test/b"))}}, wantErr: "answers 404"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			root := t.TempDir()
			write(t, filepath.Join(root, "/proc/cmdline"), "kiln.identity.dhcp="+tt.option+" "+tt.line)
			m := Machine{Root: nodefs.Root(root), Facts: facts, Dial: reachable.dial, Offers: func(_ context.Context, option DHCPOption) ([]Offer, error) {
				if option.String() != tt.option {
					t.Errorf("asked for %s", option)
				}
				return tt.offers, nil
			}}
			sources, err := m.named(PlatformMetal)
			if err != nil || len(sources) != 1 {
				t.Fatalf("have %d sources, %v", len(sources), err)
			}
			found, err := sources[0].Find(t.Context())
			if tt.wantErr == "" {
				if err != nil || string(found.Text) != tt.want {
					t.Errorf("have %q, %v", found.Text, err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.wantErr) || document.IsInvalid(err) != tt.wrong {
				t.Errorf("have %v; want %s", err, tt.wantErr)
			}
		})
	}
}

package source

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kiln-os/kiln/internal/document"
	"github.com/kiln-os/kiln/internal/nodefs"
)

// What lies at a URL may be anything.
func TestURL(t *testing.T) {
	sum := func(text string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(text))) }
	mux := http.NewServeMux()
	answer := func(path, text string) {
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, text) })
	}
	answer("/identity", identity)
	answer("/52:54:00:00:00:02/AB%201%2F2/4c4c4544/rack1", identity)
	answer("/52:54:00:00:00:02", identity)
	answer("/html", "<!DOCTYPE html>\n<html><body>Sign in "+secret+"</body></html>")
	answer("/empty", "")
	answer("/cloud-config", "#cloud-config\npassword: "+secret)
	answer("/script", "#!/bin/sh\n")
	answer("/spec2", `{"ignition":{"version":"2.3.0"}}`)
	answer("/junk", strings.Repeat("\x00\x17"+secret, 10<<20/25))
	answer("/small-junk", "\x00\x17"+secret)
	answer("/bomb", zipped(t, strings.Repeat("a", 20<<20)))
	answer("/torn-gzip", zipped(t, strings.Repeat(identity, 100))[:40])
	answer("/gzip", zipped(t, identity))
	answer("/torn-config", config[:50])
	mux.HandleFunc("/cut", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1000")
		fmt.Fprint(w, identity)
	})
	mux.HandleFunc("/to-plain", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://plain.test/identity", http.StatusFound)
	})
	mux.HandleFunc("/to-other", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/identity", http.StatusFound) })
	mux.HandleFunc("/round", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/round", http.StatusFound) })
	mux.HandleFunc("/broken", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
	secure := httptest.NewUnstartedServer(mux)
	// It would say that its certificate is refused.
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	t.Cleanup(secure.Close)
	pin := sum(string(secure.Certificate().Raw))
	reachable := network{"example.com:443": secure, "plain.test:80": serve(t, mux)}
	tests := []struct {
		name, line string
		// want is an identity, wantErr a part of the message otherwise; wrong says that the message blames a document, which no retry mends.
		want, wantErr string
		wrong         bool
	}{
		{name: "plain http", line: "kiln.identity=http://plain.test/identity", want: identity},
		{name: "pinned", line: "kiln.identity=https://example.com/identity kiln.identity.ca=" + pin, want: identity},
		{name: "all variables, all addresses", line: "kiln.identity=http://plain.test/${mac}/${serial}/${uuid}/${hostname}", want: identity},
		{name: "its SHA-256", line: "kiln.identity=http://plain.test/identity kiln.identity.sha256=" + sum(identity), want: identity},
		{name: "another SHA-256", line: "kiln.identity=http://plain.test/identity kiln.identity.sha256=" + sum("x"), wrong: true,
			wantErr: "http://plain.test/identity: has the SHA-256 " + sum(identity) + ", but kiln.identity.sha256 is " + sum("x")},
		{name: "gzip", line: "kiln.identity=http://plain.test/gzip", want: identity},
		{name: "redirect that stays", line: "kiln.identity=https://example.com/to-other kiln.identity.ca=" + pin, want: identity},
		{name: "redirect to plain http", line: "kiln.identity=https://example.com/to-plain kiln.identity.ca=" + pin, wrong: true,
			wantErr: "https://example.com/to-plain: redirects to http://plain.test/identity, which is not https"},
		{name: "redirects for ever", line: "kiln.identity=http://plain.test/round", wantErr: "redirected more than 5 times"},
		{name: "wrong pin", line: "kiln.identity=https://example.com/identity kiln.identity.ca=" + sum("x"), wrong: true,
			wantErr: "kernel command line: kiln.identity.ca: is " + sum("x") + ", but example.com shows other certificates (" + pin + ")"},
		{name: "no pin, unknown authority", line: "kiln.identity=https://example.com/identity", wantErr: "certificate signed by unknown authority"},
		{name: "404", line: "kiln.identity=http://plain.test/nowhere?key=" + secret, wantErr: "http://plain.test/nowhere answers 404 Not Found"},
		{name: "502", line: "kiln.identity=http://plain.test/broken", wantErr: "http://plain.test/broken answers 502 Bad Gateway"},
		{name: "nobody there", line: "kiln.identity=http://u:" + secret + "@nowhere.test/x?key=" + secret, wantErr: "no route to nowhere.test:80"},
		{name: "HTML", line: "kiln.identity=http://plain.test/html", wrong: true, wantErr: "http://plain.test/html: is a web page or XML, and not an identity; put an identity there"},
		{name: "empty", line: "kiln.identity=http://plain.test/empty", wrong: true, wantErr: "http://plain.test/empty: is empty; put an identity there"},
		{name: "cut in the middle", line: "kiln.identity=http://plain.test/cut", wantErr: "http://plain.test/cut ends after 24 of 1000 bytes"},
		{name: "cut before it was served", line: "kiln.identity=http://plain.test/torn-config", wrong: true, wantErr: "http://plain.test/torn-config: unexpected end of JSON input"},
		{name: "cut in gzip", line: "kiln.identity=http://plain.test/torn-gzip", wrong: true, wantErr: "ends in the middle of what gzip packed"},
		{name: "10 MB of junk", line: "kiln.identity=http://plain.test/junk", wrong: true, wantErr: "has more than 1048576 bytes"},
		{name: "junk", line: "kiln.identity=http://plain.test/small-junk", wrong: true, wantErr: "is no text"},
		{name: "gzip bomb", line: "kiln.identity=http://plain.test/bomb", wrong: true, wantErr: "has more than 1048576 bytes, unpacked"},
		{name: "cloud-config", line: "kiln.identity=http://plain.test/cloud-config", wrong: true, wantErr: "is a cloud-config, which kiln does not apply"},
		{name: "script", line: "kiln.identity=http://plain.test/script", wrong: true, wantErr: "is a script, which kiln does not run"},
		{name: "Ignition spec 2", line: "kiln.identity=http://plain.test/spec2", wrong: true, wantErr: "ignition.version: is 2.3.0, as Cluster API's kubeadm provider writes it; want 3.0.0 to 3.5.0: convert the config"},
		{name: "seed", line: "ds=nocloud;s=http://plain.test/seed/", wantErr: "http://plain.test/seed/user-data answers 404"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			root := t.TempDir()
			write(t, filepath.Join(root, "/proc/cmdline"), tt.line)
			sources, err := Machine{Root: nodefs.Root(root), Facts: facts, Dial: reachable.dial}.named(PlatformMetal)
			if err != nil || len(sources) != 1 {
				t.Fatalf("have %d sources, %v", len(sources), err)
			}
			found, err := sources[0].Find(t.Context())
			if tt.wantErr == "" {
				if err != nil || string(found.Text) != tt.want {
					t.Fatalf("have %q, %v", found.Text, err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.wantErr) {
				t.Fatalf("have %v\nwant %s", err, tt.wantErr)
			}
			if document.IsInvalid(err) != tt.wrong {
				t.Errorf("says that a document is wrong: %v; want %v", !tt.wrong, tt.wrong)
			}
			if strings.Contains(err.Error(), secret[7:]) {
				t.Errorf("message shows the secret: %v", err)
			}
		})
	}
}

func TestParametersThatCannotBe(t *testing.T) {
	for line, want := range map[string]string{
		"kiln.identity=ftp://a/b":                           `kiln.identity: has the scheme "ftp"; want https or http`,
		"kiln.identity=/a/b":                                "kiln.identity: is no URL",
		"kiln.identity=http://a/${name}":                    "kiln.identity: has ${name}; want ${mac}, ${uuid}, ${serial} or ${hostname}",
		"kiln.identity=https://a/ kiln.identity.ca=abc":     `kiln.identity.ca: "abc" is no SHA-256`,
		"kiln.identity=http://a/ kiln.identity.ca=" + hex64: "kiln.identity.ca: pins a certificate, and plain http has none",
		"kiln.identity=https://a/ kiln.identity.sha256=abc": `kiln.identity.sha256: "abc" is no SHA-256`,
		"kiln.identity.ca=" + hex64:                         "kiln.identity.ca: is given without a URL",
		"kiln.identity.dhcp=0":                              `kiln.identity.dhcp: is "0"; want the number of an option`,
		"kiln.identity.dhcp=256":                            `kiln.identity.dhcp: is "256"`,
		"kiln.identity.dhcp=44.1":                           `kiln.identity.dhcp: is "44.1"`,
		"ds=nocloud;s=http:///x":                            "ds: is no URL",
	} {
		root := t.TempDir()
		write(t, filepath.Join(root, "/proc/cmdline"), line)
		_, err := ForPlatform(PlatformMetal, Machine{Root: nodefs.Root(root), Facts: facts})
		if !document.IsInvalid(err) || !strings.Contains(err.Error(), "kernel command line: "+want) {
			t.Errorf("%s: have %v", line, err)
		}
	}
	for _, text := range []string{"0", "-1", "x", "1.5"} {
		if _, err := BudgetOn("kiln.identity.wait=" + text); !document.IsInvalid(err) {
			t.Errorf("%s: have %v", text, err)
		}
	}
	if budget, err := BudgetOn("quiet kiln.identity.wait=7"); err != nil || budget != 7*time.Second {
		t.Errorf("have %v, %v", budget, err)
	}
	if budget, err := BudgetOn("quiet"); err != nil || budget != defaultBudget {
		t.Errorf("have %v, %v", budget, err)
	}
}

const hex64 = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"

func TestBootInterfaceComesFirst(t *testing.T) {
	f := fetcher{facts: facts, bootMAC: bootMAC("a BOOTIF=01-52-54-00-00-00-02 b")}
	urls, err := f.expand("kiln.identity", "http://a/${mac}")
	if err != nil || strings.Join(urls, " ") != "http://a/52:54:00:00:00:02 http://a/52:54:00:00:00:01" {
		t.Errorf("have %q, %v", urls, err)
	}
	f.facts = func() Facts { return Facts{MACs: []string{"m"}} }
	if _, err := f.expand("kiln.identity", "http://a/${serial}"); !document.IsInvalid(err) {
		t.Errorf("have %v", err)
	}
	if _, err := f.expand("kiln.identity", "http://a/${hostname}"); err == nil || document.IsInvalid(err) {
		t.Errorf("a name that may still come: have %v", err)
	}
}

func TestNoCloudSeed(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/s/user-data", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, message(identity)) })
	mux.HandleFunc("/s/meta-data", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "instance-id: i1\nlocal-hostname: n1\n") })
	mux.HandleFunc("/bare/user-data", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, identity) })
	reachable := network{"seed.test:80": serve(t, mux)}
	for _, tt := range []struct {
		platform, line, serial string
		want                   Metadata
		sources                int
	}{
		{PlatformMetal, "ds=nocloud;s=http://seed.test/s/", "", Metadata{Hostname: "n1", InstanceID: "i1"}, 1},
		{PlatformMetal, "ds=nocloud-net;seedfrom=http://seed.test/bare/", "", Metadata{}, 1},
		{PlatformQEMU, "", "ds=nocloud;h=x;s=http://seed.test/s/", Metadata{Hostname: "n1", InstanceID: "i1"}, 1},
		{PlatformMetal, "", "ds=nocloud;s=http://seed.test/s/", Metadata{}, 0},
	} {
		root := t.TempDir()
		write(t, filepath.Join(root, "/proc/cmdline"), tt.line)
		m := Machine{Root: nodefs.Root(root), Dial: reachable.dial, Facts: func() Facts { return Facts{Serial: tt.serial} }}
		sources, err := m.named(tt.platform)
		if err != nil || len(sources) != tt.sources {
			t.Fatalf("%+v: have %d sources, %v", tt, len(sources), err)
		}
		for _, s := range sources {
			found, err := s.Find(t.Context())
			if err != nil || strings.TrimSpace(string(found.Text)) != strings.TrimSpace(identity) || found.Metadata != tt.want {
				t.Errorf("%+v: have %q, %+v, %v", tt, found.Text, found.Metadata, err)
			}
		}
	}
}

// No platform without a metadata service of its own asks at its address, and none does because of a URL.
func TestLinkLocalIsNeverAskedUnlessPlatformsOwn(t *testing.T) {
	asked := []string{}
	dial := func(_ context.Context, _, address string) (net.Conn, error) {
		asked = append(asked, address)
		return nil, errors.New("no route")
	}
	lines := []string{"", "kiln.identity=http://169.254.169.254/x", "kiln.identity=http://[fe80::1]/x", "kiln.identity=http://[fd00:ec2::254]/x",
		"kiln.identity=http://[::ffff:169.254.169.254]/x", "ds=nocloud;s=http://169.254.169.254/x/", "kiln.identity.dhcp=224"}
	offers := func(context.Context, DHCPOption) ([]Offer, error) {
		return []Offer{{Interface: "eth0", Packet: packet(t, 224, []byte("http://169.254.169.254/"))}}, nil
	}
	for _, platform := range []string{PlatformMetal, PlatformQEMU, PlatformVMware} {
		for _, line := range lines {
			root := t.TempDir()
			write(t, filepath.Join(root, "/proc/cmdline"), line)
			sources, err := ForPlatform(platform, Machine{Root: nodefs.Root(root), Runner: &recorder{}, Facts: facts, Dial: dial, Offers: offers})
			if err != nil {
				t.Fatal(err)
			}
			for i := range sources {
				sources[i].Appears = 0
			}
			_, err = Search{Sources: sources, Budget: time.Millisecond}.Find(t.Context())
			if err == nil || line != "" && !strings.Contains(err.Error(), "is link-local") {
				t.Errorf("%s %s: have %v", platform, line, err)
			}
		}
	}
	if len(asked) > 0 {
		t.Errorf("asked %q", asked)
	}
	// A name may stand for it, too: there the dialer looks at what it is going to connect to.
	if _, err := (Machine{}).dialer(beyondLink)(t.Context(), "tcp", "169.254.169.254:80"); err == nil || !strings.Contains(err.Error(), "is link-local") {
		t.Errorf("have %v", err)
	}
}

package bootstrap

import (
	"context"
	"encoding/base64"
	"errors"
	"strconv"
	"strings"
	"testing"

	"github.com/kiln-os/kiln/firstboot/source"
	"github.com/kiln-os/kiln/internal/document"
	"github.com/kiln-os/kiln/internal/nodefs"
)

const poolIdentityText = `apiVersion: kiln/v1alpha1
kind: Identity
release: v1.36
node: {pool: blue, role: worker, name: "blue-${hostname}", subnet: 10.0.2.0/24%s}
cluster: {name: demo, endpoint: "10.0.2.9:6443"}
bootstrap: {token: ` + token + `, authorities: {cluster: {certificate: CERTIFICATE}}}
`

// What a cloud knows of its machine reaches the node, its copy of the identity, and the boot after, when nobody is asked.
func TestMetadataFillsWhatTheIdentityLeavesOpen(t *testing.T) {
	tests := []struct {
		name, more string
		metadata   source.Metadata
		// want is the node's name, zone, region and provider ID.
		want, warning string
	}{
		{name: "all open", metadata: source.Metadata{Hostname: "ip-10-0-2-15.eu-west-1.compute.internal", Zone: "eu-west-1a", Region: "eu-west-1", ProviderID: "aws:///eu-west-1a/i-0"},
			want: "blue-ip-10-0-2-15 eu-west-1a eu-west-1 aws:///eu-west-1a/i-0"},
		{name: "what the identity says stays", more: ", zone: rack7, providerID: 'x://y'", metadata: source.Metadata{Hostname: "n1", Zone: "eu-west-1a", Region: "eu-west-1", ProviderID: "aws:///z/i"},
			want: "blue-n1 rack7 eu-west-1 x://y"},
		{name: "a zone that no label can be", metadata: source.Metadata{Hostname: "n1", Zone: "a zone"}, want: "blue-n1   ", warning: `zone: "a zone" is nothing that a Node can have`},
		{name: "nothing but the network's name", want: "blue-fromnet   "},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.write("/proc/sys/kernel/hostname", "fromnet\n")
			certificate, _ := w.api.Authority()
			w.text = strings.NewReplacer("%s", tt.more, "CERTIFICATE", strconv.Quote(string(certificate))).Replace(poolIdentityText)
			w.metadata = tt.metadata
			i := mustImage(t, w)
			i.baked.Role = "worker"
			f, err := w.m.findIdentity(t.Context(), i, &stepJournal{})
			if err != nil {
				t.Fatal(err)
			}
			say := func(f found) string {
				return strings.Join([]string{f.id.Node.Name, f.id.Node.Zone, f.id.Node.Region, f.id.Node.ProviderID}, " ")
			}
			if say(f) != tt.want || !strings.Contains(strings.Join(f.warnings, "\n"), tt.warning) {
				t.Errorf("have %q, warnings %q; want %q", say(f), f.warnings, tt.want)
			}
			if err := w.m.saveCopy(f); err != nil {
				t.Fatal(err)
			}
			w.text = "" // nowhere any more
			again, err := w.m.findIdentity(t.Context(), i, &stepJournal{records: []record{{Step: "kubeadm-join", State: began}}})
			if err != nil || say(again) != tt.want || !again.copied {
				t.Errorf("after the next boot: have %q, %v", say(again), err)
			}
		})
	}
}

func TestMetadataReachesTheKubelet(t *testing.T) {
	w := newWorld(t)
	w.metadata = source.Metadata{Hostname: "elsewhere", Zone: "eu-west-1a", Region: "eu-west-1", ProviderID: "aws:///eu-west-1a/i-0"}
	if err := w.run(); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"name: cp1", "aws:///eu-west-1a/i-0", "topology.kubernetes.io/zone=eu-west-1a", "topology.kubernetes.io/region=eu-west-1"} {
		if !strings.Contains(w.config, want) {
			t.Errorf("kubeadm was not given %q:\n%s", want, w.config)
		}
	}
}

// TestBeside: what is on the machine needs no network, and a machine that installs itself applies nothing.
func TestBeside(t *testing.T) {
	config := `{"ignition":{"version":"3.5.0"},"storage":{"files":[{"path":"/etc/kiln/identity.yaml","contents":{"source":"data:;base64,` +
		base64.StdEncoding.EncodeToString([]byte(identityText)) + `"}},{"path":"/etc/motd","contents":{"source":"data:,x"}}]}}`
	for name, tt := range map[string]struct {
		line, config, facts string
		asks                string
		more, nowhere       bool
	}{
		"a config":               {line: "kiln.platform=qemu", config: config, asks: "file /etc/motd"},
		"an identity alone":      {line: "kiln.platform=qemu", config: identityText},
		"nothing":                {line: "kiln.platform=qemu", nowhere: true},
		"maybe on the network":   {line: "kiln.platform=qemu kiln.identity=http://192.0.2.1/x", nowhere: true, more: true},
		"a live system":          {line: "kiln.platform=qemu", config: config, facts: `{"live":{"source":"http://192.0.2.1/root.img"}}`, asks: "file /etc/motd"},
		"one that installs":      {line: "kiln.platform=qemu kiln.install=path:/dev/vda", config: config, facts: `{"live":{"source":"http://192.0.2.1/root.img"}}`},
		"one that was installed": {line: "kiln.platform=qemu kiln.install=path:/dev/vda", config: config, asks: "file /etc/motd"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.write("/proc/cmdline", tt.line)
			w.write("/sys/firmware/qemu_fw_cfg/by_name/README", "")
			if tt.config != "" {
				w.write("/sys/firmware/qemu_fw_cfg/by_name/opt/com.coreos/config/raw", tt.config)
			}
			if tt.facts != "" {
				w.write(nodefs.BootFacts, tt.facts)
			}
			f, more, err := w.m.Beside(t.Context(), false)
			if _, nowhere := errors.AsType[*source.NotFound](err); nowhere != tt.nowhere || err != nil && !nowhere {
				t.Fatalf("have %v", err)
			}
			if more != tt.more || strings.Join(f.Asks, ", ") != tt.asks || (f.Ignition != nil) != (tt.asks != "") {
				t.Errorf("have %v, more %v; want %q, %v", f.Asks, more, tt.asks, tt.more)
			}
		})
	}
}

// A node that was cut off while it joined has all that it needs: a source that hangs must not keep it.
func TestSourceThatHangsDoesNotKeepACopyFromBeingUsed(t *testing.T) {
	w := newWorld(t)
	w.write(nodefs.IdentityCopy, identityText)
	limits := []bool{}
	w.m.Find = func(ctx context.Context) (source.Found, error) {
		_, limited := ctx.Deadline()
		limits = append(limits, limited)
		return source.Found{}, context.DeadlineExceeded
	}
	i := mustImage(t, w)
	if f, err := w.m.findIdentity(t.Context(), i, &stepJournal{records: []record{{Step: "kubeadm-join", State: began}}}); err != nil || !f.copied {
		t.Errorf("have %+v, %v", f.from, err)
	}
	if _, err := w.m.findIdentity(t.Context(), i, &stepJournal{}); err == nil {
		t.Error("before it joins, a node takes its old identity though its source may have another")
	}
	if len(limits) != 2 || !limits[0] || limits[1] {
		t.Errorf("limited: %v", limits)
	}
}

// The places are those of the platform on the kernel command line, and what is waited for is said.
func TestFindOnPlatform(t *testing.T) {
	w := newWorld(t)
	w.write("/sys/firmware/qemu_fw_cfg/by_name/opt/com.coreos/config/raw", identityText)
	if f, err := w.m.findOnPlatform(t.Context()); err != nil || string(f.Text) != identityText || f.From != "QEMU fw_cfg opt/com.coreos/config" {
		t.Errorf("have %q from %s, %v", f.Text, f.From, err)
	}
	w.write("/proc/cmdline", "kiln.platform=qemu kiln.identity.wait=soon")
	if _, err := w.m.findOnPlatform(t.Context()); !document.IsInvalid(err) || !strings.Contains(err.Error(), `kiln.identity.wait: is "soon"`) {
		t.Errorf("have %v", err)
	}
	w.write("/proc/cmdline", "kiln.platform=metal")
	w.write(nodefs.SystemCredentials+"/"+nodefs.CredentialIdentity, identityText)
	if f, err := w.m.findOnPlatform(t.Context()); err != nil || f.From != "systemd credential kiln.identity" {
		t.Errorf("have %s, %v", f.From, err)
	}
	w.write("/proc/cmdline", "kiln.platform=metal kiln.identity.wait=1 kiln.identity=http://127.0.0.1:1/${uuid}")
	if _, err := w.m.findOnPlatform(t.Context()); err != nil {
		t.Errorf("a variable that is not needed: %v", err)
	}
}

// What time can mend is run again; what nobody has is not.
func TestUnansweredIsNotForEver(t *testing.T) {
	if IsPermanent(&source.Unanswered{Tried: []string{"a: no route"}}) {
		t.Error("a silent network ends the first boot")
	}
	if !IsPermanent(&source.NotFound{Tried: []string{"a: nothing"}}) {
		t.Error("an identity that is nowhere is waited for")
	}
}

package source

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kiln-os/kiln/internal/command"
	"github.com/kiln-os/kiln/internal/document"
	"github.com/kiln-os/kiln/internal/nodefs"
)

const secret = "abcdef.0123456789abcdef"

// packed is text as a gzipped, base64-coded data: URL.
func packed(t *testing.T, text string) string {
	t.Helper()
	var buffer bytes.Buffer
	w := gzip.NewWriter(&buffer)
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return "data:;base64," + base64.StdEncoding.EncodeToString(buffer.Bytes())
}

func TestIdentityInIgnition(t *testing.T) {
	file := func(rest string) string {
		return `{"ignition":{"version":"3.5.0"},"storage":{"files":[{"path":"/etc/kiln/identity.yaml","mode":384,"contents":{` + rest + `}}]}}`
	}
	const hello = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
	tests := []struct {
		name, config, want string
		// wantErr lists parts of the message.
		wantErr []string
	}{
		{name: "plain", config: file(`"source":"data:,hello"`), want: "hello"},
		{name: "escaped", config: file(`"source":"data:,a%3A%20b%0A"`), want: "a: b\n"},
		{name: "base64", config: file(`"source":"data:;base64,aGVsbG8="`), want: "hello"},
		{name: "older spec", config: strings.Replace(file(`"source":"data:,hello"`), "3.5.0", "3.2.0", 1), want: "hello"},
		{name: "gzip", config: file(`"compression":"gzip","source":"` + packed(t, "hello") + `"`), want: "hello"},
		{name: "hash of the unpacked text", config: file(`"compression":"gzip","verification":{"hash":"sha256-` + hello + `"},"source":"` + packed(t, "hello") + `"`), want: "hello"},
		{name: "other hash", config: file(`"verification":{"hash":"sha256-` + hello + `"},"source":"data:,` + secret + `"`),
			wantErr: []string{"storage.files[0].contents", "verification.hash says " + hello}},
		{name: "without mode", config: strings.Replace(file(`"source":"data:,hello"`), `"mode":384,`, "", 1), want: "hello"},
		{name: "not gzip", config: file(`"compression":"gzip","source":"data:,hello"`), wantErr: []string{"cannot be unpacked"}},
		{name: "fetched", config: file(`"source":"https://example.org/x"`), wantErr: []string{`scheme "https"`, "data: URL"}},
		{name: "no contents", config: file(``), wantErr: []string{"storage.files[0].contents: are missing"}},
		{name: "no file", config: `{"ignition":{"version":"3.4.0"}}`, wantErr: []string{"storage.files: has no file /etc/kiln/identity.yaml"}},
		{name: "unused key", config: `{"ignition":{"version":"3.5.0"},"storage":{"flies":[]}}`, wantErr: []string{"flies", "line 1"}},
		{name: "spec 2", config: `{"ignition":{"version":"2.3.0"}}`, wantErr: []string{"ignition.version: is 2.3.0, as Cluster API", "want 3.0.0 to 3.5.0"}},
		{name: "spec 4", config: `{"ignition":{"version":"4.0.0"}}`, wantErr: []string{"config.ign", "version"}},
		{name: "empty", config: ``, wantErr: []string{"config.ign: is empty"}},
		{name: "cut off", config: `{"ignition":{"version":"3.5.0"},"storage":{"files":[{"pa`, wantErr: []string{"config.ign: unexpected end of JSON input"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			found, err := fetched.read("config.ign", []byte(tt.config))
			got := found.Text
			if len(tt.wantErr) == 0 {
				if err != nil || string(got) != tt.want {
					t.Fatalf("have %q, %v; want %q", got, err, tt.want)
				}
				return
			}
			if err == nil {
				t.Fatalf("have no error, and %q", got)
			}
			if !document.IsInvalid(err) {
				t.Errorf("not a problem of a document: %v", err)
			}
			for _, want := range tt.wantErr {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("message lacks %q:\n%v", want, err)
				}
			}
			if strings.Contains(err.Error(), secret[7:]) {
				t.Errorf("message shows the secret:\n%v", err)
			}
		})
	}
}

func TestIgnitionBesideTheIdentityComesAlong(t *testing.T) {
	const whole = `{"ignition":{"version":"3.5.0"},"passwd":{"users":[{"name":"core"}]},"systemd":{"units":[{"name":"a.service"}]},
		"storage":{"files":[{"path":"/etc/kiln/identity.yaml","contents":{"source":"data:,hello"}},{"path":"/etc/motd","contents":{"source":"data:,x"}}]}}`
	found, err := fetched.read("config.ign", []byte(whole))
	if err != nil || string(found.Text) != "hello" || string(found.Ignition) != whole {
		t.Errorf("have %q, %v", found.Text, err)
	}
	if got := strings.Join(found.Asks, ", "); got != "file /etc/motd, user core, unit a.service" {
		t.Errorf("asks for %q", got)
	}
	if found, err := fetched.read("config.ign", []byte(config)); err != nil || found.Ignition != nil || found.Asks != nil {
		t.Errorf("a config with nothing but the identity: have %q, %v", found.Ignition, err)
	}
}

// recorder notes commands and does nothing.
type recorder struct{ ran []string }

func (r *recorder) Run(_ context.Context, c command.Command) (command.Usage, error) {
	r.ran = append(r.ran, strings.Join(append([]string{c.Name}, c.Args...), " "))
	return command.Usage{}, nil
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

const config = `{"ignition":{"version":"3.5.0"},"storage":{"files":[{"path":"/etc/kiln/identity.yaml","mode":384,"contents":{"source":"data:,from-config"}}]}}`

func TestFind(t *testing.T) {
	tests := []struct {
		name, platform string
		// files are below the machine's root; those below /medium are on the labelled partition.
		files    map[string]string
		want     string
		wantFrom string
		wantErr  []string
		modprobe bool
	}{
		{name: "fw_cfg", platform: "qemu", files: map[string]string{firmwareConfigDir + "/by_name/opt/com.coreos/config/raw": config},
			want: "from-config", wantFrom: "QEMU fw_cfg opt/com.coreos/config"},
		{name: "fw_cfg and the partition agree", platform: "qemu", want: "from-config", wantFrom: "QEMU fw_cfg opt/com.coreos/config", files: map[string]string{
			firmwareConfigDir + "/by_name/opt/com.coreos/config/raw": config, "/dev/disk/by-label/KILN": "", "/medium/identity.yaml": "from-config\n"}},
		{name: "fw_cfg and the partition disagree", platform: "qemu", files: map[string]string{
			firmwareConfigDir + "/by_name/opt/com.coreos/config/raw": config, "/dev/disk/by-label/KILN": "", "/medium/identity.yaml": "from-partition"},
			wantErr: []string{"QEMU fw_cfg opt/com.coreos/config: has another identity than partition labelled KILN; leave one of them"}},
		{name: "identity itself in fw_cfg", platform: "qemu", files: map[string]string{firmwareConfigDir + "/by_name/opt/com.coreos/config/raw": "a: b"},
			want: "a: b", wantFrom: "QEMU fw_cfg opt/com.coreos/config"},
		{name: "credential of the unit", platform: "metal", files: map[string]string{nodefs.UnitCredentials + "/kiln.identity": "a: b", nodefs.SystemCredentials + "/kiln.identity": "sealed"},
			want: "a: b", wantFrom: "systemd credential kiln.identity"},
		{name: "credential of the system", platform: "aws", files: map[string]string{nodefs.SystemCredentials + "/kiln.identity": "a: b"},
			want: "a: b", wantFrom: "systemd credential kiln.identity"},
		{name: "empty credential", platform: "metal", files: map[string]string{nodefs.SystemCredentials + "/kiln.identity": " \n"},
			wantErr: []string{"systemd credential kiln.identity: is empty; put an identity there"}},
		{name: "config drive", platform: "metal", files: map[string]string{
			"/dev/disk/by-label/config-2": "", "/medium/openstack/latest/user_data": config},
			want: "from-config", wantFrom: "config drive (config-2)"},
		{name: "NoCloud medium of VFAT", platform: "qemu", files: map[string]string{
			firmwareConfigDir + "/rev": "3", "/dev/disk/by-label/CIDATA": "", "/medium/USER-DATA": "a: b"},
			want: "a: b", wantFrom: "NoCloud medium (cidata)"},
		{name: "cloud-config on a NoCloud medium", platform: "metal", files: map[string]string{
			"/dev/disk/by-label/cidata": "", "/medium/user-data": "#cloud-config\nusers: []\n"},
			wantErr: []string{"NoCloud medium (cidata), user-data: is a cloud-config, which kiln does not apply; put an identity there"}},
		{name: "empty file", platform: "metal", files: map[string]string{"/dev/disk/by-label/KILN": "", "/medium/identity.yaml": ""},
			wantErr: []string{"partition labelled KILN, identity.yaml: is empty"}},
		{name: "cut in the middle", platform: "metal", files: map[string]string{"/dev/disk/by-label/KILN": "", "/medium/config.ign": config[:60]},
			wantErr: []string{"partition labelled KILN, config.ign: unexpected end of JSON input"}},
		{name: "fw_cfg without config, then the partition", platform: "qemu", want: "from-partition", wantFrom: "partition labelled KILN", files: map[string]string{
			firmwareConfigDir + "/rev": "3", "/dev/disk/by-partlabel/KILN": "", "/medium/identity.yaml": "from-partition"}},
		{name: "metal ignores fw_cfg", platform: "metal", want: "from-partition", wantFrom: "partition labelled KILN", files: map[string]string{
			firmwareConfigDir + "/by_name/opt/com.coreos/config/raw": config, "/dev/disk/by-label/KILN": "", "/medium/identity.yaml": "from-partition"}},
		{name: "Ignition on the partition", platform: "metal", want: "from-config", files: map[string]string{
			"/dev/disk/by-label/KILN": "", "/medium/config.ign": config}, wantFrom: "partition labelled KILN"},
		{name: "empty partition", platform: "qemu", modprobe: true, files: map[string]string{"/dev/disk/by-label/KILN": "", "/medium/README": ""},
			wantErr: []string{"no identity found; tried:", "QEMU fw_cfg opt/com.coreos/config: the machine does not show", "partition labelled KILN: it holds neither identity.yaml nor config.ign"}},
		{name: "wrong config stops the search", platform: "qemu", files: map[string]string{
			firmwareConfigDir + "/by_name/opt/com.coreos/config/raw": `{"ignition":{"version":"2.2.0"}}`, "/dev/disk/by-label/KILN": "", "/medium/identity.yaml": "x"},
			wantErr: []string{"QEMU fw_cfg opt/com.coreos/config: ignition.version: is 2.2.0"}},
		{name: "a file that cannot be an identity", platform: "metal", files: map[string]string{
			"/dev/disk/by-label/KILN": "", "/medium/identity.yaml": strings.Repeat("x", maxBytes+1)},
			wantErr: []string{"identity.yaml: has 1048577 bytes; an identity has at most 1048576"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			root := t.TempDir()
			for path, text := range tt.files {
				write(t, filepath.Join(root, path), text)
			}
			runner := &recorder{}
			sources, err := ForPlatform(tt.platform, Machine{Root: nodefs.Root(root), Runner: runner, Mount: func(device string) (string, func(), error) {
				return filepath.Join(root, "medium"), func() {}, nil
			}})
			if err != nil {
				t.Fatal(err)
			}
			for i := range sources {
				sources[i].Appears = min(sources[i].Appears, 2*devicePoll)
			}
			sources = slices.DeleteFunc(sources, func(s Source) bool { return !s.Offline })
			found, err := Search{Sources: sources}.Find(t.Context())
			got, from := found.Text, found.From
			if (len(runner.ran) > 0) != tt.modprobe {
				t.Errorf("ran %q", runner.ran)
			}
			if len(tt.wantErr) == 0 {
				if err != nil || string(got) != tt.want || from != tt.wantFrom {
					t.Fatalf("have %q from %q, %v; want %q from %q", got, from, err, tt.want, tt.wantFrom)
				}
				return
			}
			for _, want := range tt.wantErr {
				if !strings.Contains(fmt.Sprint(err), want) {
					t.Errorf("message lacks %q:\n%v", want, err)
				}
			}
		})
	}
}

// Which places a platform has is a promise to its users, and link-local metadata on metal would be a hole.
func TestSourcesOfPlatforms(t *testing.T) {
	const credential = "systemd credential kiln.identity, "
	for platform, want := range map[string]string{
		"aws":          credential + "EC2 metadata service",
		"azure":        credential + "Azure provisioning CD, Azure metadata service",
		"digitalocean": credential + "DigitalOcean metadata service",
		"gcp":          credential + "GCE metadata service",
		"hetzner":      credential + "Hetzner metadata service",
		"metal":        credential + "partition labelled KILN, config drive (config-2), NoCloud medium (cidata)",
		"openstack":    credential + "config drive (config-2), OpenStack metadata service",
		"qemu":         credential + "QEMU fw_cfg opt/com.coreos/config, partition labelled KILN, config drive (config-2), NoCloud medium (cidata)",
		"vmware":       credential + "VMware guestinfo, partition labelled KILN, NoCloud medium (cidata)",
	} {
		root := t.TempDir()
		names := func() string {
			sources, err := ForPlatform(platform, Machine{Root: nodefs.Root(root)})
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, s := range sources {
				names = append(names, s.Name)
			}
			return strings.Join(names, ", ")
		}
		if got := names(); got != want {
			t.Errorf("%s: have %s", platform, got)
		}
		write(t, filepath.Join(root, "/proc/cmdline"), "kiln.identity=https://a/b kiln.identity.dhcp=224 ds=nocloud;s=https://a/b/")
		// What the command line names comes after what is on the machine, and before a metadata service.
		const named = "URL of kiln.identity, URL of DHCP option 224, NoCloud seed"
		all := strings.Split(want, ", ")
		if last := len(all) - 1; strings.HasSuffix(want, "metadata service") {
			want = strings.Join(append(all[:last:last], named, all[last]), ", ")
		} else {
			want += ", " + named
		}
		if got := names(); got != want {
			t.Errorf("%s, with parameters: have %s\nwant %s", platform, got, want)
		}
	}
	if len(Platforms()) != 9 {
		t.Errorf("there are other platforms: %q", Platforms())
	}
}

func TestPlatformIsNeverGuessed(t *testing.T) {
	for _, platform := range []string{"", "aws2"} {
		_, err := ForPlatform(platform, Machine{})
		if !document.IsInvalid(err) || !strings.Contains(err.Error(), "kiln.platform") || !strings.Contains(err.Error(), "qemu or vmware") {
			t.Errorf("%q: have %v", platform, err)
		}
	}
}

func TestParameter(t *testing.T) {
	line := "BOOT_IMAGE=/x console=ttyS0 kiln.platform=metal kiln.platformer=z kiln.platform=\"qemu\"\n"
	if got := Parameter(line, nodefs.ParamPlatform); got != "qemu" {
		t.Errorf("have %q", got)
	}
	if got := Parameter(line, "roothash"); got != "" {
		t.Errorf("have %q", got)
	}
}

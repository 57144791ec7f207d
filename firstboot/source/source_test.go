package source

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
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
		{name: "empty", config: ``, wantErr: []string{"config.ign: "}},
		{name: "not JSON", config: "kind: Identity\ntoken: " + secret, wantErr: []string{"config.ign: invalid character 'k'"}},
		{name: "more than an identity", config: `{"ignition":{"version":"3.5.0"},"passwd":{"users":[{"name":"core"}]},"systemd":{"units":[{"name":"a.service"}]},
			"storage":{"files":[{"path":"/etc/kiln/identity.yaml","contents":{"source":"data:,` + secret + `"}},{"path":"/etc/motd","contents":{"source":"data:,x"}}]}}`,
			want: secret},
		{name: "cloud-config", config: "#cloud-config\nwrite_files: []\n# " + secret, wantErr: []string{"config.ign: is for cloud-init", "Ignition config of spec 3.0 to 3.5"}},
		{name: "several parts for cloud-init", config: "\nContent-Type: multipart/mixed; boundary=x\n" + secret, wantErr: []string{"is for cloud-init"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Identity("config.ign", []byte(tt.config))
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
		{name: "fw_cfg before the partition", platform: "qemu", want: "from-config", wantFrom: "QEMU fw_cfg opt/com.coreos/config", files: map[string]string{
			firmwareConfigDir + "/by_name/opt/com.coreos/config/raw": config, "/dev/disk/by-label/KILN": "", "/medium/identity.yaml": "from-partition"}},
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
			got, from, err := Find(t.Context(), sources)
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

func TestNothingFoundIsItsOwnError(t *testing.T) {
	_, _, err := Find(t.Context(), []Source{{Name: "a", Find: func(context.Context) ([]byte, error) { return nil, ErrNothing }}})
	if _, ok := errors.AsType[*NotFound](err); !ok {
		t.Fatalf("have %v", err)
	}
	if document.IsInvalid(err) {
		t.Error("says that a document is wrong")
	}
}

func TestPlatformIsNeverGuessed(t *testing.T) {
	for _, platform := range []string{"", "aws"} {
		_, err := ForPlatform(platform, Machine{})
		if !document.IsInvalid(err) || !strings.Contains(err.Error(), "kiln.platform") || !strings.Contains(err.Error(), "qemu or metal") {
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

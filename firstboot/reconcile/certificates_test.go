package reconcile

import (
	"flag"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kiln-os/kiln/internal/command"
	"github.com/kiln-os/kiln/internal/document"
	"github.com/kiln-os/kiln/internal/nodefs"
)

var update = flag.Bool("update", false, "rewrite the golden file, then fail")

const certificateKey = "f8902e114ef118304e561c3ecd4d0b543adc226b7a07f675f56564185ffe0c07"

// founder is the control plane that founded the cluster: it has the key. Its certificates were uploaded age ago.
func (w *world) founder(age time.Duration) controlPlane {
	w.t.Helper()
	c := w.controlPlane()
	text, err := RenderUpload(UploadOptions{Name: "cp1", Address: "192.0.2.11", Kubernetes: "v1.36.3", Key: document.NewSecret(certificateKey)})
	if err != nil {
		w.t.Fatal(err)
	}
	put(w.t, c.root, nodefs.CertificateKeyConfig, text)
	at := time.Now().Add(-age)
	if err := os.Chtimes(c.root.Path(nodefs.CertificateKeyConfig), at, at); err != nil {
		w.t.Fatal(err)
	}
	w.put("cp1", map[string]string{controlPlaneLabel: ""}, nil)
	return c
}

func (c controlPlane) hasKey() bool {
	_, err := os.Stat(c.root.Path(nodefs.CertificateKeyConfig))
	return err == nil
}

func TestCertificatesAreUploadedAgain(t *testing.T) {
	tests := []struct {
		name string
		age  time.Duration
		// there is whether the cluster still has the certificates.
		there, upload bool
	}{
		{"they are not there", time.Minute, false, true},
		{"they are old", 31 * time.Minute, true, true},
		{"a clock was set back", -time.Hour, true, true},
		{"they are fresh", time.Minute, true, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			c := w.founder(tt.age)
			secret := map[string]any{"metadata": map[string]any{"name": "kubeadm-certs"}}
			if tt.there {
				w.server.Put(uploadedCertificates, secret)
			}
			c.runs.do = func() error { w.server.Put(uploadedCertificates, secret); return nil }
			c.start(t)
			if tt.upload {
				w.eventually("an upload", func() bool { return len(c.runs.ran()) > 0 })
			}
			w.quiet("w1")
			c.waitForRound(w)
			runs := c.runs.ran()
			if tt.upload != (len(runs) == 1) || len(runs) > 1 {
				t.Fatalf("ran %q", runs)
			}
			for _, run := range runs {
				if !strings.HasPrefix(run, "/usr/bin/kubeadm init phase upload-certs --upload-certs --skip-certificate-key-print --config=") || strings.Contains(run, certificateKey) {
					t.Errorf("ran %s", run)
				}
			}
			w.put("cp2", map[string]string{controlPlaneLabel: ""}, nil)
			w.put("cp3", nil, nil) // its kubelet is there, and kubeadm has not done yet
			w.quiet("w2")
			c.waitForRound(w)
			if !c.hasKey() {
				t.Fatalf("the key is gone while cp3 is expected:\n%s", c.log)
			}
			w.put("cp3", map[string]string{controlPlaneLabel: ""}, nil)
			w.eventually("the key is removed", func() bool { return !c.hasKey() })
			w.eventually("which is said", func() bool {
				return strings.Contains(c.log.String(), "3 control planes were planned and are in the cluster; the certificate key is removed")
			})
			if len(c.runs.ran()) != len(runs) {
				t.Errorf("ran %q", c.runs.ran())
			}
			if strings.Contains(c.log.String(), certificateKey) {
				t.Error("the log has the key")
			}
		})
	}
}

func TestAnUploadThatFailsIsTriedAgainAndShowsNoKey(t *testing.T) {
	w := newWorld(t)
	c := w.founder(time.Hour)
	fails := 2
	c.runs.do = func() error {
		if fails == 0 {
			w.server.Put(uploadedCertificates, map[string]any{"metadata": map[string]any{"name": "kubeadm-certs"}})
			return nil
		}
		fails--
		return &command.ExitError{Name: "kubeadm", Code: 1, Tail: "certificateKey: Invalid value: " + certificateKey}
	}
	c.start(t)
	w.eventually("an upload", func() bool { return strings.Contains(c.log.String(), "certificates: uploaded again") })
	if got := len(c.runs.ran()); got != 3 {
		t.Errorf("ran %d times", got)
	}
	text := c.log.String()
	if strings.Contains(text, certificateKey[:16]) || !strings.Contains(text, "Invalid value: [redacted]") || strings.Count(text, "trying again") != 1 {
		t.Errorf("have log\n%s", text)
	}
}

func TestWithoutAKeyNothingIsUploaded(t *testing.T) {
	w := newWorld(t)
	w.put("cp1", map[string]string{controlPlaneLabel: ""}, nil)
	c := w.controlPlane()
	c.start(t)
	w.quiet("w1")
	c.waitForRound(w)
	if runs := c.runs.ran(); len(runs) > 0 || slices.Contains(w.server.Requests(), "GET "+uploadedCertificates) {
		t.Errorf("ran %q, asked %q", runs, w.server.Requests())
	}
}

func TestUploadConfiguration(t *testing.T) {
	got, err := RenderUpload(UploadOptions{Name: "cp1", Address: "192.0.2.11", Kubernetes: "v1.36.3", Key: document.NewSecret(certificateKey)})
	if err != nil {
		t.Fatal(err)
	}
	const golden = "testdata/upload.yaml"
	if *update {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
		t.Fatal("rewrote the golden file; run again without -update")
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Errorf("differs from %s (run with -update):\n%s", golden, got)
	}
}

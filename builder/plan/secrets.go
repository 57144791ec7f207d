package plan

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"strings"

	"github.com/kiln-os/kiln/internal/document"
	"github.com/kiln-os/kiln/internal/nodefs"
)

// The marks of what must not be in an image, which many machines and people read.
var (
	privateKey  = regexp.MustCompile(`-----BEGIN ([A-Z0-9]+ )*PRIVATE KEY-----`)
	kilnVersion = regexp.MustCompile(`(?m)["']?apiVersion["']?\s*:\s*["']?kiln/`)
	kilnSecret  = regexp.MustCompile(`(?m)["']?kind["']?\s*:\s*["']?(Identity|Secrets)\b`)
	kubeconfig  = regexp.MustCompile(`(?m)["']?kind["']?\s*:\s*["']?Config\b`)
	clientKey   = regexp.MustCompile(`(?m)["']?(client-key-data|token|password)["']?\s*:\s*["']?[^\s"'#,}]`)
	tokenForm   = regexp.MustCompile(`\b[a-z0-9]{6}\.[a-z0-9]{16}\b`)
	keyForm     = regexp.MustCompile(`["']?certificateKey["']?\s*:\s*["']?[0-9a-fA-F]{64}\b`)
	// encoded finds what may be a secret in base64, as in data URLs and kubeconfigs.
	encoded = regexp.MustCompile(`[A-Za-z0-9+/]{64,}={0,2}`)
)

// secretIn says what kind of secret a text holds, or nothing.
func secretIn(text string) string {
	kubeadm := strings.Contains(text, "kubeadm.k8s.io/")
	switch {
	case privateKey.MatchString(text):
		return "a private key"
	case kilnVersion.MatchString(text) && kilnSecret.MatchString(text):
		return "an identity or a cluster's secrets"
	case strings.Contains(text, `"ignition"`) && strings.Contains(text, nodefs.IdentityInIgnition):
		return "an Ignition config with an identity"
	case kubeconfig.MatchString(text) && clientKey.MatchString(text):
		return "a kubeconfig with a user's key"
	case kubeadm && tokenForm.MatchString(text), strings.Contains(text, "bootstrap.kubernetes.io/token"):
		return "a bootstrap token"
	case kubeadm && keyForm.MatchString(text):
		return "a certificate key"
	}
	for _, run := range encoded.FindAllString(text, -1) {
		run = strings.TrimRight(run, "=")
		if plain, err := base64.RawStdEncoding.DecodeString(run); err == nil {
			if what := secretIn(string(plain)); what != "" {
				return what
			}
		}
	}
	return ""
}

const noSecrets = "an image is no place for secrets: everybody who can read it would have them; give them to the machine in its identity"

// checkSecrets looks through every text that the documents bring into the image. The error is about the overlay's files.
func checkSecrets(role, pinned *document.Problems, d Documents, p Plan) error {
	for field, files := range map[string]map[string]string{"files.": p.Profile.Files, "patches.": p.Profile.Patches} {
		for name, text := range files {
			if what := secretIn(text); what != "" {
				role.Add(field+name, "holds %s; %s", what, noSecrets)
			}
		}
	}
	for _, addon := range p.Release.Addons {
		if p.ReleaseFiles == nil || !fs.ValidPath(addon) {
			continue
		}
		// One that is not there, another check reports.
		text, err := fs.ReadFile(p.ReleaseFiles, addon)
		if what := secretIn(string(text)); err == nil && what != "" {
			pinned.Add("addons", "%s holds %s; %s", addon, what, noSecrets)
		}
	}
	return checkOverlay(d.Overlay)
}

func checkOverlay(overlay fs.FS) error {
	if overlay == nil {
		return nil
	}
	var problems []error
	err := fs.WalkDir(overlay, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		text, err := fs.ReadFile(overlay, name)
		if what := secretIn(string(text)); what != "" {
			problems = append(problems, document.Problem{File: "the image's overlay", Field: name, Text: "holds " + what + "; " + noSecrets})
		}
		return err
	})
	if err != nil {
		problems = append(problems, fmt.Errorf("looking through the overlay: %w", err))
	}
	return errors.Join(problems...)
}

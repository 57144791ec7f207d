package bootstrap

import (
	"regexp"
	"strings"

	"github.com/kiln-os/kiln/internal/cluster"
	"github.com/kiln-os/kiln/internal/document"
)

const redacted = "[redacted]"

var (
	// tokenLike is what a bootstrap token looks like, known or not.
	tokenLike = regexp.MustCompile(`\b[a-z0-9]{6}\.[a-z0-9]{16}\b`)
	// keyLike is a PEM private key, as far as it is in the text.
	keyLike = regexp.MustCompile(`(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|$)`)
	// certificateKeyLike is the key that kubeadm encrypts uploaded certificates with.
	certificateKeyLike = regexp.MustCompile(`(certificate-key[ =:]+)[0-9a-f]{64}`)
)

// redactor takes secrets out of text. Everything that firstboot says goes through one: its own messages and kubeadm's.
type redactor struct{ secrets []string }

// learn adds the identity's secrets to what is taken out: whole, and in the pieces that another program may print.
func (r *redactor) learn(id cluster.Identity) {
	token := id.Bootstrap.Token.Reveal()
	if _, secret, ok := strings.Cut(token, "."); ok {
		r.secrets = append(r.secrets, token, secret)
	}
	if key := id.Bootstrap.CertificateKey.Reveal(); key != "" {
		r.secrets = append(r.secrets, key)
	}
	if a := id.Bootstrap.Authorities; a != nil {
		for _, key := range []document.Secret{a.Cluster.Key, a.FrontProxy.Key, a.Etcd.Key, a.ServiceAccount.Key} {
			for line := range strings.Lines(key.Reveal()) {
				if line = strings.TrimSpace(line); len(line) >= 16 && !strings.HasPrefix(line, "-----") {
					r.secrets = append(r.secrets, line)
				}
			}
		}
	}
}

func (r *redactor) text(s string) string {
	for _, secret := range r.secrets {
		s = strings.ReplaceAll(s, secret, redacted)
	}
	s = tokenLike.ReplaceAllString(s, redacted)
	s = keyLike.ReplaceAllString(s, redacted)
	return certificateKeyLike.ReplaceAllString(s, "${1}"+redacted)
}

package authority_test

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/hex"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/kiln-os/kiln/builder/authority"
	"github.com/kiln-os/kiln/internal/document"
)

func TestUpload(t *testing.T) {
	s := newSecrets(t)
	a := s.Authorities
	want := map[string]string{
		"ca.crt": a.Cluster.Certificate, "ca.key": a.Cluster.Key.Reveal(), "front-proxy-ca.crt": a.FrontProxy.Certificate,
		"front-proxy-ca.key": a.FrontProxy.Key.Reveal(), "etcd-ca.crt": a.Etcd.Certificate, "etcd-ca.key": a.Etcd.Key.Reveal(),
		"sa.pub": a.ServiceAccount.Public, "sa.key": a.ServiceAccount.Key.Reveal(),
	}
	sealed, err := authority.Upload(a, s.CertificateKey)
	if err != nil {
		t.Fatal(err)
	}
	key, err := hex.DecodeString(s.CertificateKey.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	nonces := map[string]bool{}
	for name, text := range want {
		if len(sealed[name]) < gcm.NonceSize() {
			t.Errorf("%s is not there", name)
			continue
		}
		nonce, body := sealed[name][:gcm.NonceSize()], sealed[name][gcm.NonceSize():]
		nonces[string(nonce)] = true
		if plain, err := gcm.Open(nil, nonce, body, nil); err != nil || string(plain) != text {
			t.Errorf("%s does not come back, %v", name, err)
		}
	}
	if len(sealed) != len(want) || len(nonces) != len(want) {
		t.Errorf("sealed are %v with %d nonces", slices.Sorted(maps.Keys(sealed)), len(nonces))
	}
	for _, bad := range []string{"", "abc", strings.Repeat("g", 64), strings.Repeat("ab", 16)} {
		_, err := authority.Upload(a, document.NewSecret(bad))
		if err == nil || bad != "" && strings.Contains(err.Error(), bad) {
			t.Errorf("with the key %q: %v", bad, err)
		}
	}
}

package authority

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/hex"
	"fmt"

	"github.com/kiln-os/kiln/internal/cluster"
	"github.com/kiln-os/kiln/internal/document"
)

// Upload is what kubeadm keeps in the Secret kubeadm-certs for control planes that join: the files that all of them share,
// each encrypted with the certificate key by AES-GCM, the nonce in front (kubeadm v1.36, phases/copycerts: UploadCerts,
// certsToTransfer; util/crypto: EncryptBytes). A slash of a file's name below /etc/kubernetes/pki is a dash in the key.
func Upload(a cluster.Authorities, key document.Secret) (map[string][]byte, error) {
	seal, err := sealer(key)
	if err != nil {
		return nil, fmt.Errorf("encrypting the certificates: %w", err)
	}
	sealed := map[string][]byte{}
	for name, text := range map[string]string{
		"ca.crt": a.Cluster.Certificate, "ca.key": a.Cluster.Key.Reveal(),
		"front-proxy-ca.crt": a.FrontProxy.Certificate, "front-proxy-ca.key": a.FrontProxy.Key.Reveal(),
		"etcd-ca.crt": a.Etcd.Certificate, "etcd-ca.key": a.Etcd.Key.Reveal(),
		"sa.pub": a.ServiceAccount.Public, "sa.key": a.ServiceAccount.Key.Reveal(),
	} {
		nonce := make([]byte, seal.NonceSize())
		if _, err := rand.Read(nonce); err != nil {
			return nil, fmt.Errorf("encrypting the certificates: %w", err)
		}
		sealed[name] = seal.Seal(nonce, nonce, []byte(text), nil)
	}
	return sealed, nil
}

// sealer never fails with an error that shows the key.
func sealer(key document.Secret) (cipher.AEAD, error) {
	raw, err := hex.DecodeString(key.Reveal())
	if err != nil || len(raw) != certificateKeySize {
		return nil, fmt.Errorf("the certificate key is not %d hexadecimal digits", 2*certificateKeySize)
	}
	block, err := aes.NewCipher(raw)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

package node

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/kiln-os/kiln/internal/nodefs"
)

// kubeconfig is what a kubeconfig holds: a URL, and PEM.
type kubeconfig struct {
	server                      string
	authority, certificate, key []byte
}

// kubeconfigFile is a kubeconfig's form, as far as kubeadm and kubelets use it.
type kubeconfigFile struct {
	Clusters []struct {
		Cluster struct {
			Server        string `json:"server"`
			Authority     string `json:"certificate-authority-data"`
			AuthorityFile string `json:"certificate-authority"`
		} `json:"cluster"`
	} `json:"clusters"`
	Users []struct {
		User struct {
			Certificate     string `json:"client-certificate-data"`
			CertificateFile string `json:"client-certificate"`
			Key             string `json:"client-key-data"`
			KeyFile         string `json:"client-key"`
		} `json:"user"`
	} `json:"users"`
}

// parseKubeconfig reads a kubeconfig with one cluster and one user, as kubeadm and kubelets write it; files that it names
// lie below root. Its errors quote nothing: the file holds a key.
func parseKubeconfig(root nodefs.Root, text []byte) (kubeconfig, error) {
	var file kubeconfigFile
	if yaml.Unmarshal(text, &file) != nil {
		return kubeconfig{}, errors.New("it is not YAML of the right shape")
	}
	if len(file.Clusters) != 1 || len(file.Users) != 1 {
		return kubeconfig{}, fmt.Errorf("it has %d clusters and %d users; want one of each", len(file.Clusters), len(file.Users))
	}
	cluster, user := file.Clusters[0].Cluster, file.Users[0].User
	k := kubeconfig{server: cluster.Server}
	for into, part := range map[*[]byte]inlineOrFile{
		&k.authority:   {cluster.Authority, cluster.AuthorityFile},
		&k.certificate: {user.Certificate, user.CertificateFile},
		&k.key:         {user.Key, user.KeyFile},
	} {
		raw, err := part.read(root)
		if err != nil {
			return kubeconfig{}, err
		}
		*into = raw
	}
	return k, nil
}

// inlineOrFile is the two forms in which a kubeconfig has a certificate or a key.
type inlineOrFile struct{ data, file string }

func (f inlineOrFile) read(root nodefs.Root) ([]byte, error) {
	if f.data == "" && f.file != "" {
		text, err := os.ReadFile(root.Path(f.file))
		if err != nil {
			return nil, fmt.Errorf("reading a file that it names: %w", err)
		}
		return text, nil
	}
	raw, err := base64.StdEncoding.DecodeString(f.data)
	if err != nil || len(raw) == 0 {
		return nil, errors.New("it lacks a certificate authority, a client certificate or a client key")
	}
	return raw, nil
}

// Holder is whom a kubeconfig makes known to the API server.
type Holder struct {
	// User is the user's name, as in system:node:worker-1.
	User string
	// Expires is when the certificate ends.
	Expires time.Time
	// Authority is the certificate authority that the kubeconfig believes, as PEM.
	Authority []byte
}

// ReadHolder reads the kubeconfig at path below root. It is an error when the certificate and the key do not make a pair,
// or the authority that is believed has not signed the certificate.
func ReadHolder(root nodefs.Root, path string) (Holder, error) {
	text, err := os.ReadFile(root.Path(path))
	if err != nil {
		return Holder{}, fmt.Errorf("reading kubeconfig: %w", err)
	}
	k, err := parseKubeconfig(root, text)
	if err != nil {
		return Holder{}, fmt.Errorf("reading kubeconfig %s: %w", path, err)
	}
	pair, err := tls.X509KeyPair(k.certificate, k.key)
	if err != nil {
		return Holder{}, fmt.Errorf("reading kubeconfig %s: its client certificate and key do not make a pair", path)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(k.authority)
	// When the certificate ends is for the caller to judge: here only the signature counts.
	at := x509.VerifyOptions{Roots: pool, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, CurrentTime: pair.Leaf.NotAfter}
	if _, err := pair.Leaf.Verify(at); err != nil {
		return Holder{}, fmt.Errorf("reading kubeconfig %s: its certificate authority has not signed its client certificate", path)
	}
	return Holder{User: pair.Leaf.Subject.CommonName, Expires: pair.Leaf.NotAfter, Authority: k.authority}, nil
}

package reconcile

import (
	"fmt"

	"sigs.k8s.io/yaml"

	"github.com/kiln-os/kiln/firstboot/kubeadm"
	"github.com/kiln-os/kiln/internal/document"
	"github.com/kiln-os/kiln/internal/nodefs"
)

// UploadOptions is what kubeadm has to know to upload certificates.
type UploadOptions struct {
	// Name and Address are this node's, the one that founded the cluster.
	Name, Address string
	// Kubernetes is the version that the image carries, as in v1.36.3: without one, kubeadm asks the internet.
	Kubernetes string
	// Key is the certificate key.
	Key document.Secret
}

// RenderUpload returns the InitConfiguration and ClusterConfiguration with which `kubeadm init phase upload-certs` uploads
// the certificates below nodefs.PKI: the content of nodefs.CertificateKeyConfig. Nothing in it is left to kubeadm's guesses,
// and no token is in it. It holds the key: write it with mode 0600.
func RenderUpload(o UploadOptions) ([]byte, error) {
	initialise, err := yaml.Marshal(map[string]any{
		"apiVersion": "kubeadm.k8s.io/v1beta4", "kind": "InitConfiguration",
		"certificateKey":   o.Key.Reveal(),
		"localAPIEndpoint": map[string]any{"advertiseAddress": o.Address, "bindPort": kubeadm.BindPort},
		"nodeRegistration": map[string]any{"name": o.Name, "criSocket": "unix://" + nodefs.ContainerdSocket, "taints": []any{}},
		// The reconciler tries again by itself.
		"timeouts": map[string]any{"kubernetesAPICall": "1m0s"},
	})
	if err != nil {
		return nil, fmt.Errorf("rendering upload of certificates: %w", err)
	}
	cluster, err := yaml.Marshal(map[string]any{
		"apiVersion": "kubeadm.k8s.io/v1beta4", "kind": "ClusterConfiguration",
		"kubernetesVersion": o.Kubernetes,
		"certificatesDir":   nodefs.PKI,
	})
	if err != nil {
		return nil, fmt.Errorf("rendering upload of certificates: %w", err)
	}
	return append(append(initialise, "---\n"...), cluster...), nil
}

package kubeadm

// The types below are the part of kubeadm.k8s.io/v1beta4 that firstboot sets, with the names and the JSON of
// k8s.io/kubernetes cmd/kubeadm/app/apis/kubeadm/v1beta4/types.go. Importing the originals would add 19 MB to a program
// that is also the initramfs's /init.

type typeMeta struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
}

type initConfiguration struct {
	typeMeta         `json:",inline"`
	BootstrapTokens  []bootstrapToken `json:"bootstrapTokens"`
	NodeRegistration nodeRegistration `json:"nodeRegistration"`
	LocalAPIEndpoint apiEndpoint      `json:"localAPIEndpoint"`
	CertificateKey   string           `json:"certificateKey,omitempty"`
	Patches          *patches         `json:"patches,omitempty"`
	Timeouts         timeouts         `json:"timeouts"`
}

type joinConfiguration struct {
	typeMeta         `json:",inline"`
	Discovery        discovery         `json:"discovery"`
	NodeRegistration nodeRegistration  `json:"nodeRegistration"`
	CACertPath       string            `json:"caCertPath"`
	ControlPlane     *joinControlPlane `json:"controlPlane,omitempty"`
	Patches          *patches          `json:"patches,omitempty"`
	Timeouts         timeouts          `json:"timeouts"`
}

type discovery struct {
	BootstrapToken    bootstrapDiscovery `json:"bootstrapToken"`
	TLSBootstrapToken string             `json:"tlsBootstrapToken"`
}

type bootstrapDiscovery struct {
	Token             string   `json:"token"`
	APIServerEndpoint string   `json:"apiServerEndpoint"`
	CACertHashes      []string `json:"caCertHashes"`
}

type joinControlPlane struct {
	LocalAPIEndpoint apiEndpoint `json:"localAPIEndpoint"`
	CertificateKey   string      `json:"certificateKey,omitempty"`
}

type bootstrapToken struct {
	Token       string   `json:"token"`
	Description string   `json:"description"`
	TTL         string   `json:"ttl"`
	Usages      []string `json:"usages"`
	Groups      []string `json:"groups"`
}

type nodeRegistration struct {
	Name      string `json:"name"`
	CRISocket string `json:"criSocket"`
	// Taints is always written: left out, kubeadm would add the control plane's taint to a node that shall have none.
	Taints           []taint    `json:"taints"`
	KubeletExtraArgs []argument `json:"kubeletExtraArgs"`
	ImagePullPolicy  string     `json:"imagePullPolicy"`
	// IgnorePreflightErrors are the names of checks, as in NumCPU.
	IgnorePreflightErrors []string `json:"ignorePreflightErrors,omitempty"`
}

type taint struct {
	Key    string `json:"key"`
	Value  string `json:"value,omitempty"`
	Effect string `json:"effect"`
}

type argument struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

type apiEndpoint struct {
	AdvertiseAddress string `json:"advertiseAddress"`
	BindPort         int    `json:"bindPort"`
}

type patches struct {
	Directory string `json:"directory"`
}

type timeouts struct {
	ControlPlaneComponentHealthCheck string `json:"controlPlaneComponentHealthCheck"`
	KubeletHealthCheck               string `json:"kubeletHealthCheck"`
	KubernetesAPICall                string `json:"kubernetesAPICall"`
	EtcdAPICall                      string `json:"etcdAPICall"`
	TLSBootstrap                     string `json:"tlsBootstrap"`
	Discovery                        string `json:"discovery"`
}

type clusterConfiguration struct {
	typeMeta             `json:",inline"`
	ClusterName          string     `json:"clusterName"`
	KubernetesVersion    string     `json:"kubernetesVersion"`
	ControlPlaneEndpoint string     `json:"controlPlaneEndpoint"`
	CertificatesDir      string     `json:"certificatesDir"`
	EncryptionAlgorithm  string     `json:"encryptionAlgorithm"`
	ImageRepository      string     `json:"imageRepository,omitempty"`
	Networking           networking `json:"networking"`
	APIServer            apiServer  `json:"apiServer"`
	ControllerManager    component  `json:"controllerManager"`
	Scheduler            component  `json:"scheduler"`
	Etcd                 etcd       `json:"etcd"`
}

type networking struct {
	PodSubnet     string `json:"podSubnet"`
	ServiceSubnet string `json:"serviceSubnet"`
	DNSDomain     string `json:"dnsDomain"`
}

type apiServer struct {
	component `json:",inline"`
	CertSANs  []string `json:"certSANs"`
}

type component struct {
	ExtraArgs []argument `json:"extraArgs,omitempty"`
}

type etcd struct {
	Local localEtcd `json:"local"`
}

type localEtcd struct {
	component `json:",inline"`
	DataDir   string `json:"dataDir"`
}

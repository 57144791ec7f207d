package kubeadm

// row is one text of kubeadm's and what it means.
type row struct {
	kind      Kind
	permanent bool
	// pattern is a regular expression; message may name its groups as ${1}.
	pattern, message string
}

// failures is the table of Classify; the first row that fits counts. Before each group stands where in kubeadm 1.36
// (cmd/kubeadm/app/) or elsewhere the text is made. Patterns are compiled when they are needed: the program is also the
// initramfs's /init, and hardly ever needs them.
func failures() []row {
	var all []row
	for _, group := range [][]row{patchTexts(), discoveryTexts(), joinTexts(), etcdTexts(), nodeTexts(), configTexts(), apiTexts(), networkTexts()} {
		all = append(all, group...)
	}
	return all
}

// A patch's error quotes the patch, which may hold any of the texts below; hence it comes first.
func patchTexts() []row {
	const todo = "; correct it in cluster.yaml (customisation.patches) or in the profile"
	return []row{
		// util/patches/patches.go: ApplyPatchesToTarget, CreatePatchSet, parseFilename
		{PatchRefused, true, `could not apply the following patch of type "[^"]*" to target "([^"]*)"`, "a patch of ${1} does not apply" + todo},
		{PatchRefused, true, `could not (?:split patches for data|convert patch to JSON)`, "a patch is neither YAML nor JSON" + todo},
		{PatchRefused, true, `unknown or missing patch type after '\+'`, "a patch's name has a type that kubeadm does not know" + todo},
		// util/staticpod/utils.go: PatchStaticPod
		{PatchRefused, true, `failed to patch static Pod manifest file for "([^"]*)": (?:failed to unmarshal patched manifest|patched manifest is not a valid Pod object)`,
			"${1} is not a pod any more after its patches" + todo},
	}
}

func discoveryTexts() []row {
	const other = "the endpoint's cluster is another one than this identity's: its certificate authority is ${1}; correct the endpoint, or render the identity for that cluster"
	const token = "the cluster does not accept this identity's token; make a fresh one with kiln cluster token and give the node its renewed identity"
	return []row{
		// discovery/token/token.go: validateClusterCA; util/pubkeypin/pubkeypin.go: CheckAny
		{AuthorityDiffers, true, `none of the public keys "([^"]*)" are pinned`, other},
		// crypto/x509: CertificateInvalidError (Expired); util/pkiutil: ValidateCertPeriod. The error about an unknown authority
		// may quote it: an authority that is not valid yet is as good as unknown.
		{Clock, false, `certificate has expired or is not yet valid: current time (\S+) is before`,
			"a certificate is not valid yet at ${1}, this node's time; set the clocks of this node and of the control planes"},
		{Clock, false, `certificate has expired or is not yet valid: current time (\S+) is after`,
			"a certificate has expired at ${1}, this node's time; if the clock is right, the certificate has to be renewed"},
		{Clock, false, `certificate has expired or is not yet valid|the certificate (?:is not valid yet|has expired):`,
			"a certificate is not valid at this node's time; set the clocks of this node and of the control planes"},
		// crypto/x509: UnknownAuthorityError, in the phases that speak with etcd (phases/etcd/local.go)
		{AuthorityDiffers, true, `(?s)error execution phase (?:check-etcd|etcd-join).*certificate signed by unknown authority`,
			"etcd's certificates are of another authority than this identity's bootstrap.authorities.etcd; render the identity again from the directory that the cluster was made from"},
		// crypto/x509: UnknownAuthorityError, in the requests of every other phase
		{AuthorityDiffers, true, `certificate signed by unknown authority`,
			"what answers at the endpoint has a certificate that this cluster's authority has not signed; behind the balancer must be this cluster's control planes only, and it must pass TLS through"},
		// crypto/x509: HostnameError, in discovery (discovery/discovery.go: For)
		{EndpointNotNamed, true, `(?s)couldn't validate the identity of the API Server.*x509: (?:certificate is (?:valid for .*, not|not valid for any names, but wanted to match)|cannot validate certificate for) (\S+)`,
			"the API server's certificate is not valid for ${1}; use the endpoint that the cluster was founded with, or found it with this name in cluster.certificateNames"},
		// discovery/token/token.go: validateClusterInfoToken
		{TokenInvalid, true, `failed to verify JWS signature|token id "[^"]*" is invalid for this cluster or it has expired`, token},
		// apimachinery, api/errors: NewUnauthorized, in the phases of join whose client has only the token
		{TokenInvalid, true, `(?s)error execution phase (?:preflight|kubelet-start|control-plane-prepare\S*): .*\bUnauthorized\b`, token},
		// discovery/token/token.go: getClusterInfo; said of a token that is not signed yet, has expired or never was
		{TokenNotSigned, false, `could not find a JWS signature in the cluster-info ConfigMap for token ID "([^"]*)"`,
			"the cluster does not show the token ${1}: it does not know it yet, or no longer; whether it has expired is looked up before the next try"},
		{APINotReady, false, `there is no kubeconfig key in the cluster-info ConfigMap|no kubeconfig key in ConfigMap`, "the cluster does not say yet how to join it; it is asked again"},
		{APINotReady, false, `the second kubeconfig from the cluster-info ConfigMap \(using validated TLS\) was different`,
			"the endpoint gave two different answers; if it goes on, control planes of two clusters are behind the balancer"},
	}
}

func joinTexts() []row {
	return []row{
		// cmd/phases/join/kubelet.go: runKubeletStartJoinPhase
		{NameTaken, true, `a Node with name "([^"]*)" and status "Ready" already exists`,
			"a Node called ${1} is Ready in the cluster already; give one of the two machines another name, or delete that Node if its machine is gone"},
		// phases/copycerts/copycerts.go: DownloadCerts; util/crypto/crypto.go: DecryptBytes; apis/kubeadm/validation: ValidateCertificateKey
		{CertificateKeyWrong, true, `error decoding secret data with provided key|error decoding certificate key|certificateKey: Invalid value`,
			"this identity's certificate key does not open the cluster's uploaded certificates; render the identity again from the directory that the cluster was made from"},
		// phases/copycerts/copycerts.go: getSecret, DownloadCerts; before the first upload, the rule that lets tokens read it is not there
		{CertificatesMissing, false, `Secret "kubeadm-certs" was not found|secrets "kubeadm-certs" is forbidden|the Secret does not include the required certificate or key`,
			"the cluster does not hold the uploaded certificates at the moment; a control plane uploads them again while this one is missing"},
		// util/config/common.go: NormalizeKubernetesVersion
		{VersionSkew, true, `only supports deploying clusters with the control plane version >= (\S+)\. Current version: (\S+)`,
			"the cluster is of ${2}, and this image supports ${1} at least; boot an image of the cluster's release"},
		// util/config/cluster.go: GetInitConfigurationFromCluster; util/config/common.go: validateSupportedVersion; apimachinery, runtime: notRegisteredErr
		{VersionSkew, true, `(?s)kubeadm-config ConfigMap.*(?:failed to decode cluster configuration data|uses an old API spec|is registered for version)`,
			"the cluster was set up by a kubeadm whose configuration this image does not understand; boot an image of the cluster's release"},
		// cmd/phases/join/preflight.go: checkIfReadyForAdditionalControlPlane
		{ConfigRefused, true, `cluster that doesn't have a stable controlPlaneEndpoint address`,
			"the cluster was founded without an endpoint, and takes no further control planes; found it again with kiln"},
		// the same; phases/certs/certs.go: SharedCertificateExists. The colon and the words after it are about the file.
		{AuthoritiesIncomplete, true, `(?s)conditions for hosting a new control plane instance is not satisfied.*?(/\S+?\.(?:crt|key|pub))\b`,
			"${1} is missing or cannot be read; render the identity again: a control plane needs the authorities whole, or the certificate key"},
		{AuthoritiesIncomplete, true, `conditions for hosting a new control plane instance is not satisfied`,
			"certificate authorities are missing or cannot be read; render the identity again: a control plane needs them whole, or the certificate key"},
	}
}

// The texts of etcd itself are in go.etcd.io/etcd/api/v3 v3rpc/rpctypes/error.go.
func etcdTexts() []row {
	const busy, sick = "another control plane is joining etcd, which takes one at a time; this one waits for its turn", "etcd is not healthy at the moment; it is asked again"
	return []row{
		// util/etcd/etcd.go: addMember
		{EtcdBusy, false, `too many learner members in cluster`, busy},
		// util/etcd/etcd.go: MemberPromote
		{EtcdBusy, false, `can only promote a learner member|the etcd member \S+ is not started|rpc not supported for learner`,
			"this node's etcd has not caught up with the others yet; it is given more time. If it goes on, see whether ports 2379 and 2380 are open between the control planes"},
		{EtcdBroken, false, `etcdserver: (corrupt cluster|mvcc: database space exceeded|cluster ID mismatch)`, "etcd says: ${1}; repair etcd on a healthy control plane, and this node goes on"},
		{EtcdUnhealthy, false, `etcdserver: (?:unhealthy cluster|no leader|not leader|leader changed|server stopped|request timed out|too many requests|re-configuration failed|not capable|member not found)`, sick},
		// phases/etcd/local.go: CheckLocalEtcdClusterStatus; util/etcd/etcd.go: WaitForClusterAvailable, NewFromCluster, GetMemberID, getMemberStatus
		{EtcdUnhealthy, false, `etcd cluster is not healthy|timeout waiting for etcd cluster to be available|could not retrieve the list of etcd endpoints|error syncing endpoints with etcd|` +
			`error creating etcd client|no member id found for peer URL|failed to get member \S+ status`, sick},
	}
}

// What this node's own programs did not do in time. These texts end with why, often a refused connection; hence they come
// before those of the network.
func nodeTexts() []row {
	return []row{
		// cmd/phases/{init/waitcontrolplane,join/kubelet}.go; util/apiclient/wait.go: WaitForKubelet
		{KubeletUnhealthy, false, `failed while waiting for the kubelet to start`,
			"the kubelet did not become healthy in time; journalctl -u kubelet says why. A field of its configuration may be wrong"},
		// cmd/phases/join/kubelet.go: waitForTLSBootstrappedClient
		{KubeletNotBootstrapped, false, `failed while waiting for TLS bootstrap`,
			"the kubelet did not get its certificate in time; journalctl -u kubelet says why. The token may have expired meanwhile, or no controller manager runs"},
		// cmd/phases/{init,join}/waitcontrolplane.go; util/apiclient/wait.go: WaitForControlPlaneComponents
		{ControlPlaneUnhealthy, false, `failed while waiting for the control plane to start: \[?(\S+) check failed at (\S+?):? `,
			"${1} did not become healthy in time at ${2}; its log below /var/log/containers says why. One of the cluster's customisation.extraArgs may be wrong"},
		{ControlPlaneUnhealthy, false, `failed while waiting for the control plane to start`, "the control plane did not become healthy in time; the logs below /var/log/containers say why"},
		// phases/certs/certs.go: writeCertificateFilesIfNotExist, validateCertificateWithConfig; phases/kubeconfig/kubeconfig.go: validateKubeConfig
		{Leftovers, false, `certificate (\S+) (?:is not signed by corresponding CA|is invalid: x509)|failure loading (\S+) (?:certificate|key)\b`,
			"the certificate ${1}${2} of an earlier run does not fit or cannot be read; it is put there again"},
		{Leftovers, false, `(?:a kubeconfig file|failed to load kubeconfig file|the kubeconfig file) "?([^" ]+)"? (?:exists but does not contain a trusted CA|contains an invalid CA cert|that already exists on disk)`,
			"${1} of an earlier run does not fit; it is made again"},
	}
}

func configTexts() []row {
	return []row{
		// apimachinery, api/errors: NewInvalid
		{ConfigRefused, true, `(\S+) "([^"]*)" is invalid: \[?(\S+?): `, "the API server refuses the ${1} ${2} because of ${3}; correct it in cluster.yaml"},
		// apimachinery, util/validation/field: Error; apis/kubeadm/validation/validation.go. The value that follows may be a secret.
		{ConfigRefused, true, `([A-Za-z][\w.\[\]-]*): (?:Invalid|Required|Unsupported|Duplicate) value`, "kubeadm does not accept ${1} of its configuration; correct it in cluster.yaml"},
		// util/config/strict/strict.go: VerifyUnmarshalStrict; sigs.k8s.io/json: StrictError
		{ConfigRefused, true, `unknown field "([^"]*)"`, "kubeadm does not know the field ${1}; correct it in cluster.yaml (customisation)"},
		// util/config/{strict/strict,common,initconfiguration,joinconfiguration}.go; sigs.k8s.io/yaml
		{ConfigRefused, true, `error unmarshaling configuration|strict decoding error|error converting YAML to JSON|unknown configuration APIs|couldn't parse Kubernetes version|` +
			`cannot unmarshal \S+ into Go|kind was found in the configuration file|found in the supplied config|is not allowed\. You can use the --allow-experimental-api`,
			"kubeadm does not accept its configuration; correct the cluster's customisation in cluster.yaml"},
	}
}

// The texts of the API server, as client-go gives them (apimachinery, api/errors/errors.go).
func apiTexts() []row {
	const later = "the API server cannot answer at the moment; it is asked again"
	return []row{
		{CertificateRefused, false, `\bUnauthorized\b`,
			"the API server does not accept this node's certificate; set the clocks of this node and of the control planes, and see that all have the same authorities"},
		// phases/bootstraptoken, cmd/phases/init/bootstraptoken.go: the rules come after the API server
		{APINotReady, false, `is forbidden: User "([^"]*)" cannot`, "the cluster does not have the rules yet that let ${1} join; it is asked again"},
		{APINotReady, false, `configmaps "([^"]*)" not found`, "the cluster is not set up far enough to be joined: there is no ${1} yet"},
		{APINotReady, false, `the server is currently unable to handle the request|the server was unable to return a response in the time allotted|asked us to try again later|` +
			`has prevented the request from succeeding|Internal error occurred|apiserver (?:not ready|is shutting down)|the server could not find the requested resource|` +
			`(?i:too many requests|service unavailable|bad gateway|gateway timeout|internal server error)|please apply your changes to the latest version`, later},
	}
}

// The texts of Go's net, net/http and crypto/tls.
func networkTexts() []row {
	return []row{
		{NameUnresolved, false, `lookup ([^\s:]+)(?: on \S+)?: (?:no such host|server misbehaving|i/o timeout|read |dial |connection refused|Temporary failure)`,
			"no name server knows ${1} yet; it is asked again"},
		// client-go, rest/request.go: when its own tries took all the time, the reason stands behind that
		{NotReachable, false, `error from a previous attempt: (?:unexpected )?EOF|error from a previous attempt: .*connection reset by peer`, "connections are cut as soon as they are made; it is tried again"},
		{NotReachable, false, `dial tcp (\S+): connect: connection refused`, "nobody listens at ${1} yet; it is tried again"},
		{NotReachable, false, `dial tcp (\S+): connect: (?:no route to host|network is unreachable)`, "there is no way to ${1}; it is tried again"},
		{TimedOut, false, `dial tcp (\S+): (?:i/o timeout|connect: connection timed out)`,
			"${1} does not answer; the balancer may not reach a control plane, or this node not the balancer. It is tried again"},
		{TimedOut, false, `i/o timeout|context deadline exceeded|Client\.Timeout exceeded|TLS handshake timeout|timed out waiting for the condition|connection timed out|rate limiter Wait`,
			"an answer did not come in time; it is tried again"},
		{NotReachable, false, `connection refused|connection reset by peer|no route to host|network is unreachable|broken pipe|client connection (?:lost|force closed)|` +
			`use of closed network connection|http2: |remote error: tls: |does not look like a TLS handshake|\bEOF\b`, "a connection was cut or refused; it is tried again"},
	}
}

package kubeadm

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Kind names why kubeadm ended with an error.
type Kind string

// What time can mend: the node tries again.
const (
	// NotReachable: connections are refused, cut, or have no route.
	NotReachable Kind = "NotReachable"
	// TimedOut: nobody answered in time.
	TimedOut Kind = "TimedOut"
	// NameUnresolved: a name server does not know a name yet.
	NameUnresolved Kind = "NameUnresolved"
	// APINotReady: the API server answers, but not yet as it will.
	APINotReady Kind = "APINotReady"
	// TokenNotSigned: the cluster does not show the token, be it not yet or no longer: this text does not tell.
	TokenNotSigned Kind = "TokenNotSigned"
	// CertificateRefused: the API server does not accept the node's client certificate.
	CertificateRefused Kind = "CertificateRefused"
	// Clock: a certificate is not valid at what the node takes for the present.
	Clock Kind = "Clock"
	// EtcdBusy: another member is being added; etcd takes one at a time.
	EtcdBusy Kind = "EtcdBusy"
	// EtcdUnhealthy: etcd has no leader, no quorum or too much to do.
	EtcdUnhealthy Kind = "EtcdUnhealthy"
	// EtcdBroken: etcd refuses all changes until somebody repairs it.
	EtcdBroken Kind = "EtcdBroken"
	// CertificatesMissing: the cluster does not hold the uploaded certificates; a control plane uploads them again.
	CertificatesMissing Kind = "CertificatesMissing"
	// KubeletUnhealthy, KubeletNotBootstrapped, ControlPlaneUnhealthy: a program of this node did not come up in time.
	KubeletUnhealthy       Kind = "KubeletUnhealthy"
	KubeletNotBootstrapped Kind = "KubeletNotBootstrapped"
	ControlPlaneUnhealthy  Kind = "ControlPlaneUnhealthy"
	// ChecksFailed: checks that another try may pass, once what an earlier run left is gone.
	ChecksFailed Kind = "ChecksFailed"
	// Leftovers: files of an earlier run do not fit; the next run clears them away.
	Leftovers Kind = "Leftovers"
	// Unknown: a text that is not in the table. Trying again costs little, stopping may cost a node.
	Unknown Kind = "Unknown"
)

// What only people can mend: the node stops, with what to do.
const (
	// AuthorityDiffers: the cluster's certificate authority is not the identity's.
	AuthorityDiffers Kind = "AuthorityDiffers"
	// EndpointNotNamed: the API server's certificate is not for the endpoint's name.
	EndpointNotNamed Kind = "EndpointNotNamed"
	// TokenInvalid: the cluster knows the token's id with another secret, or does not let it in.
	TokenInvalid Kind = "TokenInvalid"
	// VersionSkew: the cluster runs a version that the image does not go with.
	VersionSkew Kind = "VersionSkew"
	// NameTaken: a Node of the same name is Ready.
	NameTaken Kind = "NameTaken"
	// CertificateKeyWrong: the uploaded certificates were encrypted with another key.
	CertificateKeyWrong Kind = "CertificateKeyWrong"
	// AuthoritiesIncomplete: the staged certificate authorities are not all there.
	AuthoritiesIncomplete Kind = "AuthoritiesIncomplete"
	// ChecksFatal: the machine or the image does not meet kubeadm's checks.
	ChecksFatal Kind = "ChecksFatal"
	// PatchRefused: a patch does not apply.
	PatchRefused Kind = "PatchRefused"
	// ConfigRefused: kubeadm does not accept its configuration.
	ConfigRefused Kind = "ConfigRefused"
)

// Failure is an error of kubeadm's, understood.
type Failure struct {
	Kind Kind
	// Message is a sentence that says what is wrong and what to do. It holds no secret: of kubeadm's text it takes names,
	// addresses and versions only, but for Unknown, where it is the text's first line.
	Message string
	// Permanent says that no retry mends it.
	Permanent bool
}

// Classify understands what kubeadm 1.36 (init and join) wrote to its standard error. Only its last words count: lines
// before them tell of tries that kubeadm repeated by itself, and of warnings.
func Classify(output string) Failure {
	words := lastWords(output)
	if strings.Contains(words, "preflight checks failed") {
		return classifyChecks(output)
	}
	for _, row := range failures() {
		pattern := regexp.MustCompile(row.pattern)
		if at := pattern.FindStringSubmatchIndex(words); at != nil {
			return Failure{Kind: row.kind, Permanent: row.permanent, Message: string(pattern.ExpandString(nil, row.message, words, at))}
		}
	}
	first, _, _ := strings.Cut(strings.TrimSpace(words), "\n")
	if first == "" {
		return Failure{Kind: Unknown, Message: "kubeadm ended without saying why; it is run again"}
	}
	return Failure{Kind: Unknown, Message: "kubeadm ended with an error that firstboot does not know, and is run again: " + first[:min(len(first), 300)]}
}

// lastWords is the error at the end of what kubeadm wrote (util/errors: HandleError), or all of it when there is none.
func lastWords(output string) string {
	const begin = "\nerror: "
	words := "\n" + output
	if at := strings.LastIndex(words, begin); at >= 0 {
		words = words[at+len(begin):]
	}
	words, _, _ = strings.Cut(words, "\nTo see the stack trace")
	return words
}

// failedCheck finds a failed check among the lines that kubeadm wrote (preflight/checks.go: RunChecks).
var failedCheck = regexp.MustCompile(`(?m)\[ERROR ([^\]]+)\]: (.*)$`)

// fatalCheck names the checks that no retry can mend: they are about the machine or the image. The others are about what
// an earlier run left, which the next one clears away, or, for a port, about another program, which can be ended while the
// node waits.
var fatalCheck = regexp.MustCompile(`^(NumCPU|Mem|SystemVerification|KubeletVersion|KubernetesVersion|IsPrivilegedUser|FileExisting-.*)$`)

// skewed tells a kubelet of the wrong version from one that cannot be run (preflight/checks.go: KubeletVersionCheck).
var skewed = regexp.MustCompile(`is lower than kubeadm can support|is higher than the control plane version`)

func classifyChecks(output string) Failure {
	var names, fatal, details []string
	for _, match := range failedCheck.FindAllStringSubmatch(output, -1) {
		name, detail := match[1], strings.TrimSpace(match[2])
		if fatalCheck.MatchString(name) {
			fatal = append(fatal, name)
		}
		names = append(names, name)
		if !slices.Contains(details, detail) {
			details = append(details, detail)
		}
	}
	said := fmt.Sprintf("%s (%s)", strings.Join(names, ", "), strings.Join(details, "; "))
	switch {
	case slices.Contains(fatal, "KubeletVersion") && skewed.MatchString(said):
		return Failure{Kind: VersionSkew, Permanent: true,
			Message: "the image's kubelet does not go with the cluster's version: " + said + "; boot an image of the cluster's release"}
	case len(fatal) > 0:
		return Failure{Kind: ChecksFatal, Permanent: true, Message: "the machine or the image does not meet kubeadm's checks " + said +
			"; use another machine or image, or name the checks in the cluster's customisation.ignorePreflightErrors"}
	case len(names) == 0:
		return Failure{Kind: ChecksFailed, Message: "kubeadm's checks failed without saying which; they are made again"}
	}
	return Failure{Kind: ChecksFailed, Message: "kubeadm's checks failed: " + said + "; they are made again, and what holds them up may be ended meanwhile"}
}

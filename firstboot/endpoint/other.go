package endpoint

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"

	"sigs.k8s.io/yaml"
)

func (s *session) otherCluster(ctx context.Context, chain []*x509.Certificate) *Problem {
	expected, presented := Pin(s.Authority), Pin(s.theirAuthority(ctx, chain))
	p := trouble(OtherCluster, "correct cluster.endpoint or the load balancer's backends, or give this node an identity of that cluster", "")
	p.Expected = expected
	if presented == "none" {
		p.Message = fmt.Sprintf("%s is another cluster's: its certificate was signed by %q, not by this node's certificate authority %s",
			s.Endpoint, chain[0].Issuer.CommonName, expected)
		return p
	}
	p.Presented = presented
	p.Message = fmt.Sprintf("%s is another cluster's: its certificate authority is %s, this node's identity has %s", s.Endpoint, presented, expected)
	return p
}

// theirAuthority finds out who signed what the endpoint presented. API servers send their own certificate alone; the
// authority stands in the public cluster-info. That is read without trust, and counts only if it did sign.
func (s *session) theirAuthority(ctx context.Context, chain []*x509.Certificate) *x509.Certificate {
	for _, c := range chain[1:] {
		if c.IsCA && SignedBy(c, chain) && c.CheckSignatureFrom(c) == nil {
			return c
		}
	}
	client := s.newClient(&tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12})
	defer client.CloseIdleConnections()
	a, err := send(ctx, client, "https://"+s.Endpoint+pathClusterInfo, "")
	var object configMap
	if err != nil || json.Unmarshal(a.body, &object) != nil {
		return nil
	}
	authority := authorityIn(object.Data["kubeconfig"])
	if !SignedBy(authority, chain) {
		return nil
	}
	return authority
}

func authorityIn(kubeconfig string) *x509.Certificate {
	var file struct {
		Clusters []struct {
			Cluster struct {
				Authority string `json:"certificate-authority-data"`
			} `json:"cluster"`
		} `json:"clusters"`
	}
	if yaml.Unmarshal([]byte(kubeconfig), &file) != nil || len(file.Clusters) != 1 {
		return nil
	}
	text, _ := base64.StdEncoding.DecodeString(file.Clusters[0].Cluster.Authority)
	authority, _ := ParseAuthority(string(text))
	return authority
}

func join(all []string) string { return strings.Join(all, ", ") }

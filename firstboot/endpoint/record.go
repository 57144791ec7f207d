package endpoint

import (
	"context"
	"encoding/json"
	"net/http"
	"time"
)

const pathRecord = "/api/v1/namespaces/kube-public/configmaps/kiln"

// Record is the cluster's public record, the ConfigMap kube-public/kiln that its initialiser writes at the end.
type Record struct {
	// Founder is the name of the node that founded the cluster; empty while there is no record.
	Founder string
	// Release and Kubernetes are what it was founded with.
	Release, Kubernetes string
	// Tokens maps the public ids of bootstrap tokens to when they end (RFC 3339), or to nothing for those that never do.
	Tokens map[string]string
}

// Public reads what the cluster shows to anybody; it needs no token. The observation is Ready once the cluster is founded
// as far as kubeadm goes; the record, which comes later, may then still be empty.
func (c Cluster) Public(ctx context.Context) (Record, Observation) {
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	s := c.open()
	defer s.close()
	if _, problem := s.clusterInfo(ctx); problem != nil {
		return Record{}, problem.Observation
	}
	record, problem := s.record(ctx)
	if problem != nil {
		return Record{}, problem.Observation
	}
	return record, Observation{State: Ready, Kubernetes: record.Kubernetes, Message: s.Endpoint + " answers"}
}

// record is empty when there is none, or none that may be read.
func (s *session) record(ctx context.Context) (Record, *Problem) {
	a, problem := s.get(ctx, pathRecord, "")
	if problem != nil || a.code == http.StatusNotFound || a.code == http.StatusForbidden {
		return Record{}, problem
	}
	data, problem := s.configMap(a, "kube-public/kiln")
	if problem != nil {
		return Record{}, problem
	}
	r := Record{Founder: data["founder"], Release: data["release"], Kubernetes: data["kubernetes"]}
	if json.Unmarshal([]byte(data["tokens"]), &r.Tokens) != nil {
		r.Tokens = nil
	}
	return r, nil
}

// tokenRefused tells a token that has ended from one that was never good, by the cluster's record. The server's clock
// decides: it is the one that refused.
func (s *session) tokenRefused(ctx context.Context, at time.Time) *Problem {
	const advice = "make a new one with `kiln cluster token cluster.yaml -o DIR` and give this node its identity again"
	if at.IsZero() {
		at = s.now()
	}
	record, problem := s.record(ctx)
	if problem != nil {
		return problem
	}
	id := s.tokenID()
	ends, listed := record.Tokens[id]
	end, err := time.Parse(time.RFC3339, ends)
	switch {
	case listed && err == nil && !at.Before(end):
		p := trouble(TokenExpired, advice, "token expired: the cluster at %s took the token %s until %s", s.Endpoint, id, end.UTC().Format(time.RFC3339))
		p.Expired = end
		return p
	case listed:
		return trouble(TokenUnknown, advice, "token invalid: the cluster at %s knows a token %s, but not with this secret, or it was deleted", s.Endpoint, id)
	case record.Tokens != nil:
		return trouble(TokenUnknown, advice, "token invalid: the cluster at %s has never had a token %s", s.Endpoint, id)
	}
	return trouble(TokenUnknown, advice, "token invalid: the cluster at %s does not take the token %s; it has expired or was never its own", s.Endpoint, id)
}

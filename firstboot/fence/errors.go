package fence

import "fmt"

// Rival is another node that would found, or founds, the same cluster. It is permanent: two identities say initialise.
type Rival struct {
	// Name and Address are the other node's. Address is empty when this node yielded to it before.
	Name, Address string
	// State is what the other node was doing: claiming, initialising, founded, or yielded-to for one of an earlier boot.
	State string
	// Namesake says that the other node has this one's name: a copy of its identity.
	Namesake bool
}

// Error implements error.
func (r *Rival) Error() string {
	switch {
	case r.State == yieldedTo:
		return fmt.Sprintf("node.initialise: this node has left the founding of the cluster to %s and never founds one from this disk; "+
			"take initialise out of this node's identity, and it joins; or wipe its state partition if %s is no more", r.Name, r.Name)
	case r.Namesake:
		return fmt.Sprintf("node.initialise: another machine at %s has the identity of %s too, and is %s; give one of them an identity of its own", r.Address, r.Name, r.State)
	}
	return fmt.Sprintf("node.initialise: %s at %s initialises the cluster too (it is %s); take initialise out of this node's identity, and it joins, or out of %s's",
		r.Name, r.Address, r.State, r.Name)
}

// Permanent reports that no retry mends it.
func (r *Rival) Permanent() bool { return true }

// yieldedTo is the State of a rival of an earlier boot.
const yieldedTo = "yielded-to"

// FoundedByOther says that the cluster lives and that another node founded it.
type FoundedByOther struct {
	// Founder is that node's name; Seen is where the cluster answered.
	Founder, Seen string
}

// Error implements error.
func (f *FoundedByOther) Error() string {
	return fmt.Sprintf("node.initialise: the cluster lives at %s and was founded by %s; take initialise out of this node's identity, and it joins", f.Seen, f.Founder)
}

// Permanent reports that no retry mends it.
func (f *FoundedByOther) Permanent() bool { return true }

// OtherCluster says that a cluster answers where this one is to be.
type OtherCluster struct {
	// Seen is where it answered.
	Seen string
	// Expected is the pin of this node's authority. Presented is that of the other's, if it shows it, and Issuer its name.
	Expected, Presented, Issuer string
}

// Error implements error.
func (c *OtherCluster) Error() string {
	theirs := fmt.Sprintf("a certificate signed by %q", c.Issuer)
	if c.Presented != "" {
		theirs = "the certificate authority " + c.Presented
	}
	if c.Expected == "" {
		return fmt.Sprintf("another cluster lives at %s (%s): this node's identity has no certificate authorities, so it is not its own; "+
			"correct cluster.endpoint or switch that cluster off", c.Seen, theirs)
	}
	return fmt.Sprintf("another cluster lives at %s (%s; this node's identity has %s); correct cluster.endpoint and the load balancer's backends, "+
		"or give this node an identity of that cluster", c.Seen, theirs, c.Expected)
}

// Permanent reports that no retry mends it.
func (c *OtherCluster) Permanent() bool { return true }

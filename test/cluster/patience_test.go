//go:build cluster && !full

package cluster_test

import "time"

// full says that there is time for what every change cannot wait for.
const full = false

// absence is for how long the load balancer is away when a cluster is founded.
const absence = 20 * time.Second

package main

import (
	"os"
	"strings"
	"testing"
)

func TestReset(t *testing.T) {
	worker := node(t, "")
	put(t, worker, "/var/lib/kiln/firstboot/identity.json", `{"node":{"name":"w1","role":"worker","address":"10.0.2.20"}}`)
	tests := []struct {
		name string
		args []string
		code int
		// out and err are parts of the outputs.
		out, err string
	}{
		{"dry run", []string{"reset", "--dry-run", "--root", worker, "--drain-timeout", "90s"}, 0, " 1  drain           keeps new pods off w1 and evicts those that it has, for at most 1m30s\n 2  marker", ""},
		{"nothing to leave", []string{"reset", "--root", node(t, "")}, 1, "", "this node has no identity, so there is no cluster to leave"},
		{"no duration", []string{"reset", "--drain-timeout", "long"}, 2, "", `invalid argument "long"`},
		{"a node's name", []string{"reset", "w1"}, 2, "", "w1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			code, stdout, stderr := call(t, tt.args...)
			if code != tt.code || !strings.Contains(stdout, tt.out) || !strings.Contains(stderr, tt.err) {
				t.Errorf("have %d, want %d\n%s\n%s", code, tt.code, stdout, stderr)
			}
		})
	}
	if _, err := os.Stat(worker + "/var/lib/kiln/reset"); err == nil {
		t.Error("a dry run left a marker")
	}
}

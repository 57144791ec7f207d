// Package step runs named steps in order. A step is a value: which steps run is decided when the list is built, so
// that a test compares names and a dry run prints the truth.
package step

import "context"

// Step is one named unit of work.
type Step struct {
	// Name is short and stable, as in kubeadm-init: it is in journals, conditions and tests.
	Name string
	// Does says in one sentence what the step does, for people.
	Does string
	// Run does it. It can be killed at any point and run again. The note says what was found or done, for people; it
	// never holds a secret.
	Run func(ctx context.Context) (note string, err error)
}

// List is an ordered list of steps.
type List []Step

// Names lists the steps' names in order.
func (l List) Names() []string {
	names := make([]string, len(l))
	for i, s := range l {
		names[i] = s.Name
	}
	return names
}

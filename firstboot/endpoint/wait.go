package endpoint

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"
)

// Options say how to wait.
type Options struct {
	// Look looks once: Cluster.Look.
	Look func(context.Context) Observation
	// Say gets a line whenever the state changes, and every 10 s.
	Say func(string)
}

// The pace of waiting. A look is due from 0.5 s to 2 s after the last one began, so that a node joins within 5 s of its
// endpoint coming up, and a hundred nodes do not ask in step.
const (
	firstPause = 500 * time.Millisecond
	mostPause  = 2 * time.Second
	leastPause = 200 * time.Millisecond
	sayEvery   = 10 * time.Second
)

// Wait looks until the node can join, for as long as it takes. It ends with a *Problem in a state that needs a person,
// once that has lasted (see Belief), and with ctx's cause when ctx ends.
func Wait(ctx context.Context, o Options) (Observation, error) {
	var belief Belief
	start, said, last := time.Now(), time.Time{}, State("")
	for pause := firstPause; ; pause = min(pause*3/2, mostPause) {
		began := time.Now()
		seen := o.Look(ctx)
		if ctx.Err() != nil {
			return Observation{}, fmt.Errorf("waiting for the endpoint: %w", context.Cause(ctx))
		}
		now := time.Now()
		if seen.State == Ready {
			return seen, nil
		}
		if belief.Add(seen.State, now) {
			return seen, &Problem{seen}
		}
		if changed := seen.State != last; changed || now.Sub(said) >= sayEvery {
			said, last = now, seen.State
			o.Say(line(seen, now.Sub(start)))
			if changed {
				pause = firstPause // where something has happened, the next thing may come soon
			}
		}
		select {
		case <-ctx.Done():
			return Observation{}, fmt.Errorf("waiting for the endpoint: %w", context.Cause(ctx))
		case <-time.After(max(jitter(pause)-time.Since(began), leastPause)):
		}
	}
}

// jitter takes up to a third off d.
func jitter(d time.Duration) time.Duration { return d - rand.N(d/3) }

func line(seen Observation, waited time.Duration) string {
	if waited < sayEvery {
		return seen.String()
	}
	return fmt.Sprintf("%s (waiting for %s)", seen, waited.Round(time.Second))
}

// Belief counts how long a state that needs a person has been seen. API servers behind a balancer come to know a token at
// different times, and a Node stays Ready for most of a minute after its machine has died, so one look proves nothing. The
// zero value has seen nothing.
type Belief struct {
	state State
	since time.Time
	count int
}

// How long a state has to last before it is believed. A Node is marked as gone 50 s after its last sign of life
// (node-monitor-grace-period), and later still while controller managers change their leader.
const (
	believeAfter     = 10 * time.Second
	believeNameAfter = 2 * time.Minute
	believeCount     = 3
)

// Add takes in a state seen at a time and reports whether it needs a person and has lasted. Looks that did not get as far
// as an answer neither confirm nor deny: one dead backend of three must not hide that a token has expired.
func (b *Belief) Add(state State, at time.Time) bool {
	switch state {
	case Refused, TimedOut, Unreachable, Unresolvable, Closed, NotReady:
		return false
	}
	// The two states of a bad token are one: only the record tells them apart, and not every look gets it.
	kind := state
	if kind == TokenExpired {
		kind = TokenUnknown
	}
	if kind != b.state {
		*b = Belief{state: kind, since: at}
	}
	b.count++
	least := believeAfter
	if state == NameTaken {
		least = believeNameAfter
	}
	return state.NeedsPerson() && b.count >= believeCount && at.Sub(b.since) >= least
}

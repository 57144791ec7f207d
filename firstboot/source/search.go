package source

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/kiln-os/kiln/internal/document"
)

// Search looks for an identity.
type Search struct {
	// Sources are asked in order, those on the machine first.
	Sources []Source
	// Budget is how long the network may take, all waiting included; zero asks it once.
	Budget time.Duration
	// Say tells people what the search is waiting for; nil tells nobody.
	Say func(text string)
}

const (
	// devicePoll is how often a device that has not appeared is looked for.
	devicePoll = 50 * time.Millisecond
	// firstPause is between two rounds on the network; each further pause is twice as long, up to longestPause.
	firstPause   = 250 * time.Millisecond
	longestPause = 10 * time.Second
	// settling is how long a refusal may only mean that the machine is young.
	settling = time.Minute
	// quiet is how long the search waits for the same thing without saying so again.
	quiet = 10 * time.Second
	// metadataWait is how long a platform's metadata may take that an identity from elsewhere would be filled up with.
	metadataWait = 15 * time.Second
)

// asked is a source and its last answer.
type asked struct {
	Source
	answer error
	// over says that asking again is of no use.
	over bool
}

// Find returns the identity and what came with it. Places on the machine that have one keep the network from being asked; of
// those that are asked, all have to agree. The error is a *NotFound when nothing is anywhere, an *Unanswered when the time
// was over before that was clear, a document.Problem, or says which place on the machine could not be read.
func (s Search) Find(ctx context.Context) (Found, error) {
	var here, away []*asked
	for _, source := range s.Sources {
		if source.Offline {
			here = append(here, &asked{Source: source})
		} else {
			away = append(away, &asked{Source: source})
		}
	}
	found, err := s.here(ctx, here)
	if err != nil {
		return Found{}, err
	}
	start := time.Now()
	if found == nil {
		limited, cancel := context.WithTimeout(ctx, max(s.Budget, requestWait))
		defer cancel()
		if found, err = s.away(limited, away, start); err != nil {
			return Found{}, err
		}
	}
	if ctx.Err() != nil {
		return Found{}, context.Cause(ctx)
	}
	if found == nil {
		return Found{}, lost(append(here, away...))
	}
	return s.withMetadata(ctx, *found, away, start)
}

// here looks at places on the machine until one has something or none can appear any more; nil says that there is nothing.
func (s Search) here(ctx context.Context, places []*asked) (*Found, error) {
	for start := time.Now(); ; {
		found, err := round(ctx, places)
		if found != nil || err != nil {
			return found, err
		}
		open := false
		for _, p := range places {
			missing, late := errors.Is(p.answer, ErrNothing), time.Since(start) >= p.Appears
			if late && !missing {
				return nil, fmt.Errorf("reading identity from %s: %w", p.Name, p.answer)
			}
			p.over = late || missing && !errors.Is(p.answer, errNotYet)
			open = open || !p.over
		}
		if !open {
			return nil, nil
		}
		if err := pause(ctx, devicePoll); err != nil {
			return nil, err
		}
	}
}

// away asks on the network until one place has something, all have nothing, or the time is over; nil says that there is
// nothing.
func (s Search) away(ctx context.Context, places []*asked, start time.Time) (*Found, error) {
	said := speech{say: s.Say}
	for wait := firstPause; ; wait = min(2*wait, longestPause) {
		found, err := round(ctx, places)
		if found != nil || err != nil {
			return found, err
		}
		var open []string
		for _, p := range places {
			_, early := errors.AsType[refused](p.answer)
			p.over = errors.Is(p.answer, ErrNothing) || early && time.Since(start) >= settling
			if !p.over {
				open = append(open, p.Name+": "+p.answer.Error())
			}
		}
		if len(open) == 0 || s.Budget-time.Since(start) < wait || ctx.Err() != nil {
			return nil, nil
		}
		said.waiting(strings.Join(open, "; "), wait)
		// The caller tells the end of the time from that of the program.
		if pause(ctx, wait) != nil {
			return nil, nil
		}
	}
}

// round asks every place that may still have something, once. Answers that differ are a document.Problem.
func round(ctx context.Context, places []*asked) (*Found, error) {
	var first *Found
	for _, p := range places {
		if p.over {
			continue
		}
		found, err := p.Find(ctx)
		switch {
		case document.IsInvalid(err): // it names the place itself
			return nil, err
		case err != nil && ctx.Err() != nil && p.answer != nil: // what it said before says more
			continue
		case err != nil:
			p.answer = err
			continue
		}
		found.From = p.Name
		switch {
		case first == nil:
			first = &found
		case !first.same(found):
			return nil, document.Problem{File: first.From, Text: fmt.Sprintf("has another identity than %s; leave one of them, or make them the same", found.From)}
		case first.Metadata == (Metadata{}):
			first.Metadata = found.Metadata
		}
	}
	return first, nil
}

// withMetadata asks what the platform knows of the machine, if the identity did not come with it. The service that gave the
// identity has to answer; another one only fills up, and gets a short time.
func (s Search) withMetadata(ctx context.Context, found Found, places []*asked, start time.Time) (Found, error) {
	if found.Metadata != (Metadata{}) {
		return found, nil
	}
	for _, p := range places {
		if p.Metadata == nil {
			continue
		}
		own, until := p.Name == found.From, time.Now().Add(metadataWait)
		if own {
			until = start.Add(max(s.Budget, metadataWait))
		}
		metadata, err := s.metadata(ctx, p, until)
		switch {
		case err == nil:
			found.Metadata = metadata
			return found, nil
		case ctx.Err() != nil:
			return Found{}, context.Cause(ctx)
		case own:
			return Found{}, fmt.Errorf("reading metadata of the machine from %s: %w", p.Name, err)
		}
		said := speech{say: s.Say}
		said.tell(fmt.Sprintf("%s tells nothing of the machine (%s); going on without zone, region and provider ID", p.Name, err))
	}
	return found, nil
}

// metadata asks p what it knows of the machine until it answers or the time is over.
func (s Search) metadata(ctx context.Context, p *asked, until time.Time) (Metadata, error) {
	limited, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	said := speech{say: s.Say}
	for wait := firstPause; ; wait = min(2*wait, longestPause) {
		metadata, err := p.Metadata(limited)
		if err == nil || time.Until(until) < wait || ctx.Err() != nil {
			return metadata, err
		}
		said.waiting(fmt.Sprintf("%s: metadata: %s", p.Name, err), wait)
		if pause(limited, wait) != nil {
			return Metadata{}, err
		}
	}
}

// pause waits, unless ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

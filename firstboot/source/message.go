package source

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// NotFound says that no source has an identity.
type NotFound struct {
	// Tried has one line for each source: its name and its answer.
	Tried []string
}

// Error implements error.
func (e *NotFound) Error() string {
	return "no identity found; tried:\n  " + strings.Join(e.Tried, "\n  ") +
		"\ngive the machine one of these (kiln's documentation, \"identity\") and boot it again"
}

// Unanswered says that no source has given an identity in time, and that one of them may have it: asking again may help.
type Unanswered struct {
	// Tried has one line for each source: its name and its last answer.
	Tried []string
}

// Error implements error.
func (e *Unanswered) Error() string {
	return "no identity found in time; tried:\n  " + strings.Join(e.Tried, "\n  ")
}

// lost is a *NotFound when every place has said that it has nothing, or has refused; else an *Unanswered.
func lost(places []*asked) error {
	var tried []string
	clear := true
	for _, p := range places {
		_, early := errors.AsType[refused](p.answer)
		missing := errors.Is(p.answer, ErrNothing)
		clear = clear && (missing || early)
		answer := "was not asked"
		if p.answer != nil {
			answer = strings.ReplaceAll(p.answer.Error(), "\n", "; ")
			for _, kind := range []error{errNotYet, ErrNothing} {
				answer = strings.TrimPrefix(answer, kind.Error()+": ")
			}
		}
		tried = append(tried, p.Name+": "+answer)
	}
	if clear {
		return &NotFound{Tried: tried}
	}
	return &Unanswered{Tried: tried}
}

// speech says what is waited for when that changes, and every ten seconds.
type speech struct {
	say  func(text string)
	last string
	when time.Time
}

func (s *speech) waiting(text string, next time.Duration) {
	if text == s.last && time.Since(s.when) < quiet {
		return
	}
	s.last, s.when = text, time.Now()
	s.tell(fmt.Sprintf("%s; asking again in %s", strings.ReplaceAll(text, "\n", "; "), next))
}

func (s *speech) tell(text string) {
	if s.say != nil {
		s.say(text)
	}
}

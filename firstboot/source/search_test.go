package source

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kiln-os/kiln/internal/document"
)

// script is a source that gives one answer after the other; the last one stays.
type script struct {
	name    string
	offline bool
	appears time.Duration
	answers []any // a text, or an error
	// metadata is likewise, of Metadata and errors; nil for a place that knows none.
	metadata []any
	asked    int
	told     int
}

func (s *script) source() Source {
	source := Source{Name: s.name, Offline: s.offline, Appears: s.appears, Find: func(context.Context) (Found, error) {
		s.asked++
		switch answer := s.answers[min(s.asked, len(s.answers))-1].(type) {
		case string:
			return Found{Text: []byte(answer)}, nil
		case error:
			return Found{}, answer
		}
		panic("no answer")
	}}
	if s.metadata != nil {
		source.Metadata = func(context.Context) (Metadata, error) {
			s.told++
			switch answer := s.metadata[min(s.told, len(s.metadata))-1].(type) {
			case Metadata:
				return answer, nil
			case error:
				return Metadata{}, answer
			}
			panic("no answer")
		}
	}
	return source
}

func TestSearch(t *testing.T) {
	broken, early := errors.New("connection refused"), refused{status: 404, url: "http://x/y"}
	here := Metadata{Zone: "z"}
	tests := []struct {
		name    string
		budget  time.Duration
		sources []*script
		want    string // the text and where it is from
		zone    string
		// wantErr are parts of the message; kind tells of which kind the error is.
		wantErr []string
		kind    string
		// took is how long it took, and asked how often each source was asked (-1 for any number over one).
		took  time.Duration
		asked []int
	}{
		{name: "offline first, and then no network", want: "a from card", asked: []int{1, 0},
			sources: []*script{{name: "card", offline: true, answers: []any{"a"}}, {name: "net", answers: []any{"b"}}}},
		{name: "order does not put the network first", want: "a from card", asked: []int{0, 1},
			sources: []*script{{name: "net", answers: []any{"b"}}, {name: "card", offline: true, answers: []any{"a"}}}},
		{name: "a device that appears late", want: "a from card", took: 2 * devicePoll, asked: []int{3, 3, 1},
			sources: []*script{{name: "card", offline: true, appears: time.Second, answers: []any{errNotYet, errNotYet, "a"}}, {name: "other", offline: true, appears: time.Second, answers: []any{errNotYet}}, {name: "empty", offline: true, appears: time.Second, answers: []any{ErrNothing}}}},
		{name: "what cannot appear is looked at once", want: "a from card", took: 2 * devicePoll, asked: []int{1, 3},
			sources: []*script{{name: "credential", offline: true, answers: []any{ErrNothing}}, {name: "card", offline: true, appears: time.Second, answers: []any{errNotYet, broken, "a"}}}},
		{name: "a device that stays unreadable", wantErr: []string{"reading identity from card: connection refused"}, took: 100 * time.Millisecond, asked: []int{3, 0},
			sources: []*script{{name: "card", offline: true, appears: 100 * time.Millisecond, answers: []any{broken}}, {name: "net", answers: []any{"b"}}}},
		{name: "the network when there is nothing here", budget: time.Minute, want: "b from net", took: time.Second, asked: []int{-1, 1},
			sources: []*script{{name: "card", offline: true, appears: time.Second, answers: []any{errNotYet}}, {name: "net", answers: []any{"b"}}}},
		{name: "retries", budget: time.Minute, want: "b from net", took: 250*time.Millisecond + 500*time.Millisecond + time.Second, asked: []int{4},
			sources: []*script{{name: "net", answers: []any{broken, early, broken, "b"}}}},
		{name: "refused for a minute", budget: 5 * time.Minute, kind: "not found", took: 65750 * time.Millisecond, asked: []int{-1},
			wantErr: []string{"no identity found; tried:\n  net: http://x/y answers 404 Not Found\n"}, sources: []*script{{name: "net", answers: []any{early}}}},
		{name: "refused until the end", budget: 2 * time.Second, kind: "not found", took: 1750 * time.Millisecond, asked: []int{4}, wantErr: []string{"answers 404"},
			sources: []*script{{name: "net", answers: []any{early}}}},
		{name: "never answered", budget: time.Minute, kind: "unanswered", took: 55750 * time.Millisecond, asked: []int{1, 1, -1}, sources: []*script{
			{name: "card", offline: true, answers: []any{nothing("no device")}}, {name: "one", answers: []any{nothing("no user-data")}}, {name: "two", answers: []any{broken}}},
			wantErr: []string{"no identity found in time; tried:\n  card: no device\n  one: no user-data\n  two: connection refused"}},
		{name: "nothing anywhere", budget: time.Minute, kind: "not found", asked: []int{1, 1}, wantErr: []string{"no identity found; tried:\n  card: no device\n  net: no user-data\ngive the machine"},
			sources: []*script{{name: "card", offline: true, answers: []any{nothing("no device")}}, {name: "net", answers: []any{nothing("no user-data")}}}},
		{name: "two that agree", want: "a from one", asked: []int{1, 1}, sources: []*script{{name: "one", offline: true, answers: []any{"a"}}, {name: "two", offline: true, answers: []any{"a\n"}}}},
		{name: "two on the machine that disagree", kind: "wrong", asked: []int{1, 1}, wantErr: []string{"one: has another identity than two; leave one of them"},
			sources: []*script{{name: "one", offline: true, answers: []any{"a"}}, {name: "two", offline: true, answers: []any{"b"}}}},
		{name: "two on the network that disagree", kind: "wrong", asked: []int{1, 1}, wantErr: []string{"one: has another identity than two"},
			sources: []*script{{name: "one", answers: []any{"a"}}, {name: "two", answers: []any{"b"}}}},
		{name: "a document that is wrong ends it", budget: time.Minute, kind: "wrong", asked: []int{1, 0}, wantErr: []string{"x: is empty"},
			sources: []*script{{name: "one", answers: []any{document.Problem{File: "x", Text: "is empty"}}}, {name: "two", answers: []any{"b"}}}},
		{name: "metadata", budget: time.Minute, want: "b from net", zone: "z", asked: []int{1}, sources: []*script{{name: "net", answers: []any{"b"}, metadata: []any{here}}}},
		{name: "metadata that is late", budget: time.Minute, want: "b from net", zone: "z", took: 750 * time.Millisecond, asked: []int{1},
			sources: []*script{{name: "net", answers: []any{"b"}, metadata: []any{broken, broken, here}}}},
		{name: "metadata that never comes", budget: 20 * time.Second, took: 15750 * time.Millisecond, asked: []int{1}, wantErr: []string{"reading metadata of the machine from net: connection refused"},
			sources: []*script{{name: "net", answers: []any{"b"}, metadata: []any{broken}}}},
		{name: "the platform's metadata for an identity from elsewhere", want: "a from card", zone: "z", asked: []int{1, 0},
			sources: []*script{{name: "card", offline: true, answers: []any{"a"}}, {name: "net", answers: []any{"b"}, metadata: []any{here}}}},
		{name: "and without, after a short time", want: "a from card", took: 7750 * time.Millisecond, asked: []int{1, 0},
			sources: []*script{{name: "card", offline: true, answers: []any{"a"}}, {name: "net", answers: []any{"b"}, metadata: []any{broken}}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var sources []Source
				for _, s := range tt.sources {
					sources = append(sources, s.source())
				}
				start := time.Now()
				found, err := Search{Sources: sources, Budget: tt.budget}.Find(t.Context())
				// The clock is the bubble's: nothing but the search's own waiting moves it.
				if took := time.Since(start); took != tt.took {
					t.Errorf("took %s; want %s", took, tt.took)
				}
				for i, s := range tt.sources {
					if s.asked != tt.asked[i] && (tt.asked[i] >= 0 || s.asked < 2) {
						t.Errorf("%s was asked %d times; want %d", s.name, s.asked, tt.asked[i])
					}
				}
				if len(tt.wantErr) == 0 {
					if have := string(found.Text) + " from " + found.From; err != nil || have != tt.want || found.Metadata.Zone != tt.zone {
						t.Errorf("have %s, %+v, %v", have, found.Metadata, err)
					}
					return
				}
				for _, want := range tt.wantErr {
					if err == nil || !strings.Contains(err.Error(), want) {
						t.Errorf("have %v; want %s", err, want)
					}
				}
				_, gone := errors.AsType[*NotFound](err)
				_, silent := errors.AsType[*Unanswered](err)
				if gone != (tt.kind == "not found") || silent != (tt.kind == "unanswered") || document.IsInvalid(err) != (tt.kind == "wrong") {
					t.Errorf("of the wrong kind: %#v", err)
				}
			})
		})
	}
}

func TestSearchSaysWhatItWaitsFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var said []string
		s := &script{name: "net", answers: []any{errors.New("a"), errors.New("a"), errors.New("a"), errors.New("b")}}
		_, err := Search{Sources: []Source{s.source()}, Budget: time.Minute, Say: func(text string) { said = append(said, text) }}.Find(t.Context())
		if _, silent := errors.AsType[*Unanswered](err); !silent {
			t.Errorf("have %v", err)
		}
		if len(said) < 4 || said[0] != "net: a; asking again in 250ms" || said[1] != "net: b; asking again in 2s" || !strings.HasPrefix(said[2], "net: b; asking again in ") {
			t.Errorf("said %q", said)
		}
	})
}

func TestSearchEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stop := errors.New("stopped")
		for _, offline := range []bool{true, false} {
			ctx, cancel := context.WithCancelCause(t.Context())
			time.AfterFunc(time.Second, func() { cancel(stop) })
			s := &script{name: "x", offline: offline, appears: time.Hour, answers: []any{errNotYet}}
			if !offline {
				s.answers = []any{errors.New("no route")}
			}
			if _, err := (Search{Sources: []Source{s.source()}, Budget: time.Hour}).Find(ctx); !errors.Is(err, stop) {
				t.Errorf("have %v", err)
			}
		}
	})
}

package endpoint

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// story gives one state after the other, each for a while by the bubble's clock; the last one stays.
type story []struct {
	state State
	lasts time.Duration
}

func (s story) look(began time.Time) Observation {
	at := time.Duration(0)
	for _, part := range s {
		if at += part.lasts; time.Since(began) < at {
			return Observation{State: part.state, Message: "saw " + string(part.state)}
		}
	}
	return Observation{State: s[len(s)-1].state, Message: "saw " + string(s[len(s)-1].state)}
}

// wait runs Wait over s. The clock is the bubble's: nothing here takes real time.
func wait(ctx context.Context, s story) (said []string, looks int, took time.Duration, seen Observation, err error) {
	began := time.Now()
	seen, err = Wait(ctx, Options{
		Look: func(context.Context) Observation { looks++; return s.look(began) },
		Say:  func(line string) { said = append(said, line) },
	})
	return said, looks, time.Since(began), seen, err
}

func TestWaitUntilReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		said, looks, took, seen, err := wait(t.Context(), story{{Refused, time.Minute}, {Closed, 5 * time.Second}, {NotReady, 5 * time.Second}, {Ready, 0}})
		if err != nil || seen.State != Ready {
			t.Fatalf("saw %v, %v", seen, err)
		}
		if took < 70*time.Second || took > 72*time.Second || looks < 35 || looks > 110 {
			t.Errorf("took %s and %d looks", took, looks)
		}
		heads := slices.Compact(slices.Collect(func(yield func(string) bool) {
			for _, line := range said {
				yield(strings.Fields(line)[1])
			}
		}))
		if !slices.Equal(heads, []string{"Refused", "Closed", "NotReady"}) || len(said) < 6 || len(said) > 9 {
			t.Errorf("said %q", said)
		}
	})
}

// Whatever was seen for however long, a node looks within 2 s.
func TestWaitLooksOften(t *testing.T) {
	for _, state := range []State{Refused, TimedOut, Closed, NotFounded, Unsigned} {
		synctest.Test(t, func(t *testing.T) {
			_, _, took, _, err := wait(t.Context(), story{{state, 10 * time.Minute}, {Ready, 0}})
			if err != nil || took > 10*time.Minute+2*time.Second {
				t.Errorf("%s: took %s, %v", state, took, err)
			}
		})
	}
}

// A look that takes its time is part of the pause.
func TestWaitCountsTheLook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began, looks := time.Now(), 0
		_, err := Wait(t.Context(), Options{Say: func(string) {}, Look: func(context.Context) Observation {
			time.Sleep(5 * time.Second)
			if looks++; time.Since(began) > time.Hour {
				return Observation{State: Ready}
			}
			return Observation{State: TimedOut}
		}})
		if err != nil || looks < 3600*10/52 {
			t.Errorf("%d looks, %v", looks, err)
		}
	})
}

func TestWaitEndsWithAPerson(t *testing.T) {
	tests := []struct {
		name        string
		story       story
		least, most time.Duration
		permanent   bool
	}{
		{"other cluster", story{{OtherCluster, 0}}, 10 * time.Second, 13 * time.Second, true},
		{"version", story{{VersionDiffers, 0}}, 10 * time.Second, 13 * time.Second, true},
		{"name in certificate", story{{NameMismatch, 0}}, 10 * time.Second, 13 * time.Second, true},
		{"token", story{{Refused, time.Hour}, {TokenUnknown, 0}}, time.Hour + 10*time.Second, time.Hour + 15*time.Second, false},
		{"token, then expired", story{{TokenUnknown, 6 * time.Second}, {TokenExpired, 0}}, 10 * time.Second, 13 * time.Second, false},
		{"token, with a dead backend", story{{TokenExpired, 4 * time.Second}, {Refused, 2 * time.Second}, {NotReady, 2 * time.Second}, {TokenExpired, 0}}, 10 * time.Second, 13 * time.Second, false},
		{"Node's name", story{{NameTaken, 0}}, 2 * time.Minute, 2*time.Minute + 3*time.Second, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, _, took, _, err := wait(t.Context(), test.story)
				problem, ok := errors.AsType[*Problem](err)
				if !ok || problem.Permanent() != test.permanent || problem.TokenRefused() == test.permanent {
					t.Fatalf("error is %v", err)
				}
				if took < test.least || took > test.most {
					t.Errorf("took %s", took)
				}
			})
		})
	}
}

// What passes is not believed.
func TestWaitDoubts(t *testing.T) {
	for name, s := range map[string]story{
		"caches lag behind":          {{TokenUnknown, 8 * time.Second}, {Unsigned, 3 * time.Second}, {TokenUnknown, 8 * time.Second}, {Ready, 0}},
		"an old Node is still Ready": {{NameTaken, 100 * time.Second}, {Ready, 0}},
		"the clock is set":           {{CertificateTime, time.Hour}, {Ready, 0}},
		"an old balancer":            {{OtherCluster, 5 * time.Second}, {Refused, time.Hour}, {Ready, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if _, _, _, seen, err := wait(t.Context(), s); err != nil || seen.State != Ready {
					t.Errorf("saw %v, %v", seen, err)
				}
			})
		})
	}
}

func TestWaitIsInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stopped := errors.New("stopped by a test")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Minute, func() { cancel(stopped) })
		_, _, _, _, err := wait(ctx, story{{Refused, time.Hour}})
		if _, problem := errors.AsType[*Problem](err); !errors.Is(err, stopped) || problem {
			t.Errorf("error is %v", err)
		}
	})
}

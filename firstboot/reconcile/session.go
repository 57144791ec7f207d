package reconcile

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"time"

	"github.com/kiln-os/kiln/firstboot/node"
)

// session is one list of the Nodes and what has changed since.
type session struct {
	r     *Reconciler
	api   API
	facts facts
	nodes map[string]Node
	jobs  []*job
}

// job is one kind of work. Each is tried again by itself when it fails: certificates that cannot be uploaded hold up no
// node's labels.
type job struct {
	doing string
	do    func(context.Context) error
	// again is when the work that failed is done again, and pause how long that was waited for.
	again time.Time
	pause time.Duration
}

// known is what was found out about one Node, so that nothing is asked, said or tried twice. It ends with the Node.
type known struct {
	uid string
	// registration is the text that labels and refusal were made from.
	registration string
	labels       map[string]string
	refusal      error
	// refused says that the cluster has been told of refusal; bad are labels that the API server did not take.
	refused bool
	bad     map[string]bool
	// looked says that systemUUID and shared were read from the Node. shared is what its condition says it has in common
	// with others, "" for nothing.
	looked             bool
	systemUUID, shared string
	// left is when the Node was first seen to have left.
	left time.Time
}

func newSession(r *Reconciler, api API, f facts, nodes []node.Metadata) *session {
	s := &session{r: r, api: api, facts: f, nodes: map[string]Node{}}
	s.jobs = []*job{
		{doing: "setting labels", do: s.register},
		{doing: "looking for machines that are there twice", do: s.unique},
		{doing: "removing nodes that have left", do: s.leave},
		{doing: "keeping certificates uploaded", do: s.certificates},
	}
	if r.known == nil {
		r.known = map[string]*known{}
	}
	for _, n := range nodes {
		s.take(node.Change{Node: n})
	}
	maps.DeleteFunc(r.known, func(name string, _ *known) bool { _, there := s.nodes[name]; return !there })
	return s
}

// run follows the Nodes until the watch breaks or it is time for a new list.
func (s *session) run(ctx context.Context) error {
	renew, cancel := context.WithTimeout(ctx, s.r.Pace.Renew)
	defer cancel()
	changes := make(chan node.Change)
	ended := make(chan error, 1)
	go func() {
		ended <- s.api.Watch(renew, func(c node.Change) {
			select {
			case changes <- c:
			case <-renew.Done():
			}
		})
	}()
	err := s.follow(renew, changes, ended)
	if renew.Err() != nil {
		return nil
	}
	return err
}

// follow acts on changes, and now and then on what time alone changes.
func (s *session) follow(ctx context.Context, changes <-chan node.Change, ended <-chan error) error {
	tick := time.NewTicker(s.r.Pace.Tick)
	defer tick.Stop()
	settle := time.NewTimer(s.settle()) // the list itself is the first change
	defer settle.Stop()
	settling := true
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-ended:
			return err
		case c := <-changes:
			if s.take(c) && !settling {
				settling = true
				settle.Reset(s.settle())
			}
		case <-settle.C:
			settling = false
			s.work(ctx)
		case <-tick.C:
			s.work(ctx)
		}
	}
}

func (s *session) settle() time.Duration { return s.r.Pace.Settle + rand.N(s.r.Pace.Settle+1) }

// take brings the list up to date and tells whether that makes a difference: a Node's metadata also tells a new version
// whenever the kubelet reports its status.
func (s *session) take(c node.Change) bool {
	n := keep(c.Node)
	before, was := s.nodes[n.Name]
	if c.Gone {
		s.forget(n.Name)
		return was
	}
	s.nodes[n.Name] = n
	if k := s.r.known[n.Name]; k == nil || k.uid != n.UID {
		s.r.known[n.Name] = &known{uid: n.UID, bad: map[string]bool{}}
		return true
	}
	return !was || !maps.Equal(before.Labels, n.Labels) || !maps.Equal(before.Annotations, n.Annotations)
}

// forget drops a Node that is gone.
func (s *session) forget(name string) {
	delete(s.nodes, name)
	delete(s.r.known, name)
}

// patience is how long one job may take; the watch waits meanwhile.
const patience = 2 * time.Minute

// work does all that is to be done. What fails is tried again, later and later.
func (s *session) work(ctx context.Context) {
	for _, j := range s.jobs {
		now := s.r.Now()
		if now.Before(j.again) || ctx.Err() != nil {
			continue
		}
		bounded, cancel := context.WithTimeout(ctx, patience)
		err := j.do(bounded)
		cancel()
		switch {
		case ctx.Err() != nil:
		case err == nil:
			s.r.recovered(j.doing)
			j.again, j.pause = time.Time{}, 0
		default:
			s.r.complain(j.doing, err)
			j.pause = min(max(2*j.pause, s.r.Pace.Pause), s.r.Pace.MostPause)
			j.again = now.Add(jitter(j.pause))
		}
	}
}

// each does something for every Node, in the order of their names. What fails for one is done for the others all the same,
// unless there is no API server to ask.
func (s *session) each(ctx context.Context, do func(context.Context, Node) error) error {
	var problems []error
	for _, name := range slices.Sorted(maps.Keys(s.nodes)) {
		err := do(ctx, s.nodes[name])
		switch _, answered := errors.AsType[*node.StatusError](err); {
		case err == nil:
		case node.HasCode(err, http.StatusNotFound):
			s.forget(name) // the watch will say so
		case !answered:
			return fmt.Errorf("node %s: %w", name, err)
		default:
			problems = append(problems, fmt.Errorf("node %s: %w", name, err))
		}
	}
	return errors.Join(problems...)
}

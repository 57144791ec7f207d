package fence

import (
	"cmp"
	"slices"
	"sync"
)

// state is how far a candidate is. States never go back.
type state string

const (
	claiming     state = "claiming"
	yielded      state = "yielded"
	initialising state = "initialising"
	founded      state = "founded"
)

// candidate is a node that would found the cluster, in the form in which nodes tell each other.
type candidate struct {
	Name  string `json:"name"`
	Nonce string `json:"nonce"`
	// Run tells a process from any other, also one on a copied disk. A node knows itself by it.
	Run     string `json:"run"`
	Address string `json:"address"`
	State   state  `json:"state"`
}

// before is the order in which candidates go.
func (c candidate) before(other candidate) bool {
	return cmp.Or(cmp.Compare(c.Name, other.Name), cmp.Compare(c.Nonce, other.Nonce), cmp.Compare(c.Run, other.Run)) < 0
}

func (c candidate) founding() bool { return c.State == initialising || c.State == founded }

// table is what one candidate knows. All that matters happens under its lock: that a node begins to initialise, and that
// it tells another what it is doing. Of two nodes that ask each other, one therefore is told the truth.
type table struct {
	lock   sync.Mutex
	own    candidate
	rivals map[string]candidate
	// news has something in it after a rival was heard that does something new.
	news chan struct{}
}

func newTable(own candidate) *table {
	return &table{own: own, rivals: map[string]candidate{}, news: make(chan struct{}, 1)}
}

// exchange takes in what a rival says and returns what this node is doing at that moment.
func (t *table) exchange(their candidate) candidate {
	t.lock.Lock()
	defer t.lock.Unlock()
	t.take(their)
	return t.own
}

// hear takes in what a rival has said.
func (t *table) hear(their candidate) { t.exchange(their) }

func (t *table) take(their candidate) {
	if their.Run == t.own.Run {
		return
	}
	known, heard := t.rivals[their.Run]
	// What was said earlier may arrive later.
	if heard && (known == their || known.State != claiming && their.State == claiming) {
		return
	}
	t.rivals[their.Run] = their
	select {
	case t.news <- struct{}{}:
	default:
	}
}

// gone forgets a rival that does not answer any more. It has to ask again before it can do anything.
func (t *table) gone(rival candidate) {
	t.lock.Lock()
	defer t.lock.Unlock()
	delete(t.rivals, rival.Run)
}

// self is this node as it tells others.
func (t *table) self() candidate {
	t.lock.Lock()
	defer t.lock.Unlock()
	return t.own
}

// seen are the rivals, in their order.
func (t *table) seen() []candidate {
	t.lock.Lock()
	defer t.lock.Unlock()
	return t.sorted()
}

func (t *table) sorted() []candidate {
	var list []candidate
	for _, rival := range t.rivals {
		list = append(list, rival)
	}
	slices.SortFunc(list, func(a, b candidate) int {
		if a.before(b) {
			return -1
		}
		return 1
	})
	return list
}

// set changes the state, forward only.
func (t *table) set(s state) {
	t.lock.Lock()
	defer t.lock.Unlock()
	t.own.State = s
}

// begin makes this node the one that initialises, unless a rival is in its way: who initialises already, or goes before
// it (yield is true then), or goes behind it and has not yielded yet.
func (t *table) begin() (rival candidate, yield, begun bool) {
	t.lock.Lock()
	defer t.lock.Unlock()
	rivals := t.sorted()
	for _, r := range rivals {
		if r.founding() {
			return r, true, false
		}
	}
	for _, r := range rivals {
		if r.State == claiming {
			return r, r.before(t.own), false
		}
	}
	t.own.State = initialising
	return candidate{}, false, true
}

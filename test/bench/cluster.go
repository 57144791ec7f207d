package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kiln-os/kiln/internal/profile"
	"github.com/kiln-os/kiln/test/rung"
)

// shape is how many nodes of each kind a cluster has.
type shape struct{ controlPlanes, workers int }

// String is the shape as it is given on the command line.
func (s shape) String() string { return fmt.Sprintf("%d+%d", s.controlPlanes, s.workers) }

// rounds is how often each side is measured, in turn: a large cluster keeps this machine busy for minutes, and what a
// watch's second more or less makes of it is small.
func (s shape) rounds() int {
	if s.controlPlanes+s.workers > 5 {
		return 1
	}
	return 3
}

// longest is how long one boot of a cluster may take.
const longest = 15 * time.Minute

// waitingWorker is the part of the section that is not about a shape.
const waitingWorker = "join"

// allClusters are all parts of the section.
const allClusters = "1+0,3+2," + waitingWorker + ",5+10"

// parseShapes reads such a list.
func parseShapes(text string) (shapes []shape, waiting bool, err error) {
	for part := range strings.SplitSeq(text, ",") {
		if part == waitingWorker {
			waiting = true
			continue
		}
		first, second, ok := strings.Cut(part, "+")
		controlPlanes, err1 := strconv.Atoi(first)
		workers, err2 := strconv.Atoi(second)
		if !ok || err1 != nil || err2 != nil || controlPlanes < 1 || controlPlanes > 9 || workers < 0 || workers > 20 {
			return nil, false, fmt.Errorf("-cluster: %q is neither %s nor control planes and workers, as in 3+2", part, waitingWorker)
		}
		shapes = append(shapes, shape{controlPlanes, workers})
	}
	return shapes, waiting, nil
}

// site is where clusters are measured.
type site struct {
	// dir has the machines' disks and consoles.
	dir string
	// parts is the cache's directory of parts.
	parts string
	// image is each role's.
	image map[string]string
}

// benchCluster measures how long nodes that are all powered on at once take to be Ready: kiln's image with its firstboot,
// and the same image with an operator's script around kubeadm in firstboot's place (operator.sh).
func benchCluster(ctx context.Context, t *table, parts string) error {
	shapes, waiting, err := parseShapes(parts)
	if err != nil {
		return err
	}
	s, err := newSite(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, shape := range shapes {
		if err := s.compare(ctx, t, shape); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", shape, err))
		}
		t.w.Flush() // the next one takes minutes
	}
	if waiting {
		errs = append(errs, s.waiting(ctx, t))
	}
	return errors.Join(errs...)
}

func newSite(ctx context.Context) (site, error) {
	if err := rung.Possible(); err != nil {
		return site{}, err
	}
	s := site{dir: "out/bench-cluster", image: map[string]string{profile.ControlPlane: "out/cp", profile.Worker: "out/worker"}}
	for role, dir := range s.image {
		if _, _, err := kiln(ctx, "build", "vm-disk", "--profile", role, "--release", "v1.36", "-o", dir); err != nil {
			return s, err
		}
	}
	cache, _, err := kiln(ctx, "cache", "path")
	if err != nil {
		return s, err
	}
	s.parts = filepath.Join(cache, "parts")
	s.dir, err = filepath.Abs(s.dir)
	return s, err
}

// compare measures both sides in turn and prints the medians side by side.
func (s site) compare(ctx context.Context, t *table, shape shape) error {
	load := loadNow()
	members, err := s.render(ctx, shape.String(), shape)
	if err != nil {
		return err
	}
	c := comparison{site: s, members: members}
	for round := range shape.rounds() {
		// Neither side always finds the files in memory that the other has read.
		sides := []func(context.Context) error{c.kiln, c.bare}
		if round%2 == 1 {
			slices.Reverse(sides)
		}
		for _, side := range sides {
			if err := side(ctx); err != nil {
				return err
			}
		}
	}
	c.print(t, shape, load)
	return nil
}

// comparison collects the rounds of one shape.
type comparison struct {
	site
	members []member
	// recipes are what firstboot has put on each node's disk in the first round: the other side starts with it.
	recipes map[string]recipe
	network string
	ours    []marks
	theirs  []marks
}

func (c *comparison) kiln(ctx context.Context) error {
	f, err := c.fleet("kiln", c.members)
	if err != nil {
		return err
	}
	defer f.close()
	m, err := f.bootKiln(ctx)
	if err != nil {
		return fmt.Errorf("kiln: %w", err)
	}
	progress("%d nodes by kiln: all Ready after %.1f s", len(c.members), m.ready.Seconds())
	c.ours = append(c.ours, m)
	if c.recipes == nil {
		c.recipes, c.network, err = f.learn(ctx)
	}
	return err
}

func (c *comparison) bare(ctx context.Context) error {
	f, err := c.fleet("bare", c.members)
	if err != nil {
		return err
	}
	defer f.close()
	m, err := f.bootBare(ctx, c.recipes, c.network)
	if err != nil {
		return fmt.Errorf("bare kubeadm: %w", err)
	}
	progress("%d nodes by bare kubeadm: all Ready after %.1f s", len(c.members), m.ready.Seconds())
	c.theirs = append(c.theirs, m)
	return nil
}

// print prints the round whose time to Ready is the median, of each side.
func (c *comparison) print(t *table, shape shape, load string) {
	byReady := func(a, b marks) int { return int(a.ready - b.ready) }
	slices.SortFunc(c.ours, byReady)
	slices.SortFunc(c.theirs, byReady)
	a, b := c.ours[len(c.ours)/2], c.theirs[len(c.theirs)/2]
	t.row(fmt.Sprintf("%s nodes, median of %d; load at start %s", shape, len(c.ours), load), "kiln s", "bare s", "ratio")
	both := func(what string, of func(marks) time.Duration, more ...any) {
		t.row(append([]any{what, tenths(of(a)), tenths(of(b)), fmt.Sprintf("%.2f x", of(a).Seconds()/of(b).Seconds())}, more...)...)
	}
	both("founder's kubeadm begins", func(m marks) time.Duration { return m.initBegins })
	both("founder's kubeadm ends", func(m marks) time.Duration { return m.initEnds })
	if len(c.members) > 1 {
		both("first join begins", func(m marks) time.Duration { return m.firstJoin })
		both("last join ends", func(m marks) time.Duration { return m.lastJoin })
	}
	both("all Nodes Ready", func(m marks) time.Duration { return m.ready }, "aim: at most 1.1 x")
	t.row("fastest and slowest round", span(c.ours), span(c.theirs))
	t.row("kiln's own share", tenths(a.ready-b.ready), "", fmt.Sprintf("%.1f %%", 100*(a.ready-b.ready).Seconds()/b.ready.Seconds()))
	t.row("memory taken, processors busy", fmt.Sprintf("%s, %.0f %%", mib(a.memory), a.busy), fmt.Sprintf("%s, %.0f %%", mib(b.memory), b.busy))
	t.row("kiln's own steps, founder", tenths(a.own[0].sum), "", a.own[0].text)
	if worst := slowest(a.own[1:]); worst.node != "" {
		t.row("kiln's own steps, most of those that join", tenths(worst.sum), "", worst.text+" ("+worst.node+")")
	}
}

func slowest(all []ownSteps) (worst ownSteps) {
	for _, one := range all {
		if one.sum >= worst.sum {
			worst = one
		}
	}
	return worst
}

func span(sorted []marks) string {
	return tenths(sorted[0].ready) + " to " + tenths(sorted[len(sorted)-1].ready)
}

func tenths(d time.Duration) string { return fmt.Sprintf("%.1f", d.Seconds()) }

// progress is for people who wait: the table comes last.
func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "  ... "+format+"\n", args...)
}

func loadNow() string {
	text, _ := os.ReadFile("/proc/loadavg")
	first, _, _ := strings.Cut(string(text), " ")
	return first
}

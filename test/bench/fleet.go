package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kiln-os/kiln/builder/seal"
	"github.com/kiln-os/kiln/internal/nodefs"
)

const (
	// fleetMachines boot at once.
	fleetMachines = 200
	// fleetRoot is the size of the root that each fetches, in bytes: a tenth of a real one, which takes a tenth of the time.
	fleetRoot = 32 << 20
	// gigabit is what a network of 1 Gbit/s carries of TCP's bytes in a second: 1448 of the 1538 that a full frame takes there.
	gigabit = 1e9 / 8 * 1448 / 1538
)

// benchFleet lets many machines fetch hash tree, root and identity from one server at once, with the code of firstboot. Readers
// that do nothing with what they get show what the server can do. Nothing is kept but the hash trees, 0.5 MiB a machine.
func benchFleet(ctx context.Context, t *table) error {
	dir, err := os.MkdirTemp("", "kiln-fleet-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	rootHash, err := makeFleetSet(ctx, dir)
	if err != nil {
		return err
	}
	t.row("clients", "MiB/s", "", "failed", "second attempts", "slowest identity")
	for _, network := range []struct {
		name string
		rate float64
	}{{"loopback", 0}, {"1 Gbit/s", gigabit}} {
		if err := fleetOn(ctx, t, crowd{dir: dir, rootHash: rootHash, network: network.name, rate: network.rate}); err != nil {
			return err
		}
	}
	return nil
}

// crowd is one server and who asks it.
type crowd struct {
	dir, rootHash string
	network       string
	// rate is what the server's network carries, in bytes a second; 0 is no limit.
	rate float64
}

// result is what a number of clients saw.
type result struct {
	rate             float64
	failed, repeated int64
	identity         time.Duration
	firstFailure     error
}

func fleetOn(ctx context.Context, t *table, f crowd) error {
	var rates []float64
	for _, row := range []struct {
		name  string
		n     int
		plain bool
	}{{"plain reader", 1, true}, {"firstboot", 1, false}, {"plain readers", fleetMachines, true}, {"firstboots", fleetMachines, false}} {
		if row.plain && row.n > 1 && f.rate > 0 {
			continue // the limit is known
		}
		r, err := f.run(ctx, row.n, row.plain)
		if err != nil {
			return err
		}
		rates = append(rates, r.rate)
		against := ""
		switch {
		case f.rate > 0:
			against = fmt.Sprintf("%.2f of the network", r.rate/f.rate)
		case len(rates) > 1:
			against = fmt.Sprintf("%.2f of one plain reader", r.rate/rates[0])
		}
		t.row(fmt.Sprintf("%d %s, %s", row.n, row.name, f.network), fmt.Sprintf("%.0f", r.rate/(1<<20)), against, r.failed, r.repeated, r.identity.Round(time.Millisecond))
		if r.failed > 0 {
			return fmt.Errorf("%d of %d machines failed; the first: %w", r.failed, row.n, r.firstFailure)
		}
	}
	return nil
}

// run lets n clients begin at the same moment.
func (f crowd) run(ctx context.Context, n int, plain bool) (result, error) {
	server, err := serve(f.dir, &line{rate: f.rate})
	if err != nil {
		return result{}, err
	}
	defer server.stop()
	machine, err := newBooted(server.url, f.rootHash)
	if err != nil {
		return result{}, err
	}
	defer os.RemoveAll(machine.proc)
	var repeated atomic.Int64
	machine.say = func(format string, _ ...any) {
		if strings.Contains(format, "again") {
			repeated.Add(1)
		}
	}
	var r result
	var mu sync.Mutex
	var all sync.WaitGroup
	start := time.Now()
	for range n {
		all.Go(func() {
			identity, err := time.Duration(0), error(nil)
			if plain {
				err = get(ctx, server.url+"/"+nodefs.LiveRoot)
			} else {
				identity, err = machine.fetchAll(ctx)
			}
			mu.Lock()
			defer mu.Unlock()
			r.identity = max(r.identity, identity)
			if err != nil {
				r.failed, r.firstFailure = r.failed+1, errors.Join(r.firstFailure, err)
			}
		})
	}
	all.Wait()
	r.rate = float64(server.sent.Load()) / time.Since(start).Seconds()
	r.repeated = repeated.Load()
	return r, nil
}

// fetchAll fetches what a boot fetches after its kernel runs, and the identity at once, too, while everybody else fetches
// roots: the longer of the two searches is what it returns.
func (m booted) fetchAll(ctx context.Context) (slowest time.Duration, err error) {
	find := func() error {
		begin := time.Now()
		err := m.identity(ctx)
		slowest = max(slowest, time.Since(begin))
		return err
	}
	if err := find(); err != nil {
		return slowest, err
	}
	tree, err := m.tree(ctx)
	if err != nil {
		return slowest, err
	}
	if err := m.root(ctx, tree); err != nil {
		return slowest, err
	}
	return slowest, find()
}

// makeFleetSet writes a root of noise, its hash tree and an identity, and returns the root hash.
func makeFleetSet(ctx context.Context, dir string) (string, error) {
	root := filepath.Join(dir, nodefs.LiveRoot)
	file, err := os.Create(root)
	if err != nil {
		return "", err
	}
	defer file.Close()
	if _, err := io.CopyN(file, rand.Reader, fleetRoot); err != nil {
		return "", err
	}
	if err := file.Close(); err != nil {
		return "", err
	}
	identity, err := benchIdentity(ctx)
	if err != nil {
		return "", err
	}
	text, err := os.ReadFile(identity)
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(filepath.Join(dir, fileIdentity), text, 0o600); err != nil {
		return "", err
	}
	return seal.Verity(root, filepath.Join(dir, nodefs.LiveVerity), "fleet")
}

// Package ignition applies what the user's Ignition config asks for besides the identity: files, directories, links, units,
// users and data disks. The work is upstream's engine's; this package decides when it runs, once for each machine, and what
// it may do again after a power cut. A config that cannot be applied stops the boot: the machine specified or no machine.
package ignition

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/kiln-os/kiln/firstboot/source"
	"github.com/kiln-os/kiln/internal/command"
	"github.com/kiln-os/kiln/internal/nodefs"
	"github.com/kiln-os/kiln/internal/step"
)

// networkUnit runs what the early unit could not do without the network.
const networkUnit = "kiln-ignition-network.service"

// Machine is what applying a config touches.
type Machine struct {
	Root   nodefs.Root
	Runner command.Runner
	// Find looks for the identity and the config around it. An error that is a *source.NotFound says that there is neither; more,
	// that a call with network may find what one without has not.
	Find func(ctx context.Context, network bool) (found source.Found, more bool, err error)
	// Say tells people one line.
	Say func(text string)
	// DeviceWait is how long to wait for devices before the engine does.
	DeviceWait time.Duration
	// Sync puts what was written on all disks.
	Sync func()
}

// Run applies the config, or what is left of it to apply. Without network, a config that may lie on the network, or names
// something there, is left to a later call with it.
func (m Machine) Run(ctx context.Context, network bool) error {
	if _, err := os.Stat(m.Root.Path(nodefs.IgnitionDone)); err == nil {
		return nil
	}
	found, more, err := m.Find(ctx, network)
	if _, nowhere := errors.AsType[*source.NotFound](err); nowhere {
		// That there is no identity either is firstboot's to say, when the network was asked, too.
		if more {
			return m.leave(ctx)
		}
		return nil
	}
	if err != nil {
		return err
	}
	if found.Ignition == nil {
		return m.finish()
	}
	config, err := source.Rest(found.From, found.Ignition)
	if err != nil {
		return err
	}
	if err := check(found.From, config); err != nil {
		return err
	}
	m.Say(fmt.Sprintf("the config (%s) asks for %s", found.From, strings.Join(found.Asks, ", ")))
	text, err := json.Marshal(config)
	if err != nil {
		return fmt.Errorf("rendering the Ignition config: %w", err)
	}
	sum := sha256.Sum256(text)
	journal, err := openJournal(m.Root.Path(nodefs.IgnitionState), hex.EncodeToString(sum[:]))
	if err != nil {
		return err
	}
	a := &attempt{Machine: m, journal: journal, from: found.From, config: text, network: network}
	return a.run(ctx)
}

// leave leaves the rest to the unit that runs when the network is up. firstboot's unit is ordered after it.
func (m Machine) leave(ctx context.Context) error {
	_, err := m.Runner.Run(ctx, command.Command{Name: nodefs.Systemctl, Args: []string{"start", "--no-block", networkUnit}})
	if err != nil {
		return fmt.Errorf("leaving the config to the network: %w", err)
	}
	return nil
}

// finish writes down that there is nothing left to do, ever, and removes what was kept.
func (m Machine) finish() error {
	dir := m.Root.Path(nodefs.IgnitionState)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("ending: %w", err)
	}
	if err := put(m.Root.Path(nodefs.IgnitionDone), nil); err != nil {
		return fmt.Errorf("ending: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("ending: %w", err)
	}
	for _, entry := range entries {
		if path := dir + "/" + entry.Name(); path != m.Root.Path(nodefs.IgnitionDone) {
			if err := os.RemoveAll(path); err != nil {
				return fmt.Errorf("ending: %w", err)
			}
		}
	}
	return nil
}

// attempt is one boot's work on a config.
type attempt struct {
	Machine
	journal *journal
	// from names the config's place, config is it, in JSON, without the identity.
	from    string
	config  []byte
	network bool
	// rendered is the config with all that it names merged into it: what is applied.
	rendered rendering
	// postponed says that the network is needed, and is not there yet.
	postponed bool
}

// steps are the whole work in order. Each is done at most once: what is done is in the journal.
func (a *attempt) steps() step.List {
	return step.List{
		{Name: "fetch", Does: "merge the configs that the config names, and check the result", Run: a.fetch},
		{Name: "partitions", Does: "write partition tables", Run: a.partitions},
		{Name: "raid", Does: "make arrays", Run: a.raid},
		{Name: "luks", Does: "make and open encrypted volumes", Run: a.luks},
		{Name: "filesystems", Does: "make filesystems", Run: a.filesystems},
		{Name: "files", Does: "make users, files, directories, links and units", Run: a.files},
		{Name: "units", Does: "enable, disable and mask units", Run: a.units},
	}
}

func (a *attempt) run(ctx context.Context) error {
	for i, s := range a.steps() {
		if a.journal.Done > i {
			continue
		}
		if err := a.resume(ctx, i); err != nil {
			return err
		}
		again, err := a.journal.begin(i)
		if err != nil {
			return err
		}
		if again {
			a.Say(s.Name + ": an earlier try was cut off or failed; trying again")
		}
		note, err := s.Run(ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", s.Name, err)
		}
		if a.postponed {
			a.Say("the config names something on the network; going on when that is up")
			return a.leave(ctx)
		}
		// What the journal calls done has to be on the disk first.
		a.Sync()
		if err := a.journal.end(i); err != nil {
			return err
		}
		if note != "" {
			a.Say(s.Name + ": " + note)
		}
	}
	if err := errors.Join(a.finish(), a.hideEmptyVolumes(ctx)); err != nil {
		return err
	}
	return a.start(ctx)
}

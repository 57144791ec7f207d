package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/kiln-os/kiln/internal/cluster"
	"github.com/kiln-os/kiln/internal/nodefs"
)

// status is what `firstboot status --json` prints, as far as it is looked at.
type status struct {
	State   string `json:"state"`
	Node    string `json:"node"`
	Role    string `json:"role"`
	Profile string `json:"profile"`
	Release string `json:"release"`
	Version string `json:"version"`
	BootID  string `json:"bootID"`
	Steps   []struct {
		Name  string `json:"name"`
		State string `json:"state"`
		Error string `json:"error"`
	} `json:"steps"`
}

// pause is how often a wait looks.
const pause = 3 * time.Second

// patiently repeats look until it sees no problem or ctx ends.
func patiently(ctx context.Context, look func() error) error {
	for {
		err := look()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause):
		}
	}
}

// firstbootStatus waits for the end of the first boot, and reads the identity that it took.
func (n *node) firstbootStatus(ctx context.Context) (string, error) {
	var s status
	err := patiently(ctx, func() error {
		if err := n.outputJSON(ctx, &s, nodefs.Firstboot, "status", "--json"); err != nil {
			return err
		}
		return differs("state", s.State, "done")
	})
	if err != nil {
		return "", err
	}
	text, err := os.ReadFile(n.root.Path(nodefs.IdentityCopy))
	if err != nil {
		return "", err
	}
	if n.identity, err = cluster.ReadScrubbed(text); err != nil {
		return "", err
	}
	boot, err := n.bootID()
	if err != nil {
		return "", err
	}
	journal, err := os.ReadFile(n.root.Path(nodefs.Journal))
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%d steps", len(s.Steps)), errors.Join(n.judgeStatus(s), judgeJournal(journal, boot, n.second))
}

func (n *node) judgeStatus(s status) error {
	problems := []error{
		differs("node", s.Node, n.identity.Node.Name), differs("role", s.Role, n.baked.Role), differs("profile", s.Profile, n.baked.Profile),
		differs("release", s.Release, n.baked.Release), differs("version", s.Version, n.baked.Version),
	}
	if len(s.Steps) == 0 {
		problems = append(problems, errors.New("got no steps, want some"))
	}
	for _, step := range s.Steps {
		problems = append(problems, differs("step "+step.Name, step.State, "done"))
	}
	return errors.Join(problems...)
}

// judgeJournal looks at which boots firstboot's own journal speaks of. On a later boot, this one must not be among them.
func judgeJournal(journal []byte, boot string, second bool) error {
	here := 0
	for line := range bytes.Lines(journal) {
		var record struct {
			BootID string `json:"bootID"`
			Step   string `json:"step"`
		}
		if err := json.Unmarshal(line, &record); err != nil {
			return fmt.Errorf("reading firstboot's journal: %w", err)
		}
		if record.BootID == boot {
			here++
		}
	}
	switch {
	case second && here > 0:
		return fmt.Errorf("got %d records of this boot in firstboot's journal, want none: nothing is done twice", here)
	case !second && here == 0:
		return errors.New("got no record of this boot in firstboot's journal, want its steps")
	}
	return nil
}

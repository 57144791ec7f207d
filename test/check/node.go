package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/kiln-os/kiln/internal/cluster"
	"github.com/kiln-os/kiln/internal/command"
	"github.com/kiln-os/kiln/internal/nodefs"
	"github.com/kiln-os/kiln/internal/release"
)

// node is the machine that is looked at, and what its image says it should be.
type node struct {
	root    nodefs.Root
	runner  command.Runner
	baked   release.Baked
	release release.Release
	// second says that the first boot was completed in an earlier boot of the machine, resumed that it was begun in one.
	second, resumed bool
	// identity is read when the first boot is done.
	identity cluster.Identity
	// tokens are the secret halves of the cluster's bootstrap tokens, by their ids.
	tokens map[string]string
	// rootHash is what device-mapper checks the root against.
	rootHash string
}

// open reads the baked documents.
func open(root nodefs.Root, runner command.Runner) (*node, error) {
	n := &node{root: root, runner: runner}
	for path, into := range map[string]any{nodefs.Node: &n.baked, nodefs.Release: &n.release} {
		text, err := os.ReadFile(root.Path(path))
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal(text, into); err != nil {
			return nil, fmt.Errorf("reading %s: %w", path, err)
		}
	}
	return n, nil
}

// output runs a program and returns what it printed, on both outputs: versions come on either.
func (n *node) output(ctx context.Context, name string, args ...string) (string, error) {
	var out bytes.Buffer
	_, err := n.runner.Run(ctx, command.Command{Name: name, Args: args, Stdout: &out, Stderr: &out})
	return out.String(), err
}

// outputJSON runs a program that prints JSON and decodes it.
func (n *node) outputJSON(ctx context.Context, into any, name string, args ...string) error {
	text, err := command.Output(ctx, n.runner, command.Command{Name: name, Args: args})
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("reading what %s %s printed: %w", name, strings.Join(args, " "), err)
	}
	return nil
}

// bootFacts are what the initramfs left in /run/kiln/boot.json.
type bootFacts struct {
	RootHash     string `json:"rootHash"`
	RootDevice   string `json:"rootDevice"`
	RootLabel    string `json:"rootLabel"`
	StateDevice  string `json:"stateDevice"`
	StateCreated bool   `json:"stateCreated"`
}

func (n *node) bootFacts() (bootFacts, error) {
	var facts bootFacts
	text, err := os.ReadFile(n.root.Path("/run/kiln/boot.json"))
	if err != nil {
		return facts, fmt.Errorf("reading what the initramfs found: %w", err)
	}
	return facts, json.Unmarshal(text, &facts)
}

// bootID identifies this boot.
func (n *node) bootID() (string, error) {
	text, err := os.ReadFile(n.root.Path("/proc/sys/kernel/random/boot_id"))
	return strings.TrimSpace(string(text)), err
}

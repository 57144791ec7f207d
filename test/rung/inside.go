package rung

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kiln-os/kiln/builder/vm"
	"github.com/kiln-os/kiln/internal/command"
)

// Exec runs a program in the node and returns what it wrote to its standard output. The error has the end of what it
// wrote to its error output.
func (n *Node) Exec(ctx context.Context, args ...string) (string, error) {
	if !n.Running() {
		return "", fmt.Errorf("running %s on %s: it is off", args[0], n.o.Name)
	}
	out, err := command.Output(ctx, command.Exec{}, n.command(args...))
	return string(out), err
}

func (n *Node) command(args ...string) command.Command {
	enter := []string{"--target=" + strconv.Itoa(n.init), "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--"}
	return command.Command{Name: "nsenter", Args: append(enter, args...), CleanEnv: true,
		Env: []string{"PATH=/usr/sbin:/usr/bin", "TERM=dumb", "HOME=/root"}}
}

// Console is that of the boot under way, or of the last one.
func (n *Node) Console() *vm.Console { return n.console }

// WaitConsole waits for a line, after the last match, and returns the match and its groups.
func (n *Node) WaitConsole(ctx context.Context, want *regexp.Regexp, within time.Duration) ([]string, error) {
	match, err := n.console.WaitFor(ctx, want, within)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", n.o.Name, err)
	}
	return match, nil
}

// Journal is the end of the node's journal, of one unit or, when unit is empty, of all.
func (n *Node) Journal(ctx context.Context, unit string, lines int) (string, error) {
	args := []string{"journalctl", "--no-pager", "--output=short-iso", "--lines=" + strconv.Itoa(lines)}
	if unit != "" {
		args = append(args, "--unit="+unit)
	}
	return n.Exec(ctx, args...)
}

// Story is what a failure's message should show of the node: the console's end, and the journal's of what matters.
func (n *Node) Story(ctx context.Context) string {
	var text bytes.Buffer
	fmt.Fprintf(&text, "--- %s (%s), boot %d, console:\n", n.o.Name, map[bool]string{true: "on", false: "off"}[n.Running()], n.boots)
	if n.console != nil {
		fmt.Fprintln(&text, n.console.Last(25))
	}
	if n.Running() {
		ctx, cancel := context.WithTimeout(ctx, shortly)
		defer cancel()
		for _, unit := range []string{"firstboot", "kubelet", "containerd"} {
			journal, err := n.Journal(ctx, unit, 100)
			fmt.Fprintf(&text, "--- %s, journal of %s (%v):\n%s\n", n.o.Name, unit, err, ending(journal, 12))
		}
	}
	return text.String()
}

// ending is the last lines of a journal without what containerd says of every container that comes and goes.
func ending(journal string, lines int) string {
	all := slices.DeleteFunc(strings.Split(strings.TrimSpace(journal), "\n"), func(line string) bool {
		return strings.Contains(line, `msg="container event discarded"`)
	})
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// BootID is what the kernel calls the boot under way, or the last one: by it the Node object tells whether it is of this
// boot. Each PowerOn makes a new one.
func (n *Node) BootID() string { return n.bootID }

// PID is the host's number of the node's process 1.
func (n *Node) PID() int { return n.init }

// Shell is a command line for people that opens a shell in the node.
func (n *Node) Shell() string {
	c := n.command("bash")
	return c.Name + " " + strings.Join(c.Args, " ")
}

// Service is the host's number of the process that the node's process 1 has started with this command line; 0 is none.
func (n *Node) Service(args ...string) int {
	children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", n.init, n.init))
	for _, field := range strings.Fields(string(children)) {
		line, _ := os.ReadFile("/proc/" + field + "/cmdline")
		if string(line) == strings.Join(args, "\x00")+"\x00" {
			pid, _ := strconv.Atoi(field)
			return pid
		}
	}
	return 0
}

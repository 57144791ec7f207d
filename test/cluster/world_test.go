//go:build cluster

// Package cluster_test is the cluster rung: real nodes, each the image's own systemd in namespaces of its own (test/rung),
// become clusters behind a real load balancer, and are then treated badly. It needs root, bin/kiln and what make deps
// installs. The nodes' disks and consoles stay below out/test-cluster for people to look at.
package cluster_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kiln-os/kiln/builder/vm"
	"github.com/kiln-os/kiln/internal/command"
	"github.com/kiln-os/kiln/test/rung"
)

// testedRelease is the release that is tested.
const testedRelease = "v1.36"

// world is what the tests here share: the images, and where things are.
type world struct {
	repo  string
	parts string
	// image is the directory of each role's image.
	image map[string]string
}

// Roles of nodes.
const (
	controlPlane = "control-plane"
	worker       = "worker"
)

// newWorld builds the images, or skips the test with what is missing.
func newWorld(t *testing.T) world {
	t.Helper()
	if err := rung.Possible(); err != nil {
		t.Skip(err)
	}
	repo, err := filepath.Abs("../..")
	must(t, err)
	for _, name := range []string{"kiln", "firstboot"} {
		if _, err := os.Stat(filepath.Join(repo, "bin", name)); err != nil {
			t.Skipf("bin/%s is not there: run make build", name)
		}
	}
	w := world{repo: repo, image: map[string]string{controlPlane: filepath.Join(repo, "out/cp"), worker: filepath.Join(repo, "out/worker")}}
	for role, dir := range w.image {
		w.kiln(t, "build", "vm-disk", "--profile", role, "--release", testedRelease, "-o", dir)
	}
	w.parts = filepath.Join(w.kiln(t, "cache", "path"), "parts")
	return w
}

// kiln runs bin/kiln and returns what it printed.
func (w world) kiln(t *testing.T, args ...string) string {
	t.Helper()
	return w.run(t, filepath.Join(w.repo, "bin/kiln"), args...)
}

// run runs a program of the host, which may take as long as the longest build.
func (w world) run(t *testing.T, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Minute)
	defer cancel()
	out, err := command.Output(ctx, command.Exec{}, command.Command{Name: name, Args: args, Dir: w.repo, Stderr: os.Stderr})
	if err != nil {
		t.Fatalf("%s %s: %v", filepath.Base(name), strings.Join(args, " "), err)
	}
	return strings.TrimSpace(string(out))
}

// open makes a switch for nodes whose disks are empty and lie below out/test-cluster/name. It is closed with the test.
func (w world) open(t *testing.T, name string) *rung.Host {
	t.Helper()
	h, err := rung.Open(rung.Options{Dir: w.dir(name), Parts: w.parts, Firstboot: os.Getenv("KILN_FIRSTBOOT")})
	must(t, err)
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Errorf("closing: %v", err)
		}
	})
	return h
}

// dir is where the Host called name has its nodes.
func (w world) dir(name string) string { return filepath.Join(w.repo, "out/test-cluster", name) }

// node adds a machine with an empty disk. What it has to say when the test fails is in the test's log.
func (w world) node(t *testing.T, h *rung.Host, o rung.NodeOptions) *rung.Node {
	t.Helper()
	n, err := h.Node(o)
	must(t, err)
	must(t, n.Wipe())
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(n.Story(context.WithoutCancel(t.Context())))
		}
	})
	return n
}

// expect waits for a line on the node's console and logs when it came.
func expect(t *testing.T, n *rung.Node, pattern string, within time.Duration) []string {
	t.Helper()
	begin := time.Now()
	match, err := n.WaitConsole(t.Context(), regexp.MustCompile(pattern), within)
	must(t, err)
	t.Logf("%s after %.1f s: %s", n.Name(), time.Since(begin).Seconds(), match[0])
	return match
}

// operator is the person who has the cluster's kubeconfig.
type operator struct {
	host       *rung.Host
	kubeconfig string
}

// kubectl runs kubectl once and returns what it printed.
func (o operator) kubectl(t *testing.T, args ...string) string {
	t.Helper()
	out, err := o.try(t.Context(), args...)
	must(t, err)
	return out
}

func (o operator) try(ctx context.Context, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	out, err := o.host.Kubectl(ctx, o.kubeconfig, args...)
	if err != nil {
		return out, fmt.Errorf("kubectl %s: %w", strings.Join(args, " "), err)
	}
	return out, nil
}

// object is the part of a Node or a Pod that is looked at here.
type object struct {
	Metadata struct {
		Name, Namespace, UID string
		Labels, Annotations  map[string]string
	}
	Spec struct {
		NodeName string
		Taints   []struct{ Key, Value, Effect string }
	}
	Status struct {
		Phase      string
		Addresses  []struct{ Type, Address string }
		NodeInfo   struct{ SystemUUID, BootID, MachineID, KubeletVersion string }
		Conditions []struct{ Type, Status, Reason, Message string }
	}
}

// condition is the status of the object's condition, and its message.
func (o object) condition(kind string) (status, message string) {
	for _, c := range o.Status.Conditions {
		if c.Type == kind {
			return c.Status, c.Message
		}
	}
	return "", "no condition " + kind
}

// list gets objects of a kind in all namespaces, by name.
func (o operator) list(ctx context.Context, kind string) (map[string]object, error) {
	text, err := o.try(ctx, "get", kind, "--all-namespaces", "--output=json")
	if err != nil {
		return nil, err
	}
	var all struct{ Items []object }
	if err := json.Unmarshal([]byte(text), &all); err != nil {
		return nil, err
	}
	byName := map[string]object{}
	for _, item := range all.Items {
		byName[item.Metadata.Name] = item
	}
	return byName, nil
}

// nodes are the cluster's Node objects by name.
func (o operator) nodes(t *testing.T) map[string]object {
	t.Helper()
	nodes, err := o.list(t.Context(), "nodes")
	must(t, err)
	return nodes
}

// eventually looks every second until there is nothing to complain about; the last complaint fails the test.
func eventually(t *testing.T, what string, within time.Duration, look func(context.Context) error) {
	t.Helper()
	begin, last := time.Now(), ""
	for {
		err := look(t.Context())
		if err == nil {
			t.Logf("%s: after %.1f s%s", what, time.Since(begin).Seconds(), last)
			return
		}
		last = "; last " + firstLine(err.Error())
		if time.Since(begin) > within || t.Context().Err() != nil {
			t.Fatalf("%s: not within %s: %v", what, within, err)
		}
		time.Sleep(time.Second)
	}
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}

// bootDone is the line on the console of a boot whose firstboot has nothing left to do.
var bootDone = regexp.MustCompile(`^first-boot: (completed in|was completed before)`)

// allReady complains unless exactly these machines' Nodes are there, Ready and past their first boot, and every pod is
// Ready. What the API still says of an earlier boot of a machine does not count.
func (o operator) allReady(machines ...*rung.Node) func(context.Context) error {
	return func(ctx context.Context) error {
		nodes, err := o.list(ctx, "nodes")
		if err != nil {
			return err
		}
		for _, m := range machines {
			if err := isReady(m, nodes[m.Name()]); err != nil {
				return err
			}
		}
		if len(nodes) != len(machines) {
			return fmt.Errorf("%d nodes, want %d", len(nodes), len(machines))
		}
		pods, err := o.list(ctx, "pods")
		for name, pod := range pods {
			if status, message := pod.condition("Ready"); status != "True" {
				return fmt.Errorf("pod %s on %s is not Ready: %s %s", name, pod.Spec.NodeName, pod.Status.Phase, message)
			}
		}
		return err
	}
}

// isReady complains unless the machine has done its first boot, and node is it.
func isReady(m *rung.Node, node object) error {
	if !shows(m, bootDone) {
		return fmt.Errorf("%s has not done its first boot; it says:\n%s", m.Name(), m.Console().Last(3))
	}
	if have := node.Status.NodeInfo.BootID; have != m.BootID() {
		return fmt.Errorf("node %s tells of its boot %q, and the boot under way is %q", m.Name(), have, m.BootID())
	}
	for _, kind := range []string{"Ready", "KilnFirstBoot"} {
		if status, message := node.condition(kind); status != "True" {
			return fmt.Errorf("node %s: %s is %q: %s", m.Name(), kind, status, message)
		}
	}
	return nil
}

// shows tells whether the console of this boot has a line, anywhere.
func shows(m *rung.Node, line *regexp.Regexp) bool {
	return slices.ContainsFunc(m.Console().Lines(), func(l vm.Line) bool { return line.MatchString(l.Text) })
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

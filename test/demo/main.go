// Demo powers on every node of a rendered cluster at the same moment, each the image's own systemd in namespaces of its own
// (test/rung), behind a real load balancer, and shows the cluster that they become. It needs root.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kiln-os/kiln/internal/cluster"
	"github.com/kiln-os/kiln/internal/profile"
	"github.com/kiln-os/kiln/test/rung"
)

// options are what the command line says.
type options struct {
	identities, parts, dir, controlPlane, worker, firstboot string
	within                                                  time.Duration
	stay                                                    bool
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	defer stop()
	var o options
	flag.StringVar(&o.identities, "identities", "", "what kiln cluster render made")
	flag.StringVar(&o.parts, "parts", "", "the cache's directory of parts")
	flag.StringVar(&o.dir, "dir", "out/demo-ha/machines", "where the machines' disks and consoles are")
	flag.StringVar(&o.controlPlane, "control-plane", "", "output directory of the control planes' image")
	flag.StringVar(&o.worker, "worker", "", "output directory of the workers' image")
	flag.DurationVar(&o.within, "within", 10*time.Minute, "how long all nodes may take to be Ready")
	flag.BoolVar(&o.stay, "stay", false, "keep the cluster until interrupted")
	flag.Parse()
	o.firstboot = os.Getenv("KILN_FIRSTBOOT")
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	if err := rung.Possible(); err != nil {
		return err
	}
	identities, err := read(o.identities)
	if err != nil {
		return err
	}
	host, err := rung.Open(rung.Options{Dir: o.dir, Parts: o.parts, Firstboot: o.firstboot})
	if err != nil {
		return err
	}
	defer func() {
		if err := host.Close(); err != nil {
			fmt.Fprintln(os.Stderr, "demo: closing:", err)
		}
	}()
	nodes, err := rack(host, identities, o)
	if err != nil {
		return err
	}
	begin := time.Now()
	for _, n := range nodes {
		if err := n.PowerOn(ctx); err != nil {
			return err
		}
	}
	fmt.Printf("%d machines are on. Their consoles: tail -f %s/nodes/*/console-1.log\n", len(nodes), o.dir)
	if err := wait(ctx, host, o, begin); err != nil {
		return err
	}
	fmt.Printf("\nAll Ready, %.0f s after power-on.\n\n", time.Since(begin).Seconds())
	for _, what := range [][]string{{"get", "nodes", "-o", "wide"}, {"get", "pods", "-A", "-o", "wide"}, {"get", "events", "--field-selector=reason=FirstBootCompleted"}} {
		out, err := host.Kubectl(ctx, filepath.Join(o.identities, "admin.conf"), what...)
		if err != nil {
			return err
		}
		fmt.Println(out)
	}
	if o.stay {
		for _, n := range nodes {
			fmt.Printf("  inside %s:  %s\n", n.Name(), n.Shell())
		}
		fmt.Println("Ctrl-C ends it.")
		<-ctx.Done()
	}
	return nil
}

// read parses every node's identity.
func read(dir string) ([]cluster.Identity, error) {
	files, err := filepath.Glob(filepath.Join(dir, "nodes/*/identity.yaml"))
	if err != nil {
		return nil, err
	}
	var all []cluster.Identity
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		id, err := cluster.ParseIdentity(file, text)
		if err != nil {
			return nil, err
		}
		all = append(all, id)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s holds no identities; run kiln cluster render", dir)
	}
	return all, nil
}

// rack sets up the machines and the load balancer in front of the control planes.
func rack(host *rung.Host, identities []cluster.Identity, o options) ([]*rung.Node, error) {
	var nodes []*rung.Node
	var backends []string
	for _, id := range identities {
		image := o.worker
		if id.Node.Role == profile.ControlPlane {
			image = o.controlPlane
			backends = append(backends, net.JoinHostPort(id.Node.Address, "6443"))
		}
		ignition, err := os.ReadFile(filepath.Join(o.identities, "nodes", id.Node.Name, "config.ign"))
		if err != nil {
			return nil, err
		}
		n, err := host.Node(rung.NodeOptions{Name: id.Node.Name, Address: id.Node.Address, Image: image, Identity: ignition})
		if err != nil {
			return nil, err
		}
		if err := n.Wipe(); err != nil {
			return nil, err
		}
		nodes = append(nodes, n)
	}
	_, err := host.Balancer(identities[0].Cluster.Endpoint, backends...)
	return nodes, err
}

// wait prints the nodes whenever what kubectl says of them changes, until all are Ready.
func wait(ctx context.Context, host *rung.Host, o options, begin time.Time) error {
	ctx, cancel := context.WithTimeoutCause(ctx, o.within, fmt.Errorf("not all nodes were Ready in %s", o.within))
	defer cancel()
	want, err := filepath.Glob(filepath.Join(o.identities, "nodes/*"))
	if err != nil {
		return err
	}
	last := ""
	var asking error
	for {
		out, err := host.Kubectl(ctx, filepath.Join(o.identities, "admin.conf"), "get", "nodes", "--no-headers", "--request-timeout=3s",
			"-o", `custom-columns=NAME:.metadata.name,READY:.status.conditions[?(@.type=="Ready")].status,BOOT:.status.conditions[?(@.type=="KilnFirstBoot")].reason`)
		if err == nil && out != last {
			last = out
			fmt.Printf("%4.0f s  %s\n", time.Since(begin).Seconds(), strings.Join(slices.Collect(summaries(out)), "  "))
		}
		if err == nil && strings.Count(out, " True ") == len(want) && strings.Count(out, "Completed") == len(want) {
			return nil
		}
		if ctx.Err() == nil {
			asking = err
		}
		select {
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), asking)
		case <-time.After(time.Second):
		}
	}
}

// summaries are the lines of kubectl, each as NAME (STATE).
func summaries(out string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for line := range strings.Lines(out) {
			fields := strings.Fields(line)
			if len(fields) != 3 {
				continue
			}
			state := map[string]string{"True": "Ready", "False": "NotReady", "Unknown": "Unknown"}[fields[1]]
			if fields[2] == "Completed" {
				state += ", done"
			}
			if !yield(fields[0] + " (" + state + ")") {
				return
			}
		}
	}
}

// Check runs as root inside a booted node and compares what runs with what the node's image was built from: the release
// document and the description that the builder baked into the root. It prints one line for each check and a summary;
// the exit status is 0 only when everything is as it should be.
//
//	check [--second-boot | --resumed] [--wait 25m]
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/kiln-os/kiln/internal/command"
	"github.com/kiln-os/kiln/internal/nodefs"
)

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	flags := flag.NewFlagSet("check", flag.ContinueOnError)
	second := flags.Bool("second-boot", false, "the node has booted before: nothing may have been done again")
	resumed := flags.Bool("resumed", false, "an earlier boot was cut off in the middle of the first boot's steps")
	wait := flags.Duration("wait", 25*time.Minute, "how long the first boot and the pods may take")
	if flags.Parse(args) != nil {
		return 2
	}
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	ctx, cancelWait := context.WithTimeout(ctx, *wait)
	defer cancelWait()
	report := &Report{Out: os.Stdout}
	n, err := open(nodefs.Root("/"), command.Exec{})
	if err != nil {
		report.Add("baked-documents", "", err)
		return report.End()
	}
	n.second, n.resumed = *second, *resumed
	n.all(ctx, report)
	return report.End()
}

// all runs every check, in an order in which later ones may wait for what earlier ones have seen.
func (n *node) all(ctx context.Context, report *Report) {
	for _, c := range []struct {
		name string
		run  func(context.Context) (string, error)
	}{
		{"firstboot-status", n.firstbootStatus},
		{"node-object", n.nodeObject},
		{"pods", n.pods},
		{"events", n.events},
		{"api-version", n.apiVersion},
		{"os-release", n.osRelease},
		{"root-verity", n.rootVerity},
		{"root-read-only", n.rootReadOnly},
		{"etc-overlay", n.etcOverlay},
		{"state-partition", n.statePartition},
		{"baked-files", n.bakedFiles},
		{"node-versions", n.nodeVersions},
		{"container-images", n.containerImages},
		{"image-digests", n.imageDigests},
		{"sandbox-image", n.sandboxImage},
		{"running-containers", n.runningContainers},
		{"container-versions", n.containerVersions},
		{"erofs-layers", n.erofsLayers},
		{"content-store", n.contentStore},
		{"failed-units", n.failedUnits},
		{"kubelet-unit", n.kubeletUnit},
		{"secret-modes", n.secretModes},
		{"secrets-not-shown", n.secretsNotShown},
	} {
		if ctx.Err() != nil {
			report.Add(c.name, "", fmt.Errorf("not looked at: the time for all checks is over"))
			continue
		}
		note, err := c.run(ctx)
		report.Add(c.name, note, err)
	}
}

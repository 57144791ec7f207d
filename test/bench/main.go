// Bench prints the table of kiln's times and sizes, each beside its comparator in the same run. It needs what make
// deps and make build leave; the comparison with an import also needs root, for mounts.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"text/tabwriter"
)

// section is one part of the table.
type section struct {
	name string
	does string
	run  func(ctx context.Context, t *table) error
}

// sections are the parts of the table. clusters are those of the section about clusters.
func sections(clusters string) []section {
	return []section{
		{"build", "cold, warm, and after one changed file; payload from the cache", benchBuild},
		{"formats", "all images of one profile against one, cold; payload from the cache; what initramfs images weigh", benchFormats},
		{"size", "the image against its compressed inputs", benchSize},
		{"readiness", "container images made usable: kiln's way against ctr images import", benchReadiness},
		{"firstboot", "what firstboot takes before kubeadm runs", benchFirstboot},
		{"install", "the installer's writer against dd of the same bytes, on the same filesystem", benchInstall},
		{"pxe", "what a server sends for one boot over the network, against what is in it", benchPXE},
		{"fleet", "many machines that boot over the network from one server, with firstboot's own fetch", benchFleet},
		{"boot", "power-on to Ready in a virtual machine", benchBoot},
		{"cluster", "all nodes powered on at once to all Ready, beside bare kubeadm; a worker that waits for its endpoint",
			func(ctx context.Context, t *table) error { return benchCluster(ctx, t, clusters) }},
	}
}

func main() {
	only := flag.String("only", "", "comma-separated sections to run (default: all)")
	clusters := flag.String("cluster", allClusters, "comma-separated parts of the section cluster")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	machine()
	failed := false
	for _, s := range sections(*clusters) {
		if *only != "" && !strings.Contains(","+*only+",", ","+s.name+",") {
			continue
		}
		fmt.Printf("\n%s: %s\n", s.name, s.does)
		t := &table{w: tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)}
		if err := s.run(ctx, t); err != nil {
			fmt.Fprintf(os.Stderr, "bench: %s: %v\n", s.name, err)
			failed = true
		}
		t.w.Flush()
	}
	if failed {
		os.Exit(1)
	}
}

// table collects aligned rows.
type table struct{ w *tabwriter.Writer }

func (t *table) row(cells ...any) {
	text := make([]string, len(cells))
	for i, cell := range cells {
		text[i] = fmt.Sprint(cell)
	}
	fmt.Fprintln(t.w, "  "+strings.Join(text, "\t"))
}

// machine says where the figures come from: without it they mean nothing.
func machine() {
	load, _ := os.ReadFile("/proc/loadavg")
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	fmt.Printf("%d processors, %s, kernel %s, load %s\n", runtime.NumCPU(), runtime.Version(), strings.TrimSpace(string(kernel)), strings.TrimSpace(string(load)))
}

func mib(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }

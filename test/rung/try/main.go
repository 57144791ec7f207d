// Try boots one node of an image natively, prints its console, and cuts its power when it is interrupted or, with -once, as soon as the
// node is Ready. With KILN_FIRSTBOOT=FILE that program takes the place of the image's firstboot.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kiln-os/kiln/internal/command"
	"github.com/kiln-os/kiln/test/rung"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	defer stop()
	if err := try(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "try:", err)
		os.Exit(1)
	}
}

func try(ctx context.Context) error {
	image := flag.String("image", "out/cp", "output directory of the kiln build to boot")
	identity := flag.String("identity", "", "Ignition config; default: a new one-node cluster")
	dir := flag.String("dir", "out/try", "where the node's disk and logs are")
	address := flag.String("address", "10.77.0.11", "the node's address")
	keep := flag.Bool("keep", false, "boot from the disk of the last time")
	once := flag.Bool("once", false, "end when the node is Ready")
	flag.Parse()
	cache, err := kiln(ctx, "cache", "path")
	if err != nil {
		return err
	}
	if *identity == "" {
		where := filepath.Join(*dir, "identity")
		if !*keep {
			if _, err := kiln(ctx, "identity", "new", "try", "--address", *address, "--endpoint", *address+":6443", "-o", where); err != nil {
				return err
			}
		}
		*identity = filepath.Join(where, "config.ign")
	}
	text, err := os.ReadFile(*identity)
	if err != nil {
		return err
	}
	host, err := rung.Open(rung.Options{Dir: *dir, Parts: filepath.Join(cache, "parts"), Firstboot: os.Getenv("KILN_FIRSTBOOT")})
	if err != nil {
		return err
	}
	defer func() {
		if err := host.Close(); err != nil {
			fmt.Fprintln(os.Stderr, "try: closing:", err)
		}
	}()
	node, err := host.Node(rung.NodeOptions{Name: "try", Address: *address, Image: *image, Identity: text})
	if err != nil {
		return err
	}
	if !*keep {
		if err := node.Wipe(); err != nil {
			return err
		}
	}
	return boot(ctx, node, *once)
}

func boot(ctx context.Context, node *rung.Node, once bool) error {
	begin := time.Now()
	if err := node.PowerOn(ctx); err != nil {
		return err
	}
	fmt.Printf("%6.2f  systemd runs as process %d; look inside with: %s\n", time.Since(begin).Seconds(), node.PID(), node.Shell())
	go func() {
		for printed := 0; ; time.Sleep(100 * time.Millisecond) {
			lines := node.Console().Lines()
			for ; printed < len(lines)-1; printed++ {
				fmt.Printf("%6.2f  %s\n", lines[printed].At.Sub(begin).Seconds(), lines[printed].Text)
			}
		}
	}()
	if once {
		_, err := node.WaitConsole(ctx, regexp.MustCompile(`^first boot: (completed|was completed)|^ready: \S+ is Ready`), 100*time.Second)
		time.Sleep(time.Second)
		if err != nil {
			fmt.Println(node.Story(context.WithoutCancel(ctx)))
		}
		return err
	}
	<-ctx.Done()
	fmt.Println(node.Story(context.WithoutCancel(ctx)))
	return nil
}

func kiln(ctx context.Context, args ...string) (string, error) {
	out, err := command.Output(ctx, command.Exec{}, command.Command{Name: "bin/kiln", Args: args, Stderr: os.Stderr})
	return strings.TrimSpace(string(out)), err
}

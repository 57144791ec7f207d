// Command firstboot turns a freshly booted machine into a cluster member with nobody logging in. It is one program in two
// places: as /init of the initramfs it finds, checks and mounts the root; under systemd it runs the first boot's steps.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/kiln-os/kiln/firstboot/initramfs"
)

func main() {
	if os.Getpid() == 1 {
		initramfs.Main()
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	root := newRoot()
	os.Exit(exitCode(root.ExecuteContext(ctx), root.ErrOrStderr()))
}

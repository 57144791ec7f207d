//go:build machine

// Package vm_test is the machine rung: it boots what `kiln build` made in QEMU and looks at it from the inside and from
// the outside. It takes what it needs from the environment, and skips with the name of what is missing:
//
//	KILN_DIR       directory that `kiln build -o` filled
//	KILN_IDENTITY  directory that `kiln identity new -o` filled
//	KILN_VM_TREE   tools tree with QEMU (`kiln tools vm` prints it)
//	KUBECTL        kubectl for the host
package vm_test

import (
	"net"
	"os"
	"strconv"
	"testing"

	"github.com/kiln-os/kiln/builder/rootfs"
)

// need returns the path in an environment variable, or skips.
func need(t *testing.T, name, what string) string {
	t.Helper()
	path := os.Getenv(name)
	if path == "" {
		t.Skipf("%s is not set: want %s", name, what)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return path
}

func needTree(t *testing.T) rootfs.Tools {
	t.Helper()
	return rootfs.Tools{Dir: need(t, "KILN_VM_TREE", "a tools tree with QEMU")}
}

// takePort listens on a free port of the loopback.
func takePort(t *testing.T) (int, func()) {
	t.Helper()
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return listener.Addr().(*net.TCPAddr).Port, func() { listener.Close() }
}

func itoa(n int) string { return strconv.Itoa(n) }

//go:build machine

package vm_test

import (
	"io"
	"net"
	"os"
	"testing"
)

// forwardWord makes this program, when QEMU runs it, the wire between a machine and a server of the test.
const forwardWord = "forward"

// TestMain is one of the test's helpers, or the tests.
func TestMain(m *testing.M) {
	switch {
	case len(os.Args) == 3 && os.Args[1] == forwardWord:
		forward(os.Args[2])
	case len(os.Args) == 4 && os.Args[1] == serveWord:
		serve(os.Args[2], os.Args[3])
	case len(os.Args) == 4 && os.Args[1] == tagWord:
		tag(os.Args[2], os.Args[3])
	case len(os.Args) == 5 && os.Args[1] == askWord:
		ask(os.Args[2], os.Args[3], os.Args[4])
	default:
		os.Exit(m.Run())
	}
}

func forward(address string) {
	server, err := net.Dial("tcp", address)
	if err != nil {
		os.Exit(1)
	}
	go func() {
		_, _ = io.Copy(server, os.Stdin)
		_ = server.(*net.TCPConn).CloseWrite()
	}()
	_, _ = io.Copy(os.Stdout, server)
}

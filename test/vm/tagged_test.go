//go:build machine

package vm_test

import (
	"encoding/binary"
	"io"
	"log"
	"os"

	"golang.org/x/sys/unix"
)

// tagWord makes this program a switch between a trunk and a tagged network, when the test runs it within a segment: few kernels
// of containers and test machines have VLANs of their own.
const tagWord = "tag"

// The tag of the tagged network, and where a frame has it (IEEE 802.1Q): after the two addresses.
const (
	tagID   = 7
	tagAt   = 12
	tagSize = 4
)

// tag makes two tap devices. Frames with the tag that come from trunk go to plain without it, and those from plain get it.
func tag(trunk, plain string) {
	a, b := openTap(trunk), openTap(plain)
	mark := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, 0x8100), tagID)
	go pass(a, b, func(frame []byte) []byte {
		if len(frame) < tagAt+tagSize || string(frame[tagAt:tagAt+tagSize]) != string(mark) {
			return nil
		}
		return append(frame[:tagAt:tagAt], frame[tagAt+tagSize:]...)
	})
	pass(b, a, func(frame []byte) []byte {
		return append(append(frame[:tagAt:tagAt], mark...), frame[tagAt:]...)
	})
}

// openTap makes a tap device, which lasts as long as the program.
func openTap(name string) *os.File {
	// Blocking: a tap device can be polled only after it has its name.
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		log.Fatal(err)
	}
	request, err := unix.NewIfreq(name)
	if err != nil {
		log.Fatal(err)
	}
	request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
		log.Fatalf("tap device %s: %v", name, err)
	}
	return os.NewFile(uintptr(fd), name)
}

// pass copies frames. A device that is down refuses them, as a cable does that is pulled.
func pass(from io.Reader, to io.Writer, change func(frame []byte) []byte) {
	frame := make([]byte, 1<<16)
	for {
		n, err := from.Read(frame)
		if err != nil {
			log.Fatal(err)
		}
		if out := change(frame[:n]); out != nil {
			_, _ = to.Write(out)
		}
	}
}

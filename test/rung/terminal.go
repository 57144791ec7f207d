package rung

import (
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// terminal is what a node has for a console: a pseudo terminal whose other end is written to a log. systemd wants a
// terminal, not a file.
type terminal struct {
	// path is the node's end.
	path   string
	master *os.File
	slave  *os.File
	log    *os.File
	copied chan struct{}
}

func newTerminal(log string) (*terminal, error) {
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, fmt.Errorf("making terminal: %w", err)
	}
	t := &terminal{master: master, copied: make(chan struct{})}
	if err := t.open(log); err != nil {
		close(t.copied)
		t.close()
		return nil, fmt.Errorf("making terminal: %w", err)
	}
	go func() {
		defer close(t.copied)
		_, _ = io.Copy(t.log, t.master)
	}()
	return t, nil
}

func (t *terminal) open(log string) error {
	fd := int(t.master.Fd())
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		return err
	}
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		return err
	}
	t.path = fmt.Sprintf("/dev/pts/%d", number)
	// Held open: a read from the master fails whenever nobody has the other end open.
	if t.slave, err = os.OpenFile(t.path, os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		return err
	}
	t.log, err = os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644)
	return err
}

// close ends the terminal once what was written has reached the log: the copy ends when nobody holds the node's end.
func (t *terminal) close() {
	if t.slave != nil {
		_ = t.slave.Close()
	}
	select {
	case <-t.copied:
	case <-time.After(time.Second):
	}
	_ = t.master.Close()
	if t.log != nil {
		_ = t.log.Close()
	}
}

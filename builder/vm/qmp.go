package vm

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"
)

// qmp is a connection to QEMU's control socket, which serves one client at a time: connections are short.
type qmp struct {
	conn net.Conn
	in   *json.Decoder
}

// qmpTime bounds each exchange with QEMU.
const qmpTime = 10 * time.Second

// dialQMP connects to the machine in dir.
func dialQMP(dir string) (*qmp, error) {
	// A socket's path is bounded, a directory's is not: go by way of the open directory.
	handle, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer handle.Close()
	conn, err := net.DialTimeout("unix", fmt.Sprintf("/proc/self/fd/%d/%s", handle.Fd(), socketQMP), qmpTime)
	if err != nil {
		return nil, err
	}
	client := &qmp{conn: conn, in: json.NewDecoder(bufio.NewReader(conn))}
	if err := client.greet(); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return client, nil
}

// message is any message of QEMU's: a greeting, an answer or an event.
type message struct {
	QMP    json.RawMessage `json:"QMP"`
	Return json.RawMessage `json:"return"`
	Event  string          `json:"event"`
	Error  *struct {
		Description string `json:"desc"`
	} `json:"error"`
}

func (q *qmp) greet() error {
	if err := q.conn.SetDeadline(time.Now().Add(qmpTime)); err != nil {
		return err
	}
	var hello message
	if err := q.in.Decode(&hello); err != nil {
		return fmt.Errorf("reading QEMU's greeting: %w", err)
	}
	if hello.QMP == nil {
		return errors.New("reading QEMU's greeting: this is not QEMU's control socket")
	}
	return q.Do("qmp_capabilities")
}

// Do gives QEMU a command without arguments and waits for the answer.
func (q *qmp) Do(name string) error {
	if err := q.conn.SetDeadline(time.Now().Add(qmpTime)); err != nil {
		return err
	}
	if err := json.NewEncoder(q.conn).Encode(map[string]string{"execute": name}); err != nil {
		return fmt.Errorf("telling QEMU %s: %w", name, err)
	}
	for {
		var m message
		if err := q.in.Decode(&m); err != nil {
			return fmt.Errorf("waiting for QEMU's answer to %s: %w", name, err)
		}
		switch {
		case m.Error != nil:
			return fmt.Errorf("telling QEMU %s: %s", name, m.Error.Description)
		case m.Return != nil:
			return nil
		}
	}
}

// gone waits until QEMU closes the connection, which it does only by ending. False means that it is still there.
func (q *qmp) gone(wait time.Duration) bool {
	if q.conn.SetDeadline(time.Now().Add(wait)) != nil {
		return true
	}
	for {
		var m message
		if err := q.in.Decode(&m); err != nil {
			return errors.Is(err, io.EOF) || !errors.Is(err, os.ErrDeadlineExceeded)
		}
	}
}

// Close ends the connection; the machine goes on.
func (q *qmp) Close() error { return q.conn.Close() }

func control(dir, name string) error {
	client, err := dialQMP(dir)
	if err != nil {
		return fmt.Errorf("reaching QEMU in %s: %w", dir, err)
	}
	return errors.Join(client.Do(name), client.Close())
}

// IsRunning tells whether a machine runs in dir.
func IsRunning(dir string) bool {
	client, err := dialQMP(dir)
	if err != nil {
		return false
	}
	_ = client.Close()
	return true
}

// ErrNotRunning says that there is no running machine in a directory.
var ErrNotRunning = errors.New("no machine is running there")

// Stop presses the power button of the machine in dir, detached or not, and pulls the plug if it is not off after
// grace. It reports whether the machine went off by itself.
func Stop(dir string, grace time.Duration) (bool, error) {
	client, err := dialQMP(dir)
	if err != nil {
		return false, fmt.Errorf("%s: %w", filepath.Clean(dir), ErrNotRunning)
	}
	defer client.Close()
	if err := client.Do("system_powerdown"); err != nil {
		return false, err
	}
	if client.gone(grace) {
		return true, nil
	}
	// After a read that ran into its deadline the decoder keeps the error: begin a new connection.
	_ = client.Close()
	fresh, err := dialQMP(dir)
	if err != nil {
		return false, nil
	}
	defer fresh.Close()
	if err := fresh.Do("quit"); err != nil {
		return false, err
	}
	if !fresh.gone(qmpTime) {
		return false, errors.New("stopping the machine: QEMU does not end")
	}
	return false, nil
}

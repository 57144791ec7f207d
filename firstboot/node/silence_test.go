package node

import (
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kiln-os/kiln/firstboot/node/apitest"
)

// mute is a load balancer's end of connections: those made before the last call of silence take everything and say nothing.
type mute struct {
	net.Listener
	generation atomic.Int64
}

// balance passes connections on to a server until the test ends.
func balance(t *testing.T, server string) *mute {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	m := &mute{Listener: listener}
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			backend, err := net.Dial("tcp", server)
			if err != nil {
				client.Close()
				continue
			}
			t.Cleanup(func() { client.Close(); backend.Close() })
			made := m.generation.Load()
			go m.pass(backend, client, made)
			go m.pass(client, backend, made)
		}
	}()
	return m
}

func (m *mute) pass(to io.Writer, from io.Reader, made int64) {
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if err != nil {
			return
		}
		if m.generation.Load() != made {
			continue
		}
		if _, err := to.Write(buffer[:n]); err != nil {
			return
		}
	}
}

// silence is what comes of a control plane that loses its power: its connections stay.
func (m *mute) silence() { m.generation.Add(1) }

// A client notices that its connection is dead, and goes on by another one before its patience ends.
func TestSilentConnection(t *testing.T) {
	s := apitest.New(t)
	s.Put("/api/v1/nodes/n1", apitest.Object{"metadata": map[string]any{"name": "n1"}})
	m := balance(t, strings.TrimPrefix(s.URL, "https://"))
	c, err := NewClient("https://"+m.Addr().String(), s.Admin)
	if err != nil {
		t.Fatal(err)
	}
	c.FirstPause, c.Patience = time.Millisecond, 20*time.Second
	limits := c.HTTP.Transport.(*http.Transport).HTTP2
	if limits.SendPingTimeout <= 0 || limits.PingTimeout <= 0 || limits.SendPingTimeout+limits.PingTimeout > c.HTTP.Timeout/2 {
		t.Errorf("a dead connection is found after %s and %s", limits.SendPingTimeout, limits.PingTimeout)
	}
	limits.SendPingTimeout, limits.PingTimeout = 100*time.Millisecond, 100*time.Millisecond
	for range 3 {
		if _, err := c.Get(t.Context(), "n1"); err != nil {
			t.Fatal(err)
		}
		m.silence()
	}
}

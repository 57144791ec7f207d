package main

import (
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// burst is how far a line may make up for a pause of its senders.
const burst = 20 * time.Millisecond

// line is the network cable of a server: everything that it sends goes through it, one after the other.
type line struct {
	// rate is in bytes a second; zero is as fast as it goes.
	rate float64
	mu   sync.Mutex
	// free is when the line has sent what it was given.
	free time.Time
}

// pass takes n bytes and returns when they are through.
func (l *line) pass(n int) {
	if l.rate == 0 {
		return
	}
	l.mu.Lock()
	now := time.Now()
	switch {
	case l.free.IsZero():
		l.free = now
	case l.free.Before(now.Add(-burst)):
		l.free = now.Add(-burst)
	}
	l.free = l.free.Add(time.Duration(float64(n) / l.rate * float64(time.Second)))
	wait := time.Until(l.free)
	l.mu.Unlock()
	time.Sleep(wait)
}

// served is a plain HTTP server on loopback, and the count of what it sends: bodies, headers and all.
type served struct {
	// url is that of the directory, without a slash at its end.
	url  string
	sent atomic.Int64
	stop func() error
}

// serve serves the files of a directory as any web server would.
func serve(dir string, l *line) (*served, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("opening a server on loopback: %w", err)
	}
	s := &served{url: "http://" + listener.Addr().String()}
	server := &http.Server{Handler: http.FileServer(http.Dir(dir)), ReadHeaderTimeout: time.Minute}
	s.stop = server.Close
	go func() { _ = server.Serve(countingListener{listener, s, l}) }()
	return s, nil
}

type countingListener struct {
	net.Listener
	to   *served
	line *line
}

// Accept implements net.Listener.
func (c countingListener) Accept() (net.Conn, error) {
	connection, err := c.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return countingConn{connection, c.to, c.line}, nil
}

// countingConn has no ReadFrom, so that every byte comes by here.
type countingConn struct {
	net.Conn
	to   *served
	line *line
}

// Write implements io.Writer.
func (c countingConn) Write(p []byte) (int, error) {
	c.line.pass(len(p))
	n, err := c.Conn.Write(p)
	c.to.sent.Add(int64(n))
	return n, err
}

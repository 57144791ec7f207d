package fence

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"
)

// Claim is a node's word that it founds the cluster: it answers other nodes until it is closed.
type Claim struct {
	o        Options
	table    *table
	listener net.Listener
	tls      *tls.Config
	// work is what runs beside; stop ends it.
	work sync.WaitGroup
	ctx  context.Context
	stop context.CancelFunc
}

// maxWords is the most that a node says; maxTalks is with how many it talks at a time.
const (
	maxWords = 4 << 10
	maxTalks = 16
)

// open listens, which comes before all asking.
func open(o Options, s state) (*Claim, error) {
	config, err := credentials(o.Authority, o.Key)
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", net.JoinHostPort(o.Address, o.Port))
	if err != nil {
		return nil, fmt.Errorf("listening for other nodes that initialise: %w", err)
	}
	own := candidate{Name: o.Name, Nonce: o.Nonce, Run: NewNonce(), Address: o.Address, State: s}
	c := &Claim{o: o, table: newTable(own), listener: listener, tls: config}
	c.ctx, c.stop = context.WithCancel(context.Background())
	c.work.Go(c.serve)
	return c, nil
}

// Founded says that the API server lives. Other nodes see that themselves from then on, wherever they can reach it.
func (c *Claim) Founded() {
	if c != nil {
		c.table.set(founded)
	}
}

// Close ends the claim. That is safe once other nodes can read in the cluster's record who founded it. A nil Claim, of a
// node without a key, does nothing.
func (c *Claim) Close() {
	if c == nil {
		return
	}
	c.stop()
	_ = c.listener.Close()
	c.work.Wait()
}

func (c *Claim) serve() {
	talks := make(chan struct{}, maxTalks)
	for {
		conn, err := c.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // out of file descriptors, for one
			select {
			case <-c.ctx.Done():
				return
			case <-time.After(100 * time.Millisecond):
				continue
			}
		}
		select {
		case talks <- struct{}{}:
		case <-c.ctx.Done():
			_ = conn.Close()
			return
		}
		c.work.Go(func() {
			defer func() { <-talks }()
			defer conn.Close()
			defer context.AfterFunc(c.ctx, func() { _ = conn.Close() })()
			_ = conn.SetDeadline(time.Now().Add(c.o.Pace.Talk))
			c.answer(tls.Server(conn, c.tls))
		})
	}
}

// answer hears one candidate and tells it what this node is doing. Who has no certificate of the cluster's is told nothing.
func (c *Claim) answer(conn *tls.Conn) {
	if conn.Handshake() != nil {
		return
	}
	their, err := read(conn)
	if err != nil {
		return
	}
	_ = json.NewEncoder(conn).Encode(c.table.exchange(their))
	_ = conn.CloseWrite()
}

func read(from io.Reader) (candidate, error) {
	var their candidate
	if err := json.NewDecoder(io.LimitReader(from, maxWords)).Decode(&their); err != nil {
		return candidate{}, fmt.Errorf("reading what another node says: %w", err)
	}
	if their.Name == "" || their.Run == "" || !slices.Contains([]state{claiming, yielded, initialising, founded}, their.State) {
		return candidate{}, errors.New("reading what another node says: it does not say who it is and what it does")
	}
	return their, nil
}

// ask tells the candidate at host what this node is doing, and hears what that one does.
func (c *Claim) ask(ctx context.Context, host string) (candidate, error) {
	conn, err := connect(ctx, c.o, net.JoinHostPort(host, c.o.Port))
	if err != nil {
		return candidate{}, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	secure := tls.Client(conn, c.tls)
	if err := json.NewEncoder(secure).Encode(c.table.self()); err != nil {
		return candidate{}, fmt.Errorf("asking %s: %w", host, err)
	}
	their, err := read(secure)
	if err != nil {
		return candidate{}, err
	}
	c.table.hear(their)
	return their, nil
}

// connect bounds all that is done over the connection.
func connect(ctx context.Context, o Options, address string) (net.Conn, error) {
	dialling, cancel := context.WithTimeout(ctx, o.Pace.Connect)
	defer cancel()
	conn, err := o.Dial(dialling, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("asking %s: %w", address, err)
	}
	_ = conn.SetDeadline(time.Now().Add(o.Pace.Talk))
	return conn, nil
}

// announce tells the planned control planes again and again that this node initialises: a node whose own list is
// incomplete, and which therefore asks nobody, hears it that way.
func (c *Claim) announce() {
	if c == nil {
		return
	}
	c.work.Go(func() {
		warned := map[string]bool{}
		for {
			var asking sync.WaitGroup
			for _, host := range c.o.hosts() {
				asking.Go(func() { _, _ = c.ask(c.ctx, host) })
			}
			asking.Wait()
			for _, rival := range c.table.seen() {
				if rival.founding() && !warned[rival.Run] && c.ctx.Err() == nil {
					warned[rival.Run] = true
					c.o.Say(fmt.Sprintf("%s at %s is %s at the same time as this node: there may be two clusters; switch one of the two off",
						rival.Name, rival.Address, rival.State))
				}
			}
			select {
			case <-c.ctx.Done():
				return
			case <-time.After(c.o.Pace.Round):
			}
		}
	})
}

// hosts are the addresses, besides this node's, where another candidate may listen.
func (o Options) hosts() []string {
	var list []string
	for _, other := range o.ControlPlanes {
		list = append(list, other.Address)
	}
	if host, _, err := net.SplitHostPort(o.Endpoint); err == nil {
		list = append(list, host)
	}
	slices.Sort(list)
	return slices.DeleteFunc(slices.Compact(list), func(host string) bool { return host == o.Address || host == "" })
}

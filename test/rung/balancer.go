package rung

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/kiln-os/kiln/internal/command"
)

// Balancer is HAProxy with an address of its own: the load balancer of kubeadm's high-availability guide.
type Balancer struct {
	host    *Host
	place   *namespace
	port    port
	address string
	// service is the port that it answers on.
	service string
	config  string
	process *command.Process
	root    string
}

// balancing passes TCP through, to backends that say they are ready: the guide asks for a health check.
const balancing = `defaults
  mode tcp
  timeout connect 3s
  timeout client 1h
  timeout server 1h
  timeout check 3s
  option redispatch

frontend api
  bind %s
  default_backend control-planes

backend control-planes
  balance roundrobin
  option httpchk GET /readyz
  http-check expect status 200
  default-server check check-ssl verify none inter 1s fall 3 rise 2 on-marked-down shutdown-sessions
`

// Balancer makes a load balancer at frontend, ADDRESS:PORT within Network, and starts it. backends are the control
// planes' API servers, ADDRESS:PORT each.
func (h *Host) Balancer(frontend string, backends ...string) (*Balancer, error) {
	b := &Balancer{host: h}
	var err error
	if b.address, b.service, err = net.SplitHostPort(frontend); err != nil {
		return nil, fmt.Errorf("making balancer: %w", err)
	}
	if err := b.make(frontend, backends); err != nil {
		b.remove()
		return nil, fmt.Errorf("making balancer: %w", err)
	}
	h.mu.Lock()
	h.balancers = append(h.balancers, b)
	h.mu.Unlock()
	return b, b.Start()
}

func (b *Balancer) make(frontend string, backends []string) error {
	if command.Find("haproxy") == "" {
		return fmt.Errorf("haproxy is not installed; install Debian's package haproxy")
	}
	var text strings.Builder
	fmt.Fprintf(&text, balancing, frontend)
	for i, backend := range backends {
		fmt.Fprintf(&text, "  server cp%d %s\n", i+1, backend)
	}
	b.config = filepath.Join(b.host.o.Dir, "haproxy-"+b.address+".cfg")
	if err := os.WriteFile(b.config, []byte(text.String()), 0o644); err != nil {
		return err
	}
	var err error
	if b.place, err = b.host.newNamespace(); err != nil {
		return err
	}
	if b.port, err = b.host.connect("balance-"+b.address[strings.LastIndexByte(b.address, '.')+1:], "", b.place.holder.PID); err != nil {
		return err
	}
	for _, line := range [][]string{
		{"ip", "link", "set", "lo", "up"},
		{"ip", "address", "add", fmt.Sprintf("%s/%d", b.address, prefixLength), "dev", "eth0"},
		{"ip", "link", "set", "eth0", "up"},
	} {
		if err := b.place.run(b.host.ctx, line...); err != nil {
			return err
		}
	}
	return nil
}

// Start starts HAProxy. It changes nothing if it runs.
func (b *Balancer) Start() error {
	if b.process != nil {
		return nil
	}
	log, err := os.OpenFile(b.config+".log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	c := b.place.command("haproxy", "-db", "-f", b.config)
	c.Stdout, c.Stderr = log, log
	if b.process, err = (command.Exec{}).Start(b.host.ctx, c, false); err != nil {
		return fmt.Errorf("starting balancer: %w", err)
	}
	return nil
}

// Stop ends HAProxy: connections to the balancer are refused.
func (b *Balancer) Stop() {
	if b.process != nil {
		b.process.Kill()
		b.process = nil
	}
}

// Drop loses every packet for the balancer's port, without a word: connections time out, while the balancer goes on asking
// its backends how they are. Pass ends it.
func (b *Balancer) Drop(ctx context.Context) error {
	return b.nft(ctx, "add table inet lost; add chain inet lost in { type filter hook input priority 0; }; add rule inet lost in tcp dport "+b.service+" drop")
}

// Pass ends a Drop.
func (b *Balancer) Pass(ctx context.Context) error { return b.nft(ctx, "delete table inet lost") }

// nft runs the image's nft in the balancer's network: the host need not have one.
func (b *Balancer) nft(ctx context.Context, rules string) error {
	root, err := b.host.kubectlRoot()
	if err != nil {
		return err
	}
	return b.place.run(ctx, "nsenter", fmt.Sprintf("--target=%d", b.host.segment.holder.PID), "--mount", "--",
		"chroot", root, "/usr/sbin/nft", rules)
}

func (b *Balancer) remove() {
	b.Stop()
	b.port.remove()
	if b.place != nil {
		b.place.end()
	}
}

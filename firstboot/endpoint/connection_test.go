package endpoint

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Certificates: whose they are, for when, for whom.
func TestCertificates(t *testing.T) {
	ca := newAuthority(t)
	now := time.Now()
	tests := []struct {
		name   string
		change func(*x509.Certificate)
		now    time.Time
		state  State
		says   string
	}{
		{"expired", func(c *x509.Certificate) { c.NotBefore, c.NotAfter = now.Add(-2*time.Hour), now.Add(-time.Hour) }, now, CertificateTime, "set this machine's clock if it is wrong; otherwise renew"},
		{"not yet valid", func(c *x509.Certificate) { c.NotBefore = now.Add(time.Minute) }, now, CertificateTime, "set this machine's clock, or"},
		{"clock of 1970", nil, time.Unix(0, 0), CertificateTime, "this machine's clock says 1970-01-01T00:00:00Z"},
		{"clock before the authority", func(c *x509.Certificate) { c.NotBefore = now.Add(-100 * time.Hour) }, now.Add(-72 * time.Hour), CertificateTime, "the cluster's certificate authority is valid from"},
		{"for other hosts", func(c *x509.Certificate) {
			c.IPAddresses, c.DNSNames = []net.IP{{10, 0, 0, 11}}, []string{"kubernetes"}
		}, now, NameMismatch, "not valid for 127.0.0.1, only for kubernetes, 10.0.0.11; add the host to certificateNames"},
		{"for nobody", func(c *x509.Certificate) { c.IPAddresses = nil }, now, NameMismatch, "no host at all"},
		{"expired, for other hosts", func(c *x509.Certificate) { c.IPAddresses, c.NotAfter = nil, now.Add(-time.Minute) }, now, CertificateTime, "clock"},
		{"for clients", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }, now, NotReady, "cannot be used"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := joiner(ca, start(t, newAPI(t, ca), ca.serving(t, test.change)))
			c.Now = func() time.Time { return test.now }
			check(t, c.Look(t.Context()), test.state, test.says)
		})
	}
}

func TestOtherCluster(t *testing.T) {
	ours, theirs, third := newAuthority(t), newAuthority(t), newAuthority(t)
	shown := newAPI(t, theirs)
	hidden := newAPI(t, theirs)
	hidden.objects[pathClusterInfo] = 403
	lying := newAPI(t, third)
	chain := theirs.serving(t, nil)
	chain.Certificate = append(chain.Certificate, theirs.certificate.Raw)
	tests := []struct {
		name      string
		endpoint  string
		presented string
	}{
		{"from its cluster-info", start(t, shown, theirs.serving(t, nil)), Pin(theirs.certificate)},
		{"from its chain", start(t, hidden, chain), Pin(theirs.certificate)},
		{"not to be found", start(t, hidden, theirs.serving(t, nil)), ""},
		{"a false one", start(t, lying, theirs.serving(t, nil)), ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			seen := joiner(ours, test.endpoint).Look(t.Context())
			check(t, seen, OtherCluster, "another cluster's", Pin(ours.certificate), test.presented)
			if seen.Expected != Pin(ours.certificate) || seen.Presented != test.presented || !strings.HasPrefix(seen.Expected, "sha256:") {
				t.Errorf("pins are %q and %q; want the latter %q", seen.Expected, seen.Presented, test.presented)
			}
			if !(&Problem{seen}).Permanent() {
				t.Error("it is not permanent")
			}
		})
	}
}

// timeout is an error as the net package has it.
type timeout struct{ error }

func (timeout) Timeout() bool   { return true }
func (timeout) Temporary() bool { return true }

func TestConnections(t *testing.T) {
	ca := newAuthority(t)
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refusing := closed.Addr().String()
	_ = closed.Close()
	slamming := listen(t, func(c net.Conn) { _ = c.Close() })
	resetting := listen(t, func(c net.Conn) {
		_ = c.(*net.TCPConn).SetLinger(0)
		_, _ = c.Read(make([]byte, 100))
		_ = c.Close()
	})
	chatting := listen(t, func(c net.Conn) {
		_, _ = c.Write([]byte("SSH-2.0-OpenSSH_10.0\r\n"))
		_, _ = c.Read(make([]byte, 4<<10))
		_ = c.Close()
	})
	plain := listen(t, func(c net.Conn) {
		_, _ = c.Read(make([]byte, 4<<10))
		_, _ = c.Write([]byte("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"))
		_ = c.Close()
	})
	silent := listen(t, func(net.Conn) {})
	failing := func(err error) func(context.Context, string, string) (net.Conn, error) {
		return func(context.Context, string, string) (net.Conn, error) {
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: err}
		}
	}
	tests := []struct {
		name, endpoint string
		dial           func(context.Context, string, string) (net.Conn, error)
		state          State
		says           string
	}{
		{"nobody listens", refusing, nil, Refused, "connection refused"},
		{"closed at once", slamming, nil, Closed, "no control plane behind it"},
		{"reset", resetting, nil, Closed, ""},
		{"something else", chatting, nil, NotTLS, "pass TCP on"},
		{"plain HTTP", plain, nil, NotTLS, "does not speak TLS"},
		{"packets dropped", "127.0.0.1:6443", failing(timeout{errors.New("i/o timeout")}), TimedOut, "cannot communicate with a control plane: reconfigure the load balancer"},
		{"no route", "127.0.0.1:6443", failing(syscall.EHOSTUNREACH), Unreachable, "no route to host"},
		{"network down", "127.0.0.1:6443", failing(syscall.ENETUNREACH), Unreachable, "network is unreachable"},
		{"no name", "api.invalid:6443", failing(&net.DNSError{Name: "api.invalid", Err: "no such host", IsNotFound: true}), Unresolvable, "api.invalid cannot be resolved: no such host"},
		{"name server silent", "api.invalid:6443", failing(&net.DNSError{Name: "api.invalid", Err: "i/o timeout", IsTimeout: true}), Unresolvable, "DNS servers"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := joiner(ca, test.endpoint)
			c.Dial = test.dial
			check(t, c.Look(t.Context()), test.state, test.says)
		})
	}
	t.Run("silent", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		check(t, joiner(ca, silent).Look(ctx), TimedOut, "takes connections and says nothing")
	})
}

// A dropped packet, really: a listener whose queue is full leaves further connections unanswered.
func TestDroppedPackets(t *testing.T) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	if err := errors.Join(syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), syscall.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	address := fmt.Sprintf("127.0.0.1:%d", name.(*syscall.SockaddrInet4).Port)
	dropped := false
	for range 8 {
		conn, err := net.DialTimeout("tcp", address, 100*time.Millisecond)
		if err != nil {
			dropped = true
			break
		}
		t.Cleanup(func() { _ = conn.Close() })
	}
	if !dropped {
		t.Skip("this kernel takes connections beyond the queue of a listener")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	check(t, joiner(newAuthority(t), address).Look(ctx), TimedOut, "did not answer")
}

// The environment's proxy is the operator's workstation's affair, not the node's.
func TestNoProxy(t *testing.T) {
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1")
	c := joiner(newAuthority(t), "")
	// For addresses of the machine itself, the environment's proxy is never asked.
	c.Endpoint = "api.example.org:6443"
	dialled := ""
	c.Dial = func(_ context.Context, _, address string) (net.Conn, error) {
		dialled = address
		return nil, syscall.ECONNREFUSED
	}
	check(t, c.Look(t.Context()), Refused)
	if dialled != c.Endpoint {
		t.Errorf("dialled %s; want %s", dialled, c.Endpoint)
	}
}

package fence

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kiln-os/kiln/internal/cluster"
)

// Three nodes whose identities all say initialise are started at about the same time: one founds, the others say why not.
func TestThreeAtOnce(t *testing.T) {
	w := newWorld(t)
	winners := map[string]int{}
	for range 25 {
		results, remembered := make([]decided, 3), make([]string, 3)
		var running sync.WaitGroup
		for i := range results {
			o := w.node(i + 1)
			o.Remember = func(name string) error { remembered[i] = name; return nil }
			delay := rand.N(12 * time.Millisecond)
			running.Go(func() {
				time.Sleep(delay)
				ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
				defer cancel()
				d, err := Decide(ctx, o)
				results[i] = decided{d, err}
			})
		}
		running.Wait()
		founders := 0
		for i, r := range results {
			name := w.planned[i].Name
			if r.err == nil {
				founders++
				winners[name]++
				r.want(t, Found)
				if remembered[i] != "" {
					t.Errorf("%s founds and remembers to have yielded to %s", name, remembered[i])
				}
				continue
			}
			if rival := r.rival(t); rival.Name != remembered[i] || rival.Name == name || rival.Namesake || !rival.Permanent() || !strings.Contains(rival.Error(), rival.Name+" at 127.0.0.1") {
				t.Errorf("%s: %v; remembered %q", name, rival, remembered[i])
			}
		}
		if founders != 1 {
			t.Fatalf("%d nodes found: %+v", founders, results)
		}
		for _, r := range results {
			r.Claim.Close()
		}
	}
	t.Logf("who founded how often: %v", winners)
}

func TestAlone(t *testing.T) {
	w := newWorld(t)
	d := decide(t, w.node(2))
	d.want(t, Found)
	if d.Claim == nil {
		t.Fatal("the node founds without a claim")
	}
}

// Silent addresses, dropped packets and listeners that say nothing, hold nobody up for good.
func TestSilence(t *testing.T) {
	w := newWorld(t)
	mute, err := net.Listen("tcp", "127.0.0.12:"+w.port)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = mute.Close() })
	o := w.node(1)
	o.Pace.Connect, o.Pace.Talk = 50*time.Millisecond, 50*time.Millisecond
	o.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		if strings.HasPrefix(address, "127.0.0.12:") {
			return (&net.Dialer{}).DialContext(ctx, network, address)
		}
		<-ctx.Done()
		return nil, ctx.Err()
	}
	decide(t, o).want(t, Found)
}

// Who comes later meets one that initialises, whatever their names, until that one ends its claim.
func TestLater(t *testing.T) {
	w := newWorld(t)
	first := decide(t, w.node(3))
	first.want(t, Found)
	for _, founding := range []string{"initialising", "founded"} {
		rival := decide(t, w.node(1)).rival(t)
		if rival.Name != "cp3" || rival.State != founding || rival.Address != "127.0.0.13" {
			t.Errorf("rival is %+v", rival)
		}
		first.Claim.Founded()
	}
	// The founder loses power before there was a cluster, and the node that has yielded stays out of it.
	first.Claim.Close()
	o := w.node(1)
	o.YieldedTo = "cp3"
	if rival := decide(t, o).rival(t); rival.Name != "cp3" || !strings.Contains(rival.Error(), "never founds one from this disk") {
		t.Errorf("rival is %v", rival)
	}
	decide(t, w.node(3)).want(t, Found)
}

// After a power cut with etcd's data a node does not ask, and others hear it.
func TestHold(t *testing.T) {
	w := newWorld(t)
	claim, err := Hold(w.node(2))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(claim.Close)
	if rival := decide(t, w.node(1)).rival(t); rival.Name != "cp2" || rival.State != "initialising" {
		t.Errorf("rival is %+v", rival)
	}
	keyless := w.node(2)
	keyless.Key = nil
	if claim, err := Hold(keyless); claim != nil || err != nil {
		t.Errorf("without a key: %v, %v", claim, err)
	}
}

// Two machines have one identity, on different addresses. Neither list has both.
func TestClonedIdentity(t *testing.T) {
	w := newWorld(t)
	original, clone := w.node(1), w.node(1)
	clone.Address = "127.0.0.14"
	first := decide(t, original)
	first.want(t, Found)
	if rival := decide(t, clone).rival(t); !rival.Namesake || !strings.Contains(rival.Error(), "another machine at 127.0.0.11 has the identity of cp1 too") {
		t.Errorf("rival is %v", rival)
	}
	first.Claim.Close()

	// The clone was first. The original asks only planned addresses, but the clone tells it.
	other := decide(t, clone)
	other.want(t, Found)
	original.ControlPlanes = original.ControlPlanes[1:] // it takes its list for incomplete, and lets others find it
	if rival := decide(t, original).rival(t); !rival.Namesake || rival.Address != "127.0.0.14" {
		t.Errorf("rival is %v", rival)
	}
}

// A copy of the disk has the nonce too.
func TestClonedDisk(t *testing.T) {
	w := newWorld(t)
	original := w.node(1)
	clone := original
	clone.Address = "127.0.0.14"
	decide(t, original).want(t, Found)
	if rival := decide(t, clone).rival(t); !rival.Namesake {
		t.Errorf("rival is %v", rival)
	}
}

// An identity that was made by hand has no list. It asks nobody but the endpoint, and hears who initialises.
func TestWithoutList(t *testing.T) {
	w := newWorld(t)
	decide(t, w.node(3)).want(t, Found)
	o := w.node(1)
	o.ControlPlanes = nil
	if rival := decide(t, o).rival(t); rival.Name != "cp3" || rival.State != "initialising" {
		t.Errorf("rival is %+v", rival)
	}
}

// The winner goes away before it initialises. Who met it has yielded for good; who did not founds.
func TestWinnerGoesAway(t *testing.T) {
	w := newWorld(t)
	o := w.node(1)
	claim, err := open(o.withDefaults(), claiming)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(claim.Close)
	if rival := decide(t, w.node(2)).rival(t); rival.Name != "cp1" || rival.State != "claiming" {
		t.Errorf("rival is %+v", rival)
	}
	claim.Close()
	decide(t, w.node(3)).want(t, Found)
}

// A node that goes behind and does not yield is waited for; once it is gone, the first begins.
func TestRivalThatHangs(t *testing.T) {
	w := newWorld(t)
	hanging, err := open(w.node(3).withDefaults(), claiming)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(hanging.Close)
	var waited sync.Once
	o := w.node(1)
	o.Say = func(line string) {
		if strings.Contains(line, "cp3 at 127.0.0.13 would found the cluster too") {
			waited.Do(func() { go hanging.Close() })
		}
	}
	decide(t, o).want(t, Found)
	if hanging.ctx.Err() == nil {
		t.Error("it did not wait")
	}
}

// A yield that cannot be written down is none: the node may try again, and tells nobody.
func TestYieldIsWrittenFirst(t *testing.T) {
	w := newWorld(t)
	first := decide(t, w.node(1))
	first.want(t, Found)
	full := errors.New("no space left on device")
	o := w.node(2)
	o.Remember = func(string) error {
		for _, rival := range first.Claim.table.seen() {
			if rival.Name == "cp2" && rival.State != claiming {
				t.Errorf("cp2 is %s to others before it is to itself", rival.State)
			}
		}
		return full
	}
	d := decide(t, o)
	if _, permanent := errors.AsType[*Rival](d.err); !errors.Is(d.err, full) || permanent {
		t.Errorf("error is %v", d.err)
	}
}

// A replaced initialiser comes back with the same identity and an empty disk.
func TestClusterLives(t *testing.T) {
	tests := []struct {
		name    string
		at      string
		founder string
		action  Action
		err     string
	}{
		{"founded by this node, through the endpoint", "127.0.0.10", "cp1", Join, ""},
		{"founded by this node, at another one", "127.0.0.13", "cp1", Join, ""},
		{"founded by another", "127.0.0.12", "cp2", 0, "was founded by cp2; take initialise out"},
		{"nobody knows who founded it", "127.0.0.10", "", Join, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			at := test.at + ":" + w.apiPort
			w.serve(&api{founder: test.founder}, w.pair, at)
			for _, how := range []string{"", "without key", "yielded"} {
				o, remembered := w.node(1), ""
				o.Remember = func(name string) error { remembered = name; return nil }
				switch how {
				case "without key":
					o.Key = nil
				case "yielded":
					o.YieldedTo = "cp9"
				}
				d := decide(t, o)
				if test.err == "" {
					d.want(t, test.action)
					if d.Seen != at || d.Founder != test.founder || d.Claim != nil || remembered != "" {
						t.Errorf("%s: decided %+v, remembered %q", how, d.Decision, remembered)
					}
					continue
				}
				other, ok := errors.AsType[*FoundedByOther](d.err)
				if !ok || !other.Permanent() || !strings.Contains(other.Error(), test.err) || remembered != test.founder {
					t.Errorf("%s: error is %v, remembered %q", how, d.err, remembered)
				}
			}
		})
	}
}

// An API server of the cluster's that is not ready is a living cluster: nobody founds beside it.
func TestClusterLivesButIsNotReady(t *testing.T) {
	w := newWorld(t)
	server := &api{code: 503}
	w.serve(server, w.pair, "127.0.0.12:"+w.apiPort)
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("seen enough")
	o := w.node(1)
	o.Say = func(line string) {
		if !strings.Contains(line, "this cluster lives already") || !strings.Contains(line, "503") {
			t.Errorf("said %q", line)
		}
		go func() {
			for server.asked.Load() < 4 {
				time.Sleep(time.Millisecond)
			}
			cancel(enough)
		}()
	}
	if _, err := Decide(ctx, o); !errors.Is(err, enough) {
		t.Errorf("error is %v", err)
	}
}

// A rival initialises, and its API server lives before its claim ends: the message names the rival.
func TestRivalIsNamedBeforeTheCluster(t *testing.T) {
	w := newWorld(t)
	decide(t, w.node(2)).want(t, Found)
	w.serve(&api{code: 503}, w.pair, "127.0.0.12:"+w.apiPort)
	if rival := decide(t, w.node(1)).rival(t); rival.Name != "cp2" {
		t.Errorf("rival is %+v", rival)
	}
}

func TestOtherCluster(t *testing.T) {
	for _, at := range []string{"127.0.0.10", "127.0.0.12"} {
		w := newWorld(t)
		w.serve(&api{founder: "cp1"}, pair(t), at+":"+w.apiPort)
		d := decide(t, w.node(1))
		other, ok := errors.AsType[*OtherCluster](d.err)
		if !ok || !other.Permanent() || other.Seen != at+":"+w.apiPort || !strings.HasPrefix(other.Expected, "sha256:") || !strings.Contains(other.Error(), `signed by "kubernetes"`) {
			t.Errorf("at %s: decided %+v, %v", at, d.Decision, d.err)
		}
	}
	// What runs beside the balancer on its host is not the cluster's concern.
	w := newWorld(t)
	w.serve(&api{}, pair(t), "127.0.0.10:"+w.apiPort)
	o := w.node(1)
	o.Endpoint = "127.0.0.10:" + w.port
	decide(t, o).want(t, Found)
}

// An identity without authorities is a cluster of its own: whatever lives at the endpoint is another.
func TestWithoutAuthorities(t *testing.T) {
	w := newWorld(t)
	o := w.node(1)
	o.Authority, o.Key = nil, nil
	d := decide(t, o)
	d.want(t, Found)
	if d.Claim != nil {
		t.Error("it has a claim")
	}
	d.Claim.Founded()
	d.Claim.Close()
	w.serve(&api{founder: "cp1"}, w.pair, o.Endpoint)
	d = decide(t, o)
	if other, ok := errors.AsType[*OtherCluster](d.err); !ok || !strings.Contains(other.Error(), "has no certificate authorities") {
		t.Errorf("decided %+v, %v", d.Decision, d.err)
	}
}

// Only who holds the authority's key is listened to.
func TestStrangers(t *testing.T) {
	w := newWorld(t)
	d := decide(t, w.node(1))
	d.want(t, Found)
	address := "127.0.0.11:" + w.port
	stranger := w.node(2)
	var err error
	if stranger.Authority, stranger.Key, err = ParsePair(pair(t)); err != nil {
		t.Fatal(err)
	}
	talk := func(config *tls.Config, words string) string {
		conn, err := tls.Dial("tcp", address, config)
		if err != nil {
			return ""
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, words)
		_ = conn.CloseWrite()
		answer, _ := io.ReadAll(conn)
		return string(answer)
	}
	const words = `{"name":"cp2","run":"r","address":"127.0.0.12","state":"initialising"}` + "\n"
	own, err := credentials(d.Claim.o.Authority, d.Claim.o.Key)
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := credentials(stranger.Authority, stranger.Key)
	if err != nil {
		t.Fatal(err)
	}
	foreign.VerifyConnection = nil
	for name, test := range map[string]struct {
		config *tls.Config
		words  string
		heard  bool
	}{
		"one that may":       {own, words, true},
		"no certificate":     {&tls.Config{InsecureSkipVerify: true}, words, false},
		"another authority":  {foreign, words, false},
		"junk":               {own, "junk\n", false},
		"a state of its own": {own, `{"name":"cp2","run":"q","state":"king"}`, false},
		"no end":             {own, `{"name":"` + strings.Repeat("x", 1<<20), false},
		"nothing":            {own, "", false},
	} {
		if answer := talk(test.config, test.words); strings.Contains(answer, `"state":"initialising"`) != test.heard {
			t.Errorf("%s: hears %q", name, answer)
		}
	}
	if seen := d.Claim.table.seen(); len(seen) != 1 || seen[0].Run != "r" {
		t.Errorf("the node has heard %+v", seen)
	}
	// A stranger that listens at a planned address is silence.
	listening, err := open(stranger.withDefaults(), initialising)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(listening.Close)
	d.Claim.Close()
	decide(t, w.node(1)).want(t, Found)
}

// A kubelet's certificate is of the same authority, and is not let in.
func TestOtherCertificatesOfTheAuthority(t *testing.T) {
	w := newWorld(t)
	w.serve(&api{}, w.pair, "127.0.0.12:"+w.port)
	decide(t, w.node(1)).want(t, Found)
}

func TestPortTaken(t *testing.T) {
	w := newWorld(t)
	listener, err := net.Listen("tcp", "127.0.0.11:"+w.port)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	if d := decide(t, w.node(1)); d.err == nil || !strings.Contains(d.err.Error(), "listening for other nodes that initialise") {
		t.Errorf("decided %+v, %v", d.Decision, d.err)
	}
}

func TestParsePair(t *testing.T) {
	one, two := pair(t), pair(t)
	if _, _, err := ParsePair(one); err != nil {
		t.Error(err)
	}
	for name, bad := range map[string]cluster.KeyPair{
		"nothing": {}, "no key": {Certificate: one.Certificate}, "of two pairs": {Certificate: one.Certificate, Key: two.Key},
	} {
		if _, _, err := ParsePair(bad); err == nil || strings.Contains(err.Error(), "BEGIN") {
			t.Errorf("%s: error is %v", name, err)
		}
	}
}

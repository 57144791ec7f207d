package etcd_test

import (
	"strings"
	"testing"
	"time"

	"github.com/kiln-os/kiln/firstboot/etcd"
	"github.com/kiln-os/kiln/firstboot/etcd/etcdtest"
)

func member(id uint64, name, address string) etcd.Member {
	m := etcd.Member{ID: id, Name: name, PeerURLs: []string{etcd.PeerURL(address)}}
	if name != "" {
		m.ClientURLs = []string{etcd.ClientURL(address)}
	}
	return m
}

func client(t *testing.T, s *etcdtest.Server, endpoints ...string) *etcd.Client {
	t.Helper()
	c, err := etcd.NewClient(s.Authority, endpoints)
	if err != nil {
		t.Fatal(err)
	}
	c.Limit = 2 * time.Second
	return c
}

func TestMembersOfTheFirstThatAnswers(t *testing.T) {
	const id = 18446744073709551615 // does not fit into a float64, as which JSON numbers are read
	s := etcdtest.New(t, member(id, "cp1", "10.0.0.11"), member(2, "", "fd00::12"))
	other := etcdtest.New(t) // of another authority
	c := client(t, s, "https://127.0.0.1:1", other.URL, s.URL)
	members, err := c.Members(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(members) != 2 || members[0].ID != id || !members[0].Started() || members[1].Started() || !members[1].HasPeer("https://[fd00::12]:2380") {
		t.Errorf("have %+v", members)
	}
	if len(other.Requests()) != 0 {
		t.Errorf("a server of another authority was asked for %q", other.Requests())
	}
	if err := c.Healthy(t.Context(), s.URL); err != nil {
		t.Error(err)
	}
	if c.Answers(t.Context(), []string{"https://127.0.0.1:1"}) || !c.Answers(t.Context(), []string{"https://127.0.0.1:1", s.URL}) {
		t.Error("Answers is wrong")
	}
}

func TestRemove(t *testing.T) {
	s := etcdtest.New(t, member(1, "cp1", "10.0.0.11"), member(2, "cp2", "10.0.0.12"))
	c := client(t, s, s.URL)
	for range 2 { // again after an answer that was lost
		if err := c.Remove(t.Context(), 2); err != nil {
			t.Fatal(err)
		}
	}
	if left := s.Members(); len(left) != 1 || left[0].ID != 1 {
		t.Errorf("left %+v", left)
	}
}

func TestRefusals(t *testing.T) {
	tests := []struct {
		name    string
		refusal *etcd.Error
		// asked is how many of the two endpoints are asked.
		asked int
	}{
		{"every member would say the same", &etcd.Error{Code: 9, Message: "etcdserver: re-configuration failed due to not enough started members"}, 1},
		{"another may have a leader", &etcd.Error{Code: 14, Message: "etcdserver: no leader"}, 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := etcdtest.New(t, member(1, "cp1", "10.0.0.11"))
			s.Fail(func(string) *etcd.Error { return tt.refusal })
			err := client(t, s, s.URL, s.URL).Remove(t.Context(), 1)
			if err == nil || !strings.Contains(err.Error(), tt.refusal.Message) || !strings.Contains(err.Error(), "removing etcd's member 1") {
				t.Errorf("have %v", err)
			}
			if len(s.Requests()) != tt.asked {
				t.Errorf("asked %d", len(s.Requests()))
			}
		})
	}
}

func TestNobodyToAsk(t *testing.T) {
	s := etcdtest.New(t)
	if _, err := client(t, s).Members(t.Context()); err == nil || !strings.Contains(err.Error(), "no member is known") {
		t.Errorf("have %v", err)
	}
	if _, err := client(t, s, s.URL).Members(t.Context()); err == nil || !strings.Contains(err.Error(), "the answer has none") {
		t.Errorf("have %v", err)
	}
}

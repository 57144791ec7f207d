package bootstrap

import "testing"

func TestHosts(t *testing.T) {
	const local = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n"
	for _, tt := range []struct{ name, before, want string }{
		{"no file", "", local + "10.0.0.11 cp1 # this node\n"},
		{"the user's lines stay", "127.0.0.1 localhost\n# ours\n192.0.2.7 seven\n", local + "10.0.0.11 cp1 # this node\n# ours\n192.0.2.7 seven\n"},
		{"a line within another", "110.0.0.5 five\n10.0.0.5 five\n", local + "10.0.0.11 cp1 # this node\n110.0.0.5 five\n10.0.0.5 five\n"},
		{"an earlier name goes", local + "10.0.0.9 old # this node\n192.0.2.7 seven\n", local + "10.0.0.11 cp1 # this node\n192.0.2.7 seven\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := hosts(tt.before, "10.0.0.11", "cp1")
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			if again := hosts(got, "10.0.0.11", "cp1"); again != got {
				t.Errorf("once more: %q", again)
			}
		})
	}
}

package etcd_test

import (
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kiln-os/kiln/firstboot/etcd"
	"github.com/kiln-os/kiln/firstboot/etcd/etcdtest"
)

const (
	checksum, metadata, snapshot = etcdtest.Checksum, etcdtest.Metadata, etcdtest.Snapshot

	begun = checksum + metadata + snapshot
	name  = etcdtest.LogName
)

func TestTookPart(t *testing.T) {
	const space = 64 << 10 // etcd's are 64 MB
	tests := []struct {
		name string
		logs map[string]string // in hexadecimal, without the zeros behind
		want bool
	}{
		{"no log", nil, false},
		{"only space for one", map[string]string{"0.tmp": ""}, false},
		{"a log that has only begun", map[string]string{name: begun, "0.tmp": ""}, false},
		// The first entry: a change of the members.
		{"an entry", map[string]string{name: begun + "0600000000000082" + "080210011a00" + "0000"}, true},
		{"a state", map[string]string{name: begun + "0600000000000082" + "080310011a00" + "0000"}, true},
		{"a snapshot that was received", map[string]string{name: checksum + metadata + snapshot + strings.Replace(snapshot, "08001000", "080a1002", 1)}, true},
		{"a snapshot with members", map[string]string{name: checksum + metadata + "0b00000000000085" + "080510001a051a03080102" + "0000000000"}, true},
		{"something behind the end", map[string]string{name: begun + strings.Repeat("00", 4096) + "01"}, true},
		{"two logs", map[string]string{name: begun, "0000000000000001-0000000000000009.wal": begun}, true},
		{"a log without its beginning", map[string]string{name: ""}, true},
		{"a log without its snapshot", map[string]string{name: checksum + metadata}, true},
		{"no log of etcd's", map[string]string{name: hex.EncodeToString([]byte("damaged beyond recognition"))}, true},
		{"a frame longer than the file", map[string]string{name: begun + "ffffffffffffff7f"}, true},
		{"a field that has no end", map[string]string{name: begun + "0200000000000086" + "08ff" + "000000000000"}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			directory := t.TempDir()
			for name, text := range tt.logs {
				data, err := hex.DecodeString(text)
				if err != nil {
					t.Fatal(err)
				}
				path := filepath.Join(directory, "member/wal", name)
				if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, append(data, make([]byte, space-len(data))...), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if have := etcd.TookPart(directory); have != tt.want {
				t.Errorf("took part: %t, want %t", have, tt.want)
			}
		})
	}
	t.Run("a log that is cut short", func(t *testing.T) {
		directory := t.TempDir()
		data, _ := hex.DecodeString(begun + "0600000000000082")
		if err := os.MkdirAll(filepath.Join(directory, "member/wal"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(directory, "member/wal", name), data, 0o600); err != nil {
			t.Fatal(err)
		}
		if !etcd.TookPart(directory) {
			t.Error("a record that is torn counts for nothing")
		}
	})
}

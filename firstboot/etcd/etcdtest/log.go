package etcdtest

import "encoding/hex"

// The beginning of a write-ahead log as etcd v3.6.8 writes it, record by record, in hexadecimal.
const (
	Checksum = "04000000000000840804100000000000"
	Metadata = "1d000000000000830801108d9cf9161a1408c0c0caafc1ba96892e1087d5edba8fd59dc104000000"
	Snapshot = "0e00000000000082080510878cc58d0d1a04080010000000"
)

// LogName is what etcd calls its first log, below member/wal of its data directory.
const LogName = "0000000000000000-0000000000000000.wal"

// BegunLog is the log of an etcd whose power was cut before it wrote the first entry. etcd's own has more zeros behind.
func BegunLog() []byte {
	records, err := hex.DecodeString(Checksum + Metadata + Snapshot)
	if err != nil {
		panic(err)
	}
	return append(records, make([]byte, 4096)...)
}

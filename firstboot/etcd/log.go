package etcd

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
)

// TookPart tells whether an etcd with this data directory ever took part in a cluster: whether its write-ahead log goes on
// after its own beginning. In doubt, it did.
//
// etcd makes a log with three records, a checksum, its own ID and a snapshot of nothing, and puts it in place; only then it
// adds who the members are (etcd v3.6, server/storage/wal: Create; server/etcdserver: bootstrapCluster). A founder whose
// power is cut in between comes back as a member of nobody, and waits for ever. It has promised nothing to anybody: an entry
// or a vote is in the log before etcd speaks of it.
func TookPart(directory string) bool {
	logs, _ := filepath.Glob(filepath.Join(directory, "member/wal/*"))
	logs = slices.DeleteFunc(logs, func(path string) bool { return filepath.Ext(path) == ".tmp" }) // space for the next one
	return len(logs) > 1 || len(logs) == 1 && !onlyBegun(logs[0])
}

// Types of a log's records, walpb.Record.type (etcd v3.6, server/storage/wal/wal.go). The others are entries and states.
const (
	recordMetadata = 1
	recordChecksum = 4
	recordSnapshot = 5
)

// longestBeginning is more than a record of a log's beginning has, in bytes.
const longestBeginning = 1 << 10

// onlyBegun tells whether the log at path has the records of its beginning, and zeros behind them.
func onlyBegun(path string) bool {
	file, err := os.Open(path)
	if err != nil {
		return false
	}
	defer file.Close()
	r := bufio.NewReaderSize(file, 1<<20)
	seen := 0
	for {
		body, err := readFrame(r)
		switch {
		case err != nil:
			return false
		case body == nil:
			return seen&(1<<recordMetadata) != 0 && seen&(1<<recordSnapshot) != 0 && onlyZeros(r)
		}
		numbers, data, err := fields(body)
		if err != nil {
			return false
		}
		switch kind := numbers[1]; kind {
		case recordMetadata, recordChecksum:
			seen |= 1 << kind
		case recordSnapshot:
			// Its index, its term and the members: of nothing, all are zero.
			index, members, err := fields(data)
			if err != nil || index[1] != 0 || index[2] != 0 || len(members) > 0 {
				return false
			}
			seen |= 1 << kind
		default:
			return false
		}
	}
}

// errLog is about a log that is not as etcd writes it.
var errLog = errors.New("no log of etcd's")

// readFrame reads the next record; nil is the end. A frame is the length, in 8 bytes, whose highest one has the sign and the
// number of bytes that fill up the record (wal/encoder.go: encodeFrameSize).
func readFrame(r io.Reader) ([]byte, error) {
	var head [8]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	frame := binary.LittleEndian.Uint64(head[:])
	if frame == 0 {
		return nil, nil
	}
	length, padding := frame&(1<<56-1), uint64(0)
	if frame>>63 == 1 {
		padding = frame >> 56 & 7
	}
	if length == 0 || length > longestBeginning {
		return nil, errLog
	}
	body := make([]byte, length+padding)
	_, err := io.ReadFull(r, body)
	return body[:length], err
}

// fields reads a protobuf message of numbers, by their field, and one text at most.
func fields(message []byte) (numbers [8]uint64, text []byte, err error) {
	next := func() uint64 {
		n, size := binary.Uvarint(message)
		if size <= 0 {
			err = errLog
			size = len(message)
		}
		message = message[size:]
		return n
	}
	for len(message) > 0 && err == nil {
		tag := next()
		field, wire := tag>>3, tag&7
		switch value := next(); {
		case err != nil || field >= uint64(len(numbers)):
			return numbers, nil, errLog
		case wire == 0:
			numbers[field] = value
		case wire == 2 && value <= uint64(len(message)):
			text, message = message[:value], message[value:]
		default:
			return numbers, nil, errLog
		}
	}
	return numbers, text, err
}

func onlyZeros(r io.Reader) bool {
	zeros, buffer := make([]byte, 256<<10), make([]byte, 256<<10)
	for {
		n, err := io.ReadFull(r, buffer)
		switch {
		case !bytes.Equal(buffer[:n], zeros[:n]):
			return false
		case err == io.EOF || err == io.ErrUnexpectedEOF:
			return true
		case err != nil:
			return false
		}
	}
}

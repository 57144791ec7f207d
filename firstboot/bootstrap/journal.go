package bootstrap

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// States of a step in the journal.
const (
	began  = "began"
	done   = "done"
	failed = "failed"
)

// whole is the name under which the journal holds the end of the whole first boot.
const whole = "first-boot"

// record is one line of firstboot's own journal.
type record struct {
	Time   time.Time `json:"time"`
	BootID string    `json:"bootID"`
	// Uptime is seconds since the kernel started: unlike Time, it does not jump when the clock is set.
	Uptime float64 `json:"uptime"`
	Step   string  `json:"step"`
	State  string  `json:"state"`
	// Seconds is how long the step took, in records of its end.
	Seconds float64 `json:"seconds,omitempty"`
	Note    string  `json:"note,omitempty"`
	Error   string  `json:"error,omitempty"`
}

// errRunning says that another firstboot holds the journal.
var errRunning = errors.New("another firstboot is running")

// stepJournal is the open journal: JSON lines, each on the disk before append returns.
type stepJournal struct {
	file    *os.File
	records []record
}

// openJournal opens or makes the journal at path, and keeps other processes from doing so.
func openJournal(path string) (*stepJournal, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("opening journal: %w", err)
	}
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening journal: %w", err)
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		file.Close()
		return nil, errRunning
	}
	j := &stepJournal{file: file}
	if err := j.load(path); err != nil {
		file.Close()
		return nil, fmt.Errorf("opening journal: %w", err)
	}
	return j, nil
}

// load reads the records and cuts off a last line that a power cut left unfinished.
func (j *stepJournal) load(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	whole := text[:bytes.LastIndexByte(text, '\n')+1]
	j.records = parseRecords(whole)
	if err := j.file.Truncate(int64(len(whole))); err != nil {
		return err
	}
	if _, err := j.file.Seek(0, 2); err != nil {
		return err
	}
	return syncDirectory(filepath.Dir(path))
}

// parseRecords leaves out lines that are no records: facts decide what is done, so a hole in the journal costs time only.
func parseRecords(text []byte) []record {
	var records []record
	for line := range bytes.Lines(text) {
		var r record
		if json.Unmarshal(line, &r) == nil && r.Step != "" {
			records = append(records, r)
		}
	}
	return records
}

// append writes r and waits until it is on the disk.
func (j *stepJournal) append(r record) error {
	line, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("writing journal: %w", err)
	}
	j.records = append(j.records, r)
	if _, err := j.file.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("writing journal: %w", err)
	}
	if err := j.file.Sync(); err != nil {
		return fmt.Errorf("writing journal: %w", err)
	}
	return nil
}

func (j *stepJournal) close() { j.file.Close() }

// has reports whether step ever reached state.
func (j *stepJournal) has(step, state string) bool {
	for _, r := range j.records {
		if r.Step == step && r.State == state {
			return true
		}
	}
	return false
}

// readJournal reads the records without opening the journal for writing; running says whether a process holds it.
func readJournal(path string) (records []record, running bool, err error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	defer file.Close()
	// A lock on a file of one's own: released when the file is closed.
	running = unix.Flock(int(file.Fd()), unix.LOCK_SH|unix.LOCK_NB) != nil
	text, err := os.ReadFile(path)
	return parseRecords(text), running, err
}

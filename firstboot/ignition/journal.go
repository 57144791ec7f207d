package ignition

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"
)

// journal is how far a config is applied, on the disk before each step begins and after it ends.
type journal struct {
	dir string
	// Config is the SHA-256 of the config. Another config begins anew: this one was not applied.
	Config string `json:"config"`
	// Done is the number of steps that are done, Began of those that were begun.
	Done  int `json:"done"`
	Began int `json:"began"`
	// Blank tells of each device what was on it when a config first wanted to make something there: nothing (true) or
	// something. What is on a blank one later is a failed try's, and may be wiped by the next; nothing else is, ever, unless the
	// config says so. It outlives the config, as Held and Absent do.
	Blank map[string]bool `json:"blank"`
	// Held tells of each member of an array whether it was one of another before.
	Held map[string]bool `json:"held"`
	// Absent tells of each path whether there was nothing before. Of a file that was there, a copy is kept.
	Absent map[string]bool `json:"absent"`
}

const journalFile = "journal.json"

// openJournal reads the journal in dir, or begins one.
func openJournal(dir, config string) (*journal, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("opening the journal: %w", err)
	}
	j := &journal{}
	text, err := os.ReadFile(filepath.Join(dir, journalFile))
	if err == nil {
		err = json.Unmarshal(text, j)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("reading the journal %s: %w", filepath.Join(dir, journalFile), err)
	}
	if j.Config != config {
		j.Config, j.Done, j.Began = config, 0, 0
	}
	for _, m := range []*map[string]bool{&j.Blank, &j.Held, &j.Absent} {
		if *m == nil {
			*m = map[string]bool{}
		}
	}
	j.dir = dir
	return j, nil
}

// path is where a file of the work lies.
func (j *journal) path(name string) string { return filepath.Join(j.dir, name) }

// begin writes down that step i begins, and tells whether it had begun before.
func (j *journal) begin(i int) (again bool, err error) {
	again, j.Began = j.Began > i, i+1
	return again, j.save()
}

func (j *journal) end(i int) error {
	j.Done = i + 1
	return j.save()
}

func (j *journal) save() error {
	text, err := json.Marshal(j)
	if err == nil {
		err = put(j.path(journalFile), text)
	}
	if err != nil {
		return fmt.Errorf("writing the journal: %w", err)
	}
	return nil
}

// put writes a file whole or not at all, 0600. When it returns, the new file is the one that a power cut leaves: without
// the directory's own sync it could be the old one, and the journal would not know of what was made since.
func put(path string, text []byte) error {
	if err := renameio.WriteFile(path, text, 0o600, renameio.IgnoreUmask()); err != nil {
		return err
	}
	directory, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer directory.Close()
	return directory.Sync()
}

package bootstrap

import (
	"os"

	"github.com/kiln-os/kiln/internal/nodefs"
)

// Done tells whether the journal below root says that the whole first boot is done. It takes no lock, which a first boot
// that is about to start could stumble over: it may be asked every few seconds.
func Done(root nodefs.Root) bool {
	text, err := os.ReadFile(root.Path(nodefs.Journal))
	if err != nil {
		return false
	}
	journal := &stepJournal{records: parseRecords(text)}
	return journal.has(whole, done)
}

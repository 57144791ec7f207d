package document

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
)

// Size is a number of bytes, written with a binary unit: 512MiB, 4GiB.
type Size int64

// Binary units of Size.
const (
	KiB Size = 1 << 10
	MiB Size = 1 << 20
	GiB Size = 1 << 30
	TiB Size = 1 << 40
)

// MaxSize is the largest size of a document: no disk is larger, and a sum of several cannot overflow.
const MaxSize = 1024 * TiB

var sizePattern = regexp.MustCompile(`^([0-9]+)(KiB|MiB|GiB|TiB)$`)

// ParseSize reads a size such as 512MiB.
func ParseSize(text string) (Size, error) {
	match := sizePattern.FindStringSubmatch(text)
	if match == nil {
		return 0, fmt.Errorf("%q is not a size; want a whole number and KiB, MiB, GiB or TiB, as in 512MiB", text)
	}
	unit := map[string]Size{"KiB": KiB, "MiB": MiB, "GiB": GiB, "TiB": TiB}[match[2]]
	n, err := strconv.ParseInt(match[1], 10, 64)
	if err != nil || Size(n) > MaxSize/unit {
		return 0, fmt.Errorf("%q is too large; want at most %s", text, MaxSize)
	}
	return Size(n) * unit, nil
}

// String renders the size in its largest whole unit, or in MiB with one decimal.
func (s Size) String() string {
	switch {
	case s != 0 && s%TiB == 0:
		return fmt.Sprintf("%dTiB", s/TiB)
	case s != 0 && s%GiB == 0:
		return fmt.Sprintf("%dGiB", s/GiB)
	case s%MiB == 0:
		return fmt.Sprintf("%dMiB", s/MiB)
	case s%KiB == 0 && s < MiB:
		return fmt.Sprintf("%dKiB", s/KiB)
	default:
		return fmt.Sprintf("%.1fMiB", float64(s)/float64(MiB))
	}
}

// MarshalJSON writes the text form.
func (s Size) MarshalJSON() ([]byte, error) { return json.Marshal(s.String()) }

// UnmarshalJSON reads the text form; a bare number has no unit and is refused.
func (s *Size) UnmarshalJSON(raw []byte) error {
	var text string
	if err := json.Unmarshal(raw, &text); err != nil {
		return fmt.Errorf("%s has no unit; want a whole number and KiB, MiB, GiB or TiB, as in 512MiB", raw)
	}
	size, err := ParseSize(text)
	*s = size
	return err
}

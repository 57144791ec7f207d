package plan

import (
	"errors"
	"fmt"
	"strings"
)

// Unknown says that there is no document of a name or path: a mistake in the command, not in a document.
type Unknown struct {
	// Kind is the document's kind.
	Kind string
	// Name is what the user gave; Path says that it is a path.
	Name string
	Path bool
	// Known are the names that there are.
	Known []string
}

// Error names the nearest name and all others.
func (u Unknown) Error() string {
	kind := strings.ToLower(u.Kind)
	known := "kiln comes with " + strings.Join(u.Known, ", ")
	if u.Path {
		return fmt.Sprintf("%s %s: there is no such file; give the path of a document or a name: %s", kind, u.Name, known)
	}
	hint := ""
	if nearest := Nearest(u.Name, u.Known); nearest != "" {
		hint = fmt.Sprintf("did you mean %s? ", nearest)
	}
	return fmt.Sprintf("unknown %s %q; %s%s (or give the path of a document, as in ./%s.yaml)", kind, u.Name, hint, known, kind)
}

// IsUnknown reports whether err says that a name or path leads to no document (exit code 2).
func IsUnknown(err error) bool {
	var u Unknown
	return errors.As(err, &u)
}

// Nearest is the name that differs least from the one given, if it differs in at most a third of the letters.
func Nearest(given string, names []string) string {
	best, least := "", max(len(given)/3, 2)+1
	for _, name := range names {
		if d := distance(given, name); d < least {
			best, least = name, d
		}
	}
	return best
}

// distance counts the letters to insert, delete or replace between a and b (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replace := diagonal
			if a[i] != b[j] {
				replace++
			}
			diagonal = row[j+1]
			row[j+1] = min(replace, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}

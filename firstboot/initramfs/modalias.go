package initramfs

import (
	"strings"
)

// alias is one line of modules.alias: a module drives the devices whose modalias matches the pattern.
type alias struct {
	pattern string
	module  string
}

// parseAliases reads the text of modules.alias: `alias PATTERN MODULE` lines and comments.
func parseAliases(text string) []alias {
	var aliases []alias
	for line := range strings.Lines(text) {
		if fields := strings.Fields(line); len(fields) == 3 && fields[0] == "alias" {
			aliases = append(aliases, alias{pattern: fields[1], module: fields[2]})
		}
	}
	return aliases
}

// modulesFor lists the modules whose aliases match a device's modalias, in the order of the aliases, each once.
func modulesFor(aliases []alias, modalias string) []string {
	var modules []string
	seen := map[string]bool{}
	for _, a := range aliases {
		if !seen[a.module] && matchAlias(a.pattern, modalias) {
			seen[a.module] = true
			modules = append(modules, a.module)
		}
	}
	return modules
}

// matchAlias tells whether text matches pattern as fnmatch(3) without flags would: * is any run of characters, slashes
// included, ? is any one, and [set] is one of a set of characters and ranges, [!set] one outside it. As in
// kmod, - and _ are the same outside a set. path.Match will not do: its * stops at a slash.
func matchAlias(pattern, text string) bool {
	// The last star seen, and where in text what it stands for ends: a mismatch lets it take one character more.
	star, mark := -1, 0
	p, t := 0, 0
	for t < len(text) {
		if p < len(pattern) && pattern[p] == '*' {
			star, mark = p, t
			p++
			continue
		}
		if width := matchOne(pattern[p:], text[t]); width > 0 {
			p += width
			t++
			continue
		}
		if star < 0 {
			return false
		}
		mark++
		p, t = star+1, mark
	}
	return strings.Trim(pattern[p:], "*") == ""
}

// matchOne matches one character against the start of pattern and returns how much of the pattern that took; 0 is no match.
func matchOne(pattern string, c byte) int {
	if pattern == "" {
		return 0
	}
	switch pattern[0] {
	case '?':
		return 1
	case '[':
		if end := strings.IndexByte(pattern[1:], ']'); end > 0 {
			if matchSet(pattern[1:end+1], c) {
				return end + 2
			}
			return 0
		}
	}
	if underscore(pattern[0]) == underscore(c) {
		return 1
	}
	return 0
}

func matchSet(set string, c byte) bool {
	negated := set[0] == '!' || set[0] == '^'
	if negated {
		set = set[1:]
	}
	for i := 0; i < len(set); i++ {
		low, high := set[i], set[i]
		if i+2 < len(set) && set[i+1] == '-' {
			high = set[i+2]
			i += 2
		}
		if low <= c && c <= high {
			return !negated
		}
	}
	return negated
}

func underscore(c byte) byte {
	if c == '-' {
		return '_'
	}
	return c
}

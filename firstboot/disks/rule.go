package disks

import (
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/kiln-os/kiln/internal/document"
)

// Rule says which disk is meant: conditions that must all hold. The zero value is no rule.
type Rule struct {
	conditions []condition
}

type condition struct {
	key, value string
	// compare and size are those of a size's condition.
	compare string
	size    int64
}

// ruleForm is what messages say about rules.
const ruleForm = "want path:/dev/NAME, serial:TEXT, wwn:TEXT, model:TEXT or size:>=100GiB, several joined by commas"

// ParseRule reads a rule: conditions KEY:VALUE joined by commas.
//
//	path:/dev/sda          the kernel's name, or one of udev's below /dev/disk (not in the initramfs)
//	serial:S3Z8NB0K        the serial number
//	wwn:0x5000c500a1b2c3d4 the world wide name; naa., eui. and 0x before it do not matter
//	model:SAMSUNG*         vendor and model; * stands for any characters, a space may be written as _, case does not matter
//	size:>=100GiB          also <=, >, < and =
//
// A serial, too, may hold *. The error joins all that is wrong with the text.
func ParseRule(text string) (Rule, error) {
	if strings.TrimSpace(text) == "" {
		return Rule{}, fmt.Errorf("the rule is empty; %s", ruleForm)
	}
	var rule Rule
	var errs []error
	for part := range strings.SplitSeq(text, ",") {
		c, err := parseCondition(strings.TrimSpace(part))
		errs = append(errs, err)
		rule.conditions = append(rule.conditions, c)
	}
	if err := errors.Join(errs...); err != nil {
		return Rule{}, err
	}
	return rule, nil
}

func parseCondition(text string) (condition, error) {
	key, value, ok := strings.Cut(text, ":")
	c := condition{key: key, value: value}
	if !ok || value == "" {
		return c, fmt.Errorf("%q is no condition; %s", text, ruleForm)
	}
	switch key {
	case "path":
		if !strings.HasPrefix(value, "/dev/") || path.Clean(value) != value {
			return c, fmt.Errorf("path: %q is no device; want a path such as /dev/sda", value)
		}
	case "serial", "model":
		if _, err := path.Match(pattern(value), ""); err != nil {
			return c, fmt.Errorf("%s: %q is no pattern; want text in which * stands for any characters", key, value)
		}
	case "wwn":
	case "size":
		return parseSize(c)
	default:
		return c, fmt.Errorf("%q is unknown; %s", key, ruleForm)
	}
	return c, nil
}

// parseSize reads the comparison and the size; without a comparison the disk has to have exactly that size.
func parseSize(c condition) (condition, error) {
	c.compare = "="
	text := c.value
	for _, compare := range []string{">=", "<=", "==", ">", "<", "="} {
		if rest, ok := strings.CutPrefix(text, compare); ok {
			c.compare, text = strings.TrimPrefix(compare, "="), rest
			break
		}
	}
	if c.compare == "" {
		c.compare = "="
	}
	size, err := document.ParseSize(strings.TrimSpace(text))
	if err != nil {
		return c, fmt.Errorf("size: %w", err)
	}
	c.size = int64(size)
	return c, nil
}

// IsZero tells whether the rule is none at all.
func (r Rule) IsZero() bool { return len(r.conditions) == 0 }

// String is the rule as it is written.
func (r Rule) String() string {
	var words []string
	for _, c := range r.conditions {
		words = append(words, c.key+":"+c.value)
	}
	return strings.Join(words, ",")
}

// Matches tells whether all conditions hold for a disk. A rule without conditions matches nothing.
func (r Rule) Matches(d Disk) bool {
	for _, c := range r.conditions {
		if !c.holds(d) {
			return false
		}
	}
	return !r.IsZero()
}

func (c condition) holds(d Disk) bool {
	switch c.key {
	case "path":
		return d.Path == c.value || slices.Contains(d.Links, c.value)
	case "serial":
		return matchText(c.value, d.Serial)
	case "model":
		return matchText(c.value, d.Model)
	case "wwn":
		return d.WWN != "" && plainWWN(c.value) == plainWWN(d.WWN)
	}
	switch c.compare {
	case ">=":
		return d.Size >= c.size
	case "<=":
		return d.Size <= c.size
	case ">":
		return d.Size > c.size
	case "<":
		return d.Size < c.size
	}
	return d.Size == c.size
}

// matchText compares what people write with what disks tell. path.Match stops at slashes, of which none is left.
func matchText(want, have string) bool {
	ok, err := path.Match(pattern(want), pattern(have))
	return have != "" && err == nil && ok
}

// pattern makes case, slashes and spaces (which udev and so people write as _) the same.
func pattern(text string) string {
	text = strings.NewReplacer(" ", "_", "/", "_").Replace(strings.Join(strings.Fields(text), " "))
	return strings.ToLower(text)
}

func plainWWN(text string) string {
	text = strings.ToLower(text)
	for _, prefix := range []string{"naa.", "eui.", "wwn-", "0x"} {
		text = strings.TrimPrefix(text, prefix)
	}
	return text
}

// Pick returns the one disk that the rule matches. None, several, or one that is read-only is an error that lists every
// disk of the list.
func Pick(rule Rule, list []Disk) (Disk, error) {
	var matches []Disk
	for _, d := range list {
		if rule.Matches(d) {
			matches = append(matches, d)
		}
	}
	switch {
	case len(matches) == 0:
		return Disk{}, fmt.Errorf("no disk fits the rule %s; %s", rule, seen(list))
	case len(matches) > 1:
		var paths []string
		for _, d := range matches {
			paths = append(paths, filepath.Clean(d.Path))
		}
		return Disk{}, fmt.Errorf("%d disks fit the rule %s (%s), and none is chosen by chance; add a condition; %s",
			len(matches), rule, strings.Join(paths, ", "), seen(list))
	case matches[0].ReadOnly:
		return Disk{}, fmt.Errorf("the disk that fits the rule %s, %s, is read-only; %s", rule, matches[0].Path, seen(list))
	}
	return matches[0], nil
}

// seen lists disks for a message.
func seen(list []Disk) string {
	if len(list) == 0 {
		return "the machine shows no disk at all"
	}
	lines := []string{"the machine's disks:"}
	for _, d := range list {
		lines = append(lines, "  "+d.String())
	}
	return strings.Join(lines, "\n")
}

// String describes the disk in the words of rules, on one line.
func (d Disk) String() string {
	words := []string{"path:" + d.Path}
	for _, w := range []struct{ key, value string }{{"serial", d.Serial}, {"wwn", d.WWN}, {"model", d.Model}} {
		if w.value != "" {
			words = append(words, w.key+":"+strings.ReplaceAll(w.value, " ", "_"))
		}
	}
	words = append(words, "size:"+document.Size(d.Size).String())
	if d.Removable {
		words = append(words, "(removable)")
	}
	if d.ReadOnly {
		words = append(words, "(read-only)")
	}
	return strings.Join(words, " ")
}

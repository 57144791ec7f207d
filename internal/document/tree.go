package document

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strings"

	"sigs.k8s.io/yaml"
)

// readTree reads YAML into generic values; false says that there is nothing to check any further. A field given twice
// is a problem but does not hide the others: the last one counts.
func readTree(problems *Problems, text []byte) (map[string]any, bool) {
	if separators(text) > 0 {
		problems.Add("", "holds several YAML documents; want one document in a file")
		return nil, false
	}
	raw, err := yaml.YAMLToJSONStrict(text)
	if err != nil {
		twice := duplicates(err)
		if raw, err = yaml.YAMLToJSON(text); err != nil {
			problems.Add("", "not valid YAML: %s", lastPart(err))
			return nil, false
		}
		for _, line := range twice {
			problems.Add("", "%s; remove one of them", line)
		}
	}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		problems.Add("", "not valid YAML: %s", err)
		return nil, false
	}
	tree, ok := value.(map[string]any)
	if !ok {
		// The text is not repeated: nothing says yet that it holds no secret.
		problems.Add("", "want a mapping of fields, have %s", shape(value))
	}
	return tree, ok
}

var separator = regexp.MustCompile(`(?m)^---(\s|$)`)

// separators counts the document separators after the first document's content began. A line that begins with --- is
// one wherever it stands, in a block of text too.
func separators(text []byte) int {
	content := text
	for len(content) > 0 {
		line, rest, _ := bytes.Cut(content, []byte("\n"))
		trimmed := bytes.TrimSpace(line)
		if len(trimmed) > 0 && trimmed[0] != '#' && trimmed[0] != '%' && !bytes.Equal(trimmed, []byte("---")) {
			break
		}
		content = rest
	}
	return len(separator.FindAll(content, -1))
}

// duplicates picks the lines about fields given twice, as in `line 4: key "name" already set in map`.
func duplicates(err error) []string {
	var lines []string
	for line := range strings.SplitSeq(err.Error(), "\n") {
		if at := strings.Index(line, "line "); at >= 0 && strings.Contains(line, "already set in map") {
			line = strings.Replace(line[at:], "already set in map", "is given twice", 1)
			lines = append(lines, strings.Replace(line, "key ", "field ", 1))
		}
	}
	return lines
}

// lastPart is the YAML parser's message without the names of the packages it came through.
func lastPart(err error) string {
	text := err.Error()
	if at := strings.LastIndex(text, "yaml: "); at >= 0 {
		text = text[at+len("yaml: "):]
	}
	return strings.Join(strings.Fields(text), " ")
}

func shape(value any) string {
	switch value.(type) {
	case nil:
		return "nothing"
	case []any:
		return "a list"
	default:
		return "a single value"
	}
}

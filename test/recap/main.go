// Recap passes the output of go test on as it comes, and says at its end once more why tests failed: a machine's story is
// hundreds of lines, and the reason stands before it.
//
//	go test -json ./test/cluster | go run ./test/recap
//
// It ends with exit code 1 when a test or a build failed, or when the output tells of no package that passed.
package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
)

const (
	// shown is how many entries of a failed test are said once more, the last ones.
	shown = 12
	// high and wide are how much of an entry that is, in lines and in bytes of each.
	high, wide = 5, 300
)

func main() {
	passed, err := recap(os.Stdin, os.Stdout)
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "recap: reading the output of go test -json:", err)
		os.Exit(1)
	case !passed:
		os.Exit(1)
	}
}

// event is one line of go test -json, see go doc test2json.
type event struct{ Action, Package, ImportPath, Test, Output string }

// first is the first line of an entry, which is what a test logs at once; further ones have more space before them.
var first, further = regexp.MustCompile(`^( *\w+_test\.go:\d+|panic): `), regexp.MustCompile(`^ {8}`)

// recap copies the output in events to w and appends why tests failed. It tells whether all passed.
func recap(events io.Reader, w io.Writer) (passed bool, err error) {
	said := map[string][][]string{} // the entries of a test that has not ended, each as lines
	var failed []string
	failures, passes := 0, 0
	lines := bufio.NewReader(events)
	for {
		line, err := lines.ReadBytes('\n')
		if err == io.EOF && len(line) == 0 {
			break
		}
		if err != nil && err != io.EOF {
			return false, err
		}
		var e event
		if json.Unmarshal(line, &e) != nil {
			// Not an event: what the go command itself says.
			if _, err := w.Write(line); err != nil {
				return false, err
			}
			continue
		}
		test := strings.TrimSpace(cmp.Or(e.Package, e.ImportPath) + " " + e.Test) // a build has no package, only a path
		switch e.Action {
		case "output", "build-output":
			if _, err := io.WriteString(w, e.Output); err != nil {
				return false, err
			}
			said[test] = add(said[test], e)
		case "fail", "build-fail":
			failures++
			if e.Test != "" || len(said[test]) > 0 {
				failed = append(failed, fmt.Sprintf("==> failed: %s\n", test))
				failed = append(failed, slices.Concat(said[test][max(0, len(said[test])-shown):]...)...)
			}
			delete(said, test)
		case "pass", "skip":
			if e.Test == "" {
				passes++
			}
			delete(said, test)
		}
	}
	_, err = io.WriteString(w, strings.Join(failed, ""))
	return failures == 0 && passes > 0, err
}

// add adds a line of output to the entries of its test.
func add(entries [][]string, e event) [][]string {
	line := e.Output
	if len(line) > wide {
		line = line[:wide] + " ...\n"
	}
	at := len(entries) - 1
	switch {
	case e.Action == "build-output" || first.MatchString(e.Output):
		return append(entries, []string{line})
	case at >= 0 && further.MatchString(e.Output) && len(entries[at]) < high:
		entries[at] = append(entries[at], line)
	}
	return entries
}

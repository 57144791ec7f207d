package main

import (
	"strings"
	"testing"
)

const failing = `{"Action":"run","Package":"x","Test":"TestA"}
{"Action":"output","Package":"x","Test":"TestA","Output":"=== RUN   TestA\n"}
{"Action":"output","Package":"x","Test":"TestA","Output":"    a_test.go:3: all Ready: not within 8m0s: no\n"}
{"Action":"output","Package":"x","Test":"TestA","Output":"    a_test.go:9: --- cp1 (on), console:\n"}
{"Action":"output","Package":"x","Test":"TestA","Output":"        a story\n"}
{"Action":"fail","Package":"x","Test":"TestA"}
{"Action":"output","Package":"x","Test":"TestB","Output":"    b_test.go:3: fine\n"}
{"Action":"pass","Package":"x","Test":"TestB"}
{"Action":"output","Package":"x","Output":"FAIL\n"}
{"Action":"fail","Package":"x"}
`

func TestRecap(t *testing.T) {
	const again = "==> failed: x TestA\n    a_test.go:3: all Ready: not within 8m0s: no\n    a_test.go:9: --- cp1 (on), console:\n        a story\n"
	for name, c := range map[string]struct {
		events, end string
		passed      bool
	}{
		"a failure": {failing, "        a story\n    b_test.go:3: fine\nFAIL\n" + again, false},
		"success":   {`{"Action":"output","Package":"x","Output":"ok\n"}` + "\n" + `{"Action":"pass","Package":"x"}` + "\n", "ok\n", true},
		"no build": {`{"ImportPath":"x","Action":"build-output","Output":"a.go:1:1: no\n"}` + "\n" + `{"ImportPath":"x","Action":"build-fail"}` + "\n" +
			`{"Action":"fail","Package":"x","FailedBuild":"x"}` + "\n", "==> failed: x\na.go:1:1: no\n", false},
		"a time limit": {`{"Action":"output","Package":"x","Test":"T","Output":"panic: test timed out after 1s\n"}` + "\n" +
			`{"Action":"output","Package":"x","Test":"T","Output":"goroutine 1 [running]:\n"}` + "\n" + `{"Action":"fail","Package":"x","Test":"T"}`,
			"[running]:\n==> failed: x T\npanic: test timed out after 1s\n", false},
		"no events":          {"go: no such package\n", "go: no such package\n", false},
		"nothing":            {"", "", false},
		"a test that passed": {`{"Action":"pass","Package":"x","Test":"TestA"}`, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			passed, err := recap(strings.NewReader(c.events), &out)
			if err != nil || passed != c.passed || !strings.HasSuffix(out.String(), c.end) {
				t.Errorf("passed: %t, %v; printed:\n%s\nwant at the end:\n%s", passed, err, out.String(), c.end)
			}
		})
	}
}

func TestLongEntry(t *testing.T) {
	var out strings.Builder
	_, err := recap(strings.NewReader(`{"Action":"output","Package":"x","Test":"T","Output":"  a_test.go:1: `+strings.Repeat("y", 2*wide)+`\n"}`+"\n"+`{"Action":"fail","Package":"x","Test":"T"}`), &out)
	if err != nil || !strings.HasSuffix(out.String(), "y ...\n") {
		t.Errorf("%v; printed:\n%s", err, out.String())
	}
}

package azure

import (
	"cmp"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// goal is a goal state as the wire server gives it, shortened.
func goal(incarnation, container, instance string) string {
	return "\ufeff" + `<?xml version="1.0" encoding="utf-8"?>
<GoalState xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:noNamespaceSchemaLocation="goalstate10.xsd">
  <Version>2012-11-30</Version>
  <Incarnation>` + incarnation + `</Incarnation>
  <Machine><ExpectedState>Started</ExpectedState></Machine>
  <Container>
    <ContainerId>` + container + `</ContainerId>
    <RoleInstanceList><RoleInstance>
      <InstanceId>` + instance + `</InstanceId>
      <State>Started</State>
      <Configuration><Certificates>http://168.63.129.16:80/machine/x?comp=certificates</Certificates></Configuration>
    </RoleInstance></RoleInstanceList>
  </Container>
</GoalState>`
}

func health(incarnation, container, instance string) string {
	return `<?xml version="1.0" encoding="UTF-8"?>` + "\n<Health><GoalStateIncarnation>" + incarnation + "</GoalStateIncarnation><Container><ContainerId>" + container +
		"</ContainerId><RoleInstanceList><Role><InstanceId>" + instance + "</InstanceId><Health><State>Ready</State></Health></Role></RoleInstanceList></Container></Health>"
}

// answer is one of the wire server's; a status of 0 is 200, and -1 none at all.
type answer struct {
	status int
	text   string
}

// wire answers GET and POST with what comes next, and with the last one from then on.
type wire struct {
	get, post []answer

	mu sync.Mutex
	// asked has the requests; reports, what was posted.
	asked, reports []string
}

func (s *wire) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	a := s.next(r, string(body))
	switch {
	case a.status < 0:
		<-r.Context().Done()
		return
	case r.Header.Get("X-Ms-Version") != "2012-11-30" || r.Method == "POST" && r.Header.Get("Content-Type") != "text/xml;charset=utf-8":
		a = answer{status: http.StatusBadRequest}
	}
	if a.status > 0 {
		w.WriteHeader(a.status)
	}
	fmt.Fprint(w, a.text)
}

func (s *wire) next(r *http.Request, body string) answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, r.Method+" "+r.URL.RequestURI())
	answers := &s.get
	if r.Method == "POST" {
		s.reports = append(s.reports, body)
		answers = &s.post
	}
	a := (*answers)[0]
	if len(*answers) > 1 {
		*answers = (*answers)[1:]
	}
	return a
}

func TestReady(t *testing.T) {
	const get, post = "GET /machine/?comp=goalstate", "POST /machine/?comp=health"
	plain := goal("1", "c-1", "i-1._vm")
	fine, silent := []answer{{}}, []answer{{status: -1}}
	tests := []struct {
		name      string
		get, post []answer
		// want are the requests, or only how they begin when the number of tries is time's; err is part of the error.
		want   []string
		begins bool
		// wait bounds a request; 0 is longer than the test may take.
		wait   time.Duration
		report string
		err    string
	}{
		{name: "taken", get: []answer{{text: plain}}, post: fine, want: []string{get, post}, report: health("1", "c-1", "i-1._vm")},
		{name: "values that need escapes", get: []answer{{text: goal("2", "c&amp;&lt;1&gt;", `"i"&#xE9;`)}}, post: fine, want: []string{get, post},
			report: health("2", "c&amp;&lt;1&gt;", "&#34;i&#34;é")},
		{name: "out of order at first", get: []answer{{status: 503}, {status: 503}, {text: plain}}, post: fine, want: []string{get, get, get, post}, report: health("1", "c-1", "i-1._vm")},
		{name: "too many requests", get: []answer{{text: plain}}, post: []answer{{status: 429}, {}}, want: []string{get, post, get, post}, report: health("1", "c-1", "i-1._vm")},
		{name: "the goal state changes", get: []answer{{text: plain}, {text: goal("2", "c-1", "i-1._vm")}}, post: []answer{{status: 410}, {}},
			want: []string{get, post, get, post}, report: health("2", "c-1", "i-1._vm")},
		{name: "silent at first", get: []answer{{status: -1}, {text: plain}}, post: fine, want: []string{get, get, post}, wait: 500 * time.Millisecond, report: health("1", "c-1", "i-1._vm")},
		{name: "silent", get: silent, post: fine, want: []string{get, get}, begins: true, wait: 100 * time.Millisecond, err: "giving up after 600ms: asking for the goal state: "},
		{name: "silent for longer than the budget", get: silent, post: fine, want: []string{get}, begins: true, err: "giving up after 600ms: asking for the goal state: "},
		{name: "out of order", get: []answer{{status: 500}}, post: fine, want: []string{get, get, get}, begins: true, err: "asking for the goal state: the wire server answers 500"},
		{name: "refused", get: []answer{{status: 403}}, post: fine, want: []string{get}, err: "asking for the goal state: the wire server answers 403"},
		{name: "report refused", get: []answer{{text: plain}}, post: []answer{{status: 400}}, want: []string{get, post}, err: "reporting health: the wire server answers 400"},
		{name: "elsewhere", get: []answer{{status: 302}}, post: fine, want: []string{get}, err: "answers 302"},
		{name: "garbage", get: []answer{{text: "<<no>"}}, post: fine, want: []string{get}, err: "reading goal state: XML syntax error"},
		{name: "a web page", get: []answer{{text: "<html/>"}}, post: fine, want: []string{get}, err: "expected element type <GoalState> but have <html>"},
		{name: "without an instance", get: []answer{{text: goal("1", "c-1", "")}}, post: fine, want: []string{get}, err: "InstanceId is missing"},
		{name: "without an end", get: []answer{{text: strings.Repeat(" ", mostBytes+1)}}, post: fine, want: []string{get}, err: "more than 262144 bytes"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := &wire{get: tt.get, post: tt.post}
			server := httptest.NewServer(w)
			defer server.Close()
			s := WireServer{Base: server.URL, Budget: time.Minute, Wait: cmp.Or(tt.wait, time.Minute), Pause: time.Millisecond}
			if tt.begins {
				s.Budget = 600 * time.Millisecond
			}
			start, said := time.Now(), 0
			err := s.Ready(t.Context(), func(string) { said++ })
			if have := fmt.Sprint(err); (err != nil) != (tt.err != "") || !strings.Contains(have, tt.err) {
				t.Errorf("have %s", have)
			}
			if took := time.Since(start); took > 30*time.Second {
				t.Errorf("took %s with a budget of %s", took, s.Budget)
			}
			w.mu.Lock()
			defer w.mu.Unlock()
			if have, want := strings.Join(w.asked, "\n"), strings.Join(tt.want, "\n"); have != want && !(tt.begins && strings.HasPrefix(have, want)) {
				t.Errorf("asked\n%s\nwant\n%s", have, want)
			}
			if len(w.reports) > 0 && tt.report != "" && w.reports[len(w.reports)-1] != tt.report {
				t.Errorf("reported\n%s\nwant\n%s", w.reports[len(w.reports)-1], tt.report)
			}
			if tries := strings.Count(strings.Join(w.asked, "\n"), get); said != tries-1 {
				t.Errorf("said %d failures of %d tries", said, tries)
			}
		})
	}
}

// Nobody listens yet: that is asked again, for as long as the budget lasts.
func TestConnectionRefused(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close()
	said := 0
	err := WireServer{Base: server.URL, Budget: 100 * time.Millisecond, Wait: time.Second, Pause: time.Millisecond}.Ready(t.Context(), func(string) { said++ })
	if err == nil || !strings.Contains(err.Error(), "connection refused") || said == 0 {
		t.Errorf("have %v after %d tries", err, said+1)
	}
}

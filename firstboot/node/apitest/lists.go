package apitest

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
)

// collections are what can be listed; * stands for any namespace.
func collections() []string {
	return []string{"/api/v1/nodes", "/api/v1/pods", "/api/v1/namespaces/*/pods"}
}

func collection(path string) bool {
	parts := strings.Split(path, "/")
	if len(parts) == 6 && parts[3] == "namespaces" {
		parts[4] = "*"
	}
	return slices.Contains(collections(), strings.Join(parts, "/"))
}

// within tells whether the object at path belongs to the collection.
func within(collection, path string) bool {
	if collection == "/api/v1/pods" {
		return strings.HasPrefix(path, "/api/v1/namespaces/") && strings.Contains(path, "/pods/")
	}
	rest, found := strings.CutPrefix(path, collection+"/")
	return found && !strings.Contains(rest, "/")
}

func (s *Server) list(r *http.Request) Object {
	items := []any{}
	for _, path := range slices.Sorted(maps.Keys(s.objects)) {
		object := s.objects[path]
		if within(r.URL.Path, path) && selected(object, r.URL.Query().Get("labelSelector"), r.URL.Query().Get("fieldSelector")) {
			items = append(items, reduced(r, object))
		}
	}
	return Object{"kind": "List", "metadata": Object{"resourceVersion": s.versionText()}, "items": items}
}

// selected knows labels that have to be there, alone or with a value, and the pods' field spec.nodeName.
func selected(object Object, labels, fields string) bool {
	have, _ := metadata(object)["labels"].(map[string]any)
	for _, want := range strings.FieldsFunc(labels, func(c rune) bool { return c == ',' }) {
		key, value, exact := strings.Cut(want, "=")
		if got, there := have[key]; !there || exact && got != value {
			return false
		}
	}
	spec, _ := object["spec"].(map[string]any)
	name, given := strings.CutPrefix(fields, "spec.nodeName=")
	return !given || spec["nodeName"] == name
}

// reduced is the object without all but its metadata, when the request asks for that.
func reduced(r *http.Request, object Object) Object {
	if !strings.Contains(r.Header.Get("Accept"), "as=PartialObjectMetadata") {
		return object
	}
	return Object{"kind": "PartialObjectMetadata", "metadata": object["metadata"]}
}

func (s *Server) delete(path string, body Object) (int, Object) {
	object := s.objects[path]
	if object == nil {
		return http.StatusNotFound, status("%s not found", path)
	}
	for field, want := range preconditions(body) {
		if got := metadata(object)[field]; got != want {
			return http.StatusConflict, status("the %s in the precondition (%v) does not match the one in record (%v)", field, want, got)
		}
	}
	delete(s.objects, path)
	s.tell("DELETED", path, object)
	return http.StatusOK, object
}

func preconditions(body Object) Object {
	if options, ok := body["deleteOptions"].(map[string]any); ok {
		body = options
	}
	conditions, _ := body["preconditions"].(map[string]any)
	return conditions
}

// tell passes a change of a Node on to all that watch.
func (s *Server) tell(kind, path string, object Object) {
	if !within("/api/v1/nodes", path) {
		return
	}
	raw, err := json.Marshal(object["metadata"])
	if err != nil {
		return
	}
	var copied any
	_ = json.Unmarshal(raw, &copied)
	for watcher := range s.watchers {
		watcher <- Object{"type": kind, "object": Object{"kind": "PartialObjectMetadata", "metadata": copied}}
	}
}

// watch sends what happens to Nodes from now on. Tests that need an end of it use StopWatches.
func (s *Server) watch(w http.ResponseWriter, r *http.Request) {
	s.mutex.Lock()
	s.requests = append(s.requests, "WATCH "+r.URL.Path)
	stale := s.versionText() != r.URL.Query().Get("resourceVersion")
	changes := make(chan Object, 64)
	if !stale {
		s.watchers[changes] = true
	}
	s.mutex.Unlock()
	if stale { // this server remembers nothing
		answer(w, http.StatusGone, status("too old resource version"))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	_ = http.NewResponseController(w).Flush()
	for {
		select {
		case <-r.Context().Done():
			s.mutex.Lock()
			delete(s.watchers, changes)
			s.mutex.Unlock()
			return
		case change, open := <-changes:
			if !open {
				return
			}
			_ = json.NewEncoder(w).Encode(change)
			_ = http.NewResponseController(w).Flush()
		}
	}
}

// StopWatches ends all watches, as the server does from time to time.
func (s *Server) StopWatches() {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	for watcher := range s.watchers {
		close(watcher)
	}
	clear(s.watchers)
}

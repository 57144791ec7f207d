// Package apitest is a small Kubernetes API server for tests: real TLS with client certificates, and only the methods,
// paths and content types that a real one would take from firstboot. Everything else is refused.
package apitest

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// Object is any Kubernetes object.
type Object = map[string]any

// Server is the API server.
type Server struct {
	// URL is where it listens, and Admin the kubeconfig of its administrator (for another server: the client's choice).
	URL   string
	Admin []byte

	pki pki

	mutex    sync.Mutex
	objects  map[string]Object
	watchers map[chan Object]bool
	requests []string
	version  int
	// fail, when set, gives a status code to answer a request with; 0 is none.
	fail func(method, path string) int
}

// New starts a server that ends with the test.
func New(t testing.TB) *Server {
	t.Helper()
	pki := newPKI(t)
	s := &Server{pki: pki, objects: map[string]Object{}, watchers: map[chan Object]bool{}, Admin: pki.kubeconfig()}
	server := httptest.NewUnstartedServer(s)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{pki.server}, ClientCAs: pki.pool, ClientAuth: tls.RequireAndVerifyClientCert}
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(func() { server.CloseClientConnections(); server.Close() }) // a watch would last
	s.URL = server.URL
	return s
}

// Put stores an object at its path, as another client would have.
func (s *Server) Put(path string, object Object) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.store(path, object)
}

// Object is a copy of the object at path; nil without one.
func (s *Server) Object(path string) Object {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return maps.Clone(s.objects[path])
}

// Requests lists "METHOD path" of all requests.
func (s *Server) Requests() []string {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return append([]string(nil), s.requests...)
}

// Fail makes requests fail with the status code that decide gives; 0 lets one pass.
func (s *Server) Fail(decide func(method, path string) int) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.fail = decide
}

func (s *Server) versionText() string { return fmt.Sprint(s.version) }

func (s *Server) store(path string, object Object) {
	s.version++
	metadata, _ := object["metadata"].(map[string]any)
	if metadata == nil {
		metadata = map[string]any{}
		object["metadata"] = metadata
	}
	metadata["resourceVersion"] = s.versionText()
	kind := "MODIFIED"
	if s.objects[path] == nil {
		kind = "ADDED"
	}
	s.objects[path] = object
	s.tell(kind, path, object)
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Query().Get("watch") != "" {
		s.watch(w, r)
		return
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.requests = append(s.requests, r.Method+" "+r.URL.Path)
	if s.fail != nil {
		if code := s.fail(r.Method, r.URL.Path); code != 0 {
			answer(w, code, Object{"kind": "Status", "message": "made to fail"})
			return
		}
	}
	code, object := s.serve(r)
	answer(w, code, object)
}

func (s *Server) serve(r *http.Request) (int, Object) {
	var body Object
	if raw, _ := io.ReadAll(r.Body); len(raw) > 0 {
		if err := json.Unmarshal(raw, &body); err != nil {
			return http.StatusBadRequest, status("the body is not JSON: %s", err)
		}
	}
	if reason := s.forbidden(r, body); reason != "" {
		return http.StatusForbidden, status("%s", reason)
	}
	switch {
	case r.Method == http.MethodGet && (r.URL.Path == "/readyz" || r.URL.Path == "/version"):
		return http.StatusOK, Object{}
	case r.Method == http.MethodGet && kinds(r.URL.Path) != nil:
		return http.StatusOK, Object{"kind": "APIResourceList", "resources": kinds(r.URL.Path)}
	case r.Method == http.MethodGet && collection(r.URL.Path):
		return http.StatusOK, s.list(r)
	case r.Method == http.MethodDelete:
		return s.delete(r.URL.Path, body)
	case r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/eviction"):
		return s.delete(strings.TrimSuffix(r.URL.Path, "/eviction"), Object{"preconditions": preconditions(body)})
	case r.Method == http.MethodGet:
		if object := s.objects[r.URL.Path]; object != nil {
			return http.StatusOK, object
		}
		return http.StatusNotFound, status("%s not found", r.URL.Path)
	case r.Method == http.MethodPatch:
		return s.patch(r, body)
	case r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/events"):
		return s.create(r, body)
	}
	return http.StatusMethodNotAllowed, status("%s %s is not allowed", r.Method, r.URL.Path)
}

func (s *Server) patch(r *http.Request, body Object) (int, Object) {
	path, query := r.URL.Path, r.URL.Query()
	if query.Get("fieldManager") == "" {
		return http.StatusBadRequest, status("fieldManager is missing")
	}
	switch r.Header.Get("Content-Type") {
	case "application/apply-patch+yaml":
		name, _ := metadata(body)["name"].(string)
		if query.Get("force") != "true" || body["apiVersion"] == nil || body["kind"] == nil || !strings.HasSuffix(path, "/"+name) {
			return http.StatusBadRequest, status("not a server-side apply of %s", path)
		}
		if version := metadata(body)["resourceVersion"]; version != nil && version != metadata(s.objects[path])["resourceVersion"] {
			return http.StatusConflict, status("the object has been modified")
		}
		s.store(path, body)
		return http.StatusOK, body
	case "application/merge-patch+json":
		object := s.objects[path]
		if object == nil {
			return http.StatusNotFound, status("%s not found", path)
		}
		if version := metadata(body)["resourceVersion"]; version != nil && version != metadata(object)["resourceVersion"] {
			return http.StatusConflict, status("the object has been modified")
		}
		if problem := invalid(object, body); problem != "" {
			return http.StatusUnprocessableEntity, status("Node is invalid: %s", problem)
		}
		merge(object, body)
		s.store(path, object)
		return http.StatusOK, object
	case "application/strategic-merge-patch+json":
		return s.patchConditions(strings.TrimSuffix(path, "/status"), path, body)
	}
	return http.StatusUnsupportedMediaType, status("content type %s", r.Header.Get("Content-Type"))
}

// patchConditions merges status.conditions by type, as the patch merge key of the Node's API says.
func (s *Server) patchConditions(path, given string, body Object) (int, Object) {
	object := s.objects[path]
	if object == nil || path == given {
		return http.StatusNotFound, status("%s not found", given)
	}
	state, _ := object["status"].(map[string]any)
	if state == nil {
		state = map[string]any{}
		object["status"] = state
	}
	patch, _ := body["status"].(map[string]any)
	fresh, _ := patch["conditions"].([]any)
	merged := append([]any(nil), fresh...)
	old, _ := state["conditions"].([]any)
	for _, condition := range old {
		replaced := false
		for _, other := range fresh {
			replaced = replaced || other.(map[string]any)["type"] == condition.(map[string]any)["type"]
		}
		if !replaced {
			merged = append(merged, condition)
		}
	}
	state["conditions"] = merged
	s.store(path, object)
	return http.StatusOK, object
}

func (s *Server) create(r *http.Request, body Object) (int, Object) {
	name, _ := metadata(body)["name"].(string)
	path := r.URL.Path + "/" + name
	about, _ := body["involvedObject"].(map[string]any)
	switch {
	case name == "" || about["name"] == nil || body["reason"] == nil:
		return http.StatusUnprocessableEntity, status("the event lacks a name, an object or a reason")
	case s.objects[path] != nil:
		return http.StatusConflict, status("%s already exists", path)
	}
	s.store(path, body)
	return http.StatusCreated, body
}

// kinds is the discovery of the groups that a test needs.
func kinds(path string) []Object {
	switch path {
	case "/api/v1":
		return []Object{kind("namespaces", "Namespace", false), kind("nodes", "Node", false), kind("nodes/status", "Node", false),
			kind("configmaps", "ConfigMap", true), kind("secrets", "Secret", true), kind("serviceaccounts", "ServiceAccount", true)}
	case "/apis/apps/v1":
		return []Object{kind("daemonsets", "DaemonSet", true), kind("daemonsets/status", "DaemonSet", true)}
	case "/apis/rbac.authorization.k8s.io/v1":
		return []Object{kind("clusterroles", "ClusterRole", false), kind("roles", "Role", true), kind("rolebindings", "RoleBinding", true)}
	}
	return nil
}

func kind(name, kind string, namespaced bool) Object {
	return Object{"name": name, "kind": kind, "namespaced": namespaced}
}

func merge(into, patch Object) {
	for key, value := range patch {
		if fields, ok := value.(map[string]any); ok {
			if old, ok := into[key].(map[string]any); ok {
				merge(old, fields)
				continue
			}
		}
		into[key] = value
	}
}

func metadata(object Object) map[string]any {
	m, _ := object["metadata"].(map[string]any)
	return m
}

func status(format string, args ...any) Object {
	return Object{"kind": "Status", "message": fmt.Sprintf(format, args...)}
}

func answer(w http.ResponseWriter, code int, object Object) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(object)
}

package node

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

// Metadata is what a list of Nodes has of each: the API server leaves out the rest, most of which is status.
type Metadata struct {
	Metadata struct {
		Name              string            `json:"name"`
		UID               string            `json:"uid"`
		ResourceVersion   string            `json:"resourceVersion"`
		CreationTimestamp time.Time         `json:"creationTimestamp"`
		Labels            map[string]string `json:"labels"`
		Annotations       map[string]string `json:"annotations"`
	} `json:"metadata"`
}

// Forms of answers that have metadata only (meta.k8s.io/v1).
const (
	acceptList  = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
	acceptWatch = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
)

const nodesPath = "/api/v1/nodes"

// List is the metadata of all Nodes that have the labels of selector (empty: all Nodes), and the version to watch from.
func (c *Client) List(ctx context.Context, selector string) (nodes []Metadata, version string, err error) {
	var list struct {
		Metadata struct {
			ResourceVersion string `json:"resourceVersion"`
		} `json:"metadata"`
		Items []Metadata `json:"items"`
	}
	path := nodesPath
	if selector != "" {
		path += "?" + url.Values{"labelSelector": {selector}}.Encode()
	}
	if err := c.call(ctx, request{method: http.MethodGet, path: path, accept: acceptList}, &list); err != nil {
		return nil, "", fmt.Errorf("listing nodes: %w", err)
	}
	return list.Items, list.Metadata.ResourceVersion, nil
}

// Change is one thing that happened to a Node. Gone means that it was deleted.
type Change struct {
	Node Metadata
	Gone bool
}

// errTooOld says that the API server has forgotten the version that a watch began from.
var errTooOld = errors.New("the version is too old")

// Watch calls seen with every Node that there is, then with every change, until ctx ends or the API server cannot be
// asked: the caller then begins again. It never returns nil.
func (c *Client) Watch(ctx context.Context, seen func(Change)) error {
	for {
		nodes, version, err := c.List(ctx, "")
		if err != nil {
			return err
		}
		for _, n := range nodes {
			seen(Change{Node: n})
		}
		for err == nil {
			version, err = c.watchFrom(ctx, version, seen)
		}
		if !errors.Is(err, errTooOld) {
			return fmt.Errorf("watching nodes: %w", err)
		}
	}
}

// watchLimit is how many seconds the API server lets one watch last: within HTTP's own limits, and a connection that has
// silently died is found after as long.
const watchLimit = 240

// watchFrom passes on the changes since version until the server ends the watch, and gives the version it came to.
func (c *Client) watchFrom(ctx context.Context, version string, seen func(Change)) (string, error) {
	query := url.Values{"watch": {"1"}, "resourceVersion": {version}, "timeoutSeconds": {fmt.Sprint(watchLimit)}, "allowWatchBookmarks": {"true"}}
	ctx, cancel := context.WithTimeout(ctx, (watchLimit+30)*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.Server+nodesPath+"?"+query.Encode(), nil)
	if err != nil {
		return version, err
	}
	req.Header.Set("Accept", acceptWatch)
	// The client's own time limit is for a whole answer, and this one goes on.
	resp, err := (&http.Client{Transport: c.HTTP.Transport}).Do(req)
	if err != nil {
		return version, err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusGone {
		return version, errTooOld
	}
	if resp.StatusCode != http.StatusOK {
		answer, _ := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
		return version, &StatusError{Method: req.Method, Path: nodesPath, Code: resp.StatusCode, Message: message(answer)}
	}
	return readChanges(resp.Body, version, seen)
}

// readChanges reads a watch's JSON lines to their end.
func readChanges(from io.Reader, version string, seen func(Change)) (string, error) {
	lines := json.NewDecoder(bufio.NewReader(from))
	for {
		var change struct {
			Type   string          `json:"type"`
			Object json.RawMessage `json:"object"`
		}
		if err := lines.Decode(&change); err != nil {
			if errors.Is(err, io.EOF) {
				return version, nil
			}
			return version, err
		}
		if change.Type == "ERROR" {
			var status struct {
				Code int `json:"code"`
			}
			_ = json.Unmarshal(change.Object, &status)
			if status.Code == http.StatusGone {
				return version, errTooOld
			}
			return version, &StatusError{Method: http.MethodGet, Path: nodesPath, Code: status.Code, Message: message(change.Object)}
		}
		var n Metadata
		if err := json.Unmarshal(change.Object, &n); err != nil {
			return version, fmt.Errorf("decoding change: %w", err)
		}
		version = n.Metadata.ResourceVersion
		if change.Type != "BOOKMARK" {
			seen(Change{Node: n, Gone: change.Type == "DELETED"})
		}
	}
}

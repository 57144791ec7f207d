package reset

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/kiln-os/kiln/firstboot/node"
	"github.com/kiln-os/kiln/internal/nodefs"
)

// marker is the step that writes the marker.
func (l *leaving) marker(context.Context) (string, error) { return nodefs.ResetMarker, l.mark() }

// drain asks the node's pods to go, as `kubectl drain --ignore-daemonsets --delete-emptydir-data` does: pods of DaemonSets
// and of files stay, a disruption budget is waited for, and a pod that nothing would make anew is a reason to stop.
func (l *leaving) drain(ctx context.Context) (string, error) {
	if l.Last {
		return "there is no node that the pods could go to", nil
	}
	config := nodefs.KubeletConfig
	if l.isControlPlane() {
		config = nodefs.AdminConfig
	}
	if l.Name == "" || !l.has(config) {
		return "this node has no credentials of a cluster", nil
	}
	client, err := l.m.API(config, "")
	if err != nil {
		return l.orForce(err)
	}
	err = client.Cordon(ctx, l.Name)
	if node.HasCode(err, http.StatusNotFound) {
		return "there is no Node " + l.Name, nil
	}
	if err != nil {
		return l.orForce(fmt.Errorf("%w; to leave without: --force", err))
	}
	pods, err := l.evictable(ctx, client)
	if err != nil {
		return l.orForce(err)
	}
	if lonely := names(pods, func(p node.Pod) bool {
		return !p.IsManaged() && p.Status.Phase != "Succeeded" && p.Status.Phase != "Failed"
	}); len(lonely) > 0 && !l.Force {
		return "", refusal{fmt.Errorf("nothing would make these pods anew elsewhere: %s; delete them, or leave all the same: --force. %s", strings.Join(lonely, ", "), l.stays())}
	}
	return l.evict(ctx, client, len(pods))
}

// stays says how the node is left by a drain that came to nothing.
func (l *leaving) stays() string {
	return "The node stays in the cluster, without new pods; to undo that: kubectl uncordon " + l.Name
}

// evict evicts until no pod is left or time is up.
func (l *leaving) evict(ctx context.Context, client *node.Client, had int) (string, error) {
	client.Patience = 0 // what is refused for now is asked for again below
	said, refused := time.Now(), map[string]string{}
	for deadline, pause := time.Now().Add(l.DrainTimeout), l.m.Pause/4; ; pause = min(2*pause, 5*time.Second) {
		pods, err := l.evictable(ctx, client)
		if err == nil && len(pods) == 0 {
			return fmt.Sprintf("%d pods are gone", had), nil
		}
		clear(refused)
		for _, pod := range pods {
			// One that is on its way out already takes its time: a second eviction changes nothing.
			if err := client.Evict(ctx, pod); err != nil {
				refused[pod.Metadata.Namespace+"/"+pod.Metadata.Name] = err.Error()
			}
		}
		left := names(pods, func(p node.Pod) bool { return true })
		for i, name := range left {
			if why := refused[name]; why != "" {
				left[i] += " (" + why + ")"
			}
		}
		seen := strings.Join(left, ", ")
		if err != nil {
			seen = err.Error()
		}
		if time.Now().Add(pause).After(deadline) {
			return l.orForce(refusal{errors.New("these pods did not go within " + l.DrainTimeout.String() + ": " + seen + "; try again later, or leave all the same: --force. " + l.stays())})
		}
		if time.Since(said) >= 10*time.Second {
			said = time.Now()
			fmt.Fprintf(l.m.Out, "reset: drain: waiting for %s\n", seen)
		}
		select {
		case <-ctx.Done():
			return "", context.Cause(ctx)
		case <-time.After(pause):
		}
	}
}

// evictable lists the pods that have to go.
func (l *leaving) evictable(ctx context.Context, client *node.Client) ([]node.Pod, error) {
	all, err := client.PodsOf(ctx, l.Name)
	if err != nil {
		return nil, err
	}
	var pods []node.Pod
	for _, pod := range all {
		if !pod.IsMirror() && !pod.IsDaemon() {
			pods = append(pods, pod)
		}
	}
	return pods, nil
}

func names(pods []node.Pod, want func(node.Pod) bool) []string {
	var list []string
	for _, pod := range pods {
		if want(pod) {
			list = append(list, pod.Metadata.Namespace+"/"+pod.Metadata.Name)
		}
	}
	return list
}

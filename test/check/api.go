package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/kiln-os/kiln/internal/nodefs"
)

const kubectl = "/usr/bin/kubectl"

func (n *node) kubectlArgs(args ...string) []string {
	return append([]string{"--kubeconfig", n.root.Path(nodefs.AdminConfig), "--request-timeout=60s"}, args...)
}

// nodeObject is the part of a Node that is looked at.
type nodeObject struct {
	Metadata struct {
		Labels      map[string]string `json:"labels"`
		Annotations map[string]string `json:"annotations"`
	} `json:"metadata"`
	Status struct {
		Conditions []condition `json:"conditions"`
		NodeInfo   struct {
			KubeletVersion          string `json:"kubeletVersion"`
			ContainerRuntimeVersion string `json:"containerRuntimeVersion"`
			BootID                  string `json:"bootID"`
		} `json:"nodeInfo"`
	} `json:"status"`
}

type condition struct {
	Type              string    `json:"type"`
	Status            string    `json:"status"`
	Reason            string    `json:"reason"`
	Message           string    `json:"message"`
	LastHeartbeatTime time.Time `json:"lastHeartbeatTime"`
}

// nodeObject waits until this boot's kubelet has reported, and compares the Node with image and identity.
func (n *node) nodeObject(ctx context.Context) (string, error) {
	if _, err := n.rootVerity(ctx); err != nil {
		return "", fmt.Errorf("the real root hash is not known: %w", err)
	}
	boot, err := n.bootID()
	if err != nil {
		return "", err
	}
	containerd, err := n.wantVersion("containerd")
	if err != nil {
		return "", err
	}
	var object nodeObject
	err = patiently(ctx, func() error {
		if err := n.outputJSON(ctx, &object, kubectl, n.kubectlArgs("get", "node", n.identity.Node.Name, "-o", "json")...); err != nil {
			return err
		}
		return errors.Join(
			differs("boot that the kubelet reports", object.Status.NodeInfo.BootID, boot),
			differs("condition Ready", object.condition("Ready"), "True"))
	})
	if err != nil {
		return "", err
	}
	problems := []error{
		differs("condition KilnFirstBoot", object.condition("KilnFirstBoot"), "True"),
		differs("kubelet", object.Status.NodeInfo.KubeletVersion, n.baked.Kubernetes),
		differs("container runtime", strings.Replace(object.Status.NodeInfo.ContainerRuntimeVersion, "//v", "//", 1), "containerd://"+containerd),
		differs("annotation kiln.dev/image-version", object.Metadata.Annotations["kiln.dev/image-version"], n.baked.Version),
		differs("annotation kiln.dev/root-hash", object.Metadata.Annotations["kiln.dev/root-hash"], n.rootHash),
		differs("label kiln.dev/profile", object.Metadata.Labels["kiln.dev/profile"], n.baked.Profile),
		differs("label kiln.dev/release", object.Metadata.Labels["kiln.dev/release"], n.baked.Release),
	}
	for _, name := range sorted(n.identity.Node.Labels) {
		problems = append(problems, differs("label "+name, object.Metadata.Labels[name], n.identity.Node.Labels[name]))
	}
	if _, ok := object.Metadata.Labels["node-role.kubernetes.io/"+n.baked.Role]; !ok {
		problems = append(problems, fmt.Errorf("label node-role.kubernetes.io/%s: got nothing, want it", n.baked.Role))
	}
	return n.identity.Node.Name + " is Ready", errors.Join(problems...)
}

// condition is the status of a condition, or nothing.
func (o nodeObject) condition(kind string) string {
	for _, c := range o.Status.Conditions {
		if c.Type == kind {
			return c.Status
		}
	}
	return ""
}

// podList is the part of a list of pods that is looked at.
type podList struct {
	Items []pod `json:"items"`
}

type pod struct {
	Metadata struct {
		Name      string `json:"name"`
		Namespace string `json:"namespace"`
	} `json:"metadata"`
	Status struct {
		Phase      string      `json:"phase"`
		Conditions []condition `json:"conditions"`
	} `json:"status"`
}

func (p pod) name() string { return p.Metadata.Namespace + "/" + p.Metadata.Name }

// pods waits until every pod runs and is ready, in the API's eyes and, after a power cut more truly, in containerd's.
func (n *node) pods(ctx context.Context) (string, error) {
	var list podList
	err := patiently(ctx, func() error {
		list = podList{}
		if err := n.outputJSON(ctx, &list, kubectl, n.kubectlArgs("get", "pods", "-A", "-o", "json")...); err != nil {
			return err
		}
		containers, err := n.running(ctx)
		if err != nil {
			return err
		}
		return judgePods(list, containers)
	})
	return fmt.Sprintf("%d, all ready", len(list.Items)), err
}

// judgePods wants each pod to be ready and to have a running container.
func judgePods(list podList, containers []container) error {
	if len(list.Items) == 0 {
		return errors.New("got no pods, want some")
	}
	running := map[string]bool{}
	for _, c := range containers {
		running[c.pod] = true
	}
	var problems []error
	for _, p := range list.Items {
		ready := ""
		for _, c := range p.Status.Conditions {
			if c.Type == "Ready" {
				ready = c.Status
			}
		}
		problems = append(problems, differs(p.name(), p.Status.Phase+", ready "+quote(ready), "Running, ready True"))
		if !running[p.name()] {
			problems = append(problems, fmt.Errorf("%s: got no running container, want one", p.name()))
		}
	}
	return errors.Join(problems...)
}

// events wants the event that the first boot leaves. The API server forgets events after an hour, so that a later boot
// does not ask.
func (n *node) events(ctx context.Context) (string, error) {
	if n.second {
		return "not asked on a later boot", nil
	}
	var list struct {
		Items []struct {
			Reason         string `json:"reason"`
			Message        string `json:"message"`
			InvolvedObject struct {
				Kind string `json:"kind"`
				Name string `json:"name"`
			} `json:"involvedObject"`
		} `json:"items"`
	}
	if err := n.outputJSON(ctx, &list, kubectl, n.kubectlArgs("get", "events", "-A", "-o", "json")...); err != nil {
		return "", err
	}
	for _, e := range list.Items {
		if e.Reason == "FirstBootCompleted" && e.InvolvedObject.Kind == "Node" && e.InvolvedObject.Name == n.identity.Node.Name {
			return e.Message, nil
		}
	}
	return "", fmt.Errorf("got %d events, want one with reason FirstBootCompleted about the Node", len(list.Items))
}

// apiVersion asks the API server for its version.
func (n *node) apiVersion(ctx context.Context) (string, error) {
	var version struct {
		GitVersion string `json:"gitVersion"`
	}
	if err := n.outputJSON(ctx, &version, kubectl, n.kubectlArgs("get", "--raw", "/version")...); err != nil {
		return "", err
	}
	return version.GitVersion, differs("API server", version.GitVersion, n.baked.Kubernetes)
}

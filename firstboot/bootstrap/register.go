package bootstrap

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/kiln-os/kiln/firstboot/kubeadm"
	"github.com/kiln-os/kiln/firstboot/node"
	"github.com/kiln-os/kiln/firstboot/source"
	"github.com/kiln-os/kiln/internal/nodefs"
	"github.com/kiln-os/kiln/internal/profile"
)

// Labels and annotations that say which image a node runs, what it may be and on which machine it is.
const (
	labelProfile           = kubeadm.LabelProfile
	labelRelease           = kubeadm.LabelRelease
	annotationVersion      = "kiln.dev/image-version"
	annotationRootHash     = "kiln.dev/root-hash"
	annotationRegistration = "kiln.dev/registration"
	annotationMachine      = "kiln.dev/machine"
)

// api talks to the cluster about this node: a control plane asks its own API server as the administrator, a worker asks
// through the endpoint as its kubelet, which may change its own Node only.
func (p plan) api() (*node.Client, error) {
	if p.o.Identity.Node.Role == profile.ControlPlane {
		return p.m.client(p.o.Identity.Node.Address)
	}
	return node.Open(p.m.Root, nodefs.KubeletConfig, "")
}

// addons applies the baked manifests in the order of their file names.
func (p plan) addons(ctx context.Context) (string, error) {
	files, err := filepath.Glob(p.m.Root.Path(nodefs.Addons + "/*.yaml"))
	if err != nil {
		return "", fmt.Errorf("listing addons: %w", err)
	}
	client, err := p.m.client(p.o.Identity.Node.Address)
	if err != nil {
		return "", err
	}
	if err := p.serving(ctx, client); err != nil {
		return "", err
	}
	applied := 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return "", fmt.Errorf("reading addon: %w", err)
		}
		name := nodefs.Addons + "/" + filepath.Base(file)
		objects, err := node.Objects(name, []byte(fillIn(string(text), p.o.Identity.Cluster.PodSubnet)))
		if err != nil {
			return "", Permanent{err}
		}
		for _, object := range objects {
			if err := client.Apply(ctx, object); err != nil {
				return "", err
			}
			applied++
		}
	}
	return fmt.Sprintf("%d objects of %d manifests", applied, len(files)), nil
}

// serving waits for this node's own API server: after a power cut it starts anew, and forbids everything, to an administrator
// too, until it has read the rules (kubernetes, pkg/registry/rbac/rest: poststarthook/rbac/bootstrap-roles of readyz).
func (p plan) serving(ctx context.Context, client *node.Client) error {
	return p.m.wait(ctx, waiting{step: "addons", first: 250 * time.Millisecond, most: 2 * time.Second, look: func(ctx context.Context) (bool, string) {
		err := client.Healthy(ctx)
		return err == nil, fmt.Sprintf("waiting for this node's API server: %v", err)
	}})
}

// register makes the Node say what it is. What the API server refuses costs a warning, not the node.
func (p plan) register(ctx context.Context) (string, error) {
	client, err := p.api()
	if err != nil {
		return "", err
	}
	name, want := p.o.Identity.Node.Name, p.registration()
	if err := p.registered(ctx, client); err != nil {
		return "", err
	}
	refused, err := client.RegisterParts(ctx, name, want)
	if err != nil {
		return "", err
	}
	warnings := slices.Clone(p.warnings)
	for _, refusal := range refused {
		p.m.Report.say(event{step: "register", message: "warning: " + refusal.String()})
		warnings = append(warnings, refusal.String())
	}
	note := fmt.Sprintf("%d labels, %d annotations, %d taints", len(want.Labels), len(want.Annotations), len(want.Taints))
	if len(warnings) == 0 {
		return note, nil
	}
	current, err := client.Get(ctx, name)
	if err != nil {
		return "", fmt.Errorf("reading node: %w", err)
	}
	text := shortened(p.m.Report.redactor.text(strings.Join(warnings, "; ")))
	return fmt.Sprintf("%s, %d warnings", note, len(warnings)), client.Record(ctx, current, node.Event{Type: "Warning", Reason: eventIncomplete, Message: text})
}

// registered waits for the Node: kubeadm is done with a worker when its kubelet has a certificate, a moment before the kubelet
// makes the Node. A Node may always be read by its own kubelet and by an administrator: whom the API server forbids it, it has
// not read its rules yet (see serving), and would forbid every label, too.
func (p plan) registered(ctx context.Context, client *node.Client) error {
	return p.m.wait(ctx, waiting{step: "register", first: 100 * time.Millisecond, most: time.Second, look: func(ctx context.Context) (bool, string) {
		_, err := client.Get(ctx, p.o.Identity.Node.Name)
		if node.HasCode(err, http.StatusForbidden) {
			return false, "waiting for the API server to know its rules: " + err.Error()
		}
		return !node.HasCode(err, http.StatusNotFound), "waiting for the kubelet to register the Node"
	}})
}

// registration is what this node sets itself. The taints and the other labels of a worker are set by a control plane, from
// the operator's signed statement.
func (p plan) registration() node.Registration {
	want := node.Registration{Annotations: map[string]string{annotationVersion: p.o.Baked.Version}, ProviderID: p.o.Identity.Node.ProviderID}
	if p.o.Identity.Node.Role == profile.ControlPlane {
		want.Labels, want.Taints, want.RoleTaint = p.o.Labels(), p.o.Taints(), kubeadm.ControlPlaneTaint
	} else {
		want.Labels, want.KeepTaints = p.o.OwnLabels(), true
	}
	for key, value := range map[string]string{
		annotationRootHash: p.m.rootHash(), annotationRegistration: p.o.Identity.Node.Registration, annotationMachine: p.machineText(),
	} {
		if value != "" {
			want.Annotations[key] = value
		}
	}
	return want
}

// machineText is by what a control plane finds two Nodes on one machine, or one machine's copy; empty when the machine has
// neither.
func (p plan) machineText() string {
	if len(p.machine.MACs) == 0 && p.machine.UUID == "" {
		return ""
	}
	text, err := json.Marshal(struct {
		MACs []string `json:"macs,omitempty"`
		UUID string   `json:"uuid,omitempty"`
	}{p.machine.MACs, p.machine.UUID})
	if err != nil {
		return ""
	}
	return string(text)
}

// rootHash is the dm-verity root hash of the running root: as the initramfs opened it, or as the command line names it.
func (m *Machine) rootHash() string {
	var facts struct {
		RootHash string `json:"rootHash"`
	}
	if text, err := os.ReadFile(m.Root.Path(nodefs.BootFacts)); err == nil && json.Unmarshal(text, &facts) == nil && facts.RootHash != "" {
		return facts.RootHash
	}
	commandLine, _ := os.ReadFile(m.Root.Path("/proc/cmdline"))
	return source.Parameter(string(commandLine), nodefs.ParamRootHash)
}

// The kubelet tries five times in 18 s to write its CSINode, which needs its Node, and then once more after two minutes
// (kubernetes, pkg/volume/csi/csi_plugin.go, initializeCSINode). Until then the Node is not Ready, and says csiMissing. One
// that is started again begins anew; its pods outlive it.
const (
	csiMissing  = "failed to initialize CSINode"
	csiPatience = 20 * time.Second
)

// ready waits until the Node is Ready: the network plugin runs, and pods can.
func (p plan) ready(ctx context.Context) (string, error) {
	client, err := p.api()
	if err != nil {
		return "", err
	}
	client.Patience = 0 // the wait itself asks again, and says what it sees
	name := p.o.Identity.Node.Name
	var missing time.Time // since when the CSINode was missing; zero while it is not
	err = p.m.wait(ctx, waiting{step: "ready", first: 250 * time.Millisecond, most: 2 * time.Second, look: func(ctx context.Context) (bool, string) {
		current, err := client.Get(ctx, name)
		if err != nil {
			return false, "waiting for the API server: " + err.Error()
		}
		condition := current.Condition("Ready")
		seen := "waiting for the Node: " + condition.Reason + ": " + condition.Message
		switch now := p.m.Now(); {
		case !strings.Contains(condition.Message, csiMissing):
			missing = time.Time{}
		case missing.IsZero():
			missing = now
		case now.Sub(missing) >= csiPatience:
			missing = now
			if err := p.m.kubelet(ctx, "restart"); err != nil {
				seen += "; " + err.Error()
			}
		}
		return condition.Status == "True", seen
	}})
	return name + " is Ready", err
}

package bootstrap

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"sigs.k8s.io/yaml"

	"github.com/kiln-os/kiln/firstboot/etcd"
	"github.com/kiln-os/kiln/firstboot/kubeadm"
	"github.com/kiln-os/kiln/firstboot/node"
	"github.com/kiln-os/kiln/internal/command"
	"github.com/kiln-os/kiln/internal/nodefs"
	"github.com/kiln-os/kiln/internal/profile"
)

// Phases of `kubeadm join` v1.36 that are left out, depending on what is there (cmd/kubeadm/app/cmd/join.go).
const (
	// skipPreflight: its checks refuse what an earlier run has left.
	skipPreflight = "preflight"
	// skipDownload: the certificates are there already, and those in the cluster end after two hours.
	skipDownload = "control-plane-prepare/download-certs"
	// skipCheckEtcd: etcd has just answered for a majority of its members. kubeadm would ask each one, and wait ten minutes
	// for one whose machine is switched off.
	skipCheckEtcd = "check-etcd"
	// skipKubelet: the kubelet runs with credentials of its own. kubeadm would refuse to go on over a Node that is Ready.
	skipKubelet = "kubelet-start"
)

// kubeadmJoin joins the cluster, or goes on where an earlier run was cut off.
func (p plan) kubeadmJoin(ctx context.Context) (string, error) {
	f, err := p.joinFacts(ctx)
	if err != nil {
		return "", err
	}
	j := joining{plan: p, facts: f}
	if f.controlPlane && !f.settled() {
		if err := j.ask(ctx); err != nil {
			return "", err
		}
	}
	switch j.facts.next() {
	case joinDone:
		return "was done before", nil
	case joinAwait:
		return j.await(ctx)
	case joinResume:
		return j.resume(ctx)
	case joinAnew, joinReplace:
		return j.anew(ctx)
	case joinRemoved:
		return "", Permanent{fmt.Errorf("this node has the data of an etcd member that the cluster does not have any more: it was removed, or the cluster was founded anew; "+
			"run `firstboot reset` on this node, or wipe its state partition, and it joins as a new member (%s is not touched)", kubeadm.EtcdData)}
	case joinMoved:
		return "", Permanent{fmt.Errorf("this node's etcd member has the peer URL %s, but the node's address is now %s; give the node its old address, "+
			"or run `firstboot reset` on it", strings.Join(j.member.PeerURLs, ", "), p.o.Identity.Node.Address)}
	}
	return "", errors.New("waiting for etcd: nobody answers")
}

// joining is one run of the step.
type joining struct {
	plan
	facts joinFacts
	// The rest is known to control planes once etcd has answered.
	admin  *node.Client
	etcd   *etcd.Client
	member etcd.Member
}

// await is for a worker whose kubelet has all that it needs: it registers the Node itself.
func (j *joining) await(ctx context.Context) (string, error) {
	if err := j.m.kubelet(ctx, "start"); err != nil {
		return "", err
	}
	client, err := node.Open(j.m.Root, nodefs.KubeletConfig, "")
	if err != nil {
		return "", fmt.Errorf("waiting for the kubelet to register the Node: %w", err)
	}
	client.Patience = 0
	name := j.o.Identity.Node.Name
	refused := false
	err = j.m.wait(ctx, waiting{step: "kubeadm-join", first: 250 * time.Millisecond, most: 2 * time.Second, look: func(ctx context.Context) (bool, string) {
		if err := j.m.kubeletHealth(ctx); err != nil {
			return false, "waiting for the kubelet: " + err.Error()
		}
		_, err := client.Get(ctx, name)
		refused = node.HasCode(err, http.StatusUnauthorized)
		return err == nil || refused, fmt.Sprintf("waiting for the kubelet to register the Node: %v", err)
	}})
	switch {
	case err != nil:
		return "", err
	case refused:
		// Another cluster's, with the same authority: as good as none.
		if err := j.m.dropKubelet(); err != nil {
			return "", err
		}
		return "", errors.New("the cluster does not take the kubelet's certificate; it was removed, and the node joins anew")
	}
	return name + " is in the cluster already", nil
}

// anew clears away what an earlier run has left, and joins.
func (j *joining) anew(ctx context.Context) (string, error) {
	if err := j.clean(ctx, "kubeadm-join"); err != nil {
		return "", err
	}
	if !j.facts.controlPlane {
		if err := j.runJoin(ctx, nodefs.KubeadmConfig); err != nil {
			return "", err
		}
		return "joined " + j.o.Identity.Cluster.Name, nil
	}
	if err := j.provideAuthorities(ctx); err != nil { // clean removes half pairs
		return "", err
	}
	if err := j.makeRoom(ctx); err != nil {
		return "", err
	}
	if err := j.queue(ctx); err != nil {
		return "", err
	}
	if err := j.runJoin(ctx, nodefs.KubeadmConfig, skipDownload, skipCheckEtcd); err != nil {
		return "", err
	}
	return "joined " + j.o.Identity.Cluster.Name + " as a control plane", nil
}

// resume is for a control plane whose etcd has data: kubeadm goes over all that can be done again.
func (j *joining) resume(ctx context.Context) (string, error) {
	if err := j.m.removeTornFiles(); err != nil {
		return "", err
	}
	if err := j.provideAuthorities(ctx); err != nil {
		return "", err
	}
	config, skip := nodefs.KubeadmConfig, []string{skipPreflight, skipDownload, skipCheckEtcd}
	if j.facts.kubelet {
		skip = append(skip, skipKubelet)
		if err := j.m.kubelet(ctx, "start"); err != nil {
			return "", err
		}
		var err error
		if config, err = j.withoutToken(config); err != nil {
			return "", err
		}
	} else if err := j.m.dropKubelet(); err != nil {
		return "", err
	}
	if err := j.runJoin(ctx, config, skip...); err != nil {
		return "", err
	}
	if config != nodefs.KubeadmConfig {
		if err := removeFile(j.m.Root.Path(config)); err != nil {
			return "", err
		}
	}
	return "went on with the etcd data of an earlier run", nil
}

// needsToken tells whether kubeadm needs the bootstrap token for what is left to do: not once the kubelet has credentials
// and, on a control plane, kubeadm an administrator's.
func (p plan) needsToken() bool {
	if p.o.Identity.Node.Role != profile.ControlPlane {
		return !p.hasKubelet()
	}
	return !p.hasKubelet() || !p.m.hasLog() || !filled(p.m.Root.Path(nodefs.AdminConfig))
}

// withoutToken writes the configuration again with this node's own administrator for discovery, and returns its path: the
// token may have expired since the join began. Where there is no such kubeconfig yet, config is returned.
func (j *joining) withoutToken(config string) (string, error) {
	if !filled(j.m.Root.Path(nodefs.AdminConfig)) {
		return config, nil
	}
	text, err := os.ReadFile(j.m.Root.Path(config))
	if err != nil {
		return "", fmt.Errorf("reading kubeadm configuration: %w", err)
	}
	var fields map[string]any
	if yaml.Unmarshal(text, &fields) != nil {
		return "", fmt.Errorf("reading kubeadm configuration: %s is not YAML", config)
	}
	fields["discovery"] = map[string]any{"file": map[string]any{"kubeConfigPath": j.m.Root.Path(nodefs.AdminConfig)}}
	if own, ok := fields["controlPlane"].(map[string]any); ok {
		delete(own, "certificateKey") // nothing is downloaded any more
	}
	if text, err = yaml.Marshal(fields); err != nil {
		return "", fmt.Errorf("rendering kubeadm configuration: %w", err)
	}
	return nodefs.KubeadmResumeConfig, put(j.m.Root.Path(nodefs.KubeadmResumeConfig), text, 0o600)
}

// runJoin runs `kubeadm join` with the configuration at path, without the phases of skip.
func (j *joining) runJoin(ctx context.Context, path string, skip ...string) error {
	args := []string{"join", "--config=" + j.m.Root.Path(path)}
	if len(skip) > 0 {
		args = append(args, "--skip-phases="+strings.Join(skip, ","))
	}
	return j.runKubeadm(ctx, args...)
}

// kubelet starts or stops the kubelet's unit.
func (m *Machine) kubelet(ctx context.Context, verb string) error {
	_, err := m.Runner.Run(ctx, command.Command{Name: nodefs.Systemctl, Args: []string{verb, "kubelet.service"}})
	if err != nil {
		return fmt.Errorf("making the kubelet %s: %w", verb, err)
	}
	return nil
}

// kubeletHealth asks the kubelet once how it is.
func (m *Machine) kubeletHealth(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, m.KubeletHealth, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return errors.New(response.Status)
	}
	return nil
}

// dropKubelet removes credentials of the kubelet's that are of no use. A torn certificate would keep it from starting.
func (m *Machine) dropKubelet() error {
	certificates, err := filepath.Glob(m.Root.Path(kubeletCertificates))
	if err != nil {
		return err
	}
	for _, path := range append(certificates, m.Root.Path(nodefs.KubeletConfig)) {
		if err := removeFile(path); err != nil {
			return err
		}
	}
	unix.Sync()
	return nil
}

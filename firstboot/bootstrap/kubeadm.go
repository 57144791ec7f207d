package bootstrap

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kiln-os/kiln/firstboot/kubeadm"
	"github.com/kiln-os/kiln/internal/command"
	"github.com/kiln-os/kiln/internal/nodefs"
)

// progress is how far an earlier `kubeadm init` came, judged by what is there.
type progress int

const (
	// nothing of worth: no etcd data, so that whatever else was made can be made again.
	untouched progress = iota
	// halfway: etcd has data, the only copy there is. It is never wiped; kubeadm goes over it again.
	halfway
	// finished: the last object that kubeadm makes is in the cluster.
	finished
)

// lastObject is what `kubeadm init` v1.36 makes last (phases/addons/proxy: EnsureProxyAddon).
const lastObject = "/apis/rbac.authorization.k8s.io/v1/namespaces/kube-system/rolebindings/kube-proxy"

// kubeadmInit founds the cluster, or goes on where an earlier run was cut off.
func (p plan) kubeadmInit(ctx context.Context) (string, error) {
	switch p.progress(ctx) {
	case finished:
		return "was done before", nil
	case halfway:
		if err := p.m.removeTorn(); err != nil {
			return "", err
		}
		if err := p.runInit(ctx, "--skip-phases=preflight,show-join-command"); err != nil {
			return "", err
		}
		return "went on with the etcd data of an earlier run", nil
	}
	if err := p.clean(ctx, "kubeadm-init"); err != nil {
		return "", err
	}
	if err := p.runInit(ctx, "--skip-phases=show-join-command"); err != nil {
		return "", err
	}
	return "cluster " + p.o.Identity.Cluster.Name + " founded", nil
}

func (p plan) progress(ctx context.Context) progress {
	if !p.m.hasLog() {
		return untouched
	}
	if !filled(p.m.Root.Path(nodefs.AdminConfig)) || !filled(p.m.Root.Path(nodefs.KubeletConfig)) {
		return halfway
	}
	if p.done("kubeadm-init") {
		return finished // the API may need a minute after a reboot; later steps wait for it
	}
	client, err := p.m.client(p.o.Identity.Node.Address)
	if err != nil {
		return halfway
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if client.Healthy(ctx) != nil {
		return halfway
	}
	if last, err := client.Exists(ctx, lastObject); err != nil || !last {
		return halfway
	}
	return finished
}

// runInit runs `kubeadm init`, which would print the join command with the token.
func (p plan) runInit(ctx context.Context, phases string) error {
	args := []string{"init", "--config=" + p.m.Root.Path(nodefs.KubeadmConfig), "--skip-token-print", phases}
	if !p.o.Identity.Bootstrap.CertificateKey.IsZero() {
		// There is no field for it in the configuration.
		args = append(args, "--upload-certs", "--skip-certificate-key-print")
	}
	return p.runKubeadm(ctx, args...)
}

// kubeadmStep is the step that runs kubeadm on this node.
func (p plan) kubeadmStep() string {
	if p.founds {
		return "kubeadm-init"
	}
	return "kubeadm-join"
}

// runKubeadm runs kubeadm, which says what it does line by line; every line is searched for secrets. No argument is one.
func (p plan) runKubeadm(ctx context.Context, args ...string) error {
	said := &command.Tail{Max: 64 << 10}
	out := &lines{report: p.m.Report, step: p.kubeadmStep()}
	errs := &lines{report: p.m.Report, step: p.kubeadmStep(), seen: func(line string) { fmt.Fprintln(said, line) }, instead: withoutChatter()}
	stop := p.m.keepOnDisk()
	_, err := p.m.Runner.Run(ctx, command.Command{Name: nodefs.Kubeadm, Stdout: out, Stderr: errs, Args: args})
	stop()
	out.flush()
	errs.flush()
	// What kubeadm wrote has to outlast a power cut before the journal says that it is there.
	unix.Sync()
	if err == nil {
		return nil
	}
	failure := kubeadm.Classify(said.String())
	if failure.Kind == kubeadm.Unknown {
		return fmt.Errorf("running kubeadm %s: %w", args[0], lastWords(err))
	}
	err = kubeadmError{text: fmt.Sprintf("running kubeadm %s: %s", args[0], failure.Message), Failure: failure, err: err}
	if failure.Permanent && !(failure.Kind == kubeadm.NameTaken && p.mayFade(failure)) {
		return Permanent{err}
	}
	return err
}

// withoutChatter shortens what the etcd client inside kubeadm logs, as JSON and twice a second for as long as it has to
// wait, to etcd's own words, once.
func withoutChatter() func(line string) string {
	last := ""
	return func(line string) string {
		var entry struct{ Logger, Error string }
		if json.Unmarshal([]byte(line), &entry) != nil || entry.Logger != "etcd-client" {
			return line
		}
		_, text, found := strings.Cut(entry.Error, " desc = ")
		if !found {
			text = entry.Error
		}
		if text == last {
			return ""
		}
		last = text
		return "waiting for etcd: " + text
	}
}

// kubeadmError is an end of kubeadm's that is understood.
type kubeadmError struct {
	kubeadm.Failure
	text string
	err  error
}

// Error implements error.
func (e kubeadmError) Error() string { return e.text }

// Unwrap gives how the program ended.
func (e kubeadmError) Unwrap() error { return e.err }

// fading is how long a Node may still be Ready after its machine was switched off: the controllers wait for 50 s without a
// sign of life (kube-controller-manager, --node-monitor-grace-period).
const fading = 3 * time.Minute

// mayFade tells whether a failure may still be about this machine's own past: a Node that stays Ready for a while. That it
// was the same for longer shows another machine of the name.
func (p plan) mayFade(failure kubeadm.Failure) bool {
	boot := p.m.bootID()
	for _, r := range p.history() {
		if r.BootID == boot && r.Step == p.kubeadmStep() && r.State == failed && strings.Contains(r.Error, failure.Message) {
			return p.m.Uptime()-r.Uptime < fading.Seconds()
		}
	}
	return true
}

// lastWords shortens what kubeadm wrote, which was said line by line, to the error at its end.
func lastWords(err error) error {
	exit, ok := errors.AsType[*command.ExitError](err)
	if !ok {
		return err
	}
	tail := exit.Tail
	if at := strings.LastIndex("\n"+tail, "\nerror:"); at >= 0 {
		tail = tail[at:]
	}
	tail, _, _ = strings.Cut(tail, "\nTo see the stack trace")
	return &command.ExitError{Name: exit.Name, Code: exit.Code, Tail: tail}
}

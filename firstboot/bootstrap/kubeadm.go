package bootstrap

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
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
		if err := p.runKubeadm(ctx, "--skip-phases=preflight,show-join-command"); err != nil {
			return "", err
		}
		return "went on with the etcd data of an earlier run", nil
	}
	if err := p.clean(ctx); err != nil {
		return "", err
	}
	if err := p.runKubeadm(ctx, "--skip-phases=show-join-command"); err != nil {
		return "", err
	}
	return "cluster " + p.o.Identity.Cluster.Name + " founded", nil
}

func (p plan) progress(ctx context.Context) progress {
	data, _ := os.ReadDir(p.m.Root.Path(kubeadm.EtcdData + "/member"))
	if len(data) == 0 {
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

// fatalCheck names the preflight checks that no retry can mend: they are about the machine or the image.
var fatalCheck = regexp.MustCompile(`^(NumCPU|Mem|SystemVerification|KubeletVersion|KubernetesVersion|IsPrivilegedUser|FileExisting-.*)$`)

// failedCheck finds a failed check in a line of kubeadm's.
var failedCheck = regexp.MustCompile(`\[ERROR ([^\]]+)\]`)

// runKubeadm runs `kubeadm init`. It would print the join command with the token; every line is searched for secrets, too.
func (p plan) runKubeadm(ctx context.Context, phases string) error {
	var fatal []string
	out := &lines{report: p.m.Report, step: "kubeadm-init"}
	errs := &lines{report: p.m.Report, step: "kubeadm-init", seen: func(line string) {
		if match := failedCheck.FindStringSubmatch(line); match != nil && fatalCheck.MatchString(match[1]) {
			fatal = append(fatal, match[1])
		}
	}}
	_, err := p.m.Runner.Run(ctx, command.Command{Name: nodefs.Kubeadm, Stdout: out, Stderr: errs,
		Args: []string{"init", "--config=" + p.m.Root.Path(nodefs.KubeadmConfig), "--skip-token-print", phases}})
	out.flush()
	errs.flush()
	// What kubeadm wrote has to outlast a power cut before the journal says that it is there.
	unix.Sync()
	err = lastWords(err)
	switch {
	case err == nil:
		return nil
	case len(fatal) > 0:
		return Permanent{fmt.Errorf("the machine or the image does not meet kubeadm's checks %s: %w", strings.Join(fatal, ", "), err)}
	}
	return fmt.Errorf("initialising cluster: %w", err)
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

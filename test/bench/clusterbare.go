package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/kiln-os/kiln/firstboot/kubeadm"
	"github.com/kiln-os/kiln/internal/nodefs"
	"github.com/kiln-os/kiln/internal/profile"
)

//go:embed operator.sh
var operatorScript string

// recipe is what is on a node's disk before an operator powers it on, path below /var to content.
type recipe map[string]string

// Places on the node's disk.
const (
	etcUpper    = nodefs.KilnState + "/etc/upper"
	operatorDir = "/var/lib/operator"
)

// learn takes the recipes from nodes that firstboot has made: its own files, and kubeadm's configuration as firstboot has
// rendered it. network is the pod network's manifest, filled in.
func (f *fleet) learn(ctx context.Context) (recipes map[string]recipe, network string, err error) {
	recipes = map[string]recipe{}
	for i, m := range f.members {
		r := recipe{}
		if err := f.copyFiles(m, r); err != nil {
			return nil, "", err
		}
		if r[nodefs.KubeadmConfig], err = f.configuration(ctx, i); err != nil {
			return nil, "", err
		}
		recipes[m.Node.Name] = r
	}
	network, err = f.nodes[0].Exec(ctx, "sh", "-c", "cat "+nodefs.Addons+"/*.yaml")
	network = strings.ReplaceAll(network, "__POD_NETWORK__", fmt.Sprintf("%q: %q", "Network", f.members[0].Cluster.PodSubnet))
	return recipes, network, err
}

// copyFiles copies what firstboot has written, and of the certificates those that an operator would have copied.
func (f *fleet) copyFiles(m member, r recipe) error {
	wanted := []string{etcUpper + "/hostname", etcUpper + "/hosts", etcUpper + "/systemd/network", etcUpper + "/systemd/resolved.conf.d", nodefs.Patches}
	if m.Node.Role == profile.ControlPlane {
		for _, name := range []string{"ca.crt", "ca.key", "front-proxy-ca.crt", "front-proxy-ca.key", "etcd/ca.crt", "etcd/ca.key", "sa.pub", "sa.key"} {
			wanted = append(wanted, etcUpper+"/kubernetes/pki/"+name)
		}
	}
	for _, path := range wanted {
		top := f.disk(m, path)
		err := filepath.WalkDir(top, func(file string, entry fs.DirEntry, err error) error {
			if err != nil || !entry.Type().IsRegular() {
				return err
			}
			text, err := os.ReadFile(file)
			r[path+strings.TrimPrefix(file, top)] = string(text)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// configuration is kubeadm's. firstboot removes its own in the end: it holds the token.
func (f *fleet) configuration(ctx context.Context, i int) (string, error) {
	o := kubeadm.Options{Identity: f.members[i].Identity}
	text, err := f.nodes[i].Exec(ctx, "cat", nodefs.Node)
	if err == nil {
		err = json.Unmarshal([]byte(text), &o.Baked)
	}
	if err != nil {
		return "", err
	}
	if text, err = f.nodes[i].Exec(ctx, "cat", nodefs.Profile); err != nil {
		return "", err
	}
	if o.Profile, err = profile.Parse(nodefs.Profile, []byte(text)); err != nil {
		return "", err
	}
	render := kubeadm.RenderJoin
	if i == 0 {
		render = kubeadm.RenderInit
	}
	config, err := render(o)
	return string(config), err
}

// bootBare powers the machines on with an operator's script in firstboot's place, and is the operator: as soon as the API
// answers through the load balancer, all others join at once, and once the first control plane is done, it gets its network.
func (f *fleet) bootBare(ctx context.Context, recipes map[string]recipe, network string) (marks, error) {
	manifest := filepath.Join(f.dir, "network.yaml")
	if err := os.WriteFile(manifest, []byte(network), 0o644); err != nil {
		return marks{}, err
	}
	for i, m := range f.members {
		if err := errors.Join(f.nodes[i].SetIdentity(nil), f.cook(i, recipes[m.Node.Name])); err != nil {
			return marks{}, fmt.Errorf("preparing %s: %w", m.Node.Name, err)
		}
	}
	bounded, cancel := bounded(ctx)
	defer cancel()
	ctx, fail := context.WithCancelCause(bounded)
	defer fail(nil)
	watch := watchMachine()
	begin := time.Now()
	if err := f.powerOn(ctx); err != nil {
		return marks{}, err
	}
	go func() {
		if err := f.operate(ctx, manifest); err != nil {
			fail(err)
		}
	}()
	go func() { fail(f.failure(ctx)) }()
	err := f.ready(ctx, f.members...)
	m := marks{ready: time.Since(begin)}
	m.memory, m.busy = watch()
	if err != nil {
		return m, err
	}
	return m, f.readTimes(ctx, &m, begin)
}

// cook puts a recipe and the operator's script on the disk of an empty machine.
func (f *fleet) cook(i int, r recipe) error {
	m, verb := f.members[i], "join"
	if i == 0 {
		verb = "init"
	}
	files := recipe{
		operatorDir + "/operator.sh": operatorScript,
		etcUpper + "/systemd/system/firstboot.service.d/operator.conf": fmt.Sprintf("[Service]\nRestart=no\nExecStart=\nExecStart=/bin/sh %s/operator.sh %s %s %s %s\n",
			operatorDir, verb, m.Node.Address, nodefs.ContainerImages, nodefs.KubeadmConfig),
		// Without an identity, this would look for one in every place for seconds.
		etcUpper + "/systemd/system/kiln-ignition.service.d/operator.conf": "[Service]\nExecStart=\nExecStart=/bin/true\n",
	}
	for path, text := range r {
		files[path] = text
	}
	for path, text := range files {
		path = f.disk(m, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), modeOf(path))); err != nil {
			return err
		}
	}
	// The controllers of kiln are not there either.
	masked := f.disk(m, etcUpper+"/systemd/system/kiln-reconcile.service")
	return errors.Join(os.Symlink("/dev/null", masked), os.MkdirAll(f.disk(m, nodefs.VolumePlugins), 0o755))
}

func modeOf(path string) fs.FileMode {
	if strings.HasSuffix(path, ".key") || strings.HasSuffix(path, filepath.Base(nodefs.KubeadmConfig)) {
		return 0o600
	}
	return 0o644
}

// operate is what the operator does from his own place.
func (f *fleet) operate(ctx context.Context, manifest string) error {
	// One question in a shell of the first control plane: a poller on every node would take more of the processors.
	ask := fmt.Sprintf(`until printf 'GET /readyz HTTP/1.0\r\n\r\n' | socat -T2 - OPENSSL:%s,verify=0,connect-timeout=2 2>/dev/null | grep -q ' 200 '; do sleep 0.2; done`, benchEndpoint)
	if _, err := f.nodes[0].Exec(ctx, "sh", "-c", ask); err != nil {
		return fmt.Errorf("waiting for the API: %w", err)
	}
	for _, m := range f.members[1:] {
		if err := os.WriteFile(f.disk(m, operatorDir+"/go"), nil, 0o644); err != nil {
			return err
		}
	}
	for {
		if _, ended := f.timeOf(f.members[0], "ends"); ended == nil {
			break
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(20 * time.Millisecond):
		}
	}
	return eventually(ctx, func() error {
		_, err := f.kubectl(ctx, "apply", "-f", manifest)
		return err
	})
}

// failure waits until a node's script has failed, and says how; nil when ctx ends.
func (f *fleet) failure(ctx context.Context) error {
	for {
		for _, m := range f.members {
			if text, err := os.ReadFile(f.disk(m, operatorDir+"/failed")); err == nil {
				log, _ := os.ReadFile(f.disk(m, operatorDir+"/kubeadm.log"))
				return fmt.Errorf("the script on %s ended with %s:\n%s", m.Node.Name, strings.TrimSpace(string(text)), tail(string(log)))
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Second):
		}
	}
}

// readTimes reads what the scripts have noted. A worker's Node may be Ready while its kubeadm is still saying goodbye.
func (f *fleet) readTimes(ctx context.Context, m *marks, begin time.Time) error {
	for i, node := range f.members {
		var began, ended time.Time
		err := eventually(ctx, func() (err error) {
			if began, err = f.timeOf(node, "begins"); err == nil {
				ended, err = f.timeOf(node, "ends")
			}
			return err
		})
		switch {
		case err != nil:
			return err
		case i == 0:
			m.initBegins, m.initEnds = began.Sub(begin), ended.Sub(begin)
		default:
			m.join(began.Sub(begin), ended.Sub(begin))
		}
	}
	return nil
}

// timeOf reads a time that a script has noted, in nanoseconds since 1970.
func (f *fleet) timeOf(m member, name string) (time.Time, error) {
	text, err := os.ReadFile(f.disk(m, operatorDir+"/"+name))
	if err != nil {
		return time.Time{}, err
	}
	ns, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	return time.Unix(0, ns), err
}

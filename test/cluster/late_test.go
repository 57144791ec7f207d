//go:build cluster

package cluster_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/kiln-os/kiln/internal/nodefs"
)

// testLate lets a control plane and a worker come to a cluster whose founding is over: cp3 and worker2, which are added to
// its document, on mainboards with the same product UUID. At first they have identities that cannot join, then the cluster is of
// another version, then the token has expired, and at last it is a good one.
func (f *fleet) testLate(t *testing.T, more string) {
	all := members(3, 2)
	late := []member{all[2], all[4]}
	f.define(t, all, more)
	for _, m := range late {
		m.uuid = "4c4c4544-0043-4a10-8052-b4c04f564e32"
		f.add(t, m)
	}

	t.Run("an identity of another cluster, and a wrong certificate key", func(t *testing.T) {
		must(t, f.machines["worker2"].SetIdentity(identityOf(t, f.renderAgain(t, all, more), "worker2")))
		must(t, f.machines["cp3"].SetIdentity(f.withWrongKey(t, "cp3")))
		f.powerOn(t, "worker2", "cp3")
		expect(t, f.machines["worker2"], `^first-boot: .*is another cluster's: its certificate authority is sha256:\w+, this node's identity has sha256:\w+; correct `, 2*time.Minute)
		expect(t, f.machines["cp3"], `^first-boot: .*certificate key does not open the cluster's uploaded certificates; `, 2*time.Minute)
		for _, m := range late {
			f.mustHaveGivenUp(t, m.name)
			f.mustHaveNothing(t, m.name)
		}
		f.mustBeWithout(t, late)
	})

	t.Run("a cluster of another version", func(t *testing.T) {
		f.powerOff(t, "worker2", "cp3")
		must(t, f.machines["worker2"].SetIdentity(identityOf(t, f.identities, "worker2")))
		baked := f.saysVersion(t, "v1.35.9")
		f.powerOn(t, "worker2")
		expect(t, f.machines["worker2"], `^first-boot: .* runs Kubernetes v1\.35\.9, this image carries `+regexp.QuoteMeta(baked), 2*time.Minute)
		f.mustHaveGivenUp(t, "worker2")
		f.mustHaveNothing(t, "worker2")
		f.powerOff(t, "worker2")
		if was := f.saysVersion(t, baked); was != "v1.35.9" {
			t.Errorf("the cluster's record says %s", was)
		}
	})

	t.Run("a token that has expired, and the next one", func(t *testing.T) {
		// As two hours after the founding.
		f.kubectl(t, "--namespace=kube-system", "delete", "secret", "kubeadm-certs")
		f.define(t, all, more+"tokenTTL: 1s\n")
		f.renewToken(t)
		eventually(t, "the certificates go with the token", 2*time.Minute, func(ctx context.Context) error {
			left, err := f.try(ctx, "--namespace=kube-system", "get", "secret", "kubeadm-certs", "--ignore-not-found", "--output=name")
			if err == nil && left != "" {
				err = fmt.Errorf("there still is %s", left)
			}
			return err
		})
		for _, m := range late {
			must(t, f.machines[m.name].SetIdentity(identityOf(t, f.identities, m.name)))
		}
		f.powerOn(t, "worker2", "cp3")
		for _, m := range late {
			expect(t, f.machines[m.name], `^endpoint: .*token .*expired.*kiln cluster token`, 2*time.Minute)
		}
		f.define(t, all, more)
		f.renewToken(t)
		for _, m := range late {
			must(t, f.machines[m.name].SetIdentity(identityOf(t, f.identities, m.name)))
		}
		for _, m := range late {
			expect(t, f.machines[m.name], `^first-boot: the identity has a new token`, 3*time.Minute)
			f.mustComplete(t, m.name)
		}
		eventually(t, "all Ready", 4*time.Minute, f.allReady(f.names...))
		f.mustBeWhole(t, all)
		f.mustHoldNoSecrets(t)
	})

	t.Run("machines with the same product UUID", func(t *testing.T) {
		for name, other := range map[string]string{"cp3": "worker2", "worker2": "cp3"} {
			eventually(t, name+" says that it is not the only one", time.Minute, func(ctx context.Context) error {
				status, message := f.nodes(t)[name].condition("KilnUnique")
				if status != "False" || !strings.Contains(message, other) {
					return fmt.Errorf("its condition is %q: %s", status, message)
				}
				return nil
			})
		}
		if status, message := f.nodes(t)["cp1"].condition("KilnUnique"); status == "False" {
			t.Errorf("cp1 is said to be there twice: %s", message)
		}
	})
}

// saysVersion makes the cluster's own record, which kubeadm keeps, name another version, and returns the one before.
func (f *fleet) saysVersion(t *testing.T, version string) (before string) {
	t.Helper()
	text := f.kubectl(t, "--namespace=kube-system", "get", "configmap", "kubeadm-config", "--output=jsonpath={.data.ClusterConfiguration}")
	line := regexp.MustCompile(`(?m)^kubernetesVersion: (\S+)$`)
	found := line.FindStringSubmatch(text)
	if found == nil {
		t.Fatalf("kubeadm-config names no version:\n%s", text)
	}
	patch, err := json.Marshal(map[string]any{"data": map[string]string{"ClusterConfiguration": line.ReplaceAllString(text, "kubernetesVersion: "+version)}})
	must(t, err)
	f.kubectl(t, "--namespace=kube-system", "patch", "configmap", "kubeadm-config", "--type=merge", "--patch="+string(patch))
	return found[1]
}

// renewToken is what the operator does when machines are still to come.
func (f *fleet) renewToken(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	_, err := f.host.Operate(ctx, filepath.Join(f.repo, "bin/kiln"), "cluster", "token", f.document, "-o", f.identities)
	must(t, err)
}

// renderAgain renders the same document with other secrets: another cluster.
func (f *fleet) renderAgain(t *testing.T, all []member, more string) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "other")
	must(t, os.WriteFile(dir+".yaml", []byte(document(all, more)), 0o644))
	f.kiln(t, "cluster", "render", dir+".yaml", "-o", dir)
	return dir
}

// withWrongKey is a node's identity with another certificate key, as an Ignition config.
func (f *fleet) withWrongKey(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(f.identities, "nodes", name, nodefs.IdentityFile))
	must(t, err)
	key := regexp.MustCompile(`[0-9a-f]{64}`)
	if found := key.FindAll(text, -1); len(found) != 1 {
		t.Fatalf("the identity of %s has %d keys", name, len(found))
	}
	text = key.ReplaceAll(text, bytes.Repeat([]byte("1a"), 32))
	config, err := json.Marshal(map[string]any{
		"ignition": map[string]any{"version": "3.5.0"},
		"storage": map[string]any{"files": []map[string]any{{
			"path": "/etc/kiln/" + nodefs.IdentityFile, "mode": 0o600, "contents": map[string]string{"source": "data:;base64," + base64.StdEncoding.EncodeToString(text)},
		}}},
	})
	must(t, err)
	return config
}

// mustHaveGivenUp fails unless firstboot has ended by itself and leaves it to a person.
func (f *fleet) mustHaveGivenUp(t *testing.T, name string) {
	t.Helper()
	eventually(t, name+" leaves it to a person", 20*time.Second, func(ctx context.Context) error {
		out, err := f.machines[name].Exec(ctx, "systemctl", "show", "firstboot.service", "--property=ExecMainStatus,ActiveState")
		if err == nil && (!strings.Contains(out, "ExecMainStatus=78\n") || !strings.Contains(out, "ActiveState=failed\n")) {
			err = fmt.Errorf("its unit is %s", strings.ReplaceAll(out, "\n", " "))
		}
		return err
	})
}

// mustHaveNothing fails unless there is nothing of Kubernetes on the machine's disk.
func (f *fleet) mustHaveNothing(t *testing.T, name string) {
	t.Helper()
	n := f.machines[name]
	for _, dir := range []string{nodefs.EtcUpper + strings.TrimPrefix(nodefs.Kubernetes, "/etc"), nodefs.KubeletState, nodefs.EtcdData} {
		if files := filesIn(n.OnDisk(dir)); len(files) > 0 {
			t.Errorf("%s has in %s: %q", name, dir, files)
		}
	}
	if keys := filesWith(t, n.OnDisk(nodefs.EtcUpper), "PRIVATE KEY"); len(keys) > 0 {
		t.Errorf("%s has private keys in %q", name, keys)
	}
}

// mustBeWithout fails if the cluster knows anything of these machines.
func (f *fleet) mustBeWithout(t *testing.T, machines []member) {
	t.Helper()
	nodes, voters := f.nodes(t), f.etcdMembers(t, "cp1")
	for _, m := range machines {
		_, isNode := nodes[m.name]
		_, isVoter := voters[m.name]
		if isNode || isVoter {
			t.Errorf("%s is a node: %t, a member of etcd: %t", m.name, isNode, isVoter)
		}
	}
}

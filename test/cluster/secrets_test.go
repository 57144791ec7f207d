//go:build cluster

package cluster_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/kiln-os/kiln/internal/nodefs"
)

// mustHoldNoSecrets looks for the token, the certificate key and private keys where people and programs look on a node.
func (f *fleet) mustHoldNoSecrets(t *testing.T) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(f.identities, "secrets.yaml"))
	must(t, err)
	token := regexp.MustCompile(`(?m)^token: [a-z0-9]{6}\.([a-z0-9]{16})$`).FindSubmatch(text)
	key := regexp.MustCompile(`(?m)^certificateKey: ['"]?([0-9a-f]{64})`).FindSubmatch(text)
	if token == nil || key == nil {
		t.Fatal("the secrets have no token or certificate key: nothing could be found")
	}
	secrets := map[string]string{"token": string(token[1]), "certificate key": string(key[1])}
	for _, name := range f.names {
		n := f.machines[name]
		for place, args := range map[string][]string{
			"journal": {"journalctl", "--no-pager", "--all"}, "arguments of programs": {"sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '"},
		} {
			out, err := n.Exec(t.Context(), args...)
			must(t, err)
			for what, secret := range secrets {
				if strings.Contains(out, secret) {
					t.Errorf("%s: the %s is in the %s", name, what, place)
				}
			}
			if strings.Contains(out, "PRIVATE KEY") {
				t.Errorf("%s: a private key is in the %s", name, place)
			}
		}
		for _, dir := range []string{n.OnDisk(nodefs.KilnState), n.OnDisk(nodefs.KubeletState), fmt.Sprintf("/proc/%d/root/run", n.PID()), fmt.Sprintf("/proc/%d/root/tmp", n.PID())} {
			for what, secret := range secrets {
				if files := filesWith(t, dir, secret); len(files) > 0 {
					t.Errorf("%s: the %s is in %q", name, what, files)
				}
			}
		}
	}
}

// filesWith are the files below dir that hold text. What vanishes while it is looked at holds nothing.
func filesWith(t *testing.T, dir, text string) (found []string) {
	t.Helper()
	for _, path := range filesIn(dir) {
		if content, err := os.ReadFile(path); err == nil && strings.Contains(string(content), text) {
			found = append(found, path)
		}
	}
	return found
}

// filesIn are the regular files below dir, at most 16 MiB large, in order.
func filesIn(dir string) (found []string) {
	_ = filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return nil
		}
		if info, err := entry.Info(); err == nil && info.Size() <= 16<<20 {
			found = append(found, path)
		}
		return nil
	})
	slices.Sort(found)
	return found
}

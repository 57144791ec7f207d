//go:build cluster && full

package cluster_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestThreeInitialisers gives three control planes identities that all say initialise: one founds, the others stop and say
// why, and there is one cluster.
func TestThreeInitialisers(t *testing.T) {
	w := newWorld(t)
	all := members(3, 0)
	f := w.newFleet(t, "rivals", all, "")
	for _, name := range []string{"cp2", "cp3"} {
		must(t, f.machines[name].SetIdentity(identityOf(t, f.rerender(t, name), name)))
	}
	f.powerOn(t)
	founder, others := "", []string{}
	for _, name := range f.names {
		match := expect(t, f.machines[name], `^(record: |first-boot: .*take initialise out)`, 4*time.Minute)
		if strings.HasPrefix(match[1], "record") {
			founder += name
		} else {
			others = append(others, name)
		}
	}
	if len(others) != 2 || f.machines[founder] == nil {
		t.Fatalf("%q founded a cluster, %q stopped; want one and two", founder, others)
	}
	// Still so after a restart, when the founder is silent.
	f.powerOff(t)
	f.powerOn(t, others...)
	for _, name := range others {
		expect(t, f.machines[name], `take initialise out`, 3*time.Minute)
	}
	// With the identities mended, all become one cluster.
	f.powerOff(t)
	mended := f.rerender(t, founder)
	for _, name := range others {
		must(t, f.machines[name].SetIdentity(identityOf(t, mended, name)))
	}
	f.powerOn(t)
	for _, name := range f.names {
		f.mustComplete(t, name)
	}
	eventually(t, "all Ready", 8*time.Minute, f.allReady(f.names...))
	f.mustBeWhole(t, all)
}

// rerender renders three control planes with the fleet's secrets, of which another one initialises.
func (f *fleet) rerender(t *testing.T, initialiser string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	text := strings.Replace(document(members(3, 0), ""), "  initialise: true\n", "", 1)
	text = strings.Replace(text, "- name: "+initialiser+"\n", "- name: "+initialiser+"\n  initialise: true\n", 1)
	must(t, os.WriteFile(dir+"/cluster.yaml", []byte(text), 0o644))
	copied := filepath.Join(dir, "fleet")
	must(t, os.MkdirAll(copied, 0o700))
	for _, file := range []string{"secrets.yaml", "README", ".gitignore"} {
		content, err := os.ReadFile(filepath.Join(f.identities, file))
		must(t, err)
		must(t, os.WriteFile(filepath.Join(copied, file), content, 0o600))
	}
	f.kiln(t, "cluster", "render", dir+"/cluster.yaml", "-o", copied)
	return copied
}

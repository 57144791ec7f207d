package initramfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/kiln-os/kiln/internal/step"
)

func TestReport(t *testing.T) {
	err := fmt.Errorf("outer: %w", withHint(errors.New("no disk"), "plug one in"))
	got := report(&StepError{Step: "find-root", Err: err}, "quiet roothash=1\n", []string{"Disks seen:", "  none"})
	for _, want := range []string{
		"THIS NODE DID NOT BOOT. The step \"find-root\" failed:\n  outer: no disk\n", "Kernel command line: quiet roothash=1\n",
		"Disks seen:\n  none\n", "What to do: plug one in.\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("report lacks %q:\n%s", want, got)
		}
	}
	if got := report(errors.New("odd"), "", nil); !strings.Contains(got, `"init" failed`) || !strings.Contains(got, "kiln.shell") {
		t.Errorf("report without a step or hint:\n%s", got)
	}
	if withHint(nil, "x") != nil {
		t.Error("a hint made an error of none")
	}
}

func TestConsoleLevels(t *testing.T) {
	for _, c := range []struct {
		level         int
		log, tty, why string
	}{
		{7, "<6>kiln: a\n<6>kiln: b\n<3>kiln: bad\n", "", "default"},
		{4, "<6>kiln: a\n<6>kiln: b\n<3>kiln: bad\n", "kiln: a\nkiln: b\n", "quiet"},
		{1, "<6>kiln: a\n<6>kiln: b\n<3>kiln: bad\n", "kiln: a\nkiln: b\nkiln: bad\n", "loglevel=1"},
	} {
		var log, tty strings.Builder
		printer := console{log: &log, tty: &tty, level: c.level}
		printer.say("a\nb")
		printer.complain("bad")
		if log.String() != c.log || tty.String() != c.tty {
			t.Errorf("level %d (%s): log %q, tty %q", c.level, c.why, log.String(), tty.String())
		}
	}
}

func TestSteps(t *testing.T) {
	for root, want := range map[string][]string{
		"":                         {"find-root", "verity", "state"},
		"http://10.0.2.2/root.img": {"network", "fetch-root", "verity", "state"},
		"dhcp":                     {"network", "fetch-root", "verity", "state"},
		"dhcp size:>1GiB":          {"find-cache", "network", "fetch-root", "verity", "state"},
		"medium":                   {"find-medium", "verity", "state"},
	} {
		b := newBoot(Options{})
		if root, rule, _ := strings.Cut(root, " "); root != "" {
			var err error
			if rule != "" {
				if b.params.State, err = parseState(rule); err != nil {
					t.Fatal(err)
				}
			}
			if b.params.Root.kind, b.params.Root.url, err = parseSource(root); err != nil {
				t.Fatal(err)
			}
		}
		steps := append(b.prelude(), b.steps()...)
		want = slices.Concat([]string{"mounts", "command-line", "modules"}, want, []string{"etc", "switch-root"})
		if got := steps.Names(); !reflect.DeepEqual(got, want) {
			t.Errorf("%q: steps are %v", root, got)
		}
		for _, s := range steps {
			if s.Does == "" || s.Run == nil {
				t.Errorf("step %s does nothing", s.Name)
			}
		}
	}
}

func TestGuardSurvivesADefect(t *testing.T) {
	err := guard(func() error {
		_, err := step.List(nil)[3].Run(context.Background())
		return err
	})
	if err == nil || !strings.Contains(err.Error(), "a defect of kiln") {
		t.Errorf("error is %v", err)
	}
}

func TestBootFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kiln/boot.json")
	want := Boot{RootHash: "ab", RootDevice: "/dev/vda2", RootLabel: "root-a", StateDevice: "/dev/vda6", StateCreated: true,
		Modules: []string{"ahci"}, Steps: []Timing{{Name: "mounts", At: 1.5, Seconds: 0.25}}}
	if err := want.write(path); err != nil {
		t.Fatal(err)
	}
	got, err := ReadBoot(path)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
	if err := os.WriteFile(path, []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadBoot(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("half a file: %v", err)
	}
}

func TestColdplug(t *testing.T) {
	sys := t.TempDir()
	write := func(path, text string) {
		t.Helper()
		path = filepath.Join(sys, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("bus/pci/devices/0000:00:1f.2/modalias", "pci:v1\n")
	write("bus/pci/devices/0000:00:1f.2/class", "0x010601\n")
	write("bus/pci/devices/0000:00:1f.3/class", "0x0c0500\n")
	write("bus/pci/devices/0000:00:01.0/class", "0x010000\n")
	write("bus/pci/devices/0000:00:01.0/driver", "")
	write("devices/system/cpu/modalias", "cpu:type:x86,feature:,0089\n")
	if got, want := readModaliases(sys), []string{"cpu:type:x86,feature:,0089", "pci:v1"}; !reflect.DeepEqual(got, want) {
		t.Errorf("modaliases are %v, want %v", got, want)
	}
	if got := driverless(sys); !reflect.DeepEqual(got, []string{"0000:00:1f.2 (pci:v1)"}) {
		t.Errorf("driverless controllers are %v", got)
	}

	m, _ := testModules()
	m.aliases = parseAliases("alias pci:v* ahci\nalias cpu:*0089* b\n")
	c := coldplug{sys: sys, modules: m, seen: map[string]bool{}}
	c.plug()
	c.plug()
	<-wait(m, "ahci")
	if got := m.names(); len(got) != 6 {
		t.Errorf("loaded %v", got)
	}
}

// wait is closed when a module has been loaded.
func wait(m *modules, name string) chan struct{} {
	done := make(chan struct{})
	go func() { _ = m.load(name); close(done) }()
	return done
}

package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kiln-os/kiln/builder/bake"
	"github.com/kiln-os/kiln/builder/plan"
	"github.com/kiln-os/kiln/builder/vm"
)

// builtDir is a directory as `kiln build` leaves it, with nothing in its disk.
func builtDir(t *testing.T) string {
	t.Helper()
	return builtFormat(t, plan.FormatDisk)
}

func builtFormat(t *testing.T, format string) string {
	t.Helper()
	dir := t.TempDir()
	text, err := json.Marshal(bake.Manifest{Image: "an-image", Format: format, MinimumDisk: 8 << 30})
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{bake.FileManifest: text, bake.FileDisk: nil} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestVMRefusesBeforeItBoots(t *testing.T) {
	identity := filepath.Join(t.TempDir(), "identity.yaml")
	if err := os.WriteFile(identity, []byte("kind: Identity\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		args []string
		want []string
	}{
		"no image there":             {[]string{t.TempDir()}, []string{"holds no image"}},
		"flags, all at once":         {[]string{builtDir(t), "--accel", "warp", "--firmware", "coreboot", "--wait", "never", "--disk-size", "12", "--api-port=0"}, []string{`--accel: unknown "warp"`, `--firmware: unknown "coreboot" (want uefi, secure-boot or bios)`, `--wait: unknown "never"`, `--disk-size: "12" is not a size`}},
		"arguments for a BIOS":       {[]string{builtDir(t), "--append", "quiet", "--firmware", "bios", "--api-port=0"}, []string{"--append reaches the kernel by way of UEFI"}},
		"a disk too small":           {[]string{builtDir(t), "--disk-size", "4GiB", "--api-port=0"}, []string{"4GiB is too small", "8GiB"}},
		"an identity as config":      {[]string{builtDir(t), "--identity", identity, "--api-port=0"}, []string{"is not an Ignition config", "kiln identity new"}},
		"console of a left machine":  {[]string{builtDir(t), "--console", "--detach", "--api-port=0"}, []string{"want one of them"}},
		"a form for others":          {[]string{builtFormat(t, plan.FormatVHD), "--wait", "never", "--api-port=0"}, []string{"holds image an-image of format vhd, which kiln vm does not boot; want one of format disk or qcow2", "--wait: unknown"}},
		"stopping what does not run": {[]string{"stop", t.TempDir()}, []string{"no machine is running there"}},
	} {
		t.Run(name, func(t *testing.T) {
			env, err := newEnvironment()
			if err != nil {
				t.Fatal(err)
			}
			cmd := newVM(env)
			var out bytes.Buffer
			cmd.SetArgs(c.args)
			cmd.SetOut(&out)
			cmd.SetErr(&out)
			err = cmd.ExecuteContext(t.Context())
			if err == nil {
				t.Fatalf("it did not refuse; it printed %s", &out)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error is %q, want it to say %q", err, want)
				}
			}
		})
	}
}

func TestVMBootsDiskAndQCOW2(t *testing.T) {
	for _, row := range []struct{ format, disk string }{{plan.FormatDisk, bake.FileDisk}, {plan.FormatQCOW2, bake.FileQCOW2}, {"", bake.FileDisk}} {
		dir := builtFormat(t, row.format)
		o, _, err := vmFlags{size: "12GiB", accel: "tcg", firmware: "bios", wait: "none"}.options(dir)
		if err != nil || o.Disk != filepath.Join(dir, row.disk) || o.Firmware != vm.BIOS {
			t.Errorf("format %q boots %s, %v; want %s", row.format, o.Disk, err, row.disk)
		}
	}
}

func TestDetachedMachineTakesNobodysDirectory(t *testing.T) {
	dir := t.TempDir()
	precious := filepath.Join(dir, "precious")
	if err := os.WriteFile(precious, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := clearMachine(dir); err == nil {
		t.Error("a directory without a machine was taken")
	}
	if _, err := os.Stat(precious); err != nil {
		t.Error(err)
	}
	if err := clearMachine(filepath.Join(dir, "none")); err != nil {
		t.Error(err)
	}
}

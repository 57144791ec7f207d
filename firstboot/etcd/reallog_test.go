package etcd_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kiln-os/kiln/firstboot/etcd"
)

// TestRealLog kills etcd itself in the moment in which it makes its log, until it has once happened before the first entry,
// and once after: TookPart has to tell which of the two starts again. KILN_KUBERNETES is as for TestRealEtcd.
func TestRealLog(t *testing.T) {
	if os.Getenv("KILN_KUBERNETES") == "" {
		t.Skip("KILN_KUBERNETES is not set: no programs to run")
	}
	t.Setenv("PATH", os.Getenv("KILN_KUBERNETES")+":"+os.Getenv("PATH"))
	at, peer := insecure(port(t)), insecure(port(t))
	run := func(directory string, until func() bool, within time.Duration) bool {
		t.Helper()
		ctx, kill := context.WithCancel(t.Context())
		defer kill()
		c := exec.CommandContext(ctx, "etcd", "--name=cp1", "--data-dir="+directory, "--listen-client-urls="+at, "--advertise-client-urls="+at,
			"--listen-peer-urls="+peer, "--initial-advertise-peer-urls="+peer, "--initial-cluster=cp1="+peer)
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		defer func() { kill(); _ = c.Wait() }()
		for begin := time.Now(); time.Since(begin) < within; time.Sleep(50 * time.Microsecond) {
			if until() {
				return true
			}
		}
		return false
	}
	healthy := func() bool {
		time.Sleep(100 * time.Millisecond)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		out, err := exec.CommandContext(ctx, "etcdctl", "--endpoints="+at, "endpoint", "health").CombinedOutput()
		return err == nil && strings.Contains(string(out), "is healthy")
	}
	seen := map[bool]int{}
	for try := 0; seen[false] == 0 || seen[true] == 0; try++ {
		if try == 60 {
			t.Fatalf("of %d cuts, %d came before the first entry, and %d after it", try, seen[false], seen[true])
		}
		directory := t.TempDir()
		logged := func() bool {
			logs, _ := filepath.Glob(directory + "/member/wal/*.wal")
			return len(logs) > 0
		}
		began := func() bool { return logged() && (seen[false] == 0 || etcd.TookPart(directory)) }
		if !run(directory, began, time.Minute) {
			t.Fatal("etcd did not make a log within a minute")
		}
		tookPart := etcd.TookPart(directory)
		if seen[tookPart]++; seen[tookPart] > 1 {
			continue
		}
		within := time.Minute
		if !tookPart {
			within = 8 * time.Second // some elections long
		}
		if again := run(directory, healthy, within); again != tookPart {
			t.Errorf("took part: %t; healthy when started again: %t", tookPart, again)
		}
	}
	t.Logf("cuts before the first entry: %d, after it: %d", seen[false], seen[true])
}

func insecure(url string) string { return strings.Replace(url, "https:", "http:", 1) }

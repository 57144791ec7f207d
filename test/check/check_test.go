package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/kiln-os/kiln/internal/nodefs"
	"github.com/kiln-os/kiln/internal/release"
)

func TestReportCountsAndExits(t *testing.T) {
	var out bytes.Buffer
	r := &Report{Out: &out}
	r.Add("first", "seen", nil)
	if r.End() != 0 {
		t.Error("a report without failures is a failure")
	}
	r.Add("second", "", errors.Join(differs("a", "1", "2"), differs("b", "", "3")))
	want := "ok   first: seen\nkiln-check: 1 passed, 0 failed\n" +
		"FAIL second: a: got 1, want 2\nFAIL second: b: got nothing, want 3\n"
	if out.String() != want {
		t.Errorf("printed\n%swant\n%s", out.String(), want)
	}
	if r.End() == 0 {
		t.Error("a report with a failure is none")
	}
	if (&Report{Out: io.Discard}).End() == 0 {
		t.Error("a report of nothing passes")
	}
}

func TestMountsAreRead(t *testing.T) {
	mounts := parseMounts("/dev/dm-0 / squashfs ro,relatime 0 0\n" +
		"/a\\040b /mnt/c\\134d ext4 rw,lowerdir=/x:/y 0 0\nbroken\ntmpfs /run tmpfs rw 0 0\n")
	if len(mounts) != 3 || mounts[1].Source != "/a b" || mounts[1].Target != `/mnt/c\d` {
		t.Fatalf("mounts are %+v", mounts)
	}
	if _, ok := mounts[0].option("ro"); !ok {
		t.Error("ro is not seen")
	}
	if lower, _ := mounts[1].option("lowerdir"); lower != "/x:/y" {
		t.Errorf("lowerdir is %q", lower)
	}
	for path, want := range map[string]string{"/run/x": "tmpfs", "/runner": "squashfs", "/": "squashfs", `/mnt/c\d/e`: "ext4"} {
		if got := mountHolding(mounts, path).Type; got != want {
			t.Errorf("%s lies on %s, want %s", path, got, want)
		}
	}
}

func TestVerityTable(t *testing.T) {
	hash, err := verityRootHash("1 /dev/vda2 /dev/vda3 4096 4096 91204 1 sha256 4fd0aa 00ff")
	if err != nil || hash != "4fd0aa" {
		t.Errorf("root hash %q, %v", hash, err)
	}
	if _, err := verityRootHash("0 8:1 2048"); err == nil {
		t.Error("a linear table passes for verity")
	}
}

func TestParameterIsTheLast(t *testing.T) {
	if got := parameter("quiet roothash=aa xroothash=bb roothash=cc\n", "roothash"); got != "cc" {
		t.Errorf("roothash is %q", got)
	}
	if got := parameter("quiet", "roothash"); got != "" {
		t.Errorf("roothash is %q without being there", got)
	}
}

func TestVersionsAreWholeWords(t *testing.T) {
	for output, want := range map[string]bool{
		"Kubernetes v1.36.3\n":     true,
		"Kubernetes v1.36.30\n":    false,
		"Kubernetes v1.36.3-dirty": true,
		"containerd github.com/containerd/containerd/v2 v1.36.3 abc": true,
		"v11.36.3":                            false,
		"1.36.3.":                             true,
		"1.36.3.1":                            false,
		"CoreDNS-1.36.3\nlinux/amd64, go1.26": true,
	} {
		if got := reports(output, "1.36.3"); got != want {
			t.Errorf("%q names 1.36.3: %v, want %v", output, got, want)
		}
	}
}

func TestWantedVersionIsWhatTheBinaryReports(t *testing.T) {
	n := &node{release: release.Release{Sources: []release.Source{
		{Version: "v3.6.8", Binaries: []release.Binary{{Name: "etcd"}}},
		{Version: "v1.36.3", Reports: "3.10.2", Binaries: []release.Binary{{Name: "pause"}}},
	}}}
	for binary, want := range map[string]string{"etcd": "3.6.8", "pause": "3.10.2"} {
		if got, err := n.wantVersion(binary); err != nil || got != want {
			t.Errorf("%s reports %q, %v; want %s", binary, got, err, want)
		}
	}
	if _, err := n.wantVersion("nginx"); err == nil {
		t.Error("a binary that is not in the release has a version")
	}
}

func TestImagesAreJudged(t *testing.T) {
	baked := map[string]string{"r/a:1": "sha256:1", "r/b:2": "sha256:2"}
	good := []*cri.Image{{RepoTags: []string{"r/a:1"}, Pinned: true}, {RepoTags: []string{"r/b:2"}, Pinned: true}}
	if err := judgeImages(good, baked); err != nil {
		t.Error(err)
	}
	err := judgeImages([]*cri.Image{{RepoTags: []string{"r/a:1"}}, {RepoTags: []string{"r/c:3"}, Pinned: true}}, baked)
	if err == nil {
		t.Fatal("an unpinned, a missing and a foreign image pass")
	}
	for _, want := range []string{"r/a:1: got an unpinned image", "r/b:2: got nothing", "r/c:3: got an image that was not baked"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q lacks %q", err, want)
		}
	}
}

func TestDigestsComeFromCtr(t *testing.T) {
	got := parseImages("REF TYPE DIGEST SIZE PLATFORMS LABELS\nr/a:1 application/vnd.oci.image.manifest.v1+json sha256:11 1.0 MiB linux/amd64 pinned\n")
	if len(got) != 1 || got["r/a:1"] != "sha256:11" {
		t.Errorf("digests are %v", got)
	}
}

func TestLayersAreJudged(t *testing.T) {
	layer := nodefs.Layers + "/sha256/ab/abcd.erofs"
	root := rootfsOf("c1")
	good := parseMounts("/dev/dm-0 / squashfs ro 0 0\n/dev/vda6 /var ext4 rw 0 0\n" + layer + " /var/lib/containerd/s/1/fs erofs ro 0 0\n" +
		"overlay " + root + " overlay rw,lowerdir=/var/lib/containerd/s/1/fs,upperdir=/u,workdir=/w 0 0\n")
	if err := judgeLayers(good, map[string]string{"c1": "etcd"}); err != nil {
		t.Error(err)
	}
	bad := parseMounts("/dev/vda6 /var ext4 rw 0 0\n/var/copied.erofs /x erofs ro 0 0\noverlay " + root + " overlay rw,lowerdir=/var/lib/unpacked 0 0\n")
	err := judgeLayers(bad, map[string]string{"c1": "etcd", "c2": "coredns"})
	if err == nil {
		t.Fatal("unpacked and copied layers pass")
	}
	for _, want := range []string{"source /var/copied.erofs", "container etcd: got lower directory /var/lib/unpacked on ext4", "container coredns: nothing is mounted"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q lacks %q", err, want)
		}
	}
}

func TestJournalOfTheRightBoot(t *testing.T) {
	journal := []byte(`{"bootID":"b1","step":"identity"}` + "\n" + `{"bootID":"b1","step":"first-boot"}` + "\n")
	for _, c := range []struct {
		boot   string
		second bool
		ok     bool
	}{{"b1", false, true}, {"b2", true, true}, {"b1", true, false}, {"b2", false, false}} {
		if err := judgeJournal(journal, c.boot, c.second); (err == nil) != c.ok {
			t.Errorf("boot %s, second %v: %v", c.boot, c.second, err)
		}
	}
	if judgeJournal([]byte("{broken\n"), "b", true) == nil {
		t.Error("a broken journal passes")
	}
}

func TestPodsAreJudged(t *testing.T) {
	list := func(phase, ready string) podList {
		var p pod
		p.Metadata.Namespace, p.Metadata.Name, p.Status.Phase = "kube-system", "etcd", phase
		p.Status.Conditions = []condition{{Type: "Ready", Status: ready}}
		return podList{Items: []pod{p}}
	}
	here := []container{{pod: "kube-system/etcd"}}
	if err := judgePods(list("Running", "True"), here); err != nil {
		t.Error(err)
	}
	for name, err := range map[string]error{
		"no pods": judgePods(podList{}, here), "pending": judgePods(list("Pending", "False"), here), "not ready": judgePods(list("Running", "False"), here),
		"no readiness": judgePods(list("Running", ""), here), "no container": judgePods(list("Running", "True"), nil),
	} {
		if err == nil {
			t.Errorf("%s: passes", name)
		}
	}
}

func TestLeaksAreFoundAndNotShown(t *testing.T) {
	secrets := map[string]string{"the token": "abcdef0123456789", "a key": "MHcCAQEEIsecret"}
	text := "line\nkubeadm join --token x.abcdef0123456789\nlast without end"
	found, size, err := leaks(func(w io.Writer) error { _, err := io.WriteString(w, text); return err }, secrets)
	if err != nil || !slices.Equal(found, []string{"the token"}) || size != int64(len(text)) {
		t.Errorf("found %q in %d bytes, %v", found, size, err)
	}
	broken := errors.New("journalctl is not there")
	if _, _, err := leaks(func(io.Writer) error { return broken }, secrets); !errors.Is(err, broken) {
		t.Errorf("a place that cannot be read passes: %v", err)
	}
}

func TestSecretsComeFromTokensAndKeys(t *testing.T) {
	root := t.TempDir()
	n := &node{root: nodefs.Root(root), tokens: map[string]string{"abcdef": "0123456789abcdef"}}
	key := filepath.Join(root, nodefs.PKI, "etcd", "ca.key")
	if err := os.MkdirAll(filepath.Dir(key), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(key, []byte("-----BEGIN EC PRIVATE KEY-----\nfirst\nsecond\n-----END EC PRIVATE KEY-----\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	files, err := n.privateFiles()
	if err != nil || !slices.Contains(files, nodefs.PKI+"/etcd/ca.key") {
		t.Fatalf("private files are %q, %v", files, err)
	}
	secrets, err := n.secrets()
	if err != nil || secrets["the secret of bootstrap token abcdef"] != "0123456789abcdef" || secrets[nodefs.PKI+"/etcd/ca.key"] != "second" {
		t.Errorf("secrets are %q, %v", secrets, err)
	}
}

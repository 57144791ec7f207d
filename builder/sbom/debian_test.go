package sbom

import (
	"encoding/binary"
	"reflect"
	"strings"
	"testing"
)

func TestParseStatus(t *testing.T) {
	want := []Package{
		{Name: "libc6", Version: "2.41-12+deb13u4", Architecture: "amd64", Source: "glibc"},
		{Name: "bash", Version: "5.2.37-2+b10", Architecture: "amd64", Source: "bash", SourceVersion: "5.2.37-2"},
		{Name: "netbase", Version: "1:6.5~rc1", Architecture: "all"},
	}
	if got := ParseStatus(status); !reflect.DeepEqual(got, want) {
		t.Errorf("have %+v\nwant %+v", got, want)
	}
	unpacked := "Status: install ok unpacked\nPackage: a\nVersion: 1\nArchitecture: all\n\n"
	if got := ParseStatus(unpacked + unpacked); len(got) != 2 || got[1].Name != "a" {
		t.Errorf("of two unpacked packages: %+v", got)
	}
	if got := ParseStatus(""); got != nil {
		t.Errorf("of nothing: %+v", got)
	}
}

func TestPurls(t *testing.T) {
	for _, row := range []struct{ got, want string }{
		{debPurl(Package{Name: "libstdc++6", Version: "1:14+x", Architecture: "amd64"}, "trixie"), "pkg:deb/debian/libstdc%2B%2B6@1:14%2Bx?arch=amd64&distro=trixie"},
		{debPurl(Package{Name: "a", Version: "1", Architecture: "all", Source: "b"}, "sid"), "pkg:deb/debian/a@1?arch=all&distro=sid&upstream=b"},
		{debPurl(Package{Name: "a", Version: "1+b1", Architecture: "all", SourceVersion: "1"}, "sid"), "pkg:deb/debian/a@1%2Bb1?arch=all&distro=sid&upstream=a%401"},
		{modulePurl("github.com/Azure/x", "v1.0.0+incompatible", ""), "pkg:golang/github.com/Azure/x@v1.0.0%2Bincompatible"},
		{modulePurl("k8s.io/kubernetes", "", "cmd/kubelet"), "pkg:golang/k8s.io/kubernetes#cmd/kubelet"},
		{ociPurl("registry.k8s.io/coredns/coredns", "v1.14.2", "sha256:ab"), "pkg:oci/coredns@sha256:ab?arch=amd64&repository_url=registry.k8s.io%2Fcoredns%2Fcoredns&tag=v1.14.2"},
	} {
		if row.got != row.want {
			t.Errorf("have %s\nwant %s", row.got, row.want)
		}
	}
}

// kernel is the beginning of a kernel image with the given text as its version.
func kernel(text string) []byte {
	image := make([]byte, 0x400)
	copy(image[offsetMagic:], "HdrS")
	binary.LittleEndian.PutUint16(image[offsetVersion:], 0x100)
	return append(image[:0x300], text+"\x00and more"...)
}

func TestFindKernel(t *testing.T) {
	for text, want := range map[string]Package{
		"6.12.117+deb13-cloud-amd64 (debian-kernel@lists.debian.org) #1 SMP PREEMPT_DYNAMIC Debian 6.12.117-1 (2026-11-12)": {
			Name: "linux-image-6.12.117+deb13-cloud-amd64", Version: "6.12.117-1", Architecture: "amd64", Source: "linux"},
		"6.12.0-mine (me@home) #1 SMP": {Name: "linux-image-6.12.0-mine", Version: "6.12.0-mine", Architecture: "amd64", Source: "linux"},
		"6.12.0 (me@home) Debian":      {Name: "linux-image-6.12.0", Version: "6.12.0", Architecture: "amd64", Source: "linux"},
	} {
		if got, err := FindKernel(kernel(text)); err != nil || got != want {
			t.Errorf("%s: have %+v, %v\nwant %+v", text, got, err, want)
		}
	}
	for name, image := range map[string][]byte{
		"it is not a Linux kernel image": []byte(strings.Repeat("x", 4096)),
		"it is not a Linux":              nil,
		"it lies behind the end":         kernel("")[:0x280],
		"it is empty":                    kernel(""),
	} {
		if got, err := FindKernel(image); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("want an error with %q, have %+v, %v", name, got, err)
		}
	}
}

func TestFindLoader(t *testing.T) {
	for _, program := range []string{"systemd-boot", "systemd-stub"} {
		got, err := FindLoader([]byte("MZ\x00 #### LoaderInfo: " + program + " 257.13-1~deb13u1 ####\x00 text"))
		if want := (Package{Name: "systemd-boot-efi", Version: "257.13-1~deb13u1", Architecture: "amd64", Source: "systemd"}); err != nil || got != want {
			t.Errorf("%s: have %+v, %v\nwant %+v", program, got, err, want)
		}
	}
	for _, program := range []string{"", "MZ other", "#### LoaderInfo: systemd-boot 257", "#### LoaderInfo: systemd-boot" + strings.Repeat(" ", 90) + " ####", "#### LoaderInfo: systemd-boot ####"} {
		if got, err := FindLoader([]byte(program)); err == nil {
			t.Errorf("%q is taken for %+v", program, got)
		}
	}
}

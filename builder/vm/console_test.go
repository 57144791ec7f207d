package vm

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// logTo gives a console over a fresh log and a function that writes to it.
func logTo(t *testing.T) (*Console, func(string)) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "console.log")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	c := Follow(path, nil)
	t.Cleanup(func() {
		c.Close()
		file.Close()
	})
	return c, func(text string) {
		if _, err := file.WriteString(text); err != nil {
			t.Error(err)
		}
	}
}

func TestPlainLeavesTheText(t *testing.T) {
	for in, want := range map[string]string{
		"\x1bc\x1b[?7l\x1b[2J\x1b[0mSeaBIOS\r":                 "SeaBIOS",
		"[\x1b[0;32m  OK  \x1b[0m] Started kubelet.service.\r": "[  OK  ] Started kubelet.service.",
		"\x1b]0;title\x07login: ":                              "login:",
		"a\tb":                                                 "a\tb",
		"ünï → ok":                                             "ünï → ok",
		"\x1b[01;01H\x1b[01;01H":                               "",
	} {
		if got := plain([]byte(in)); got != want {
			t.Errorf("plain(%q) is %q, want %q", in, got, want)
		}
	}
}

func TestExpectGoesOnAfterTheLastMatch(t *testing.T) {
	c, write := logTo(t)
	write("boot 1\r\nboot 2\r\n")
	any := regexp.MustCompile(`boot (\d)`)
	for _, want := range []string{"1", "2"} {
		match, err := c.WaitFor(t.Context(), any, 5*time.Second)
		if err != nil || match[1] != want {
			t.Fatalf("match is %v, %v; want boot %s", match, err, want)
		}
	}
	if _, err := c.WaitFor(t.Context(), any, 300*time.Millisecond); !errors.Is(err, ErrConsole) {
		t.Errorf("a third match: %v", err)
	}
}

func TestExpectSeesALineUnderWayOnce(t *testing.T) {
	c, write := logTo(t)
	write("node login: ")
	prompt := regexp.MustCompile(`login:`)
	if _, err := c.WaitFor(t.Context(), prompt, 5*time.Second); err != nil {
		t.Fatal(err)
	}
	write("root\r\n")
	if match, err := c.WaitFor(t.Context(), prompt, 500*time.Millisecond); err == nil {
		t.Errorf("the same line matched again: %v", match)
	}
}

func TestExpectSaysWhatItWaitedFor(t *testing.T) {
	c, write := logTo(t)
	for range 40 {
		write("older\n")
	}
	for range 30 {
		write("newer\n")
	}
	_, err := c.Expect(t.Context(), Expectation{What: "the kernel's first line", Want: regexp.MustCompile(`Linux`), Within: 300 * time.Millisecond})
	if err == nil {
		t.Fatal("nothing was written, yet it was seen")
	}
	text := err.Error()
	if !strings.Contains(text, "waiting for the kernel's first line") || !strings.Contains(text, "not seen within 300ms") {
		t.Errorf("message is %q", text)
	}
	if n := strings.Count(text, "newer"); n != 30 || strings.Contains(text, "older") {
		t.Errorf("message has %d of the last 30 lines", n)
	}
}

func TestExpectFailsEarlyOnABadLine(t *testing.T) {
	c, write := logTo(t)
	write("[ 3.1] Kernel panic - not syncing: VFS\n[ 3.2] because\n")
	begin := time.Now()
	_, err := c.Ready(t.Context(), time.Minute, Watch{Say: func(time.Duration, string) {}})
	if err == nil || !strings.Contains(err.Error(), "Kernel panic - not syncing: VFS") || !strings.Contains(err.Error(), "because") {
		t.Errorf("error is %v", err)
	}
	if time.Since(begin) > 20*time.Second {
		t.Errorf("it took %s to notice", time.Since(begin))
	}
}

func TestExpectNoticesThatTheMachineIsOff(t *testing.T) {
	c, write := logTo(t)
	write("last words\n")
	c.Close()
	_, err := c.WaitFor(t.Context(), regexp.MustCompile(`never`), time.Minute)
	if err == nil || !strings.Contains(err.Error(), "the machine is off") || !strings.Contains(err.Error(), "last words") {
		t.Errorf("error is %v", err)
	}
}

func TestReadyShowsTheWayAndNamesTheNode(t *testing.T) {
	c, write := logTo(t)
	write("BdsDxe: starting\n[    0.0] Linux version 6.12\n[    9.0] systemd[1]: systemd 257.9 running in system mode\n" +
		"[    3.0] kiln: root is verified\n[\x1b[0;32m  OK  \x1b[0m] Started containerd.service\r\nhostname: cp-1 (0.06 s)\r\nready: cp-1 is Ready (3.1 s)\n")
	var said []string
	name, err := c.Ready(t.Context(), 10*time.Second, Watch{Say: func(_ time.Duration, text string) { said = append(said, text) }})
	if err != nil || name != "cp-1" {
		t.Fatalf("node %q, %v", name, err)
	}
	text := strings.Join(said, "\n")
	for _, want := range []string{"root is verified", "hostname: cp-1 (0.06 s)", "ready: cp-1 is Ready"} {
		if !strings.Contains(text, want) {
			t.Errorf("a person was told %q, want also %q", text, want)
		}
	}
	if strings.Contains(text, "containerd.service") {
		t.Errorf("a person was told systemd's lines: %q", text)
	}
}

func TestReadyKnowsTheOtherEnds(t *testing.T) {
	for line, want := range map[string]string{
		"first-boot: was completed before; nothing to do":                                                      "",
		"first-boot: step identity cannot be done: fw_cfg: release: is v9, but this image carries v1.36":       "carries v1.36",
		"[\x1b[0;1;31mFAILED\x1b[0m] Failed to start \x1b[0;1;39mfirstboot.service\x1b[0m - First boot: make…": "firstboot.service",
		"[    9.1] kiln: THIS NODE DID NOT BOOT. The step \"verity\" failed:":                                  "verity",
	} {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			c, write := logTo(t)
			write(line + "\r\n")
			name, err := c.Ready(t.Context(), 20*time.Second, Watch{Say: func(time.Duration, string) {}})
			if want == "" && (err != nil || name != "") {
				t.Errorf("%q: node %q, %v", line, name, err)
			}
			if want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
				t.Errorf("%q: error is %v, want it to say %q", line, err, want)
			}
		})
	}
}

package vm

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"time"
)

// What a node says on its console. The lines are firstboot's: one for each step, as in "ready: node-1 is Ready (3.10 s)".
var (
	nodeReady = regexp.MustCompile(`(?:^ready: |kiln: node )(\S+) is Ready|first-boot: was completed before`)
	// nodeFailed are the ends from which no first boot comes back.
	nodeFailed = []*regexp.Regexp{
		regexp.MustCompile(`first-boot: .*cannot be done|kiln: first boot failed`),
		regexp.MustCompile(`FAILED.*firstboot\.service`),
		regexp.MustCompile(`THIS NODE DID NOT BOOT`),
		regexp.MustCompile(`Kernel panic - not syncing`),
		regexp.MustCompile(`BdsDxe: No bootable option or device was found`),
		regexp.MustCompile(`You are in emergency mode`),
	}
	// nodeSays are firstboot's own words: from the initramfs in the kernel's log, from the service line by line.
	nodeSays = regexp.MustCompile(`kiln: (.+)|^([a-z][a-z0-9-]*: .+)`)
	// systemdSpeaks is among the first lines of systemd.
	systemdSpeaks = regexp.MustCompile(`systemd\[1\]: (systemd \d+|Detected virtualization)|Welcome to .*!`)
)

// Watch shows what a booting node does: say gets lines for a person, and is called at least every quiet period.
type Watch struct {
	Say func(elapsed time.Duration, text string)
	// Status, when set, gets the line of the moment once a second, for a terminal.
	Status func(elapsed time.Duration, text string)
	// Quiet is the longest silence of Say; default 15 s.
	Quiet time.Duration
}

// Ready waits until the node on the console is Ready, and returns its name: "" when its first boot was completed before,
// for then the console does not tell when the cluster is back. It fails early when the console shows that
// this will not happen.
func (c *Console) Ready(ctx context.Context, within time.Duration, w Watch) (string, error) {
	begin := time.Now()
	if w.Quiet == 0 {
		w.Quiet = 15 * time.Second
	}
	stop := make(chan struct{})
	stopped := make(chan struct{})
	passing := make(chan string, 4096)
	go func() {
		defer close(stopped)
		w.show(begin, passing, stop)
	}()
	match, err := c.Expect(ctx, Expectation{What: "the node to be Ready", Want: nodeReady, Never: nodeFailed, Within: within, Each: func(l Line) {
		select {
		case passing <- l.Text:
		default: // a line less on the screen is better than a stalled wait
		}
	}})
	close(stop)
	<-stopped
	if err != nil {
		return "", err
	}
	return match[1], nil
}

// milestone is a point on the way to Ready and the words that show it.
type milestone struct {
	name  string
	shown *regexp.Regexp
}

// show prints the lines worth showing until stop is closed.
func (w Watch) show(begin time.Time, passing <-chan string, stop <-chan struct{}) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	latest, last := "power on", begin
	ahead := []milestone{{"the firmware is done, the kernel starts", kernelSpeaks}, {"systemd starts", systemdSpeaks}}
	say := func(text string) {
		last = time.Now()
		w.Say(time.Since(begin), text)
	}
	for {
		select {
		case text := <-passing:
			if text = strings.TrimSpace(text); text == "" {
				continue
			}
			latest = text
			if len(ahead) > 0 && ahead[0].shown.MatchString(text) {
				say(ahead[0].name)
				ahead = ahead[1:]
			}
			if words := nodeSays.FindStringSubmatch(text); words != nil {
				say(words[1] + words[2])
			}
		case <-tick.C:
			if w.Status != nil {
				w.Status(time.Since(begin), latest)
			}
			if time.Since(last) >= w.Quiet {
				say("still booting; the console's last line: " + latest)
			}
		case <-stop:
			for len(passing) > 0 {
				if words := nodeSays.FindStringSubmatch(<-passing); words != nil {
					say(words[1] + words[2])
				}
			}
			return
		}
	}
}

// Clock formats a time since power-on as a person's clock, as in 4:07.
func Clock(d time.Duration) string {
	seconds := int(d.Seconds())
	return fmt.Sprintf("%d:%02d", seconds/60, seconds%60)
}

package initramfs

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// console prints for the person in front of the machine. Lines go to the kernel's log, which shows them on all
// consoles and keeps them for the journal. With quiet on the command line the log shows no notices, so
// that they go to /dev/console as well.
type console struct {
	log, tty io.Writer
	// level is the kernel's console log level: the log shows what is below.
	level int
}

// Levels of the kernel's log.
const (
	levelError = 3
	levelInfo  = 6
)

// openConsole opens the kernel's log and the console, which have to be mounted. What cannot be opened is left out.
func openConsole() console {
	// Without this the kernel drops lines that come quickly. systemd sets the same.
	_ = os.WriteFile("/proc/sys/kernel/printk_devkmsg", []byte("on\n"), 0)
	c := console{level: consoleLevel()}
	if file, err := os.OpenFile("/dev/kmsg", os.O_WRONLY, 0); err == nil {
		c.log = file
	}
	if file, err := os.OpenFile("/dev/console", os.O_RDWR|unix.O_NOCTTY, 0); err == nil {
		c.tty = file
	}
	return c
}

// consoleLevel reads the first number of kernel.printk.
func consoleLevel() int {
	text, _ := os.ReadFile("/proc/sys/kernel/printk")
	first, _, _ := strings.Cut(strings.TrimSpace(string(text)), "\t")
	level, err := strconv.Atoi(first)
	if err != nil {
		return 0
	}
	return level
}

// say prints one line of ordinary news.
func (c console) say(format string, args ...any) { c.print(levelInfo, fmt.Sprintf(format, args...)) }

// complain prints one line of what went wrong; also quiet consoles show it.
func (c console) complain(format string, args ...any) {
	c.print(levelError, fmt.Sprintf(format, args...))
}

// print writes each line of text as one record of the log.
func (c console) print(level int, text string) {
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		if c.log != nil {
			fmt.Fprintf(c.log, "<%d>kiln: %s\n", level, line)
		}
		if c.tty != nil && (c.log == nil || c.level <= level) {
			fmt.Fprintf(c.tty, "kiln: %s\n", line)
		}
	}
}

// uptime is the time since the kernel started.
func uptime() time.Duration {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		return 0
	}
	return time.Duration(now.Nano())
}

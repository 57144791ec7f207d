package initramfs

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/kiln-os/kiln/firstboot/disks"
	"github.com/kiln-os/kiln/firstboot/initramfs/network"
	"github.com/kiln-os/kiln/internal/nodefs"
)

// Params is what the initramfs reads from the kernel command line.
type Params struct {
	// RootHash is the root hash of the dm-verity tree: 32 bytes.
	RootHash []byte
	// RootWait bounds the wait for the root's partitions.
	RootWait time.Duration
	// Shell asks for a shell instead of a reboot when a step fails.
	Shell bool
	// Platform is where the identity will be looked for; the initramfs only passes it on.
	Platform string
	// Reboot is how long a failure stays on the console before the machine restarts.
	Reboot time.Duration
	// Root says where the root comes from; its zero value is a disk.
	Root Source
	// State picks the disk for a live node's state; its zero value is memory.
	State disks.Rule
	// Network is what the command line says of the network.
	Network network.Config
	// Panic tells that the command line already says what a kernel panic does.
	Panic bool
}

const (
	defaultRootWait = 60 * time.Second
	defaultReboot   = 60 * time.Second
)

// ParseCmdline reads the text of /proc/cmdline. When a parameter is given twice, the last counts. The error joins
// every problem; even then the other parameters are valid, so that a failure obeys kiln.shell and kiln.reboot.
func ParseCmdline(text string) (Params, error) {
	params := Params{RootWait: defaultRootWait, Reboot: defaultReboot}
	var errs []error
	var asked network.Parameters
	for _, word := range splitCmdline(text) {
		key, value, _ := strings.Cut(word, "=")
		var err error
		switch key {
		case nodefs.ParamRootHash:
			params.RootHash, err = parseRootHash(value)
		case nodefs.ParamRootWait:
			params.RootWait, err = parseSeconds(key, value)
		case nodefs.ParamReboot:
			params.Reboot, err = parseSeconds(key, value)
		case nodefs.ParamShell:
			params.Shell = value != "0" && value != "no" && value != "false"
		case nodefs.ParamPlatform:
			params.Platform = value
		case nodefs.ParamRoot:
			params.Root.kind, params.Root.url, err = parseSource(value)
		case nodefs.ParamRootCA:
			params.Root.ca, err = parsePin(value)
		case nodefs.ParamState:
			params.State, err = parseState(value)
		case nodefs.ParamIP:
			asked.IP = append(asked.IP, value)
		case nodefs.ParamVLAN:
			asked.VLAN = append(asked.VLAN, value)
		case nodefs.ParamBond:
			asked.Bond = append(asked.Bond, value)
		case nodefs.ParamNameserver:
			asked.Nameserver = append(asked.Nameserver, value)
		case "panic":
			params.Panic = true
		}
		errs = append(errs, err)
	}
	if params.Root.overNetwork() {
		var err error
		params.Network, err = asked.Parse()
		errs = append(errs, err)
	}
	errs = append(errs, params.contradictions())
	err := errors.Join(errs...)
	if len(params.RootHash) == 0 && err == nil {
		err = fmt.Errorf("kernel command line: %s: missing; boot the image's own UKI, or add the hash that stands in its manifest", nodefs.ParamRootHash)
	}
	return params, err
}

func parseRootHash(value string) ([]byte, error) {
	hash, err := hex.DecodeString(value)
	if err != nil || len(hash) != 32 {
		return nil, fmt.Errorf("kernel command line: %s: %q is not a root hash; want 64 hexadecimal digits", nodefs.ParamRootHash, value)
	}
	return hash, nil
}

// parseSeconds falls back to a minute, which is the default of every wait here.
func parseSeconds(key, value string) (time.Duration, error) {
	n, err := strconv.ParseUint(value, 10, 31)
	if err != nil {
		return time.Minute, fmt.Errorf("kernel command line: %s: %q is not a number of seconds; want a whole number", key, value)
	}
	return time.Duration(n) * time.Second, nil
}

// splitCmdline splits at white space outside double quotes, and drops the quotes, as the kernel does
// (lib/cmdline.c, next_arg). What follows "--" belongs to init and is not the kernel's.
func splitCmdline(text string) []string {
	var words []string
	var word strings.Builder
	quoted, begun := false, false
	flush := func() {
		if begun {
			words = append(words, word.String())
		}
		word.Reset()
		begun = false
	}
	for _, r := range text {
		switch {
		case r == '"':
			quoted, begun = !quoted, true
		case !quoted && strings.ContainsRune(" \t\n\r", r):
			flush()
		default:
			word.WriteRune(r)
			begun = true
		}
	}
	flush()
	for i, w := range words {
		if w == "--" {
			return words[:i]
		}
	}
	return words
}

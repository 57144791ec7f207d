package source

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kiln-os/kiln/internal/document"
	"github.com/kiln-os/kiln/internal/nodefs"
)

// Platforms that an image can be built for.
const (
	PlatformAWS          = "aws"
	PlatformAzure        = "azure"
	PlatformDigitalOcean = "digitalocean"
	PlatformGCP          = "gcp"
	PlatformHetzner      = "hetzner"
	PlatformMetal        = "metal"
	PlatformOpenStack    = "openstack"
	PlatformQEMU         = "qemu"
	PlatformVMware       = "vmware"
)

// Platforms lists them.
func Platforms() []string {
	return []string{PlatformAWS, PlatformAzure, PlatformDigitalOcean, PlatformGCP, PlatformHetzner, PlatformMetal, PlatformOpenStack, PlatformQEMU, PlatformVMware}
}

// ForPlatform lists the places where an image of platform looks, in order: those on the machine, then those that the kernel
// command line names, then the platform's metadata service. Metal has none: whoever is on its network could answer there.
func ForPlatform(platform string, m Machine) ([]Source, error) {
	own, known := map[string][]Source{
		PlatformAWS:          {m.ec2()},
		PlatformAzure:        {m.azureMedium(), m.azure()},
		PlatformDigitalOcean: {m.digitalOcean()},
		PlatformGCP:          {m.gce()},
		PlatformHetzner:      {m.hetzner()},
		PlatformMetal:        {m.partition(), m.configDrive(), m.noCloudMedium()},
		PlatformOpenStack:    {m.configDrive(), m.openStack()},
		PlatformQEMU:         {m.firmwareConfig(), m.partition(), m.configDrive(), m.noCloudMedium()},
		PlatformVMware:       {m.guestInfo(), m.partition(), m.noCloudMedium()},
	}[platform]
	if !known {
		given := "is missing"
		if platform != "" {
			given = fmt.Sprintf("is %q", platform)
		}
		return nil, document.Problem{File: commandLineName, Field: nodefs.ParamPlatform,
			Text: given + "; want " + enumerate(Platforms()) + ": boot the image with its own kernel command line"}
	}
	named, err := m.named(platform)
	if err != nil {
		return nil, err
	}
	sources := append([]Source{m.credentials()}, own...)
	sources = append(sources, named...)
	slices.SortStableFunc(sources, func(a, b Source) int { return rank(a) - rank(b) })
	if online := slices.ContainsFunc(sources, func(s Source) bool { return !s.Offline }); online {
		for i := range sources {
			sources[i].Appears = min(sources[i].Appears, briefWait)
		}
	}
	return sources, nil
}

// rank puts what is on the machine first, and a metadata service last.
func rank(s Source) int {
	switch {
	case s.Offline:
		return 0
	case s.Metadata == nil:
		return 1
	}
	return 2
}

// named are the sources that the kernel command line asks for.
func (m Machine) named(platform string) ([]Source, error) {
	line, err := os.ReadFile(m.Root.Path("/proc/cmdline"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("reading kernel command line: %w", err)
	}
	commandLine := string(line)
	problems := &document.Problems{File: commandLineName}
	f := m.fetcher(commandLine, problems)
	var sources []Source
	if text := Parameter(commandLine, nodefs.ParamIdentity); text != "" {
		checkURL(problems, nodefs.ParamIdentity, text)
		sources = append(sources, m.url(text, f))
	}
	if text := Parameter(commandLine, nodefs.ParamIdentityDHCP); text != "" {
		option, err := parseDHCPOption(text)
		if err != nil {
			problems.Add(nodefs.ParamIdentityDHCP, "%s", err)
		}
		sources = append(sources, m.dhcp(option, f))
	}
	if seed := m.seedURL(platform, commandLine); seed != "" {
		checkURL(problems, paramSeed, seed)
		sources = append(sources, m.noCloudSeed(seed, f))
	}
	if len(sources) == 0 {
		for _, name := range []string{nodefs.ParamIdentityCA, nodefs.ParamIdentitySHA256} {
			if Parameter(commandLine, name) != "" {
				problems.Add(name, "is given without a URL; give %s, too, or leave it out", nodefs.ParamIdentity)
			}
		}
	}
	return sources, problems.Err()
}

// commandLineName begins messages about the kernel command line.
const commandLineName = "kernel command line"

// defaultBudget is how long the network may take to give an identity, all waiting included.
const defaultBudget = 5 * time.Minute

// BudgetOn is how long the search may take on the network by the kernel command line: nodefs.ParamIdentityWait, or five
// minutes. The error is a document.Problem.
func BudgetOn(commandLine string) (time.Duration, error) {
	text := Parameter(commandLine, nodefs.ParamIdentityWait)
	if text == "" {
		return defaultBudget, nil
	}
	seconds, err := strconv.ParseUint(text, 10, 31)
	if err != nil || seconds == 0 {
		return 0, document.Problem{File: commandLineName, Field: nodefs.ParamIdentityWait, Text: fmt.Sprintf("is %q; want a number of seconds, as in 300", text)}
	}
	return time.Duration(seconds) * time.Second, nil
}

// Parameter returns the value of the last name=value on a kernel command line, without quotes; "" when there is none.
func Parameter(commandLine, name string) string {
	value := ""
	for _, word := range strings.Fields(commandLine) {
		if v, ok := strings.CutPrefix(strings.Trim(word, `"`), name+"="); ok {
			value = strings.Trim(v, `"`)
		}
	}
	return value
}

// enumerate is a list as people write it: a, b or c.
func enumerate(names []string) string {
	last := len(names) - 1
	if last < 1 {
		return strings.Join(names, "")
	}
	return strings.Join(names[:last], ", ") + " or " + names[last]
}

package source

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"sigs.k8s.io/yaml"
)

// noCloudMedium reads a filesystem labelled cidata with the files user-data and meta-data, as hypervisors make it for
// cloud-init (cloudinit.readthedocs.io, datasource NoCloud).
func (m Machine) noCloudMedium() Source {
	const name = "NoCloud medium (cidata)"
	return m.medium(labelled(name, "cidata", func(directory string) (Found, error) {
		text, file, err := readAny(directory, "user-data", "USER-DATA")
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return Found{}, nothing("it holds no user-data")
		case err != nil:
			return Found{}, err
		}
		found, err := userData.read(name+", "+file, text)
		if err != nil {
			return Found{}, err
		}
		found.Metadata, err = about(name, directory, parseNoCloud, "meta-data", "META-DATA")
		return found, err
	}))
}

// paramSeed is the kernel parameter that names a NoCloud seed: ds=nocloud;s=https://10.0.0.1/seed/.
const paramSeed = "ds"

// seedURL is the directory of a NoCloud seed: on the kernel command line or, in a virtual machine, in the serial number that
// its hypervisor gave it. Empty when there is none.
func (m Machine) seedURL(platform, commandLine string) string {
	texts := []string{paramSeed + "=" + Parameter(commandLine, paramSeed)}
	if platform == PlatformQEMU {
		texts = append(texts, m.facts().Serial)
	}
	for _, text := range texts {
		kind, rest, _ := strings.Cut(text, ";")
		if kind != "ds=nocloud" && kind != "ds=nocloud-net" {
			continue
		}
		for setting := range strings.SplitSeq(rest, ";") {
			name, value, _ := strings.Cut(setting, "=")
			if (name == "s" || name == "seedfrom") && strings.HasPrefix(value, "http") {
				return value
			}
		}
	}
	return ""
}

// noCloudSeed asks at a seed's URL, to which cloud-init appends the names of the files.
func (m Machine) noCloudSeed(seed string, f fetcher) Source {
	return Source{Name: "NoCloud seed", Find: func(ctx context.Context) (Found, error) {
		urls, err := f.expand(paramSeed, seed)
		if err != nil {
			return Found{}, err
		}
		text, place, err := f.text(ctx, urls[0]+"user-data")
		if err != nil {
			return Found{}, err
		}
		found, err := userData.read(place, text)
		if err != nil {
			return Found{}, err
		}
		about, _, err := f.text(ctx, urls[0]+"meta-data")
		if _, missing := errors.AsType[refused](err); missing {
			return found, nil
		}
		if err == nil {
			found.Metadata, err = parseNoCloud(about)
		}
		return found, err
	}}
}

// parseNoCloud reads meta-data (YAML or JSON).
func parseNoCloud(text []byte) (Metadata, error) {
	var about struct {
		InstanceID    string `json:"instance-id"`
		LocalHostname string `json:"local-hostname"`
		Hostname      string `json:"hostname"`
	}
	if err := yaml.Unmarshal(text, &about); err != nil {
		return Metadata{}, fmt.Errorf("reading meta-data: %w", err)
	}
	if about.LocalHostname == "" {
		about.LocalHostname = about.Hostname
	}
	return Metadata{InstanceID: about.InstanceID, Hostname: hostname(about.LocalHostname)}, nil
}

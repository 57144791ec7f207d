package source

import (
	"context"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"strings"

	"github.com/kiln-os/kiln/internal/command"
	"github.com/kiln-os/kiln/internal/document"
	"github.com/kiln-os/kiln/internal/nodefs"
)

// guestInfoKeys are where VMware's hypervisor may have the identity: kiln's own key, Ignition's and cloud-init's.
func guestInfoKeys() []string {
	return []string{"guestinfo.kiln.identity", "guestinfo.ignition.config.data", "guestinfo.userdata"}
}

// guestInfo asks VMware's hypervisor what the machine was given, by the program that comes with open-vm-tools. A key KEY may have
// an encoding in KEY.encoding; a vApp's properties of the same names are in guestinfo.ovfEnv.
func (m Machine) guestInfo() Source {
	const name = "VMware guestinfo"
	return Source{Name: name, Offline: true, Find: func(ctx context.Context) (Found, error) {
		get := func(key string) (string, error) { return m.guestInfoValue(ctx, key) }
		environment, err := get("guestinfo.ovfEnv")
		if err != nil {
			return Found{}, err
		}
		properties, err := parseProperties(environment)
		if err != nil {
			return Found{}, document.Problem{File: name + ", guestinfo.ovfEnv", Text: "is not XML; correct the vApp's properties"}
		}
		var all []Found
		for _, lookup := range []func(key string) (string, error){get, func(key string) (string, error) { return properties[key], nil }} {
			for _, key := range guestInfoKeys() {
				found, err := guestInfoAt(name, key, lookup)
				switch {
				case errors.Is(err, ErrNothing):
				case err != nil:
					return Found{}, err
				case len(all) > 0 && !all[0].same(found):
					return Found{}, document.Problem{File: name + ", " + key, Text: "has another identity than a key before it; leave one of " + enumerate(guestInfoKeys())}
				default:
					all = append(all, found)
				}
			}
		}
		if len(all) == 0 {
			return Found{}, nothing("the machine was given none of %s", enumerate(guestInfoKeys()))
		}
		all[0].Metadata, err = m.guestInfoMetadata(get)
		return all[0], err
	}}
}

// guestInfoAt reads one key; ErrNothing when it is not set.
func guestInfoAt(name, key string, lookup func(key string) (string, error)) (Found, error) {
	text, err := lookup(key)
	if err != nil {
		return Found{}, err
	}
	if text == "" || text == "---" { // the second is what a run before has left of it (cloud-init)
		return Found{}, ErrNothing
	}
	encoding, err := lookup(key + ".encoding")
	if err != nil {
		return Found{}, err
	}
	place := name + ", " + key
	switch encoding {
	case "", "base64", "b64", "gzip+base64", "gz+b64", "gzip+b64", "gz+base64":
		return encodedUserData.read(place, []byte(text))
	}
	return Found{}, document.Problem{File: place + ".encoding", Text: fmt.Sprintf("unknown %q; want base64 or gzip+base64, or leave it out", encoding)}
}

// guestInfoMetadata is what a key of cloud-init's says, and what the firmware has of the machine's UUID.
func (m Machine) guestInfoMetadata(get func(key string) (string, error)) (Metadata, error) {
	text, err := get("guestinfo.metadata")
	if err != nil {
		return Metadata{}, err
	}
	raw, err := encodedUserData.unwrap([]byte(text))
	if err != nil {
		return Metadata{}, document.Problem{File: "VMware guestinfo, guestinfo.metadata", Text: err.Error()}
	}
	metadata, err := parseNoCloud(raw)
	if err != nil {
		return Metadata{}, document.Problem{File: "VMware guestinfo, guestinfo.metadata", Text: "is neither YAML nor JSON; correct it"}
	}
	if uuid := vmwareUUID(m.facts().Serial); uuid != "" {
		// cloud-provider-vsphere, pkg/cloudprovider/vsphere/instances.go.
		metadata.ProviderID = "vsphere://" + uuid
	}
	return metadata, nil
}

// vmwareUUID is the machine's UUID as vCenter has it, from the serial number VMware-42 1c … -… : the one that firmware tells has
// its first three parts in another order on some versions of the virtual hardware.
func vmwareUUID(serial string) string {
	digits, is := strings.CutPrefix(serial, "VMware-")
	digits = strings.NewReplacer(" ", "", "-", "").Replace(strings.ToLower(digits))
	if raw, err := hex.DecodeString(digits); !is || err != nil || len(raw) != 16 {
		return ""
	}
	return strings.Join([]string{digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]}, "-")
}

// guestInfoValue asks for one key; empty when it is not set.
func (m Machine) guestInfoValue(ctx context.Context, key string) (string, error) {
	text, err := command.Output(ctx, m.Runner, command.Command{Name: nodefs.GuestInfoTool, Args: []string{"info-get " + key}})
	if exit, is := errors.AsType[*command.ExitError](err); is && strings.Contains(exit.Tail, "No value found") {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("asking the hypervisor for %s: %w", key, err)
	}
	return strings.TrimSuffix(string(text), "\n"), nil
}

// parseProperties reads an OVF environment (DMTF DSP0243, 9.5).
func parseProperties(text string) (map[string]string, error) {
	properties := map[string]string{}
	if strings.TrimSpace(text) == "" {
		return properties, nil
	}
	var environment struct {
		Properties []struct {
			Key   string `xml:"key,attr"`
			Value string `xml:"value,attr"`
		} `xml:"PropertySection>Property"`
	}
	if err := xml.Unmarshal([]byte(text), &environment); err != nil {
		return nil, err
	}
	for _, p := range environment.Properties {
		properties[p.Key] = p.Value
	}
	return properties, nil
}

package source

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	ignition "github.com/coreos/ignition/v2/config/v3_5"
	"github.com/coreos/ignition/v2/config/v3_5/types"

	"github.com/kiln-os/kiln/internal/document"
	"github.com/kiln-os/kiln/internal/nodefs"
)

// Identity takes the identity document out of an Ignition config of spec 3.0 to 3.5: the contents of the file
// nodefs.IdentityInIgnition. What else the config asks for is upstream's engine to do. file names the config in messages; every error is a document.Problem, and none quotes
// contents, which are secret.
func Identity(file string, raw []byte) ([]byte, error) {
	config, err := parseIgnition(file, raw)
	if err != nil {
		return nil, err
	}
	index, _ := survey(config)
	if index < 0 {
		return nil, document.Problem{File: file, Field: "storage.files",
			Text: "has no file " + nodefs.IdentityInIgnition + "; put the identity there as a data: URL"}
	}
	text, err := contents(config.Storage.Files[index].Contents)
	if err != nil {
		return nil, document.Problem{File: file, Field: fmt.Sprintf("storage.files[%d].contents", index), Text: err.Error()}
	}
	return text, nil
}

// fromConfig is what a source returns of the Ignition config that it found.
func (m Machine) fromConfig(file string, raw []byte) ([]byte, error) {
	if m.Whole {
		return raw, nil
	}
	return Identity(file, raw)
}

// Rest parses an Ignition config and takes the identity out of it: what is left is the user's own. asks lists what that
// is, for people; it is empty when the config holds nothing but an identity.
func Rest(file string, raw []byte) (config types.Config, asks []string, err error) {
	if config, err = parseIgnition(file, raw); err != nil {
		return config, nil, err
	}
	index, asks := survey(config)
	if index >= 0 {
		config.Storage.Files = slices.Delete(config.Storage.Files, index, index+1)
	}
	return config, asks, nil
}

// parseIgnition takes warnings for errors: what Ignition warns of (a key that nobody reads) is a mistake here.
func parseIgnition(file string, raw []byte) (types.Config, error) {
	var header struct {
		Ignition struct {
			Version string `json:"version"`
		} `json:"ignition"`
	}
	for _, start := range []string{"#cloud-config", "## template: jinja", "Content-Type: multipart/"} {
		if bytes.HasPrefix(bytes.TrimLeft(raw, " \t\r\n"), []byte(start)) {
			return types.Config{}, document.Problem{File: file,
				Text: "is for cloud-init, which this image does not have; give the machine an Ignition config of spec 3.0 to 3.5 (of Cluster API's providers, one that writes such)"}
		}
	}
	// Errors are Ignition's to report.
	_ = json.Unmarshal(raw, &header)
	if strings.HasPrefix(header.Ignition.Version, "2.") || strings.HasPrefix(header.Ignition.Version, "1.") {
		return types.Config{}, document.Problem{File: file, Field: "ignition.version",
			Text: fmt.Sprintf("is %s, as Cluster API's kubeadm provider writes it; want 3.0.0 to 3.5.0: convert the config with ign-converter", header.Ignition.Version)}
	}
	config, report, err := ignition.ParseCompatibleVersion(raw)
	problems := &document.Problems{File: file}
	for _, entry := range report.Entries {
		problems.Add(strings.TrimPrefix(strings.TrimPrefix(entry.Context.String(), "$"), "."), "%s%s; mend the Ignition config (spec 3.5)", entry.Message, place(entry.Marker.StartP))
	}
	if len(report.Entries) == 0 && err != nil {
		problems.Add("", "is not an Ignition config of spec 3.0 to 3.5: %s", err)
	}
	return config, problems.Err()
}

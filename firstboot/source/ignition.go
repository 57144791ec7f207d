package source

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	ignition "github.com/coreos/ignition/v2/config/v3_5"
	"github.com/coreos/ignition/v2/config/v3_5/types"

	"github.com/kiln-os/kiln/internal/document"
	"github.com/kiln-os/kiln/internal/nodefs"
)

// fromIgnition takes the identity document out of an Ignition config of spec 3.0 to 3.5: the contents of the file
// nodefs.IdentityInIgnition. A config that asks for more comes along whole. place names the config in messages; every error
// is a document.Problem, and none quotes contents, which are secret.
func fromIgnition(place string, raw []byte) (Found, error) {
	config, err := parseIgnition(place, raw)
	if err != nil {
		return Found{}, err
	}
	index, others := survey(config)
	if index < 0 {
		return Found{}, document.Problem{File: place, Field: "storage.files",
			Text: "has no file " + nodefs.IdentityInIgnition + "; put the identity there as a data: URL"}
	}
	text, err := contents(config.Storage.Files[index].Contents)
	if err != nil {
		return Found{}, document.Problem{File: place, Field: fmt.Sprintf("storage.files[%d].contents", index), Text: err.Error()}
	}
	found := Found{Text: text}
	if len(others) > 0 {
		found.Ignition, found.Asks = raw, others
	}
	return found, nil
}

// Rest parses an Ignition config, which is at place, and takes the identity out of it: what is left is the user's own.
func Rest(place string, raw []byte) (types.Config, error) {
	config, err := parseIgnition(place, raw)
	if index, _ := survey(config); err == nil && index >= 0 {
		config.Storage.Files = slices.Delete(config.Storage.Files, index, index+1)
	}
	return config, err
}

// isIgnition tells an Ignition config from other JSON, of whatever spec it is.
func isIgnition(text []byte) bool {
	var header map[string]json.RawMessage
	if json.Unmarshal(text, &header) != nil {
		// A config that was cut off is still one: the parser says where it ends.
		return strings.HasPrefix(strings.TrimLeft(string(text), "{ \t\r\n"), `"ignition"`)
	}
	_, is := header["ignition"]
	return is
}

// parseIgnition takes warnings for errors: what Ignition warns of (a key that nobody reads) is a mistake here.
func parseIgnition(file string, raw []byte) (types.Config, error) {
	var header struct {
		Ignition struct {
			Version string `json:"version"`
		} `json:"ignition"`
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
		problems.Add(strings.TrimPrefix(strings.TrimPrefix(entry.Context.String(), "$"), "."), "%s%s; mend the Ignition config (spec 3.5)", entry.Message, position(entry.Marker.StartP))
	}
	if len(report.Entries) == 0 && err != nil {
		problems.Add("", "is not an Ignition config of spec 3.0 to 3.5: %s", err)
	}
	return config, problems.Err()
}

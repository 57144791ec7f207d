package ignition

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"

	"github.com/coreos/ignition/v2/config/v3_5/types"
)

// rendering is a rendered config: as values, for what is read of it, and as it was written, for what upstream reads. The
// latter may have fields of a later spec.
type rendering struct {
	types.Config
	raw map[string]any
}

// readRendering reads the engine's cache of the config.
func readRendering(path string) (rendering, error) {
	var d rendering
	text, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(text, &d.Config)
	}
	if err == nil {
		err = json.Unmarshal(text, &d.raw)
	}
	if err != nil {
		return d, fmt.Errorf("reading the rendered config: %w", err)
	}
	return d, nil
}

// only is the config with nothing to do but one kind of storage, as in raid. Change gets each entry.
func (d rendering) only(kind string, change func(entry map[string]any)) ([]byte, error) {
	storage, _ := d.raw["storage"].(map[string]any)
	entries, _ := storage[kind].([]any)
	changed := make([]any, len(entries))
	for i, entry := range entries {
		fields, _ := entry.(map[string]any)
		fields = maps.Clone(fields)
		if change != nil {
			change(fields)
		}
		changed[i] = fields
	}
	return json.Marshal(map[string]any{"ignition": d.raw["ignition"], "storage": map[string]any{kind: changed}})
}

// secrets are texts that no message may have.
func (d rendering) secrets() []string {
	var secrets []string
	for _, user := range d.Passwd.Users {
		if user.PasswordHash != nil && *user.PasswordHash != "" {
			secrets = append(secrets, *user.PasswordHash)
		}
	}
	for _, group := range d.Passwd.Groups {
		if group.PasswordHash != nil && *group.PasswordHash != "" {
			secrets = append(secrets, *group.PasswordHash)
		}
	}
	return secrets
}

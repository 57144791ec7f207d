// Package profiles holds the profiles that kiln comes with, as data: one YAML document a file, named after the profile.
package profiles

import "embed"

// FS holds NAME.yaml for each profile.
//
//go:embed *.yaml
var FS embed.FS

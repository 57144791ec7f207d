package preload

import (
	"bytes"
	_ "embed"
	"sort"
	"text/template"

	"github.com/kiln-os/kiln/internal/nodefs"
)

//go:embed containerd.toml.tmpl
var containerdTemplate string

// ContainerdConfig renders containerd's configuration (version 3, the format of containerd 2.x). Names are the
// container images to pin against the kubelet's garbage collection; sandbox is the one that every pod's sandbox runs.
func ContainerdConfig(sandbox string, names []string) ([]byte, error) {
	names = append([]string(nil), names...)
	sort.Strings(names)
	parsed, err := template.New("containerd").Parse(containerdTemplate)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	err = parsed.Execute(&out, map[string]any{
		"Sandbox": sandbox, "Names": names, "Layers": nodefs.Layers, "CNIPlugins": nodefs.CNIPlugins, "CNIConfig": nodefs.CNIConfig,
	})
	return out.Bytes(), err
}

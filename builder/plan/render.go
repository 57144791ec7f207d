package plan

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/kiln-os/kiln/internal/document"
)

// Render writes the description as text for people.
func (d Description) Render(out io.Writer) error {
	w := &writer{table: tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)}
	w.section("documents")
	w.row("image", d.Image.Name, d.Image.Description)
	w.row("profile", d.Profile.Name, d.Profile.Description)
	w.row("release", d.Release.Name, d.Release.Description)

	w.section("node")
	w.row("role", d.Profile.Role)
	w.row("platform", d.Image.Platform)
	w.row("format", strings.Join(append([]string{d.Image.Format}, d.Image.Copies...), ", "))
	w.row("firmware", strings.Join(d.Image.Firmware, ", "))
	w.row("architecture", d.Image.Architecture)
	w.row("kubernetes", d.Release.Kubernetes)
	w.row("debian", d.Release.Suite)
	w.row("file times", d.Release.Timestamp.UTC().Format("2006-01-02 15:04:05 UTC"))
	w.row("root packed", fmt.Sprintf("squashfs, zstd level %d", d.Image.Compression))
	w.profile(d.Profile)

	w.section("kernel command line")
	w.row(d.CommandLine)
	w.section("kernel")
	w.row(d.Kernel)
	w.section("modules in the initramfs")
	w.wrapped(d.Modules)
	w.section("debian packages, with all they need")
	w.wrapped(d.Packages)
	w.section("programs in the root")
	for _, program := range d.Programs {
		w.row(program.Path, program.Version, program.Module)
	}
	w.section("container images, ready to run")
	for _, image := range d.ContainerImages {
		w.row(image.Name, contents(image))
	}
	w.section("manifests that the first node applies")
	w.wrapped(d.Addons)
	w.section("units")
	for _, unit := range d.Units {
		w.row(unit.Name, map[bool]string{true: "enabled", false: "disabled"}[unit.Enabled], unit.By)
	}
	w.layout(d.Layout)
	w.section("steps of the build")
	for _, step := range d.Steps {
		w.row(step.Name, step.Does)
	}
	w.flush()
	return w.err
}

// writer lays sections out and keeps the first error.
type writer struct {
	table *tabwriter.Writer
	begun bool
	err   error
}

func (w *writer) printf(format string, args ...any) {
	if _, err := fmt.Fprintf(w.table, format, args...); err != nil && w.err == nil {
		w.err = err
	}
}

func (w *writer) flush() {
	if err := w.table.Flush(); err != nil && w.err == nil {
		w.err = err
	}
}

// section begins a new table: columns line up within a section only.
func (w *writer) section(title string) {
	w.flush()
	if w.begun {
		w.printf("\n")
	}
	w.begun = true
	w.printf("%s\n", title)
}

// row prints cells in columns; empty ones at the end leave no trailing blanks.
func (w *writer) row(cells ...string) {
	for len(cells) > 0 && cells[len(cells)-1] == "" {
		cells = cells[:len(cells)-1]
	}
	w.printf("  %s\n", strings.Join(cells, "\t"))
}

const lineWidth = 100

// wrapped prints words in lines.
func (w *writer) wrapped(words []string) {
	if len(words) == 0 {
		w.row("none")
		return
	}
	line := " "
	for _, word := range words {
		if len(line)+1+len(word) > lineWidth {
			w.printf("%s\n", line)
			line = " "
		}
		line += " " + word
	}
	w.printf("%s\n", line)
}

func (w *writer) profile(p ProfileFacts) {
	for _, name := range slices.Sorted(maps.Keys(p.Kubelet)) {
		// The value came from YAML, so it can be written as JSON.
		value, err := json.Marshal(p.Kubelet[name])
		if err != nil && w.err == nil {
			w.err = err
		}
		w.row("kubelet", name+": "+string(value))
	}
	for _, key := range slices.Sorted(maps.Keys(p.Labels)) {
		w.row("label", key+"="+p.Labels[key])
	}
	for _, taint := range p.Taints {
		w.row("taint", strings.TrimSuffix(taint.Key+"="+taint.Value, "=")+":"+taint.Effect)
	}
	for _, name := range p.Files {
		w.row("file", name)
	}
	for _, name := range p.Patches {
		w.row("kubeadm patch", name)
	}
}

func (w *writer) layout(l Layout) {
	w.section(fmt.Sprintf("disk image of %s, for disks of at least %s", l.Size, l.MinimumDisk()))
	w.row("partition", "begins at", "size", "content", "type")
	for _, p := range l.Partitions {
		w.row(p.Label, document.Size(p.Offset).String(), document.Size(p.Size).String(), string(p.Content), p.TypeGUID)
	}
	w.row(l.StateLabel, (l.Size - alignment).String(), "the rest", "made on the first boot, at least "+l.StateMinimum.String())
}

// contents says what a container image is made of.
func contents(image ContainerFacts) string {
	var parts []string
	for _, program := range image.Programs {
		parts = append(parts, path.Base(program.Path)+" "+program.Version)
	}
	text := strings.Join(parts, ", ")
	if len(image.Packages) > 0 {
		text += " on Debian's " + strings.Join(image.Packages, ", ")
	}
	return text
}

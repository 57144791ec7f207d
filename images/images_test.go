package images_test

import (
	"io/fs"
	"slices"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/kiln-os/kiln/images"
)

// Images of one kernel have one list of modules: only so do they share an initramfs, and a build of many formats makes as many
// as there are kernels.
func TestImagesOfAKernelShareTheirModules(t *testing.T) {
	type document struct {
		Kernel  string   `json:"kernel"`
		Modules []string `json:"modules"`
	}
	files, err := fs.Glob(images.Definitions, "*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	first, modules := map[string]string{}, map[string][]string{}
	for _, file := range files {
		text, err := fs.ReadFile(images.Definitions, file)
		if err != nil {
			t.Fatal(err)
		}
		var image document
		if err := yaml.Unmarshal(text, &image); err != nil {
			t.Fatal(err)
		}
		if len(image.Modules) == 0 {
			t.Errorf("%s has no modules", file)
		}
		if first[image.Kernel] == "" {
			first[image.Kernel], modules[image.Kernel] = file, image.Modules
		}
		if !slices.Equal(image.Modules, modules[image.Kernel]) {
			t.Errorf("%s: the modules are %v; want those of %s, which has the same kernel: %v", file, image.Modules, first[image.Kernel], modules[image.Kernel])
		}
	}
	if len(first) == len(files) {
		t.Errorf("no two of %d images have the same kernel", len(files))
	}
}

package source

import "strings"

// Platforms that an image can be built for.
const (
	PlatformQEMU  = "qemu"
	PlatformMetal = "metal"
)

// Parameter returns the value of the last name=value on a kernel command line, without quotes; "" when there is none.
func Parameter(commandLine, name string) string {
	value := ""
	for _, word := range strings.Fields(commandLine) {
		if v, ok := strings.CutPrefix(word, name+"="); ok {
			value = strings.Trim(v, `"`)
		}
	}
	return value
}

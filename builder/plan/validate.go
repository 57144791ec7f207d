// Package plan turns three names into one checked value, or every reason why not.
package plan

import "github.com/kiln-os/kiln/internal/document"

func checkImage(p *document.Problems, image Image) {}

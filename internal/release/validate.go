package release

import "github.com/kiln-os/kiln/internal/document"

func checkRelease(p *document.Problems, v Release) {}

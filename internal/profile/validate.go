package profile

import "github.com/kiln-os/kiln/internal/document"

func checkProfile(p *document.Problems, v Profile) {}

package cluster

import "github.com/kiln-os/kiln/internal/document"

func checkIdentity(p *document.Problems, id Identity) {}

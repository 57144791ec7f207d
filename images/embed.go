// Package images holds the image definitions, the releases and the base overlay tree as data, so that kiln needs no
// file beside itself.
package images

import "embed"

// Definitions are the Image documents, NAME.yaml.
//
//go:embed *.yaml
var Definitions embed.FS

// Releases has one directory a release: releases/NAME/release.yaml, the pins of its sources and its addons.
//
//go:embed releases
var Releases embed.FS

// Overlay is the tree overlay/ that is laid over the root of every image.
//
//go:embed all:overlay
var Overlay embed.FS

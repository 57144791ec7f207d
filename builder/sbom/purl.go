package sbom

import (
	"fmt"
	"path"
	"strings"
)

// Package URLs, as the purl specification writes them: https://github.com/package-url/purl-spec

// debPurl names a Debian package. The qualifier upstream is not in the specification, but what scanners look for: Debian
// tracks vulnerabilities by source package.
func debPurl(p Package, suite string) string {
	purl := fmt.Sprintf("pkg:deb/debian/%s@%s?arch=%s&distro=%s", escape(strings.ToLower(p.Name)), escape(p.Version), escape(p.Architecture), escape(suite))
	switch {
	case p.SourceVersion != "" && p.SourceVersion != p.Version:
		return purl + "&upstream=" + escape(p.source()+"@"+p.SourceVersion)
	case p.source() != p.Name:
		return purl + "&upstream=" + escape(p.source())
	}
	return purl
}

// modulePurl names a Go module, with the directory of a package in it as the subpath. Its letters keep their case: Go
// tells modules apart by it, and so do the databases of vulnerabilities. An empty version is one that nobody knows.
func modulePurl(module, version, dir string) string {
	purl := "pkg:golang/" + escapeSegments(module)
	if version != "" {
		purl += "@" + escape(version)
	}
	if dir != "" {
		purl += "#" + escapeSegments(dir)
	}
	return purl
}

// ociPurl names a container image by its manifest's digest.
func ociPurl(repository, tag, digest string) string {
	return fmt.Sprintf("pkg:oci/%s@%s?arch=amd64&repository_url=%s&tag=%s",
		escape(strings.ToLower(path.Base(repository))), escape(digest), escape(strings.ToLower(repository)), escape(tag))
}

func escapeSegments(path string) string {
	segments := strings.Split(path, "/")
	for i, segment := range segments {
		segments[i] = escape(segment)
	}
	return strings.Join(segments, "/")
}

// escape encodes everything but letters, digits and the five characters that the specification leaves alone.
func escape(text string) string {
	var out strings.Builder
	for _, c := range []byte(text) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte(".-_~:", c) >= 0:
			out.WriteByte(c)
		default:
			fmt.Fprintf(&out, "%%%02X", c)
		}
	}
	return out.String()
}

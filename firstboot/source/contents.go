package source

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/coreos/ignition/v2/config/v3_5/types"
	"github.com/coreos/vcontext/tree"
	"github.com/vincent-petithory/dataurl"

	"github.com/kiln-os/kiln/internal/nodefs"
)

// survey finds the identity's file (-1 when there is none) and lists everything else that the config asks for.
func survey(config types.Config) (index int, others []string) {
	note := func(asked bool, what string) {
		if asked {
			others = append(others, what)
		}
	}
	index = -1
	for i, file := range config.Storage.Files {
		if file.Path != nodefs.IdentityInIgnition {
			note(true, "file "+file.Path)
			continue
		}
		index = i
		note(len(file.Append) > 0, "appending to "+file.Path)
	}
	i, s := config.Ignition, config.Storage
	note(len(i.Config.Merge) > 0, "ignition.config.merge")
	note(i.Config.Replace.Source != nil, "ignition.config.replace")
	note(len(i.Security.TLS.CertificateAuthorities) > 0, "ignition.security")
	note(i.Proxy.HTTPProxy != nil || i.Proxy.HTTPSProxy != nil || len(i.Proxy.NoProxy) > 0, "ignition.proxy")
	note(i.Timeouts.HTTPTotal != nil || i.Timeouts.HTTPResponseHeaders != nil, "ignition.timeouts")
	note(len(config.KernelArguments.ShouldExist)+len(config.KernelArguments.ShouldNotExist) > 0, "kernelArguments")
	for _, directory := range s.Directories {
		note(true, "directory "+directory.Path)
	}
	for _, link := range s.Links {
		note(true, "link "+link.Path)
	}
	note(len(s.Disks)+len(s.Filesystems)+len(s.Raid)+len(s.Luks) > 0, "storage (disks, filesystems, raid or luks)")
	for _, user := range config.Passwd.Users {
		note(true, "user "+user.Name)
	}
	for _, group := range config.Passwd.Groups {
		note(true, "group "+group.Name)
	}
	for _, unit := range config.Systemd.Units {
		note(true, "unit "+unit.Name)
	}
	return index, others
}

// contents decodes a data: URL, plain or base64, with gzip or without, and checks its hash when one is given.
func contents(resource types.Resource) ([]byte, error) {
	if resource.Source == nil || *resource.Source == "" {
		return nil, errors.New("are missing; want source with a data: URL")
	}
	if !strings.HasPrefix(*resource.Source, "data:") {
		scheme, _, _ := strings.Cut(*resource.Source, ":")
		return nil, fmt.Errorf("source has the scheme %q; want a data: URL, as nothing is fetched by this version", scheme)
	}
	decoded, err := dataurl.DecodeString(*resource.Source)
	if err != nil {
		return nil, errors.New("source is not a data: URL; want data:,TEXT or data:;base64,TEXT")
	}
	text := decoded.Data
	if resource.Compression != nil && *resource.Compression == "gzip" {
		if text, err = unzip(text); err != nil {
			return nil, fmt.Errorf("cannot be unpacked: %w; drop compression or pack the text with gzip", err)
		}
	}
	if len(text) > maxBytes {
		return nil, fmt.Errorf("have %d bytes; an identity has at most %d", len(text), maxBytes)
	}
	if resource.Verification.Hash != nil {
		return text, verify(text, *resource.Verification.Hash)
	}
	return text, nil
}

func unzip(packed []byte) ([]byte, error) {
	reader, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, err
	}
	// One byte more than allowed shows that there is too much, without unpacking all of a bomb.
	return io.ReadAll(io.LimitReader(reader, maxBytes+1))
}

// verify compares text with a hash of the form sha256-HEX or sha512-HEX (Ignition spec 3.1: of the unpacked contents).
func verify(text []byte, hash string) error {
	kind, want, _ := strings.Cut(hash, "-")
	var have string
	switch kind {
	case "sha256":
		sum := sha256.Sum256(text)
		have = hex.EncodeToString(sum[:])
	case "sha512":
		sum := sha512.Sum512(text)
		have = hex.EncodeToString(sum[:])
	default:
		return fmt.Errorf("verification.hash is of the kind %q; want sha256 or sha512", kind)
	}
	if have != want {
		return fmt.Errorf("have the %s %s, but verification.hash says %s; make the config again", kind, have, want)
	}
	return nil
}

// position renders where in the config a problem is.
func position(p *tree.Pos) string {
	if p == nil || p.Line == 0 {
		return ""
	}
	return fmt.Sprintf(" (line %d, column %d)", p.Line, p.Column)
}

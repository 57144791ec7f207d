package bake

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/kiln-os/kiln/builder/parts"
)

// dirEnrolment is the directory of the output directory with the files that make firmware trust the key.
const dirEnrolment = "secure-boot"

// autoEnrolment is where systemd-boot looks for keys on the EFI system partition: a virtual machine whose firmware is in
// setup mode enrols them by itself, any other offers it in the menu (systemd-boot(7), secure-boot-enroll).
const autoEnrolment = "loader/keys/auto"

// signedBy stands in keys of parts for who signed them; empty for nobody. The private key is in none of them.
func (b *build) signedBy() string {
	if b.Signer == nil {
		return ""
	}
	return b.Signer.Fingerprint()
}

// writeProgram writes an EFI program, signed if the build signs.
func (b *build) writeProgram(path string, program []byte) error {
	if b.Signer != nil {
		signed, err := b.Signer.Sign(program)
		if err != nil {
			return fmt.Errorf("signing %s: %w", filepath.Base(path), err)
		}
		program = signed
	}
	return os.WriteFile(path, program, 0o644)
}

// enrolment makes the enrolment files in a directory and returns their names, sorted; none when nothing is signed.
func (b *build) enrolment(dir string) ([]string, error) {
	if b.Signer == nil {
		return nil, nil
	}
	files, err := b.Signer.Enrolment(b.Plan.Release.Timestamp)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	names := slices.Sorted(maps.Keys(files))
	for _, name := range names {
		if err := os.WriteFile(filepath.Join(dir, name), files[name], 0o644); err != nil {
			return nil, err
		}
	}
	return names, nil
}

// writeEnrolment puts the enrolment files beside the image.
func (b *build) writeEnrolment() error {
	names, err := b.enrolment(b.next(dirEnrolment))
	if err != nil {
		return err
	}
	for _, name := range names {
		name = filepath.Join(dirEnrolment, name)
		sum, err := parts.SHA256File(b.next(name))
		if err != nil {
			return err
		}
		if err := b.addFile(name, sum); err != nil {
			return err
		}
	}
	return nil
}

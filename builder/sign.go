package main

import (
	"errors"
	"os"
	"strings"

	"github.com/kiln-os/kiln/builder/secureboot"
)

// readSigner reads the two files of --sign; nil without it.
func readSigner(sign string) (*secureboot.Signer, error) {
	if sign == "" {
		return nil, nil
	}
	keyFile, certificateFile, ok := strings.Cut(sign, ",")
	if !ok || keyFile == "" || certificateFile == "" || strings.Contains(certificateFile, ",") {
		return nil, usagef("--sign wants two files, as in --sign db.key,db.crt: the private key, then its certificate")
	}
	key, keyErr := os.ReadFile(keyFile)
	certificate, certificateErr := os.ReadFile(certificateFile)
	if err := errors.Join(keyErr, certificateErr); err != nil {
		return nil, usagef("--sign: %v", err)
	}
	signer, err := secureboot.Parse(keyFile, key, certificateFile, certificate)
	return &signer, err
}

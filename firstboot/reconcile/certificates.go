package reconcile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kiln-os/kiln/internal/command"
	"github.com/kiln-os/kiln/internal/nodefs"
)

// uploadedCertificates is the Secret in which kubeadm keeps the encrypted certificates. A bootstrap token that lives for two
// hours owns it, and takes it along (kubeadm, phases/copycerts).
const uploadedCertificates = "/api/v1/namespaces/kube-system/secrets/kubeadm-certs"

// certificates keeps the uploaded certificates alive while control planes that were planned are missing, and then removes
// the key that they are encrypted with. Only the node that founded the cluster has it.
func (s *session) certificates(ctx context.Context) error {
	path := s.r.Root.Path(nodefs.CertificateKeyConfig)
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("looking for the certificate key: %w", err)
	}
	expected := s.expected()
	if len(expected) == 0 {
		return s.forgetKey(path)
	}
	if text := strings.Join(expected, ", "); text != s.r.missing {
		s.r.missing = text
		s.r.say("certificates: kept uploaded for the control planes %s", text)
	}
	due, err := s.uploadDue(ctx, info.ModTime())
	if err != nil || !due {
		return err
	}
	return s.uploadCertificates(ctx, path)
}

// expected are the control planes that were planned and are not in the cluster yet: kubeadm marks one when it has joined.
func (s *session) expected() []string {
	var names []string
	for _, name := range s.facts.planned {
		if _, joined := s.nodes[name].Labels[controlPlaneLabel]; !joined {
			names = append(names, name)
		}
	}
	return names
}

// uploadDue tells whether the certificates have to be uploaded: they are not there, or were last uploaded too long ago. When
// that was, the time of the configuration's file says, so that a restart of this program does not upload again.
func (s *session) uploadDue(ctx context.Context, last time.Time) (bool, error) {
	now := s.r.Now()
	if now.Sub(last) >= s.r.Pace.Upload || now.Before(last) {
		return true, nil
	}
	there, err := s.api.Exists(ctx, uploadedCertificates)
	if err != nil {
		return false, fmt.Errorf("looking for uploaded certificates: %w", err)
	}
	return !there, nil
}

// uploadCertificates has kubeadm do it: the key is in the configuration and never an argument, and is not printed.
func (s *session) uploadCertificates(ctx context.Context, path string) error {
	c := command.Command{Name: nodefs.Kubeadm,
		Args: []string{"init", "phase", "upload-certs", "--upload-certs", "--skip-certificate-key-print", "--config=" + path},
		// What keeps this program small is not meant for kubeadm.
		Env: []string{"GOMEMLIMIT=off"}}
	if _, err := s.r.Runner.Run(ctx, c); err != nil {
		return fmt.Errorf("uploading certificates: %w", withoutKeys(err))
	}
	now := s.r.Now()
	if err := os.Chtimes(path, now, now); err != nil {
		return fmt.Errorf("noting when certificates were uploaded: %w", err)
	}
	s.r.say("certificates: uploaded again")
	return nil
}

// keyLike is a certificate key or a part of one.
var keyLike = regexp.MustCompile(`[0-9a-fA-F]{16,}`)

// withoutKeys is kubeadm's error without what looks like a key: its validation quotes a value that it does not like.
func withoutKeys(err error) error {
	exit, ok := errors.AsType[*command.ExitError](err)
	if !ok {
		return err
	}
	return &command.ExitError{Name: exit.Name, Code: exit.Code, Tail: keyLike.ReplaceAllString(exit.Tail, "[redacted]")}
}

// forgetKey removes the configuration with the key, overwritten first: on a plain disk that reaches the same blocks.
func (s *session) forgetKey(path string) error {
	if err := overwrite(path); err != nil {
		return fmt.Errorf("removing the certificate key: %w", err)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("removing the certificate key: %w", err)
	}
	directory, err := os.Open(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("removing the certificate key: %w", err)
	}
	defer directory.Close()
	if err := directory.Sync(); err != nil && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("removing the certificate key: %w", err)
	}
	s.r.say("certificates: %d control planes were planned and are in the cluster; the certificate key is removed from this node", len(s.facts.planned))
	return nil
}

func overwrite(path string) error {
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if _, err := file.Write(bytes.Repeat([]byte{'\n'}, int(info.Size()))); err != nil {
		return err
	}
	return file.Sync()
}

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/kiln-os/kiln/internal/cluster"
	"github.com/kiln-os/kiln/internal/nodefs"
)

// adminFile is the administrator's kubeconfig.
const adminFile = "admin.conf"

// secretFile is a file of mode 0600.
type secretFile struct {
	name string
	text []byte
}

// holdsSame tells whether dir holds all the files already, and they say what these say but for keys and tokens. A
// directory with anything else in it is an error: it may be the only copy of a cluster's keys.
func holdsSame(dir string, files []secretFile) (bool, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(entries) == 0 {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("looking at the output directory: %w", err)
	}
	for _, file := range files {
		have, err := os.ReadFile(filepath.Join(dir, file.name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, fmt.Errorf("looking at the output directory: %w", err)
		}
		if err != nil || !sameBarSecrets(file.name, have, file.text) {
			return false, usagef("%s: holds something else, perhaps the only copy of a cluster's keys (see its %s); remove it, or give another directory with -o", dir, file.name)
		}
	}
	return true, nil
}

func sameBarSecrets(name string, have, want []byte) bool {
	switch name {
	case nodefs.IdentityFile:
		old, oldErr := cluster.ParseIdentity(name, have)
		fresh, freshErr := cluster.ParseIdentity(name, want)
		old.Bootstrap, fresh.Bootstrap = cluster.Bootstrap{}, cluster.Bootstrap{}
		return oldErr == nil && freshErr == nil && reflect.DeepEqual(old, fresh)
	case adminFile:
		return server(have) == server(want)
	default:
		// The Ignition config holds nothing but the identity.
		return true
	}
}

// server is the API's URL in a kubeconfig, or empty.
func server(kubeconfig []byte) string {
	var config struct {
		Clusters []struct {
			Cluster struct {
				Server string `json:"server"`
			} `json:"cluster"`
		} `json:"clusters"`
	}
	if err := yaml.Unmarshal(kubeconfig, &config); err != nil || len(config.Clusters) != 1 {
		return ""
	}
	return config.Clusters[0].Cluster.Server
}

// writeSecrets makes dir (0700), which is empty or not there, with the files (0600), all or nothing: they are written beside it and renamed at once.
func writeSecrets(dir string, files []secretFile) error {
	dir = filepath.Clean(dir)
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return fmt.Errorf("making the output directory: %w", err)
	}
	// MkdirTemp makes directories of mode 0700.
	work, err := os.MkdirTemp(filepath.Dir(dir), "."+strings.TrimLeft(filepath.Base(dir), ".")+"-*")
	if err != nil {
		return fmt.Errorf("making the output directory: %w", err)
	}
	for _, file := range files {
		if err := writeSecret(filepath.Join(work, file.name), file.text); err != nil {
			return errors.Join(err, os.RemoveAll(work))
		}
	}
	// An empty directory gives way; one that has filled since it was looked at does not.
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(fmt.Errorf("replacing the output directory: %w", err), os.RemoveAll(work))
	}
	if err := os.Rename(work, dir); err != nil {
		return errors.Join(fmt.Errorf("naming the output directory: %w", err), os.RemoveAll(work))
	}
	return nil
}

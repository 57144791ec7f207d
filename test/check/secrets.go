package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/kiln-os/kiln/internal/command"
	"github.com/kiln-os/kiln/internal/nodefs"
)

// privateFiles are the files that only root may read.
func (n *node) privateFiles() ([]string, error) {
	files := []string{nodefs.IdentityCopy, nodefs.AdminConfig}
	err := filepath.WalkDir(n.root.Path(nodefs.PKI), func(path string, _ fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".key") {
			files = append(files, "/"+strings.TrimPrefix(path, strings.TrimSuffix(string(n.root), "/")+"/"))
		}
		return err
	})
	return files, err
}

// forgotten are the files that held the bootstrap token until the first boot was completed.
func forgotten() []string {
	return []string{nodefs.KubeadmConfig, nodefs.KubeadmResumeConfig, nodefs.Kubernetes + "/bootstrap-kubelet.conf", nodefs.Kubernetes + "/tmp"}
}

// secretModes wants mode 0600 and root as the owner, and nothing left of what the node was let in with.
func (n *node) secretModes(context.Context) (string, error) {
	files, err := n.privateFiles()
	if err != nil {
		return "", err
	}
	var problems []error
	for _, file := range forgotten() {
		if _, err := os.Lstat(n.root.Path(file)); !errors.Is(err, fs.ErrNotExist) {
			problems = append(problems, fmt.Errorf("%s: got it (%v), want it gone after the first boot", file, err))
		}
	}
	for _, file := range files {
		info, err := os.Stat(n.root.Path(file))
		if err != nil {
			problems = append(problems, err)
			continue
		}
		problems = append(problems, differs(file, info.Mode().String(), "-rw-------"))
	}
	return fmt.Sprintf("%d files", len(files)), errors.Join(problems...)
}

// secrets are the texts that must be nowhere, by what they are. They are never printed.
func (n *node) secrets() (map[string]string, error) {
	secrets := map[string]string{}
	for name, secret := range n.tokens {
		secrets["the secret of bootstrap token "+name] = secret
	}
	files, err := n.privateFiles()
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		if !strings.HasSuffix(file, ".key") {
			continue
		}
		text, err := os.ReadFile(n.root.Path(file))
		if err != nil {
			return nil, err
		}
		if line := telling(string(text)); line != "" {
			secrets[file] = line
		}
	}
	if len(secrets) == 0 {
		return nil, errors.New("got no secret to look for, want at least a key")
	}
	return secrets, nil
}

// readTokens are the secret halves of the cluster's bootstrap tokens, by their ids: the node itself has forgotten its own.
func (n *node) readTokens(ctx context.Context) (map[string]string, error) {
	var list struct {
		Items []struct {
			Data map[string][]byte `json:"data"`
		} `json:"items"`
	}
	if err := n.outputJSON(ctx, &list, kubectl, n.kubectlArgs("get", "secrets", "-n", "kube-system", "-o", "json",
		"--field-selector=type=bootstrap.kubernetes.io/token")...); err != nil {
		return nil, err
	}
	tokens := map[string]string{}
	for _, item := range list.Items {
		if secret := string(item.Data["token-secret"]); secret != "" {
			tokens[string(item.Data["token-id"])] = secret
		}
	}
	return tokens, nil
}

// telling is a line of a PEM key that gives it away: the second of its base64 lines, for the first one begins alike in
// every key of the same kind.
func telling(key string) string {
	var lines []string
	for line := range strings.Lines(key) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "-----") {
			lines = append(lines, line)
		}
	}
	if len(lines) < 2 {
		return ""
	}
	return lines[1]
}

// secretsNotShown looks for the secrets in the journal of all boots, in the cluster's Node and events, and in the
// arguments of every process.
func (n *node) secretsNotShown(ctx context.Context) (string, error) {
	var err error
	if n.tokens, err = n.readTokens(ctx); err != nil {
		return "", err
	}
	secrets, err := n.secrets()
	if err != nil {
		return "", err
	}
	var problems []error
	if !n.second && len(n.tokens) == 0 {
		problems = append(problems, errors.New("got no bootstrap token in the cluster, want the identity's"))
	}
	identity, err := os.ReadFile(n.root.Path(nodefs.IdentityCopy))
	problems = append(problems, err)
	found, _, err := leaks(func(w io.Writer) error { _, err := w.Write(identity); return err }, secrets)
	problems = append(problems, err)
	for _, name := range found {
		problems = append(problems, fmt.Errorf("%s: got %s, want it gone after the first boot", nodefs.IdentityCopy, name))
	}
	read := int64(0)
	for _, place := range []struct {
		name string
		text func(io.Writer) error
	}{
		{"the journal", func(w io.Writer) error { return n.stream(ctx, w, "journalctl", "--output=export", "--no-pager") }},
		{"the kernel's log", func(w io.Writer) error { return n.stream(ctx, w, "dmesg") }},
		{"the Node objects", func(w io.Writer) error {
			return n.stream(ctx, w, kubectl, n.kubectlArgs("get", "nodes", "-o", "json")...)
		}},
		{"the events", func(w io.Writer) error {
			return n.stream(ctx, w, kubectl, n.kubectlArgs("get", "events", "-A", "-o", "json")...)
		}},
		{"the arguments of processes", n.arguments},
		{"firstboot's journal", func(w io.Writer) error { return copyFile(w, n.root.Path(nodefs.Journal)) }},
	} {
		found, size, err := leaks(place.text, secrets)
		read += size
		problems = append(problems, err)
		for _, name := range found {
			problems = append(problems, fmt.Errorf("%s: got %s, want it nowhere but in files of mode 0600", place.name, name))
		}
	}
	return fmt.Sprintf("%d secrets, not in %d KiB", len(secrets), read>>10), errors.Join(problems...)
}

func (n *node) stream(ctx context.Context, w io.Writer, name string, args ...string) error {
	_, err := n.runner.Run(ctx, command.Command{Name: name, Args: args, Stdout: w})
	return err
}

// arguments writes the arguments of every process.
func (n *node) arguments(w io.Writer) error {
	files, err := filepath.Glob(n.root.Path("/proc/[0-9]*/cmdline"))
	if err != nil {
		return err
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // the process is gone
		}
		if _, err := w.Write(append(bytes.ReplaceAll(text, []byte{0}, []byte{' '}), '\n')); err != nil {
			return err
		}
	}
	return nil
}

func copyFile(w io.Writer, path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = io.Copy(w, file)
	return err
}

// leaks reads text line by line and names the secrets that are in it, and how many bytes it read.
func leaks(text func(io.Writer) error, secrets map[string]string) (found []string, size int64, err error) {
	reader, writer := io.Pipe()
	go func() { writer.CloseWithError(text(writer)) }()
	lines := bufio.NewReaderSize(reader, 64<<10)
	seen := map[string]bool{}
	for {
		line, err := lines.ReadString('\n')
		size += int64(len(line))
		for name, secret := range secrets {
			if !seen[name] && strings.Contains(line, secret) {
				seen[name] = true
				found = append(found, name)
			}
		}
		if errors.Is(err, io.EOF) {
			return found, size, nil
		}
		if err != nil {
			return found, size, err
		}
	}
}

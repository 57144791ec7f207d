package ignition

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kiln-os/kiln/firstboot/source"
	"github.com/kiln-os/kiln/internal/command"
	"github.com/kiln-os/kiln/internal/nodefs"
)

// errCut is a power cut.
var errCut = errors.New("cut")

// world is a machine below a temporary root, with an engine that writes down what it was asked for.
type world struct {
	t    *testing.T
	root string
	// config is what Find finds; empty is nothing.
	config string
	online bool
	// ran lists commands: of the engine the stage and the storage in its cache, of others the whole line.
	ran  []string
	said []string
	// cut ends the program when the command that contains it has run; fail makes it fail with this output.
	cut, fail string
	output    string
	// signatures are the devices that have something on them.
	signatures map[string]bool
	// needNet makes the engine want the network.
	needNet bool
	// stateOf is the state that each stage found.
	stateOf map[string]string
	// settled is what udev does with the devices that it sees.
	settled func()
	// engine, when set, is the real one.
	engine string
}

func newWorld(t *testing.T, config string) *world {
	w := &world{t: t, root: t.TempDir(), config: config, signatures: map[string]bool{}, stateOf: map[string]string{}}
	w.write(filepath.Join(w.root, "/dev/secret"), "")
	return w
}

func (w *world) machine() Machine {
	return Machine{
		Root: nodefs.Root(w.root), Runner: w, Sync: func() {},
		Say: func(text string) { w.said = append(w.said, text) },
		Find: func(_ context.Context, network bool) (source.Found, bool, error) {
			if w.config == "" {
				return source.Found{}, w.online && !network, &source.NotFound{Tried: []string{"a place"}}
			}
			return w.find(), false, nil
		},
	}
}

// find is what the sources make of the config: one with nothing but the identity is none.
func (w *world) find() source.Found {
	var config struct {
		Passwd, Systemd, KernelArguments map[string]any
		Storage                          map[string][]map[string]any
	}
	if err := json.Unmarshal([]byte(w.config), &config); err != nil {
		w.t.Fatal(err)
	}
	found := source.Found{Text: []byte("token-of-cluster"), From: "config.ign"}
	if len(config.Storage) != 1 || len(config.Storage["files"]) != 1 || config.Storage["files"][0]["path"] != nodefs.IdentityInIgnition {
		found.Ignition, found.Asks = []byte(w.config), []string{"user ops"}
	}
	return found
}

// boot runs once, and gives the commands that it ran.
func (w *world) boot(network bool) ([]string, error) {
	w.ran = nil
	err := w.machine().Run(context.Background(), network)
	return w.ran, err
}

// blkid is the program: of a partition it has something to say even when there is nothing on it.
func (w *world) blkid(c command.Command) error {
	device := c.Args[len(c.Args)-1]
	found := ""
	if device == "/dev/secret" {
		found += "PART_ENTRY_SCHEME=gpt\nPART_ENTRY_NUMBER=4\n"
	}
	if w.signatures[device] {
		found += "TYPE=crypto_LUKS\n"
	}
	if found == "" {
		return &command.ExitError{Name: "blkid", Code: 2}
	}
	fmt.Fprintf(c.Stdout, "DEVNAME=%s\n%s", device, found)
	return nil
}

// Run implements command.Runner.
func (w *world) Run(ctx context.Context, c command.Command) (command.Usage, error) {
	line := strings.Join(append([]string{filepath.Base(c.Name)}, c.Args...), " ")
	var err error
	switch {
	case c.Name == nodefs.Ignition && w.engine != "":
		w.ran = append(w.ran, "ignition "+value(c.Args, "--stage"))
		c.Name = w.engine
		_, err = command.Exec{}.Run(ctx, c)
	case c.Name == nodefs.Ignition:
		line = w.stage(c)
	case filepath.Base(c.Name) == "blkid":
		err = w.blkid(c)
	case filepath.Base(c.Name) == "udevadm":
		if w.settled != nil {
			w.settled()
		}
	default:
		line = strings.ReplaceAll(line, "--root="+w.root, "--root=/")
		w.ran = append(w.ran, line)
		if strings.HasPrefix(line, "cryptsetup open") {
			w.write(filepath.Join(w.root, "/dev/mapper/vault"), "")
		}
	}
	if c.Stdin != nil {
		key, _ := io.ReadAll(c.Stdin)
		w.ran = append(w.ran, "stdin "+string(key))
	}
	if err == nil && w.fail != "" && strings.Contains(line, w.fail) {
		fmt.Fprint(c.Stdout, w.output)
		fmt.Fprint(c.Stderr, "disks failed\nFull config:\n{\"passwordHash\": \"hash-of-ops\"}\n")
		err = &command.ExitError{Name: c.Name, Code: 1, Tail: "Full config: hash-of-ops"}
	}
	if w.cut != "" && strings.Contains(line, w.cut) {
		err = errCut
	}
	return command.Usage{}, err
}

// stage is the engine's part: fetch writes the cache, each stage adds its name to the state, and disks leave signatures.
func (w *world) stage(c command.Command) string {
	name, cache, state := value(c.Args, "--stage"), value(c.Args, "--config-cache"), value(c.Args, "--state-file")
	if strings.HasPrefix(name, "fetch") {
		if w.needNet && name == "fetch-offline" {
			w.write(value(c.Args, "--neednet"), "")
		}
		config, err := os.ReadFile(strings.TrimPrefix(c.Env[0], "IGNITION_CONFIG_FILE="))
		if err != nil {
			w.t.Error(err)
		}
		w.write(cache, string(config))
	}
	before, _ := os.ReadFile(state)
	var seen struct {
		Stages []string          `json:"stages"`
		Keys   map[string]string `json:"luksPersistKeyFiles"`
	}
	_ = json.Unmarshal(before, &seen)
	var config struct{ Storage map[string]json.RawMessage }
	text, err := os.ReadFile(cache)
	if err == nil {
		err = json.Unmarshal(text, &config)
	}
	if err != nil {
		w.t.Error(err)
	}
	line := "ignition " + name
	if name == "disks" {
		for kind, entries := range config.Storage {
			line += " " + kind + " " + string(entries)
			if kind == "luks" && strings.Contains(string(entries), "vault") {
				w.write(filepath.Join(w.root, "/dev/mapper/vault"), "")
				seen.Keys = map[string]string{"vault": "data:,key"}
			}
			// The engine would wait for the device of an open volume in vain.
			if _, err := os.Stat(filepath.Join(w.root, emptyVolumesFile)); kind == "filesystems" && strings.Contains(string(entries), "vault") && err != nil {
				w.t.Error(err)
			}
		}
	}
	w.stateOf[line] = strings.Join(seen.Stages, " ")
	seen.Stages = append(seen.Stages, name)
	after, _ := json.Marshal(seen)
	w.write(state, string(after))
	if name == "files" && len(seen.Keys) > 0 {
		if _, err := os.Stat(filepath.Join(w.root, engineAliases, "/dev/secret")); err != nil {
			w.t.Error(err) // the engine asks it for its UUID
		}
	}
	if name == "files" {
		for _, path := range []string{"/etc/new", "/etc/old", "/etc/group"} {
			have, _ := os.ReadFile(filepath.Join(w.root, path))
			w.write(filepath.Join(w.root, path), string(have)+"+")
		}
	}
	w.ran = append(w.ran, line)
	return line
}

func (w *world) write(path, text string) {
	w.t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o600)); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) read(path string) string {
	w.t.Helper()
	text, err := os.ReadFile(filepath.Join(w.root, path))
	if err != nil {
		w.t.Fatal(err)
	}
	return string(text)
}

func value(args []string, flag string) string {
	i := slices.IndexFunc(args, func(arg string) bool { return strings.HasPrefix(arg, flag+"=") })
	return strings.TrimPrefix(args[i], flag+"=")
}

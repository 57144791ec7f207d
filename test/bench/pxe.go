package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/kiln-os/kiln/builder/bake"
	"github.com/kiln-os/kiln/firstboot/initramfs/fetch"
	"github.com/kiln-os/kiln/firstboot/initramfs/hashtree"
	"github.com/kiln-os/kiln/firstboot/source"
	"github.com/kiln-os/kiln/internal/nodefs"
)

// fileIdentity is the identity's name on the server.
const fileIdentity = "identity.ign"

// booted is a machine that boots over the network, as far as the server sees it.
type booted struct {
	server string
	// rootHash is what its kernel was told.
	rootHash string
	// proc is the root directory of a machine whose kernel command line names the identity.
	proc string
	// say hears what the fetch tells: a line with "again" for each second attempt, and others.
	say func(format string, args ...any)
}

// benchPXE counts what one boot over the network fetches, against the files that it needs.
func benchPXE(ctx context.Context, t *table) error {
	const out = "out/bench-pxe"
	b, err := build(ctx, "metal-pxe", "", out)
	if err != nil {
		return err
	}
	identity, err := benchIdentity(ctx)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(identity)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(out, fileIdentity), text, 0o600); err != nil {
		return err
	}
	return bootFrom(ctx, t, out, b.RootHash)
}

// bootFrom boots from the directory of a live set that has an identity, too.
func bootFrom(ctx context.Context, t *table, dir, rootHash string) error {
	server, err := serve(dir, &line{})
	if err != nil {
		return err
	}
	defer server.stop()
	machine, err := newBooted(server.url, rootHash)
	if err != nil {
		return err
	}
	defer os.RemoveAll(machine.proc)
	need, before := int64(0), int64(0)
	fetched := func(name string, get func() error) error {
		if err := get(); err != nil {
			return fmt.Errorf("fetching %s: %w", name, err)
		}
		sent := server.sent.Load() - before
		before += sent
		size := int64(0)
		// The script for the loader is what the others are found by.
		if name != bake.FileIPXE {
			info, err := os.Stat(filepath.Join(dir, name))
			if err != nil {
				return err
			}
			size = info.Size()
		}
		need += size
		t.row(name, fmt.Sprintf("%d of %d bytes", sent, size))
		return nil
	}
	for _, name := range []string{bake.FileIPXE, bake.FileKernel, bake.FileInitramfs} {
		if err := fetched(name, func() error { return get(ctx, server.url+"/"+name) }); err != nil {
			return err
		}
	}
	var tree *hashtree.Tree
	if err := fetched(nodefs.LiveVerity, func() (err error) { tree, err = machine.tree(ctx); return err }); err != nil {
		return err
	}
	if err := fetched(nodefs.LiveRoot, func() error { return machine.root(ctx, tree) }); err != nil {
		return err
	}
	if err := fetched(fileIdentity, func() error { return machine.identity(ctx) }); err != nil {
		return err
	}
	t.row("sent by the server", fmt.Sprintf("%d of %d bytes", before, need), fmt.Sprintf("%.5f x", float64(before)/float64(need)), "aim: 1.05 x")
	return nil
}

// newBooted makes the machine's kernel command line; proc is to be removed.
func newBooted(server, rootHash string) (booted, error) {
	dir, err := os.MkdirTemp("", "kiln-bench-")
	if err != nil {
		return booted{}, err
	}
	m := booted{server: server, rootHash: rootHash, proc: dir, say: func(string, ...any) {}}
	if err := os.Mkdir(filepath.Join(dir, "proc"), 0o755); err != nil {
		return m, err
	}
	line := nodefs.ParamIdentity + "=" + server + "/" + fileIdentity + "\n"
	return m, os.WriteFile(filepath.Join(dir, "proc", "cmdline"), []byte(line), 0o644)
}

// get fetches as a boot loader does, or curl.
func get(ctx context.Context, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	client := &http.Client{Transport: &http.Transport{DisableCompression: true, DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("the server answers %s", response.Status)
	}
	_, err = io.Copy(io.Discard, response.Body)
	return err
}

// client is what the initramfs fetches with; default waits.
func (m booted) client() fetch.Client { return fetch.Client{HTTP: fetch.NewHTTP(nil), Say: m.say} }

// tree fetches the hash tree and checks it by the root hash.
func (m booted) tree(ctx context.Context) (tree *hashtree.Tree, err error) {
	hash, err := hex.DecodeString(strings.TrimSpace(m.rootHash))
	if err != nil {
		return nil, fmt.Errorf("reading the root hash: %w", err)
	}
	_, err = m.client().Small(ctx, fetch.Small{URL: m.server + "/" + nodefs.LiveVerity, Limit: hashtree.MaxData / 64, Check: func(text []byte) (err error) {
		tree, err = hashtree.Read(bytes.NewReader(text), hash)
		return err
	}})
	return tree, err
}

// root fetches the root and checks every block of it; nothing is kept.
func (m booted) root(ctx context.Context, tree *hashtree.Tree) error {
	return m.client().Root(ctx, m.server+"/"+nodefs.LiveRoot, tree, nowhere{})
}

// nowhere is a file that keeps nothing.
type nowhere struct{}

// WriteAt implements io.WriterAt.
func (nowhere) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }

// identity finds the identity as firstboot does where the kernel command line has its URL.
func (m booted) identity(ctx context.Context) error {
	sources, err := source.ForPlatform(source.PlatformMetal, source.Machine{Root: nodefs.Root(m.proc)})
	if err != nil {
		return err
	}
	var remote []source.Source
	for _, s := range sources {
		if !s.Offline {
			remote = append(remote, s)
		}
	}
	found, err := source.Search{Sources: remote, Budget: time.Minute, Say: func(text string) { m.say("asking again: %s", text) }}.Find(ctx)
	if err == nil && len(found.Text) == 0 {
		err = fmt.Errorf("the identity is empty")
	}
	return err
}

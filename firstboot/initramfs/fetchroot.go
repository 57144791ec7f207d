package initramfs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/kiln-os/kiln/firstboot/initramfs/fetch"
	"github.com/kiln-os/kiln/firstboot/initramfs/hashtree"
	"github.com/kiln-os/kiln/internal/document"
	"github.com/kiln-os/kiln/internal/nodefs"
)

// maxTree bounds the file of the hash tree: that of the largest root there may be.
const maxTree = hashtree.MaxData / 64

// fetchRoot fetches the hash tree, checks it by the root hash, and then the root, block by block by the tree: what is mounted
// afterwards was seen right, and the kernel checks it again at each read.
func (b *boot) fetchRoot(ctx context.Context) (string, error) {
	if b.cached {
		return "nothing to fetch", nil
	}
	address, err := b.rootURL()
	if err != nil {
		return "", err
	}
	client := fetch.Client{HTTP: fetch.NewHTTP(b.params.Root.ca), Patience: b.params.RootWait, Say: b.console.say}
	tree, text, err := b.fetchTree(ctx, client, address)
	if err != nil {
		return "", err
	}
	if err := b.checkMemory(tree.DataSize() + int64(len(text))); err != nil {
		return "", err
	}
	// The pages of a tmpfs are all there is of the file: the loop device reads them, and nothing keeps a second copy.
	if err := mountMemory(nodefs.LiveFiles, tree.DataSize()+int64(len(text))+1<<20); err != nil {
		return "", err
	}
	root, hashes := filepath.Join(nodefs.LiveFiles, nodefs.LiveRoot), filepath.Join(nodefs.LiveFiles, nodefs.LiveVerity)
	if err := os.WriteFile(hashes, text, 0o444); err != nil {
		return "", err
	}
	b.console.say("fetch-root: %s, %s", address, document.Size(tree.DataSize()))
	if err := b.fetchData(ctx, client, fetched{address, root, tree}); err != nil {
		return "", err
	}
	// Nobody changes the files from here on: dm-verity would stop the kernel.
	if err := unix.Mount("", nodefs.LiveFiles, "", unix.MS_REMOUNT|unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV, ""); err != nil {
		return "", fmt.Errorf("making %s read-only: %w", nodefs.LiveFiles, err)
	}
	b.facts.Live = &Live{Source: address, Files: nodefs.LiveFiles}
	return fmt.Sprintf("%s from %s, every block checked", document.Size(tree.DataSize()), address), b.attach(root, hashes, address)
}

// attach makes block devices of the root's two files.
func (b *boot) attach(root, hashes, where string) error {
	data, err := attachLoop(root)
	if err != nil {
		return err
	}
	tree, err := attachLoop(hashes)
	if err != nil {
		return err
	}
	b.root = opened{data: data, tree: tree, where: where, remedy: "start the machine again; should it come back, check its memory or the medium"}
	b.facts.RootDevice, b.facts.RootLabel = data, nodefs.LiveRoot
	return nil
}

// rootURL is the URL of root.img.
func (b *boot) rootURL() (string, error) {
	if b.params.Root.kind == fromURL {
		return b.params.Root.url, nil
	}
	file, err := b.network.BootFile()
	if err != nil {
		return "", withHint(err, fmt.Sprintf("have the DHCP server name the URL of the boot file to this machine, or boot with %s=http://SERVER/PATH/%s", nodefs.ParamRoot, nodefs.LiveRoot))
	}
	b.console.say("fetch-root: DHCP names %s", file)
	if _, _, err := parseSource(mustBeside(file)); err != nil {
		return "", fmt.Errorf("the boot file that DHCP names, %s: %w", file, err)
	}
	return beside(file, nodefs.LiveRoot)
}

func mustBeside(address string) string {
	text, err := beside(address, nodefs.LiveRoot)
	if err != nil {
		return address
	}
	return text
}

// fetchTree returns the checked tree and its file.
func (b *boot) fetchTree(ctx context.Context, client fetch.Client, root string) (*hashtree.Tree, []byte, error) {
	address, err := beside(root, nodefs.LiveVerity)
	if err != nil {
		return nil, nil, err
	}
	b.console.say("fetch-root: %s", address)
	var tree *hashtree.Tree
	text, err := client.Small(ctx, fetch.Small{URL: address, Limit: maxTree, Check: func(text []byte) (err error) {
		tree, err = hashtree.Read(bytes.NewReader(text), b.params.RootHash)
		return err
	}})
	if errors.Is(err, hashtree.ErrMismatch) {
		err = withHint(err, "the server has the files of another image than the one whose kernel was booted; give it all files of one build")
	}
	return tree, text, explainFetch(err)
}

// fetched is a root on its way: from a URL to a file.
type fetched struct {
	url, path string
	tree      *hashtree.Tree
}

func (b *boot) fetchData(ctx context.Context, client fetch.Client, f fetched) error {
	file, err := os.OpenFile(f.path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o444)
	if err != nil {
		return err
	}
	return errors.Join(explainFetch(client.Root(ctx, f.url, f.tree, file)), file.Close())
}

func explainFetch(err error) error {
	var known hinted
	if errors.As(err, &known) {
		return err
	}
	return withHint(err, "check that the server runs, that it can be reached from this machine's network, and that it has all files of one build beside each other; "+
		"a slow server may need a larger kiln.rootwait")
}

package main

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kiln-os/kiln/builder/parts"
	"github.com/kiln-os/kiln/builder/payload"
	"github.com/kiln-os/kiln/builder/rootfs"
	"github.com/kiln-os/kiln/internal/release"
)

func newCache(env environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "cache",
		GroupID: groupImages,
		Short:   "Look into what builds share",
		Long: `What builds share lies in one directory: a part for each package set, each source
of the release, each filesystem. Parts are named after what they were made from,
so none is ever out of date; one that is gone is made again.`,
	}
	cmd.AddCommand(newCachePath(env), newCacheTools(env), newCacheClean(env))
	container(cmd)
	return cmd
}

func newCachePath(env environment) *cobra.Command {
	return &cobra.Command{
		Use:     "path",
		Short:   "Print the cache's directory",
		Example: "  du -sh $(kiln cache path)",
		Args:    operands(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := cacheDir(cmd, env)
			fmt.Fprintln(cmd.OutOrStdout(), dir)
			return err
		},
	}
}

func newCacheClean(env environment) *cobra.Command {
	return &cobra.Command{
		Use:     "clean",
		Short:   "Delete the parts that are quick to make again",
		Long:    `Delete every part but the binaries built from source, which take minutes.`,
		Example: "  kiln cache clean",
		Args:    operands(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := cacheDir(cmd, env)
			if err != nil {
				return err
			}
			names, err := filepath.Glob(filepath.Join(dir, "parts", "*"))
			if err != nil {
				return err
			}
			for _, name := range names {
				if strings.HasPrefix(filepath.Base(name), "source-") {
					continue
				}
				if err := parts.RemoveAll(name); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

func newCacheTools(env environment) *cobra.Command {
	var pinned string
	cmd := &cobra.Command{
		Use:   "tools build|medium|format|vm|test",
		Short: "Print the path of a tree of tools, making it if need be",
		Long: `Print the path of one of the trees of Debian packages whose programs kiln runs by
the tree's own loader: those that build, those that make BIOS loaders and ISO
images, those that convert disks, those that boot a virtual machine, and those that
check what was built.`,
		Example: "  kiln cache tools test",
		Args:    operands("build|medium|format|vm|test"),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, _, err := readRelease(env, pinned)
			if err != nil {
				return err
			}
			w, err := newWorkshop(cmd, env, r)
			if err != nil {
				return err
			}
			trees := map[string]func(context.Context) (rootfs.Tools, error){
				"build": w.debian.BuildTools, "medium": w.debian.MediumTools, "format": w.debian.FormatTools, "vm": w.debian.VMTools, "test": w.debian.TestTools,
			}
			tree, ok := trees[args[0]]
			if !ok {
				return usagef("there are no tools %q; want build, medium, format, vm or test", args[0])
			}
			tools, err := tree(cmd.Context())
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), tools.Dir)
			return err
		},
	}
	releaseFlag(cmd, env, &pinned)
	return cmd
}

func binaryNames(r release.Release) []string {
	var names []string
	for _, source := range r.Sources {
		for _, binary := range source.Binaries {
			names = append(names, binary.Name)
		}
	}
	slices.Sort(names)
	return names
}

func newBinary(env environment) *cobra.Command {
	var pinned string
	cmd := &cobra.Command{
		Use:     "binary NAME",
		GroupID: groupImages,
		Short:   "Print the path of a program of a release, building it if need be",
		Long: `Print the path of one of a release's programs, the very bytes that are baked into
node images: kubectl to talk to a cluster, etcdctl, ctr. It is built if it is not
in the cache yet.`,
		Example: `  KUBECONFIG=identity/admin.conf $(kiln binary kubectl) get nodes`,
		Args:    operands("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, document, err := readRelease(env, pinned)
			if err != nil {
				return err
			}
			if _, _, ok := r.Binary(args[0]); !ok {
				return usagef("release %s has no binary %q; want one of %s", r.Name, args[0], strings.Join(binaryNames(r), ", "))
			}
			w, err := newWorkshop(cmd, env, r)
			if err != nil {
				return err
			}
			r.Node, r.ContainerImages = []release.NodeBinary{{Binary: args[0]}}, nil
			provided, err := w.payload().Provide(cmd.Context(), payload.Request{Release: r, Dir: document.File, Files: document.Dir})
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), provided.Binaries[args[0]].Path)
			return err
		},
	}
	releaseFlag(cmd, env, &pinned)
	return cmd
}

package main

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kiln-os/kiln/builder/plan"
	"github.com/kiln-os/kiln/internal/profile"
	"github.com/kiln-os/kiln/internal/release"
)

// completion is what cobra asks for the words that may come next.
type completion = func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective)

// complete offers the names of a kind of documents; files stay possible, for documents given by path. It completes the
// first argument only, or a flag's value.
func complete(env environment, kind string, flag bool) completion {
	return func(_ *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
		if !flag && len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var names []string
		for _, name := range env.sources.Names(kind) {
			if strings.HasPrefix(name, prefix) {
				names = append(names, name)
			}
		}
		return names, cobra.ShellCompDirectiveDefault
	}
}

// completeList does the same for a list of names with commas between them, none of them twice.
func completeList(env environment, kind string) completion {
	one := complete(env, kind, false)
	return func(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
		last := strings.LastIndexByte(prefix, ',') + 1
		names, directive := one(cmd, args, prefix[last:])
		before := strings.Split(prefix[:last], ",")
		var offered []string
		for _, name := range names {
			if !slices.Contains(before, name) {
				offered = append(offered, prefix[:last]+name)
			}
		}
		return offered, directive
	}
}

// planFlags adds --profile and --release to a verb whose first argument is an image.
func planFlags(cmd *cobra.Command, env environment, o *plan.Options) {
	o.Sources = env.sources
	cmd.Flags().StringVarP(&o.Profile, "profile", "p", "", "what the node is for: a profile's name or path")
	cmd.Flags().StringVarP(&o.Release, "release", "r", onlyRelease(env), "which versions it carries: a release's name or path")
	cmd.ValidArgsFunction = complete(env, plan.ImageKind, false)
	// Both fail only for a flag that does not exist.
	_ = cmd.RegisterFlagCompletionFunc("profile", complete(env, profile.Kind, true))
	_ = cmd.RegisterFlagCompletionFunc("release", complete(env, release.Kind, true))
}

// onlyRelease is the default where there is no choice.
func onlyRelease(env environment) string {
	if names := env.sources.Names(release.Kind); len(names) == 1 {
		return names[0]
	}
	return ""
}

// resolve makes the plan for image, after --profile and --release were given.
func resolve(env environment, image string, o plan.Options) (plan.Plan, error) {
	for _, flag := range []struct{ name, value, kind string }{
		{"profile", o.Profile, profile.Kind}, {"release", o.Release, release.Kind},
	} {
		if flag.value == "" {
			return plan.Plan{}, usagef("--%s is missing; want one of %s, or the path of a document", flag.name, strings.Join(env.sources.Names(flag.kind), ", "))
		}
	}
	o.Image = image
	return plan.Resolve(o)
}

// releaseFlag adds --release to a verb that needs no image.
func releaseFlag(cmd *cobra.Command, env environment, pinned *string) {
	cmd.Flags().StringVarP(pinned, "release", "r", onlyRelease(env), "a release's name or path")
	// It fails only for a flag that does not exist.
	_ = cmd.RegisterFlagCompletionFunc("release", complete(env, release.Kind, true))
}

// readRelease finds and checks a release.
func readRelease(env environment, name string) (release.Release, plan.Document, error) {
	if name == "" {
		return release.Release{}, plan.Document{}, usagef("--release is missing; want one of %s, or the path of a document", strings.Join(env.sources.Names(release.Kind), ", "))
	}
	document, err := env.sources.Read(release.Kind, name)
	if err != nil {
		return release.Release{}, document, err
	}
	r, err := release.Parse(document.File, document.Text)
	return r, document, err
}

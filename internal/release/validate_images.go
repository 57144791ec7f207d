package release

import (
	"fmt"
	"slices"
	"strings"

	"github.com/kiln-os/kiln/internal/document"
)

func checkImages(p *document.Problems, r Release, binaries map[string]bool) {
	var sandboxes []string
	for i, image := range r.ContainerImages {
		at := fmt.Sprintf("containerImages[%d]", i)
		checkImageName(p, at, image, r)
		if slices.ContainsFunc(r.ContainerImages[:i], func(earlier ContainerImage) bool { return earlier.Name == image.Name }) {
			p.Add(at+".name", "%s is listed twice; remove one", image.Name)
		}
		checkRoles(p, at, image)
		checkPackages(p, at+".packages", image.Packages)
		checkFiles(p, at+".files", image.Files, binaries)
		if len(image.Files) == 0 {
			p.Add(at+".files", "missing; want at least one binary")
		}
		checkRun(p, at, image)
		if image.Sandbox {
			sandboxes = append(sandboxes, image.Name)
		}
	}
	if len(sandboxes) != 1 {
		p.Add("containerImages", "%d have sandbox: true; want exactly one, the pause image", len(sandboxes))
	}
}

// checkImageName wants a full reference, since a runtime knows an image by exactly the name that a pod gives. Images of
// Kubernetes itself have its version for a tag: kubeadm asks for no other.
func checkImageName(p *document.Problems, at string, image ContainerImage, r Release) {
	if !imagePattern.MatchString(image.Name) {
		p.Add(at+".name", "%q is no full reference; want registry, repository and tag, as in registry.k8s.io/pause:3.10.2", image.Name)
		return
	}
	tag := image.Name[strings.LastIndexByte(image.Name, ':')+1:]
	if strings.HasPrefix(image.Base(), "kube-") && tag != r.Kubernetes {
		p.Add(at+".name", "the tag is %s, and kubernetes is %s; make them the same", tag, r.Kubernetes)
	}
}

func checkRoles(p *document.Problems, at string, image ContainerImage) {
	if len(image.Roles) == 0 {
		p.Add(at+".roles", "missing; want the roles whose nodes need the image, of %s", strings.Join(roles(), ", "))
	}
	for i, role := range image.Roles {
		at := fmt.Sprintf("%s.roles[%d]", at, i)
		switch {
		case !slices.Contains(roles(), role):
			p.Add(at, "unknown %q; want %s", role, strings.Join(roles(), ", "))
		case slices.Contains(image.Roles[:i], role):
			p.Add(at, "%s is listed twice; remove one", role)
		}
	}
	for _, role := range roles() {
		if image.Sandbox && !slices.Contains(image.Roles, role) {
			p.Add(at+".roles", "%s is missing, and no pod starts without its sandbox image; add it", role)
		}
	}
}

// checkRun checks what the image runs and as whom. Without packages there is nothing to run but the image's files.
func checkRun(p *document.Problems, at string, image ContainerImage) {
	if image.User != "" && !userPattern.MatchString(image.User) {
		p.Add(at+".user", "%q names no user by number, and the image has no list of names; want uid or uid:gid", image.User)
	}
	if len(image.Entrypoint) == 0 {
		return
	}
	program := image.Entrypoint[0]
	ours := slices.ContainsFunc(image.Files, func(file NodeBinary) bool { return file.Path == program })
	switch {
	case !cleanAbsolute(program):
		p.Add(at+".entrypoint[0]", "%q is no absolute path", program)
	case !ours && len(image.Packages) == 0:
		p.Add(at+".entrypoint[0]", "%s is not in the image; want the path of one of its files", program)
	}
}

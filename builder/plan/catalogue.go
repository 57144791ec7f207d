package plan

import (
	"errors"

	"github.com/kiln-os/kiln/internal/profile"
	"github.com/kiln-os/kiln/internal/release"
)

// Catalogue is what kiln comes with.
type Catalogue struct {
	Images   []ImageFacts   `json:"images"`
	Profiles []ProfileEntry `json:"profiles"`
	Releases []ReleaseFacts `json:"releases"`
}

// ProfileEntry is a profile in a catalogue.
type ProfileEntry struct {
	Name        string `json:"name"`
	Description string `json:"description"`
	Role        string `json:"role"`
}

// Catalogue reads every document that has a name. The error joins the problems of all.
func (s Sources) Catalogue() (Catalogue, error) {
	c := Catalogue{Images: []ImageFacts{}, Profiles: []ProfileEntry{}, Releases: []ReleaseFacts{}}
	err := errors.Join(
		s.each(ImageKind, func(d Document) error {
			image, err := ParseImage(d.File, d.Text)
			c.Images = append(c.Images, imageFacts(image))
			return err
		}),
		s.each(profile.Kind, func(d Document) error {
			p, err := profile.Parse(d.File, d.Text)
			c.Profiles = append(c.Profiles, ProfileEntry{Name: p.Name, Description: p.Description, Role: p.Role})
			return err
		}),
		s.each(release.Kind, func(d Document) error {
			r, err := release.Parse(d.File, d.Text)
			c.Releases = append(c.Releases, releaseFacts(r))
			return err
		}),
	)
	return c, err
}

func (s Sources) each(kind string, add func(Document) error) error {
	var problems []error
	for _, name := range s.Names(kind) {
		document, err := s.Read(kind, name)
		if err == nil {
			err = add(document)
		}
		problems = append(problems, err)
	}
	return errors.Join(problems...)
}

package document

import "encoding/json"

// Secret holds text that must never be shown: every way of printing it yields "[redacted]". It decodes from a plain
// string. Only Reveal gives the text, to write it into a file of mode 0600 that needs it.
type Secret struct{ text string }

// NewSecret wraps text.
func NewSecret(text string) Secret { return Secret{text: text} }

const redacted = "[redacted]"

// Reveal returns the secret text. Never log or print what it returns.
func (s Secret) Reveal() string { return s.text }

// IsZero reports whether there is no secret.
func (s Secret) IsZero() bool { return s.text == "" }

// String implements fmt.Stringer.
func (s Secret) String() string { return redacted }

// GoString implements fmt.GoStringer, for %#v.
func (s Secret) GoString() string { return redacted }

// MarshalText keeps encoders (YAML, JSON, slog) from showing the text.
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// MarshalJSON keeps the JSON and YAML encoders from showing the text.
func (s Secret) MarshalJSON() ([]byte, error) { return json.Marshal(redacted) }

// UnmarshalJSON reads a plain string.
func (s *Secret) UnmarshalJSON(raw []byte) error {
	if err := json.Unmarshal(raw, &s.text); err != nil {
		return errNotText
	}
	return nil
}

type constError string

func (e constError) Error() string { return string(e) }

// errNotText does not repeat the value: it may be a secret of the wrong shape.
const errNotText = constError("want text (put quotes around it)")

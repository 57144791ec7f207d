package document

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
)

// Secret holds text that must never be shown: every way of printing it yields "[redacted]". It decodes from a plain
// string. Only Reveal gives the text, to write it into a file of mode 0600 that needs it.
//
// The text lies behind a pointer: fmt cannot call the methods of an unexported field, and would print a plain string
// held in one. Compare secrets by what Reveal returns, never by ==.
type Secret struct{ text *string }

// NewSecret wraps text.
func NewSecret(text string) Secret {
	if text == "" {
		return Secret{}
	}
	return Secret{text: &text}
}

const redacted = "[redacted]"

// Reveal returns the secret text. Never log or print what it returns.
func (s Secret) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// IsZero reports whether there is no secret.
func (s Secret) IsZero() bool { return s.text == nil }

// Format implements fmt.Formatter for every verb: with String alone, %d and its like would print the text.
func (s Secret) Format(out fmt.State, _ rune) { _, _ = io.WriteString(out, redacted) }

// String implements fmt.Stringer, for those who call it themselves.
func (s Secret) String() string { return redacted }

// LogValue implements slog.LogValuer.
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText keeps encoders (YAML, XML, flags) from showing the text.
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// MarshalJSON keeps the JSON and YAML encoders from showing the text.
func (s Secret) MarshalJSON() ([]byte, error) { return json.Marshal(redacted) }

// UnmarshalJSON reads a plain string.
func (s *Secret) UnmarshalJSON(raw []byte) error {
	var text string
	if err := json.Unmarshal(raw, &text); err != nil {
		return errNotText
	}
	*s = NewSecret(text)
	return nil
}

type constError string

func (e constError) Error() string { return string(e) }

// errNotText does not repeat the value: it may be a secret of the wrong shape.
const errNotText = constError("want text (put quotes around it)")

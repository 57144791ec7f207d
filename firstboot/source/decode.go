package source

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/mail"
	"strings"
	"unicode/utf8"

	"github.com/kiln-os/kiln/internal/document"
)

// wrapping is what may lie around a document at a place.
type wrapping uint8

const (
	// inGzip and inBase64 may lie around the whole text, base64 outside; inMessage is a MIME message with several parts.
	inGzip wrapping = 1 << iota
	inBase64
	inMessage
)

// What the places allow: a file is what it is; user-data is what cloud-init takes at that cloud.
const (
	plain    wrapping = 0
	fetched           = inGzip
	userData          = inGzip | inMessage
	// encodedUserData is for clouds whose user-data has to be text: what is gzipped is given in base64.
	encodedUserData = inGzip | inBase64 | inMessage
)

// read takes the identity out of raw, which lies at place. Every error is a document.Problem, and none quotes the text,
// which is secret.
func (w wrapping) read(place string, raw []byte) (Found, error) {
	text, err := w.unwrap(raw)
	if err != nil {
		return Found{}, document.Problem{File: place, Text: err.Error()}
	}
	if w&inMessage != 0 && isMessage(text) {
		return w.fromMessage(place, text)
	}
	if what := refusal(text); what != "" {
		return Found{}, document.Problem{File: place, Text: what}
	}
	if isIgnition(text) {
		return fromIgnition(place, text)
	}
	return Found{Text: text}, nil
}

// unwrap takes base64 and gzip off.
func (w wrapping) unwrap(raw []byte) ([]byte, error) {
	text := bytes.TrimPrefix(raw, []byte("\ufeff"))
	if w&inBase64 != 0 {
		if decoded, ok := fromBase64(text); ok {
			text = decoded
		}
	}
	if !bytes.HasPrefix(text, []byte{0x1f, 0x8b}) {
		return text, checkSize(text)
	}
	if w&inGzip == 0 {
		return nil, errors.New("is packed with gzip; put it there as plain text")
	}
	unpacked, err := unzip(text)
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return nil, errors.New("ends in the middle of what gzip packed; put the whole file there")
	case err != nil:
		return nil, fmt.Errorf("cannot be unpacked: %w; pack it with gzip again", err)
	}
	return unpacked, checkSize(unpacked)
}

func checkSize(text []byte) error {
	if len(text) > maxBytes {
		return fmt.Errorf("has more than %d bytes, unpacked; an identity has at most that", maxBytes)
	}
	return nil
}

// fromBase64 decodes text that is nothing but base64. No document is: each has a colon.
func fromBase64(text []byte) ([]byte, bool) {
	packed := bytes.Join(bytes.Fields(text), nil)
	if len(packed) == 0 {
		return nil, false
	}
	decoded, err := base64.StdEncoding.DecodeString(string(packed))
	return decoded, err == nil
}

// refusal says why text is no document that can hold an identity; empty when it may be one.
func refusal(text []byte) string {
	const instead = "; put an identity there (kiln cluster renders it), or an Ignition config of spec 3.0 to 3.5 that holds it"
	start := strings.ToLower(string(bytes.TrimSpace(text[:min(len(text), 1024)])))
	switch {
	case start == "" && len(bytes.TrimSpace(text)) == 0:
		return "is empty" + instead
	case strings.HasPrefix(start, "<"):
		return "is a web page or XML, and not an identity" + instead
	case strings.HasPrefix(start, "#cloud-config"):
		return "is a cloud-config, which kiln does not apply" + instead
	case strings.HasPrefix(start, "variant:"):
		return "is a Butane config; make an Ignition config of it with butane"
	case strings.HasPrefix(start, "#!"):
		return "is a script, which kiln does not run" + instead
	case strings.HasPrefix(start, "#include"), strings.HasPrefix(start, "#cloud-boothook"), strings.HasPrefix(start, "#part-handler"),
		strings.HasPrefix(start, "## template:"), strings.HasPrefix(start, "#upstart-job"):
		return "is user-data for cloud-init, which kiln does not have" + instead
	case isMessage(text):
		return "is a MIME message, which only user-data of a cloud may be" + instead
	case bytes.IndexByte(text, 0) >= 0 || !utf8.Valid(text):
		return "is no text" + instead
	}
	return ""
}

// isMessage tells whether text begins like a MIME message.
func isMessage(text []byte) bool {
	start := strings.ToLower(string(text[:min(len(text), 64)]))
	return strings.HasPrefix(start, "content-type: multipart/") || strings.HasPrefix(start, "mime-version:")
}

// fromMessage reads a message with several parts. One of them holds the identity, and nothing may be in another: what is
// there would have to be applied, too.
func (w wrapping) fromMessage(place string, text []byte) (Found, error) {
	broken := func(err error) (Found, error) {
		return Found{}, document.Problem{File: place, Text: fmt.Sprintf("is a MIME message that cannot be read: %s; make it again", err)}
	}
	message, err := mail.ReadMessage(bytes.NewReader(text))
	if err != nil {
		return broken(err)
	}
	kind, parameters, err := mime.ParseMediaType(message.Header.Get("Content-Type"))
	if err != nil {
		return broken(err)
	}
	if !strings.HasPrefix(kind, "multipart/") {
		return broken(fmt.Errorf("its type is %s, not multipart/mixed", kind))
	}
	var all []Found
	parts := multipart.NewReader(message.Body, parameters["boundary"])
	for number := 1; ; number++ {
		part, err := parts.NextPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return broken(err)
		}
		found, err := w.fromPart(fmt.Sprintf("%s, part %d", place, number), part)
		if err != nil {
			return Found{}, err
		}
		all = append(all, found)
	}
	if len(all) != 1 {
		return Found{}, document.Problem{File: place, Text: fmt.Sprintf("has %d parts that may hold an identity; want one", len(all))}
	}
	return all[0], nil
}

func (w wrapping) fromPart(place string, part *multipart.Part) (Found, error) {
	body, err := io.ReadAll(io.LimitReader(part, maxBytes+1))
	if err != nil {
		return Found{}, document.Problem{File: place, Text: fmt.Sprintf("cannot be read: %s; make the message again", err)}
	}
	if strings.EqualFold(part.Header.Get("Content-Transfer-Encoding"), "base64") {
		decoded, ok := fromBase64(body)
		if !ok {
			return Found{}, document.Problem{File: place, Text: "is not the base64 that its header says; make the message again"}
		}
		body = decoded
	}
	return (w & inGzip).read(place, body)
}

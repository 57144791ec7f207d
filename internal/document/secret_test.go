package document_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/kiln-os/kiln/internal/document"
)

const hush = "hush0.abcdefghijklmnop"

// holder reaches a secret in every way that a printer may come by one.
type holder struct {
	Secret  document.Secret
	Pointer *document.Secret
	List    []document.Secret
	Map     map[string]document.Secret
	hidden  document.Secret
	nested  struct{ deeper document.Secret }
}

func newHolder() holder {
	secret := document.NewSecret(hush)
	h := holder{Secret: secret, Pointer: &secret, List: []document.Secret{secret}, Map: map[string]document.Secret{"k": secret}, hidden: secret}
	h.nested.deeper = secret
	return h
}

func TestSecretIsNeverShown(t *testing.T) {
	h := newHolder()
	shown := map[string]string{
		"String":  h.Secret.String(),
		"Println": fmt.Sprintln(h.Secret, h.Pointer, h),
		"Errorf":  fmt.Errorf("reading %v: %w", h.Secret, fmt.Errorf("%s", h.Secret)).Error(),
	}
	for _, verb := range strings.Split("v,+v,#v,s,q,x,X,d,o,b,c,U,t,e,g,T,10s,-30v,z", ",") {
		shown["%"+verb] = fmt.Sprintf("%"+verb+" %"+verb+" %"+verb+" %"+verb, h.Secret, h.Pointer, h, &h)
	}
	for name, encode := range map[string]func(any) ([]byte, error){"json": json.Marshal, "yaml": yaml.Marshal} {
		raw, err := encode(h)
		if err != nil {
			t.Fatal(err)
		}
		shown[name] = string(raw)
	}
	raw, err := xml.Marshal(h.Secret)
	if err != nil {
		t.Fatal(err)
	}
	shown["xml"] = string(raw)
	var log bytes.Buffer
	for _, handler := range []slog.Handler{slog.NewTextHandler(&log, nil), slog.NewJSONHandler(&log, nil)} {
		slog.New(handler).Info("holding", "secret", h.Secret, "pointer", h.Pointer, "list", h.List, "all", h)
	}
	shown["slog"] = log.String()

	for way, text := range shown {
		if strings.Contains(text, hush) || strings.Contains(text, fmt.Sprintf("%x", hush)) || strings.Contains(text, fmt.Sprintf("%X", hush)) {
			t.Errorf("%s shows the secret: %s", way, text)
		}
		if way != "%T" && !strings.Contains(text, "[redacted]") {
			t.Errorf("%s does not say that something is redacted: %s", way, text)
		}
	}
	if h.Secret.Reveal() != hush || h.hidden.Reveal() != hush {
		t.Error("Reveal does not give the secret back")
	}
}

// A secret in the wrong place, or of the wrong shape, must not get into the message about it.
func TestSecretIsNotInErrors(t *testing.T) {
	for _, text := range []string{
		header + "token: {text: " + hush + "}\n",
		header + "token: [" + hush + "]\n",
		header + "pointer: " + hush + "\n",
		header + "items: " + hush + "\n",
		header + "items: [" + hush + "]\n",
		header + "optional: " + hush + "\n",
		hush + "\n",
		"- " + hush + "\n",
		header + "token: \"" + hush + "\n",
		header + "token: " + hush + ": x\n",
	} {
		var into sample
		err := document.Decode("s.yaml", []byte(text), "Sample", &into)
		if !document.IsInvalid(err) {
			t.Errorf("%q was accepted: %v", text, err)
			continue
		}
		if strings.Contains(err.Error(), hush) {
			t.Errorf("%q: the message shows the secret: %v", text, err)
		}
	}
}

func TestSecretOfTheWrongTypeNamesTheField(t *testing.T) {
	var into sample
	err := document.Decode("s.yaml", []byte(header+"token: 12345678\n"), "Sample", &into)
	if want := "s.yaml: token: want text (put quotes around it)"; err == nil || err.Error() != want {
		t.Errorf("error is %v; want %s", err, want)
	}
}

func TestSecretZero(t *testing.T) {
	if s := document.NewSecret(""); !s.IsZero() || s.Reveal() != "" {
		t.Error("a secret without text is not zero")
	}
	raw, err := json.Marshal(sample{Name: "x"})
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(raw), "token") {
		t.Errorf("omitzero keeps a zero secret: %s", raw)
	}
}

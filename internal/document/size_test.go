package document_test

import (
	"encoding/json"
	"testing"

	"github.com/kiln-os/kiln/internal/document"
)

func TestParseSize(t *testing.T) {
	for text, want := range map[string]document.Size{
		"0MiB": 0, "1KiB": 1 << 10, "512MiB": 512 << 20, "1GiB": 1 << 30, "3TiB": 3 << 40, "1024TiB": 1 << 50, "5000000000KiB": 5000000000 << 10,
	} {
		got, err := document.ParseSize(text)
		if err != nil || got != want {
			t.Errorf("ParseSize(%q) is %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "1", "MiB", "1 MiB", "1mib", "1MB", "-1MiB", "1.5GiB", "0x1MiB", "1025TiB", "99999999999999999999KiB"} {
		if got, err := document.ParseSize(text); err == nil {
			t.Errorf("ParseSize(%q) is %d; want an error", text, got)
		}
	}
}

func TestSizeString(t *testing.T) {
	for size, want := range map[document.Size]string{
		0: "0MiB", 1024: "1KiB", 1 << 20: "1MiB", 1536 << 20: "1536MiB", 1 << 30: "1GiB", 2 << 40: "2TiB", 1<<20 + 1<<19: "1.5MiB",
	} {
		if got := size.String(); got != want {
			t.Errorf("%d bytes are %s; want %s", int64(size), got, want)
		}
	}
}

func TestSizeSurvivesJSON(t *testing.T) {
	raw, err := json.Marshal(256 * document.MiB)
	if err != nil || string(raw) != `"256MiB"` {
		t.Fatalf("marshalled to %s, %v", raw, err)
	}
	var back document.Size
	if err := json.Unmarshal(raw, &back); err != nil || back != 256*document.MiB {
		t.Errorf("came back as %d, %v", back, err)
	}
}

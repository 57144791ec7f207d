package bake

import (
	"strings"
	"testing"

	"github.com/kiln-os/kiln/internal/document"
)

func TestStateDefinition(t *testing.T) {
	got := string(stateDefinition(4 * document.GiB))
	for _, want := range []string{"\nLabel=kiln-state\n", "\nFormat=ext4\n", "\nSizeMinBytes=4194304K\n", "\nType=4d21b016-"} {
		if !strings.Contains(got, want) {
			t.Errorf("the definition lacks %q:\n%s", want, got)
		}
	}
}

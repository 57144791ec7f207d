package initramfs

import (
	"slices"
	"testing"
)

// A disk with a table is only added to, a blank one is not taken for one; and what lies between partitions stays.
func TestRepartArguments(t *testing.T) {
	for _, row := range []struct {
		blank bool
		want  string
	}{{false, "--empty=refuse"}, {true, "--empty=require"}} {
		got := repartition{disk: "/dev/vda", definitions: "/d", blank: row.blank}.arguments()
		for _, want := range []string{row.want, "--discard=no", "--definitions=/d"} {
			if !slices.Contains(got, want) {
				t.Errorf("blank %v: no %s in %q", row.blank, want, got)
			}
		}
		if got[len(got)-1] != "/dev/vda" {
			t.Errorf("blank %v: the disk is not last in %q", row.blank, got)
		}
	}
}

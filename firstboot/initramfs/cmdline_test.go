package initramfs

import (
	"encoding/hex"
	"strings"
	"testing"
	"time"
)

func TestParseCmdline(t *testing.T) {
	hash := strings.Repeat("0123456789abcdef", 4)
	for _, c := range []struct {
		name, text string
		want       Params
		problems   []string
	}{
		{
			name: "a node's", text: "console=ttyS0 roothash=" + hash + " kiln.platform=qemu quiet\n",
			want: Params{RootWait: time.Minute, Reboot: time.Minute, Platform: "qemu"},
		},
		{
			name: "every parameter", text: "kiln.rootwait=5 kiln.reboot=0 kiln.shell panic=3 roothash=" + hash,
			want: Params{RootWait: 5 * time.Second, Shell: true, Panic: true},
		},
		{
			name: "quotes, the last one counts, no shell", text: `"kiln.platform=a b" kiln.platform="c d" kiln.shell=0 roothash="` + hash + `"`,
			want: Params{RootWait: time.Minute, Reboot: time.Minute, Platform: "c d"},
		},
		{
			name: "what is behind -- belongs to init", text: "roothash=" + hash + " -- kiln.shell",
			want: Params{RootWait: time.Minute, Reboot: time.Minute},
		},
		{
			name: "nothing", text: "", want: Params{RootWait: time.Minute, Reboot: time.Minute},
			problems: []string{"kernel command line: roothash: missing"},
		},
		{
			name: "all wrong, the shell still counts", text: "roothash=abc kiln.rootwait=soon kiln.reboot=-1 kiln.shell=yes",
			want: Params{RootWait: time.Minute, Reboot: time.Minute, Shell: true},
			problems: []string{
				`roothash: "abc" is not a root hash; want 64 hexadecimal digits`, `kiln.rootwait: "soon" is not a number`, `kiln.reboot: "-1" is not a number`,
			},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := ParseCmdline(c.text)
			if len(c.problems) == 0 {
				if err != nil {
					t.Fatal(err)
				}
				if hex.EncodeToString(got.RootHash) != hash {
					t.Errorf("root hash is %x", got.RootHash)
				}
			}
			for _, problem := range c.problems {
				if err == nil || !strings.Contains(err.Error(), problem) {
					t.Errorf("error %v does not say %q", err, problem)
				}
			}
			got.RootHash = nil
			if got.RootWait != c.want.RootWait || got.Shell != c.want.Shell || got.Platform != c.want.Platform ||
				got.Reboot != c.want.Reboot || got.Panic != c.want.Panic {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}

package cluster

import (
	"regexp"
	"slices"
	"strings"

	"github.com/kiln-os/kiln/internal/document"
)

// ruleForm is that of a rule for disks, as far as it can be checked without a disk; firstboot/disks reads it whole.
var ruleForm = regexp.MustCompile(`^(path:/dev/|serial:|wwn:|model:|size:(>=|<=|==|>|<|=)?[0-9]+[KMGT]iB$)`)

// wipeForm keeps the word short and readable: it is kept on the disk, and given on kernel command lines too.
var wipeForm = regexp.MustCompile(`^[A-Za-z0-9._:-]{1,64}$`)

// checkInstall checks what an installer is told; part is where the document has it.
func checkInstall(p *document.Problems, part string, i *Install) {
	if i == nil {
		return
	}
	const wantRule = "path:/dev/NAME, serial:TEXT, wwn:TEXT, model:TEXT or size:>=100GiB, several joined by commas"
	if i.Disk == "" {
		p.Add(part+".disk", "missing; want %s", wantRule)
	}
	for condition := range strings.SplitSeq(i.Disk, ",") {
		condition = strings.TrimSpace(condition)
		if prefix := ruleForm.FindString(condition); i.Disk != "" && (prefix == "" || prefix == condition && !strings.HasPrefix(prefix, "size:")) {
			p.Add(part+".disk", "%q is no condition for a disk; want %s", condition, wantRule)
		}
	}
	if i.Wipe != "" && !wipeForm.MatchString(i.Wipe) {
		p.Add(part+".wipe", "%q is not allowed; want up to 64 letters, digits, ., _, : and -, as in 2026-01-31", i.Wipe)
	}
	if ways := []string{"", "kexec", "reboot", "poweroff"}; !slices.Contains(ways, i.Boot) {
		p.Add(part+".boot", "unknown %q; want kexec, reboot or poweroff, or leave it out", i.Boot)
	}
}

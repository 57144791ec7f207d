package bootstrap

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kiln-os/kiln/firstboot/azure"
	"github.com/kiln-os/kiln/firstboot/source"
	"github.com/kiln-os/kiln/internal/nodefs"
)

func TestStepOnAzureOnly(t *testing.T) {
	for _, platform := range source.Platforms() {
		p := (&Machine{}).plan(image{}, found{machine: Facts{Platform: platform}}, &stepJournal{})
		names := p.list().Names()
		at := slices.Index(names, azureReady)
		if (at >= 0) != (platform == source.PlatformAzure) || at >= 0 && (names[at-1] != "network" || names[at+1] != "network-config") {
			t.Errorf("%s: have %q", platform, names)
		}
	}
}

// Azure is told once. That it does not listen is said everywhere, and the first boot goes on; one that is done anew tries again.
func TestAzureIsTold(t *testing.T) {
	const warning = "warning: Azure was not told that the machine is ready, and may take it for failed and restart it: reporting health: the wire server answers 400"
	tests := []struct {
		name, platform string
		status         int
		// reports are how many the first boot makes, and how many more after a power cut.
		reports, more int
		warns         bool
	}{
		{name: "taken", platform: "azure", status: http.StatusOK, reports: 1},
		{name: "refused", platform: "azure", status: http.StatusBadRequest, reports: 1, more: 1, warns: true},
		{name: "elsewhere", platform: "qemu", status: http.StatusOK},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			reports := 0
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodPost {
					reports++
					w.WriteHeader(tt.status)
					return
				}
				fmt.Fprint(w, "<GoalState><Incarnation>1</Incarnation><Container><ContainerId>c</ContainerId><RoleInstanceList><RoleInstance>"+
					"<InstanceId>i</InstanceId></RoleInstance></RoleInstanceList></Container></GoalState>")
			}))
			defer server.Close()
			onAzure := func() *world {
				w := newWorld(t)
				w.write("/proc/cmdline", "kiln.platform="+tt.platform)
				w.m.WireServer = azure.WireServer{Base: server.URL, Budget: time.Minute, Wait: time.Minute, Pause: time.Millisecond}
				return w
			}
			w := onAzure()
			if err := w.run(); err != nil {
				t.Fatal(err)
			}
			if reports != tt.reports {
				t.Errorf("reported %d times", reports)
			}
			w.checkNode(t)
			for place, text := range map[string]string{
				"console": w.out.String(), "journal": w.read(nodefs.Journal), "Node": fmt.Sprint(w.api.Object("/api/v1/nodes/cp1")),
				"event": "warning: " + fmt.Sprint(w.api.Object("/api/v1/namespaces/default/events/cp1.registrationincomplete")["message"]),
			} {
				if strings.Contains(text, warning) != tt.warns {
					t.Errorf("the %s has\n%s", place, text)
				}
			}
			lines := strings.SplitAfter(w.read(nodefs.Journal), "\n")
			cut := 1 + slices.IndexFunc(lines, func(line string) bool { return strings.Contains(line, `"step":"network-config"`) })
			again := onAzure()
			again.write(nodefs.Journal, strings.Join(lines[:cut], ""))
			if err := again.run(); err != nil {
				t.Fatal(err)
			}
			if reports != tt.reports+tt.more {
				t.Errorf("reported %d times after a power cut", reports)
			}
		})
	}
}

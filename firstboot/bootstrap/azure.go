package bootstrap

import (
	"context"
	"fmt"
	"slices"

	"github.com/kiln-os/kiln/firstboot/source"
	"github.com/kiln-os/kiln/internal/step"
)

// azureReady is the step's name, and azureTold its note when Azure has taken the report.
const (
	azureReady = "azure-ready"
	azureTold  = "Azure knows that the machine is ready"
)

// onAzure is what only a machine on Azure does.
func (p *plan) onAzure() step.List {
	if p.machine.Platform != source.PlatformAzure {
		return nil
	}
	return step.List{{Name: azureReady, Does: "tells Azure that the machine is ready", Run: p.tellAzure}}
}

// tellAzure reports once for each installation. That it cannot is a warning: the machine runs all the same. A first boot that is
// done anew tries again then, so that the step being done is not enough to leave it out.
func (p *plan) tellAzure(ctx context.Context) (string, error) {
	told := func(r record) bool { return r.Step == azureReady && r.State == done && r.Note == azureTold }
	if slices.ContainsFunc(p.history(), told) {
		return "Azure was told before", nil
	}
	err := p.m.WireServer.Ready(ctx, p.saying(azureReady))
	switch {
	case err == nil:
		return azureTold, nil
	case ctx.Err() != nil:
		return "", context.Cause(ctx)
	}
	warning := fmt.Sprintf("Azure was not told that the machine is ready, and may take it for failed and restart it: %s", err)
	p.warnings = append(p.warnings, warning)
	return "warning: " + warning, nil
}

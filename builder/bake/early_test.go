package bake

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/kiln-os/kiln/builder/plan"
	"github.com/kiln-os/kiln/builder/rootfs"
)

func TestErrandsOfAList(t *testing.T) {
	image := func(format, kernel string, firmware ...string) Options {
		return Options{Plan: plan.Plan{Image: plan.Image{Format: format, Kernel: kernel, Firmware: firmware}}}
	}
	e := NewEarly([]Options{
		image(plan.FormatDisk, "cloud", plan.FirmwareUEFI),
		image(plan.FormatQCOW2, "cloud", plan.FirmwareUEFI, plan.FirmwareBIOS),
		image(plan.FormatISO, "metal", plan.FirmwareUEFI),
	})
	var names []string
	for _, one := range e.errands {
		names = append(names, one.name)
	}
	if want := []string{"kernel cloud", "medium", "format", "kernel metal"}; !slices.Equal(names, want) {
		t.Errorf("errands are %q, want %q", names, want)
	}
	e.End() // nothing had begun
}

// TestEarly: an errand is waited for only by those that need it, a failure is left to them, and the end stops what is going on.
func TestEarly(t *testing.T) {
	e := NewEarly(nil)
	var ran []string
	note := func(name string, err error) {
		e.add(name, func(context.Context, rootfs.Tools) error {
			ran = append(ran, name)
			return err
		})
	}
	note("a", nil)
	note("a", nil)
	note("b", context.DeadlineExceeded)
	e.add("long", func(ctx context.Context, _ rootfs.Tools) error {
		<-ctx.Done()
		return ctx.Err()
	})
	note("never", nil)
	for range 2 {
		e.begin(t.Context(), rootfs.Tools{})
	}
	for _, name := range []string{"a", "b", "nobody's"} {
		e.wait(t.Context(), name)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if e.wait(ctx, "long"); ctx.Err() == nil {
		t.Error("an errand under way was not waited for")
	}
	e.End()
	if want := []string{"a", "b"}; !slices.Equal(ran, want) {
		t.Errorf("ran %q, want %q", ran, want)
	}
	e.wait(t.Context(), "never")

	var none *Early
	none.begin(t.Context(), rootfs.Tools{})
	none.wait(t.Context(), "a")
}

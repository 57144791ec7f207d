package bake

import (
	"context"
	"sync"

	"github.com/kiln-os/kiln/builder/plan"
	"github.com/kiln-os/kiln/builder/rootfs"
)

// Early gets, beside the first steps of a list of builds, what later ones need and what depends on nothing that is made
// before: kernels, and the programs for media and formats. That is mostly waiting for the network, and work for one
// processor. A nil Early gets nothing; the steps do by themselves what was not got.
type Early struct {
	errands []errand
	// tried is closed, by name, once an errand was run.
	tried map[string]chan struct{}
	begun sync.Once
	stop  context.CancelFunc
	ended chan struct{}
}

// errand gets one part. Its error is forgotten: the step that needs the part meets it again, and says it.
type errand struct {
	name string
	run  func(ctx context.Context, tools rootfs.Tools) error
}

// Names of errands.
const (
	errandMedium = "medium"
	errandFormat = "format"
	errandKernel = "kernel "
)

// NewEarly lists what the builds need, in the order in which they need it. Nothing begins before the first build has its tools.
func NewEarly(builds []Options) *Early {
	e := &Early{tried: map[string]chan struct{}{}, stop: func() {}, ended: make(chan struct{})}
	for _, o := range builds {
		image := o.Plan.Image
		e.add(errandKernel+image.Kernel, func(ctx context.Context, tools rootfs.Tools) error {
			_, err := o.Debian.Kernel(ctx, tools, image.Kernel)
			return err
		})
		if image.BIOS() || image.Format == plan.FormatISO {
			e.add(errandMedium, func(ctx context.Context, _ rootfs.Tools) error {
				_, err := o.Debian.MediumTools(ctx)
				return err
			})
		}
		if image.Format == plan.FormatQCOW2 {
			e.add(errandFormat, func(ctx context.Context, _ rootfs.Tools) error {
				_, err := o.Debian.FormatTools(ctx)
				return err
			})
		}
	}
	return e
}

func (e *Early) add(name string, run func(ctx context.Context, tools rootfs.Tools) error) {
	if e.tried[name] == nil {
		e.tried[name] = make(chan struct{})
		e.errands = append(e.errands, errand{name, run})
	}
}

// begin runs the errands one after the other, beside the caller. Only the first call counts.
func (e *Early) begin(ctx context.Context, tools rootfs.Tools) {
	if e == nil {
		return
	}
	e.begun.Do(func() {
		ctx, e.stop = context.WithCancel(ctx)
		go func() {
			defer close(e.ended)
			for _, one := range e.errands {
				if ctx.Err() == nil {
					_ = one.run(ctx, tools)
				}
				close(e.tried[one.name])
			}
		}()
	})
}

// wait returns when an errand was run, or ctx ends: two that get the same part would both say so.
func (e *Early) wait(ctx context.Context, name string) {
	if e == nil || e.tried[name] == nil {
		return
	}
	select {
	case <-e.tried[name]:
	case <-ctx.Done():
	}
}

// End stops what is still going on, and waits until it has left nothing behind.
func (e *Early) End() {
	e.begun.Do(func() { close(e.ended) })
	e.stop()
	<-e.ended
}

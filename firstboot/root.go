package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/kiln-os/kiln/firstboot/bootstrap"
)

// Exit codes. The unit does not restart the service after 2 and 78.
const (
	exitDone    = 0
	exitRetry   = 1
	exitUsage   = 2
	exitInvalid = 78
)

// failure is an error of a verb's work; every other error of cobra's is about how the program was called.
type failure struct{ error }

func (f failure) Unwrap() error { return f.error }

// said is a failure that people have already been told.
type said struct{ error }

func (s said) Unwrap() error { return s.error }

// newRoot makes the commands anew, so that tests run them in process.
func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "firstboot",
		Short: "Turn a freshly booted machine into a cluster member",
		Long: `firstboot runs once on a node that was baked by kiln: it finds the node's identity, checks the image, runs kubeadm and
registers the node. The service firstboot.service runs it; by hand it tells what happened or would happen.

Exit codes: 0 done; 1 may be tried again; 2 called wrongly; 78 a document is wrong or missing, which no retry can mend.`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(newRun(), newIgnition(), newStatus(), newReset(), newReconcile(), newVersion())
	return root
}

// exitCode prints err for people and turns it into the program's exit code.
func exitCode(err error, out io.Writer) int {
	if err == nil {
		return exitDone
	}
	_, failed := errors.AsType[failure](err)
	if _, told := errors.AsType[said](err); !told {
		fmt.Fprintln(out, "firstboot:", err)
	}
	switch {
	case !failed:
		fmt.Fprintln(out, "see firstboot --help")
		return exitUsage
	case bootstrap.IsPermanent(err):
		return exitInvalid
	}
	return exitRetry
}

// work marks the errors of a verb's work as such.
func work(err error) error {
	if err == nil {
		return nil
	}
	return failure{err}
}

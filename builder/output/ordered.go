package output

import (
	"errors"
	"io"
	"runtime"
	"sync"
)

// ordered computes pieces of a file on all processors and writes them in the order they came: what comes out does not
// depend on how many processors there are.
type ordered struct {
	out io.Writer
	// queue holds the pieces to come, oldest first; its room limits how many are under way.
	queue chan chan piece
	done  chan struct{}
	mu    sync.Mutex
	err   error
}

// piece is a part of a file.
type piece struct {
	data []byte
	err  error
	// placed, when set, is called in order, before the data is written.
	placed func() error
}

func newOrdered(out io.Writer) *ordered {
	o := &ordered{out: out, queue: make(chan chan piece, 2*runtime.GOMAXPROCS(0)), done: make(chan struct{})}
	go o.drain()
	return o
}

func (o *ordered) drain() {
	defer close(o.done)
	for next := range o.queue {
		p := <-next
		if o.failed() != nil {
			continue
		}
		err := p.err
		if err == nil && p.placed != nil {
			err = p.placed()
		}
		if err == nil && len(p.data) > 0 {
			_, err = o.out.Write(p.data)
		}
		o.mu.Lock()
		o.err = err
		o.mu.Unlock()
	}
}

func (o *ordered) failed() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err
}

// add lets work compute the next piece on a goroutine of its own.
func (o *ordered) add(work func() piece) error {
	result := make(chan piece, 1)
	o.queue <- result
	go func() { result <- work() }()
	return o.failed()
}

// close waits until everything is written.
func (o *ordered) close() error {
	close(o.queue)
	<-o.done
	return o.failed()
}

// closeAll ends what is under way and the file below it.
func (o *ordered) closeAll(file *packedFile, before error) (string, error) {
	err := before
	if closed := o.close(); err == nil {
		err = closed
	}
	sum, closed := file.close()
	return sum, errors.Join(err, closed)
}

package output

import "errors"

// Target is a file in one of the formats, being written. Its methods are called from one goroutine at a time.
type Target interface {
	Sink
	// Close ends the file and gives its SHA-256 in hex.
	Close() (sum string, err error)
}

// Write streams the disk into targets, each on a goroutine of its own, and closes them all. It returns the SHA-256 of
// each file.
func (d Disk) Write(targets ...Target) (sums []string, err error) {
	var sinks []Sink
	var running []*behind
	for _, target := range targets {
		b := inBackground(target)
		running, sinks = append(running, b), append(sinks, b)
	}
	errs := []error{d.Stream(sinks...)}
	for i, b := range running {
		errs = append(errs, b.Close())
		sum, err := targets[i].Close()
		sums, errs = append(sums, sum), append(errs, err)
	}
	return sums, errors.Join(errs...)
}

// behind runs a sink on a goroutine of its own. Errors come out of Close.
type behind struct {
	jobs chan job
	err  chan error
}

// job is one call of a Sink: data, or a number of zeros.
type job struct {
	data []byte
	skip int64
}

// waiting is how many grains may wait for a sink: 4 MiB.
const waiting = 64

func inBackground(sink Sink) *behind {
	b := &behind{jobs: make(chan job, waiting), err: make(chan error, 1)}
	go func() {
		var first error
		for j := range b.jobs {
			switch {
			case first != nil: // what comes after an error is only drained
			case j.data != nil:
				_, first = sink.Write(j.data)
			default:
				first = sink.Skip(j.skip)
			}
		}
		b.err <- first
	}()
	return b
}

// Write implements Sink.
func (b *behind) Write(data []byte) (int, error) {
	b.jobs <- job{data: append([]byte(nil), data...)}
	return len(data), nil
}

// Skip implements Sink.
func (b *behind) Skip(size int64) error {
	b.jobs <- job{skip: size}
	return nil
}

// Close waits until the sink has taken everything and returns its first error.
func (b *behind) Close() error {
	close(b.jobs)
	return <-b.err
}

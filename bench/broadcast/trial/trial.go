//go:build linux

// Package trial has a crowd watch a system, publishes to it, and measures what
// the crowd sees and what the system's processes and the kernel use.
package trial

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/veltrix/cairn/bench/broadcast/peers"
	"github.com/veltrix/cairn/bench/broadcast/system"
	"github.com/veltrix/cairn/bench/broadcast/usage"
	"github.com/veltrix/cairn/bench/program"
	"github.com/veltrix/cairn/internal/load/crowd"
)

// A Trial is a system and the crowd that watches it. Its methods are for one
// goroutine.
type Trial struct {
	System *system.System
	Crowd  *crowd.Crowd

	proto bool
	bare  memory  // before anybody connected
	idle  float64 // cores that the servers use when nothing is published, as measured last
}

// Options says how a trial is made.
type Options struct {
	Proto   bool    // ours: watch in cairn.v1.proto, not cairn.v1.json
	Stalled float64 // part of the connections that can be stalled soon
	Most    int     // connections that there will be at most: workers enough for them are started at once
}

// Begin starts a system, with nobody connected to it.
func Begin(ctx context.Context, k *system.Kit, spec system.Spec, opts Options) (_ *Trial, err error) {
	t := &Trial{proto: opts.Proto}
	if t.System, err = k.Start(ctx, spec); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, t.End())
		}
	}()
	t.Crowd, err = crowd.Open(ctx, crowd.Options{
		Targets: t.System.Targets, Dialect: t.dialect(), Hunt: system.Hunt, Regions: []string{system.Region},
		Stalled: opts.Stalled, Worker: []string{k.Self, "watch"}, Workers: max(runtime.NumCPU(), (opts.Most+perWorker-1)/perWorker),
	})
	if err != nil {
		return nil, err
	}
	if err := awaitStill(ctx); err != nil {
		return nil, err
	}
	t.bare, err = t.memory()
	return t, err
}

// awaitStill waits until the kernel has given back what another trial's sockets
// used, which takes it a moment, but not for ever: the machine may have other
// things to do.
func awaitStill(ctx context.Context) error {
	const (
		tries  = 8
		change = 1 << 20 // bytes
	)
	was := int64(0)
	for range tries {
		if err := program.Sleep(ctx, settle); err != nil {
			return err
		}
		is, err := usage.Kernel()
		if err != nil {
			return err
		}
		if max(is-was, was-is) < change {
			break
		}
		was = is
	}
	return nil
}

// perWorker is how many connections a process of the crowd carries where it may
// have 20,000 files.
const perWorker = 17_500

// settle is how long a process that has just started, or has just taken on
// connections, is given before its memory is read.
const settle = 500 * time.Millisecond

func (t *Trial) dialect() crowd.Dialect {
	switch {
	case t.System.Kind == system.Ours && t.proto:
		return crowd.Proto()
	case t.System.Kind == system.Ours:
		return crowd.JSON()
	case t.System.Kind == system.Centrifuge:
		return crowd.Centrifuge(peers.Channel)
	}
	return crowd.Plain()
}

// End ends the crowd and the system.
func (t *Trial) End() error {
	var err error
	if t.Crowd != nil {
		err = t.Crowd.Close()
	}
	return errors.Join(err, t.System.Stop())
}

// A memory is what is used at one moment, in bytes.
type memory struct{ user, kernel int64 }

func (t *Trial) memory() (m memory, err error) {
	if m.user, err = usage.RSS(t.System.Servers()...); err != nil {
		return m, err
	}
	m.kernel, err = usage.Kernel()
	return m, err
}

// A Growth is how connections came, and what they use while nothing happens.
type Growth struct {
	Connections int     `json:"connections"`
	RampSeconds float64 `json:"ramp_s"` // until all were there and knew what they watch
	ConnectP50  float64 `json:"connect_p50_ms"`
	ConnectP99  float64 `json:"connect_p99_ms"`
	CPUEach     float64 `json:"connect_cpu_us"` // of the servers, a connection

	BytesIdle   float64 `json:"bytes_idle"`   // resident in the servers, a connection
	BytesKernel float64 `json:"bytes_kernel"` // both ends of a connection: sockets, files, epoll, buffers
	CPUIdle     float64 `json:"cpu_idle"`     // cores that the servers used while nothing was published
}

// Grow adds connections, so many a second, and waits until all are there. Then
// it leaves them alone for a while, and reads what they use.
func (t *Trial) Grow(ctx context.Context, n int, perSecond float64, idle time.Duration) (*Growth, error) {
	if _, err := t.Crowd.Window(ctx); err != nil {
		return nil, err
	}
	cpu, err := usage.CPU(t.System.Servers()...)
	if err != nil {
		return nil, err
	}
	within, cancel := context.WithTimeoutCause(ctx, joinWithin(n, perSecond), errSlow)
	defer cancel()
	from := time.Now()
	if err := t.Crowd.Grow(within, n, perSecond); err != nil {
		return nil, t.whyNot(ctx, err)
	}
	took := time.Since(from)
	seen, err := t.Crowd.Window(ctx)
	if err != nil {
		return nil, err
	}
	after, err := usage.CPU(t.System.Servers()...)
	if err != nil {
		return nil, err
	}
	g := &Growth{
		Connections: seen.Ready, RampSeconds: took.Seconds(),
		ConnectP50: ms(seen.Connect.Quantile(0.5)), ConnectP99: ms(seen.Connect.Quantile(0.99)),
		CPUEach: float64((after - cpu).Microseconds()) / float64(n),
	}
	return g, t.rest(ctx, g, idle)
}

// rest leaves the connections alone and reads what they use.
func (t *Trial) rest(ctx context.Context, g *Growth, idle time.Duration) error {
	if err := program.Sleep(ctx, settle); err != nil {
		return err
	}
	before, err := usage.CPU(t.System.Servers()...)
	if err != nil {
		return err
	}
	from := time.Now()
	if err := program.Sleep(ctx, idle); err != nil {
		return err
	}
	after, err := usage.CPU(t.System.Servers()...)
	if err != nil {
		return err
	}
	t.idle = (after - before).Seconds() / time.Since(from).Seconds()
	g.CPUIdle = t.idle
	g.BytesIdle, g.BytesKernel, err = t.each(g.Connections)
	return err
}

// each returns the memory that n connections use, a connection: in the servers
// and in the kernel.
func (t *Trial) each(n int) (user, kernel float64, err error) {
	m, err := t.memory()
	return float64(m.user-t.bare.user) / float64(n), float64(m.kernel-t.bare.kernel) / float64(n), err
}

// joinWithin is how long n connections may take to come.
func joinWithin(n int, perSecond float64) time.Duration {
	d := time.Minute
	if perSecond > 0 {
		d += time.Duration(2 * float64(n) / perSecond * float64(time.Second))
	}
	return d
}

var errSlow = errors.New("trial: connections take too long to come")

// whyNot says what the crowd saw when it could not grow.
func (t *Trial) whyNot(ctx context.Context, err error) error {
	w, werr := t.Crowd.Window(ctx)
	if werr != nil {
		return errors.Join(err, werr)
	}
	return fmt.Errorf("%w: %d of %d are ready; errors %v, closes %v, refused %d", err, w.Ready, w.Connections, w.Errors, w.Closes, w.Refused)
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

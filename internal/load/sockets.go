package load

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/load/crowd"
)

const (
	// aloneMax is how many sockets the process that claims carries by itself:
	// more would take its time from the claims.
	aloneMax = 2000

	// gatherFor is how much later deliveries to many sockets may be timed, so
	// that these cost the machine less.
	gatherFor = time.Millisecond

	settleFor = 5 * time.Second
	stuckFor  = 30 * time.Second
)

// sockets are the connections that watch, but for the probe.
type sockets struct {
	opts  *Options
	crowd *crowd.Crowd
	took  time.Duration // to connect them
	end   sync.Once

	mu      sync.Mutex
	connect *crowd.Stats // while they connected
	sum     *crowd.Stats // since
}

func openSockets(ctx context.Context, o *Options, hunt cairn.HuntID) (*sockets, error) {
	dialect := crowd.JSON()
	if o.Codec == "proto" {
		dialect = crowd.Proto()
	}
	worker, gather := o.Worker, gatherFor
	if o.Connections <= aloneMax {
		worker, gather = nil, 0
	}
	c, err := crowd.Open(ctx, crowd.Options{
		Targets: o.Targets, Dialect: dialect, Hunt: hunt, Regions: o.Regions, Standings: true,
		Stalled: o.Stalled / 100, Worker: worker, Gather: gather,
	})
	if err != nil {
		return nil, err
	}
	return &sockets{opts: o, crowd: c, sum: crowd.NewStats()}, nil
}

// read adds what happened since the last read to sum.
func (s *sockets) read(read func() (*crowd.Stats, error)) error {
	w, err := read()
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sum.Add(w)
	return nil
}

func (s *sockets) window() (*crowd.Stats, error) { return s.crowd.Window(context.Background()) }

// grow connects n sockets, has some of them stall, and begins to count anew.
func (s *sockets) grow(ctx context.Context, n int) error {
	start := time.Now()
	if err := s.growOn(ctx, n); err != nil {
		return err
	}
	s.took = time.Since(start)
	if err := s.read(s.window); err != nil {
		return err
	}
	s.mu.Lock()
	s.connect = s.sum
	s.sum = crowd.NewStats()
	s.mu.Unlock()
	if k := int(float64(n) * s.opts.Stalled / 100); k > 0 {
		if _, err := s.crowd.Stall(ctx, k); err != nil {
			return err
		}
	}
	return s.read(s.window)
}

// growOn connects n sockets, for as long as more and more are connected.
func (s *sockets) growOn(ctx context.Context, n int) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var watch sync.WaitGroup
	defer watch.Wait()
	grown := make(chan struct{})
	defer close(grown)
	stuckAfter := stuckFor
	if r := s.opts.ConnectRate; r > 0 {
		stuckAfter += time.Duration(float64(time.Second) / r)
	}
	watch.Go(func() {
		for most, since := 0, time.Now(); ; {
			select {
			case <-grown:
				return
			case <-time.After(time.Second):
			}
			if have, _ := s.progress(); have > most {
				most, since = have, time.Now()
			} else if time.Since(since) > stuckAfter {
				cancel(s.stuck(most, n))
				return
			}
		}
	})
	return s.crowd.Grow(ctx, n, s.opts.ConnectRate)
}

// stuck says why no more than most of n sockets can be connected.
func (s *sockets) stuck(most, n int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return fmt.Errorf("%d of %d are connected, and for %v no more: %d handshakes were refused, errors %v", most, n, stuckFor, s.sum.Refused, s.sum.Errors)
}

// settle has one more come, who knows nothing but what a snapshot says, and
// waits a while until all know the same.
func (s *sockets) settle(ctx context.Context) error {
	if s.connect == nil || s.connect.Connections == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleFor)
	defer cancel()
	if err := s.crowd.Grow(ctx, 1, 0); err != nil && ctx.Err() == nil {
		return err
	}
	return s.read(func() (*crowd.Stats, error) { return s.crowd.Settle(ctx) })
}

func (s *sockets) close() (err error) {
	s.end.Do(func() { err = s.crowd.Close() })
	return err
}

// progress returns how many are connected, and how much they were told.
func (s *sockets) progress() (connected int, deliveries int64) {
	_ = s.read(s.window) // one that fails shows at the end
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sum.Connected, s.sum.Deliveries
}

// A Sockets is what the sockets saw, but for the probe.
type Sockets struct {
	Connections int              `json:"connections"`
	Processes   int              `json:"processes"`     // that carried them
	ConnectRate float64          `json:"connect_per_s"` // until all knew what they watch
	Connect     Latency          `json:"connect"`       // from connect to the handshake's end
	Join        Latency          `json:"join"`          // from connect to the first snapshot
	Delivery    Latency          `json:"delivery"`      // from the first claim in a delta until recv returned it, of those who read
	Connected   int              `json:"connected"`     // at the end
	Stalled     int              `json:"stalled"`       // at the end
	Deliveries  int64            `json:"deliveries"`    // since all were connected, as what follows
	Bytes       int64            `json:"bytes"`
	Gaps        int64            `json:"gaps"`  // deltas that begin behind what was known
	Skips       int64            `json:"skips"` // snapshots instead of what came too fast
	Lost        int64            `json:"lost"`  // connections that ended by themselves
	Reconnects  int64            `json:"reconnects"`
	Resumed     int64            `json:"resumed"`   // came back and were told what they missed
	Restarted   int64            `json:"restarted"` // came back and got a snapshot
	Refused     int64            `json:"refused"`   // told to come again later, from the first connect on
	Pings       int64            `json:"pings"`     // answered
	Drains      int64            `json:"drains"`    // asked to go elsewhere
	Closes      map[int]int64    `json:"closes"`    // by close code
	Errors      map[string]int64 `json:"errors"`    // by kind, from the first connect on
	Wrong       map[string]int64 `json:"wrong"`     // faults of what was told, by kind
	States      int              `json:"states"`    // different ones that they know at the end; one that came last with a snapshot alone is among them
	Behind      int              `json:"behind"`    // who do not know what most know
}

func (s *sockets) report() *Sockets {
	if s.connect == nil || s.connect.Connections == 0 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c, w := s.connect, s.sum
	x := &Sockets{
		Connections: c.Connections, Processes: max(1, len(s.crowd.Pids())), ConnectRate: float64(c.Connections) / s.took.Seconds(),
		Connect: latencyOf(c.Connect), Join: latencyOf(c.Join), Delivery: latencyOf(w.Latency),
		Connected: w.Connected, Stalled: w.Stalled, Deliveries: w.Deliveries, Bytes: w.Bytes, Gaps: w.Gaps, Skips: w.Skips,
		Lost: w.Lost, Reconnects: w.Reconnects, Resumed: w.Resumed, Restarted: w.Restarted, Refused: c.Refused + w.Refused,
		Pings: w.Pings, Drains: w.Drains, Closes: w.Closes, Errors: w.Errors, Wrong: w.Wrong, States: len(w.States), Behind: w.Behind(),
	}
	for k, n := range c.Errors {
		x.Errors[k] += n
	}
	return x
}

// faults reports whether sockets missed something, or were told what is wrong.
func (x *Sockets) faults() bool {
	return x != nil && (x.Gaps > 0 || x.Lost > 0 || len(x.Wrong) > 0 || x.Behind > 0)
}

func latencyOf(h crowd.Histogram) Latency {
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	return Latency{
		Count: h.Count(), Mean: ms(h.Mean()), P50: ms(h.Quantile(0.5)), P90: ms(h.Quantile(0.9)),
		P99: ms(h.Quantile(0.99)), P999: ms(h.Quantile(0.999)), Max: ms(h.Max()),
	}
}

// writeText writes lines of a table for a terminal.
func (x *Sockets) writeText(w io.Writer) {
	row := func(what string, n int64, more string) { fmt.Fprintf(w, "%s\t%d\t%s\t\n", what, n, more) }
	fmt.Fprintln(w)
	row("sockets", int64(x.Connections), fmt.Sprintf("%.0f/s, %d processes", x.ConnectRate, x.Processes))
	row("deliveries", x.Deliveries, fmt.Sprintf("%.1f MB", float64(x.Bytes)/1e6))
	row("states", int64(x.States), "known in the end; 1 is right")
	for _, l := range []struct {
		what string
		n    int64
		more string
	}{
		{"behind", int64(x.Behind), "do not know what most know"},
		{"skips", x.Skips, "snapshots instead of what came too fast"},
		{"stalled", int64(x.Stalled), "did not read"},
		{"refused", x.Refused, "handshakes, and tried again later"},
		{"drains", x.Drains, "asked to go elsewhere"},
		{"lost", x.Lost, "connections that ended by themselves"},
		{"resumed", x.Resumed, "came back and were told what they missed"},
		{"restarted", x.Restarted, "came back and got a snapshot"},
	} {
		if l.n > 0 {
			row(l.what, l.n, l.more)
		}
	}
	for _, k := range slices.Sorted(maps.Keys(x.Closes)) {
		row("closed", x.Closes[k], fmt.Sprintf("with code %d", k))
	}
	for _, k := range slices.Sorted(maps.Keys(x.Errors)) {
		row("error", x.Errors[k], k)
	}
	for _, k := range slices.Sorted(maps.Keys(x.Wrong)) {
		row("fault", x.Wrong[k], k)
	}
}

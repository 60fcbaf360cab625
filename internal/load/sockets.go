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

	settleFor = 5 * time.Second
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
	worker := o.Worker
	if o.Connections <= aloneMax {
		worker = nil
	}
	c, err := crowd.Open(ctx, crowd.Options{
		Targets: o.Targets, Dialect: dialect, Hunt: hunt, Regions: o.Regions, Standings: true,
		Stalled: o.Stalled / 100, Worker: worker,
	})
	if err != nil {
		return nil, err
	}
	s := &sockets{opts: o, crowd: c}
	if s.sum, err = c.Window(ctx); err != nil {
		return nil, err
	}
	return s, nil
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
	if err := s.crowd.Grow(ctx, n, s.opts.ConnectRate); err != nil {
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

// writeText writes what tables of a terminal are made of.
func (x *Sockets) writeText(w io.Writer) {
	fmt.Fprintf(w, "\nsockets\t%d\tin %d processes, %.0f/s\t\n", x.Connections, x.Processes, x.ConnectRate)
	fmt.Fprintf(w, "deliveries\t%d\t%.1f MB\t\n", x.Deliveries, float64(x.Bytes)/1e6)
	fmt.Fprintf(w, "gaps\t%d\tskips\t%d\tlost\t%d\tstates\t%d\t\n", x.Gaps, x.Skips, x.Lost, x.States)
	for _, l := range []struct {
		n    int64
		text string
	}{
		{int64(x.Stalled), "stalled"},
		{x.Refused, "refused, and told when to come again"},
		{x.Drains, "asked to go elsewhere"},
		{x.Resumed, "came back and were told what they missed"},
		{x.Restarted, "came back and got a snapshot"},
		{int64(x.Behind), "do not know what most know"},
	} {
		if l.n > 0 {
			fmt.Fprintf(w, "\t%d\t%s\t\n", l.n, l.text)
		}
	}
	for _, k := range slices.Sorted(maps.Keys(x.Closes)) {
		fmt.Fprintf(w, "closed\t%d\tcode %d\t\n", x.Closes[k], k)
	}
	for _, k := range slices.Sorted(maps.Keys(x.Errors)) {
		fmt.Fprintf(w, "error\t%d\t%s\t\n", x.Errors[k], k)
	}
	for _, k := range slices.Sorted(maps.Keys(x.Wrong)) {
		fmt.Fprintf(w, "fault\t%d\t%s\t\n", x.Wrong[k], k)
	}
}

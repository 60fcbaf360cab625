//go:build linux

package trial

import (
	"context"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/veltrix/cairn/bench/broadcast/usage"
	"github.com/veltrix/cairn/bench/program"
	"github.com/veltrix/cairn/internal/load/crowd"
)

// A Load is what came of publishing at a steady rate for some time. A delivery
// is a stamped message that a client has read; latencies are from the stamp,
// which is made when a delta is published, to then.
type Load struct {
	Rate      float64 `json:"rate"` // deltas a second
	SweepMS   float64 `json:"sweep_ms,omitempty"`
	Seconds   float64 `json:"seconds"` // of publishing
	Published int64   `json:"published"`
	LateMS    float64 `json:"publish_late_max_ms"` // how far publishing fell behind its rate

	Connections int     `json:"connections"` // that listen
	Deliveries  int64   `json:"deliveries"`
	PerSecond   float64 `json:"deliveries_per_s"`
	Bytes       float64 `json:"bytes_per_delivery"`
	Skips       int64   `json:"skips"` // snapshots instead of what was missed
	Gaps        int64   `json:"gaps"`
	Behind      int     `json:"behind"` // connections that did not know in the end what most did
	Lost        int64   `json:"lost"`   // connections that ended, those of who stalled aside

	Closes map[int]int64 `json:"closes,omitempty"` // of all connections, by close code

	CPUEach  float64 `json:"cpu_us_per_delivery"`        // of the servers
	CPUNet   float64 `json:"cpu_us_net_per_delivery"`    // of the servers, less what they use when nothing is published
	CPUDelta float64 `json:"cpu_us_per_delta"`           // of the servers, a delta and connection: less than CPUEach where deltas share a message
	CPU      float64 `json:"cpu_cores"`                  // of the servers, while it was published
	Beside   float64 `json:"cpu_us_beside_per_delivery"` // of Redis or RabbitMQ
	Busy     float64 `json:"machine_busy"`               // share of all cores

	Min  float64 `json:"min_ms"`
	P50  float64 `json:"p50_ms"`
	P99  float64 `json:"p99_ms"`
	P999 float64 `json:"p999_ms"`
	Max  float64 `json:"max_ms"`
	// The medians of both halves: a system that does not keep up gets slower
	// and slower, and not only now and then.
	P50First  float64 `json:"p50_first_half_ms"`
	P50Second float64 `json:"p50_second_half_ms"`

	Parts []Part `json:"parts"` // of the time, each of one delta or some
	// The median of the parts' p99: what most deltas see, where one bad moment
	// decides about that of all.
	P99Median float64 `json:"p99_median_ms"`

	BytesLoaded float64 `json:"bytes_loaded"` // resident in the servers, a connection, afterwards
	Kept        bool    `json:"kept"`         // see Load.keeps
	Why         string  `json:"why,omitempty"`
}

// A Part is what was read during a part of a load's time: of at least a second,
// and of at least one delta.
type Part struct {
	From float64 `json:"from_s"` // since the load began
	P50  float64 `json:"p50_ms"`
	P99  float64 `json:"p99_ms"`
	Max  float64 `json:"max_ms"`
}

// part appends what a window saw, if it saw something.
func (l *Load) part(from time.Duration, w *crowd.Stats) {
	if w.Latency.Count() > 0 {
		l.Parts = append(l.Parts, Part{from.Seconds(), ms(w.Latency.Quantile(0.5)), ms(w.Latency.Quantile(0.99)), ms(w.Latency.Max())})
	}
}

// Limits of what "keeps up" means.
const (
	keepP99   = 1000.0 // ms
	keepLate  = 1000.0 // ms
	keepGrows = 1.5    // the second half's median against the first's …
	keepSlack = 50.0   // … and so many ms more
)

// keeps returns why a system did not keep up with a load, or "": every delta
// reached everyone, or was skipped by the protocol; p99 is below a second and
// the median did not grow; nobody was cut; and publishing was not held up.
func (l *Load) keeps(ours bool) string {
	switch {
	case l.Lost > 0:
		return fmt.Sprintf("%d connections were cut", l.Lost)
	case l.Gaps > 0:
		return fmt.Sprintf("%d gaps", l.Gaps)
	case !ours && l.Deliveries < l.Published*int64(l.Connections):
		return fmt.Sprintf("%d of %d deliveries came", l.Deliveries, l.Published*int64(l.Connections))
	case ours && l.Behind > 0:
		return fmt.Sprintf("%d connections are behind", l.Behind)
	case l.P99 > keepP99:
		return fmt.Sprintf("p99 is %.0f ms", l.P99)
	case l.P50Second > keepGrows*l.P50First+keepSlack:
		return fmt.Sprintf("the median grew from %.0f to %.0f ms", l.P50First, l.P50Second)
	case l.LateMS > keepLate:
		return fmt.Sprintf("publishing fell %.0f ms behind", l.LateMS)
	}
	return ""
}

// drainMax is how long, after the last delta, deliveries may still come.
const drainMax = 15 * time.Second

// Load publishes at a rate for some time, and waits for what is still on its
// way.
func (t *Trial) Load(ctx context.Context, perSecond float64, d time.Duration) (*Load, error) {
	t.System.Pace(perSecond)
	if _, err := t.Crowd.Window(ctx); err != nil {
		return nil, err
	}
	before, err := t.spent()
	if err != nil {
		return nil, err
	}
	l := &Load{Rate: perSecond, SweepMS: ms(t.System.Sweep)}
	from := time.Now()
	seen, second, err := t.publish(ctx, l, perSecond, d)
	if err != nil {
		return nil, err
	}
	l.Seconds = time.Since(from).Seconds()
	during, err := t.spent()
	if err != nil {
		return nil, err
	}
	rest, after, err := t.drain(ctx, l.Published*int64(second.Ready), seen.Latency.Count()+second.Latency.Count())
	if err != nil {
		return nil, err
	}
	second.Add(rest)
	l.P50First, l.P50Second = ms(seen.Latency.Quantile(0.5)), ms(second.Latency.Quantile(0.5))
	seen.Add(second)
	l.fill(seen, t.idle, before, during, after)
	if l.BytesLoaded, _, err = t.each(max(1, seen.Connected)); err != nil {
		return nil, err
	}
	l.Why = l.keeps(t.System.Ours())
	l.Kept = l.Why == ""
	return l, nil
}

// Probe publishes n deltas, one after the other, and returns how long the slowest
// took until 99.9% of those who listen had it.
func (t *Trial) Probe(ctx context.Context, n int) (time.Duration, error) {
	var slowest time.Duration
	for range n {
		seen, err := t.Crowd.Window(ctx)
		if err != nil {
			return 0, err
		}
		if err := t.System.Publish(ctx); err != nil {
			return 0, err
		}
		seen, _, err = t.drain(ctx, int64(seen.Ready), 0)
		if err != nil {
			return 0, err
		}
		slowest = max(slowest, seen.Latency.Quantile(0.999))
	}
	return slowest, nil
}

// Profile publishes at a rate for some time, and returns what the first of our
// gateways spent its CPU on meanwhile.
func (t *Trial) Profile(ctx context.Context, perSecond float64, d time.Duration) ([]byte, error) {
	var prof []byte
	both, ctx := errgroup.WithContext(ctx)
	both.Go(func() (err error) {
		prof, err = t.System.Profile(ctx, d)
		return err
	})
	both.Go(func() error {
		_, err := t.Load(ctx, perSecond, d)
		return err
	})
	return prof, both.Wait()
}

// partMin is the least time of a part, somewhat less than a second so that one delta a second is one a part: reading what a large crowd saw costs
// those whom it asks.
const partMin = 900 * time.Millisecond

// publish publishes and returns what was seen in the first half, and what in
// the second so far.
func (t *Trial) publish(ctx context.Context, l *Load, perSecond float64, d time.Duration) (first, second *crowd.Stats, err error) {
	n := max(2, int64(perSecond*d.Seconds()))
	from := time.Now()
	first, second = crowd.NewStats(), crowd.NewStats()
	sum, part := first, time.Duration(0)
	read := func() error {
		w, err := t.Crowd.Window(ctx)
		if err == nil {
			l.part(part, w)
			sum.Add(w)
			part = time.Since(from)
		}
		return err
	}
	for i := range n {
		due := from.Add(time.Duration(float64(i) / perSecond * float64(time.Second)))
		if err := program.Sleep(ctx, time.Until(due)); err != nil {
			return nil, nil, err
		}
		// What a part's deltas still have on their way counts in the next.
		if half := i == n/2; half || time.Since(from)-part >= partMin {
			if err := read(); err != nil {
				return nil, nil, err
			}
			if half {
				sum = second
			}
		}
		l.LateMS = max(l.LateMS, ms(time.Since(due)))
		if err := t.System.Publish(ctx); err != nil {
			return nil, nil, err
		}
		l.Published++
	}
	if err := program.Sleep(ctx, time.Until(from.Add(time.Duration(float64(n)/perSecond*float64(time.Second))))); err != nil {
		return nil, nil, err
	}
	return first, second, read()
}

// drainQuiet is how long nothing must come before nothing more is expected:
// where deltas share a message, fewer come than were published.
const drainQuiet = 2 * time.Second

// drain waits until all deliveries came, or none comes any more, and returns
// what was seen since the window before, and what was spent until the last one.
func (t *Trial) drain(ctx context.Context, want, have int64) (sum *crowd.Stats, last spent, err error) {
	heard := time.Now()
	for until := heard.Add(drainMax); ; {
		w, err := t.Crowd.Window(ctx)
		if err != nil {
			return nil, last, err
		}
		if w.Deliveries > 0 || sum == nil {
			heard = time.Now()
			if last, err = t.spent(); err != nil {
				return nil, last, err
			}
		}
		if sum == nil {
			sum = w
		} else {
			sum.Add(w)
		}
		if have+sum.Latency.Count() >= want || time.Since(heard) >= drainQuiet || time.Now().After(until) {
			return sum, last, nil
		}
		if err := program.Sleep(ctx, 100*time.Millisecond); err != nil {
			return nil, last, err
		}
	}
}

// A spent is CPU time up to a moment.
type spent struct {
	at              time.Time
	servers, beside time.Duration
	machine         usage.Machine
}

func (t *Trial) spent() (s spent, err error) {
	s.at = time.Now()
	if s.servers, err = usage.CPU(t.System.Servers()...); err != nil {
		return s, err
	}
	if s.beside, err = usage.CPU(t.System.Beside()...); err != nil {
		return s, err
	}
	s.machine, err = usage.ReadMachine()
	return s, err
}

func (l *Load) fill(seen *crowd.Stats, idle float64, before, during, after spent) {
	l.Connections, l.Deliveries = seen.Ready, seen.Latency.Count()
	l.PerSecond = float64(l.Deliveries) / l.Seconds
	l.Skips, l.Gaps, l.Behind = seen.Skips, seen.Gaps, seen.Behind()
	l.Lost, l.Closes = seen.Lost, seen.Closes
	per := func(d time.Duration, n int64) float64 { return float64(d.Microseconds()) / float64(max(1, n)) }
	l.Bytes = float64(seen.Bytes) / float64(max(1, seen.Deliveries))
	l.CPUEach = per(after.servers-before.servers, l.Deliveries)
	l.CPUNet = l.CPUEach - per(time.Duration(idle*float64(after.at.Sub(before.at))), l.Deliveries)
	l.CPUDelta = per(after.servers-before.servers, l.Published*int64(l.Connections))
	l.Beside = per(after.beside-before.beside, l.Deliveries)
	l.CPU = (during.servers - before.servers).Seconds() / l.Seconds
	l.Busy = usage.Busy(before.machine, during.machine)
	h := seen.Latency
	if h.Count() > 0 {
		l.Min = float64(h.HDR().Min()) / 1000
	}
	l.P99Median = medianOf(l.Parts, func(p Part) float64 { return p.P99 })
	l.P50, l.P99, l.P999, l.Max = ms(h.Quantile(0.5)), ms(h.Quantile(0.99)), ms(h.Quantile(0.999)), ms(h.Max())
}

// medianOf returns the median of a figure of parts; 0 of none.
func medianOf(parts []Part, figure func(Part) float64) float64 {
	if len(parts) == 0 {
		return 0
	}
	all := make([]float64, len(parts))
	for i, p := range parts {
		all[i] = figure(p)
	}
	slices.Sort(all)
	return (all[(len(all)-1)/2] + all[len(all)/2]) / 2
}

package load

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"text/tabwriter"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/veltrix/cairn"
)

// A histogram counts durations with three significant digits, up to a minute.
type histogram struct {
	mu sync.Mutex
	h  *hdrhistogram.Histogram // microseconds
}

const histogramMax = 60_000_000

func newHistogram() *histogram { return &histogram{h: hdrhistogram.New(1, histogramMax, 3)} }

func (h *histogram) record(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	_ = h.h.RecordValue(min(max(d.Microseconds(), 1), histogramMax)) // in range: can't fail
}

// Latency is a distribution of durations in milliseconds.
type Latency struct {
	Count int64   `json:"count"`
	Mean  float64 `json:"mean_ms"`
	P50   float64 `json:"p50_ms"`
	P90   float64 `json:"p90_ms"`
	P99   float64 `json:"p99_ms"`
	P999  float64 `json:"p999_ms"`
	Max   float64 `json:"max_ms"`
}

func (h *histogram) latency() Latency {
	h.mu.Lock()
	defer h.mu.Unlock()
	ms := func(us int64) float64 { return float64(us) / 1000 }
	return Latency{
		Count: h.h.TotalCount(), Mean: h.h.Mean() / 1000, P50: ms(h.h.ValueAtQuantile(50)), P90: ms(h.h.ValueAtQuantile(90)),
		P99: ms(h.h.ValueAtQuantile(99)), P999: ms(h.h.ValueAtQuantile(99.9)), Max: ms(h.h.Max()),
	}
}

// stats are the counts of a run. Its methods may be called concurrently.
type stats struct {
	claim, delta, board *histogram

	dropped, gaps atomic.Int64 // of the probe
	frames, bytes atomic.Int64
	starved, shed atomic.Int64

	mu       sync.Mutex
	outcomes map[string]int64
	errors   map[string]int64
}

func newStats() *stats {
	return &stats{claim: newHistogram(), delta: newHistogram(), board: newHistogram(), outcomes: map[string]int64{}, errors: map[string]int64{}}
}

func (s *stats) answered(outcome string, took time.Duration) {
	s.claim.record(took)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.outcomes[outcome]++
}

// failed counts an error by its kind: its text has ports and times in it.
func (s *stats) failed(err error) {
	kind := err.Error()
	var p *problem
	if errors.As(err, &p) {
		kind = fmt.Sprintf("HTTP %d %s", p.Status, p.Code)
	} else if i := strings.LastIndex(kind, ": "); i >= 0 {
		kind = kind[i+2:]
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.errors[kind]++
}

func (s *stats) delivered(bytes int) {
	s.frames.Add(1)
	s.bytes.Add(int64(bytes))
}

func (s *stats) progress() Progress {
	l := s.claim.latency()
	s.mu.Lock()
	defer s.mu.Unlock()
	p := Progress{Won: s.outcomes["won"], P99: time.Duration(l.P99 * float64(time.Millisecond))}
	for _, n := range s.outcomes {
		p.Attempts += n
	}
	for _, n := range s.errors {
		p.Failed += n
	}
	return p
}

// A Report is what a load measured, by its own clock.
type Report struct {
	Target      string           `json:"target"`
	Hunt        cairn.HuntID     `json:"hunt"`
	Start       time.Time        `json:"start"`
	Seconds     float64          `json:"seconds"`
	Players     int              `json:"players"`
	Connections int              `json:"connections"`
	Rate        float64          `json:"rate"` // asked for, a second
	Answered    float64          `json:"answered_per_s"`
	Outcomes    map[string]int64 `json:"outcomes"`
	Errors      map[string]int64 `json:"errors"`  // attempts that nobody answered, by kind
	Starved     int64            `json:"starved"` // attempts not sent: no open tile was left to try
	Shed        int64            `json:"shed"`    // attempts not sent: too many waited for their answers

	Claim     Latency  `json:"claim"`             // from when an attempt was due to its answer
	Delta     Latency  `json:"delta"`             // from when a claim was due to the delta on a socket
	Standings Latency  `json:"standings"`         // from when a claim was due to a board on a socket that reflects it
	Unseen    int      `json:"unseen"`            // won claims that never reached the socket
	Sockets   *Sockets `json:"sockets,omitempty"` // all but the first, which the lines above are from
	Frames    int64    `json:"frames"`
	Bytes     int64    `json:"bytes"`
	Gaps      int64    `json:"gaps"`    // deltas that did not join the one before
	Dropped   int64    `json:"dropped"` // sockets that ended by themselves
}

func (r *run) report(start time.Time, took time.Duration) *Report {
	s := r.stats
	rep := &Report{
		Target: strings.Join(r.opts.Targets, ","), Hunt: r.hunt, Start: start.UTC(), Seconds: took.Seconds(),
		Players: len(r.players), Connections: r.opts.Connections, Rate: r.opts.Rate,
		Outcomes: s.outcomes, Errors: s.errors, Starved: s.starved.Load(), Shed: s.shed.Load(),
		Claim: s.claim.latency(), Delta: s.delta.latency(), Standings: s.board.latency(),
		Frames: s.frames.Load(), Bytes: s.bytes.Load(), Gaps: s.gaps.Load(), Dropped: s.dropped.Load(),
	}
	rep.Answered = float64(rep.Claim.Count) / rep.Seconds
	if r.probe != nil {
		rep.Unseen = r.probe.waiting()
	}
	if x := r.sockets.report(); x != nil {
		rep.Sockets = x
		rep.Frames += x.Deliveries
		rep.Bytes += x.Bytes
		rep.Gaps += x.Gaps
		rep.Dropped += x.Lost
	}
	return rep
}

// Failed reports whether attempts failed, or sockets missed something.
func (r *Report) Failed() bool {
	return len(r.Errors) > 0 || r.Gaps > 0 || r.Unseen > 0 || r.Dropped > 0 || r.Sockets.faults()
}

// WriteText writes the report for a terminal.
func (r *Report) WriteText(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "\n%s, hunt %s, %.1f s, %d players, %d sockets\n\n", r.Target, r.Hunt, r.Seconds, r.Players, r.Connections)
	fmt.Fprintf(w, "answered\t%.0f/s\tof %.0f/s asked for\t\n", r.Answered, r.Rate)
	for _, k := range slices.Sorted(maps.Keys(r.Outcomes)) {
		fmt.Fprintf(w, "%s\t%d\t\t\n", k, r.Outcomes[k])
	}
	for _, k := range slices.Sorted(maps.Keys(r.Errors)) {
		fmt.Fprintf(w, "failed\t%d\t%s\t\n", r.Errors[k], k)
	}
	if r.Starved > 0 {
		fmt.Fprintf(w, "not sent\t%d\tno open tile was left to try\t\n", r.Starved)
	}
	if r.Shed > 0 {
		fmt.Fprintf(w, "not sent\t%d\ttoo many waited for their answers\t\n", r.Shed)
	}
	fmt.Fprintf(w, "\n\tcount\tmean\tp50\tp90\tp99\tp99.9\tmax\t\n")
	type row struct {
		name string
		Latency
	}
	rows := []row{{"claim", r.Claim}, {"delta on a socket", r.Delta}, {"standings on a socket", r.Standings}}
	if x := r.Sockets; x != nil {
		rows = append(rows, row{"claim to every socket", x.Delivery}, row{"handshake", x.Connect}, row{"first snapshot", x.Join})
	}
	for _, l := range rows {
		if l.Count > 0 {
			fmt.Fprintf(w, "%s\t%d\t%.2f\t%.2f\t%.2f\t%.2f\t%.2f\t%.2f\tms\n", l.name, l.Count, l.Mean, l.P50, l.P90, l.P99, l.P999, l.Max)
		}
	}
	if r.Sockets != nil {
		r.Sockets.writeText(w)
	}
	if r.Connections > 0 {
		fmt.Fprintf(w, "\nframes\t%d\t%.1f MB\t\n", r.Frames, float64(r.Bytes)/1e6)
		fmt.Fprintf(w, "gaps\t%d\tunseen\t%d\tdropped\t%d\t\n", r.Gaps, r.Unseen, r.Dropped)
	}
	return w.Flush()
}

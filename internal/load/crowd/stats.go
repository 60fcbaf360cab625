package crowd

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// latencyMax bounds what is measured; what takes longer counts as this.
const latencyMax = 2 * time.Minute

// A Histogram counts durations of 1 µs to 2 minutes, with three digits. The
// zero Histogram counts none, and takes no memory.
type Histogram struct{ h *hdrhistogram.Histogram }

// record counts a duration in microseconds.
func (h *Histogram) record(us int64) {
	if h.h == nil {
		h.h = hdrhistogram.New(1, latencyMax.Microseconds(), 3)
	}
	_ = h.h.RecordValue(min(max(us, 1), latencyMax.Microseconds())) // in range: can't fail
}

func (h *Histogram) merge(o Histogram) {
	if o.h == nil {
		return
	}
	if h.h == nil {
		h.h = hdrhistogram.New(1, latencyMax.Microseconds(), 3)
	}
	h.h.Merge(o.h)
}

// Count returns how many durations were counted.
func (h Histogram) Count() int64 {
	if h.h == nil {
		return 0
	}
	return h.h.TotalCount()
}

// Quantile returns the duration that a part q of all, 0 to 1, do not exceed;
// 0 if there is none.
func (h Histogram) Quantile(q float64) time.Duration {
	if h.Count() == 0 {
		return 0
	}
	return time.Duration(h.h.ValueAtPercentile(100*q)) * time.Microsecond
}

// Mean returns the mean; 0 of none.
func (h Histogram) Mean() time.Duration {
	if h.Count() == 0 {
		return 0
	}
	return time.Duration(h.h.Mean() * float64(time.Microsecond))
}

// Max returns the longest; 0 of none.
func (h Histogram) Max() time.Duration {
	if h.Count() == 0 {
		return 0
	}
	return time.Duration(h.h.Max()) * time.Microsecond
}

// HDR returns a copy in microseconds, for what is not offered here; nil if
// nothing was counted.
func (h Histogram) HDR() *hdrhistogram.Histogram {
	if h.h == nil {
		return nil
	}
	return h.h.Clone()
}

// MarshalJSON implements json.Marshaler by HdrHistogram's own encoding; "" is
// one that counted nothing.
func (h Histogram) MarshalJSON() ([]byte, error) {
	if h.Count() == 0 {
		return []byte(`""`), nil
	}
	b, err := h.h.Encode(hdrhistogram.V2CompressedEncodingCookieBase)
	if err != nil {
		return nil, err
	}
	return json.Marshal(string(b))
}

// UnmarshalJSON reverses MarshalJSON.
func (h *Histogram) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	h.h = nil
	if s == "" {
		return nil
	}
	from, err := hdrhistogram.Decode([]byte(s))
	if err != nil {
		return fmt.Errorf("crowd: histogram: %w", err)
	}
	h.merge(Histogram{from}) // one of the bounds here, whatever those of the other are
	return nil
}

// Stats is what a crowd saw in a window of time, and where it stands at the
// window's end.
type Stats struct {
	Seconds float64 `json:"seconds"` // of the window

	// Where it stands.
	Connections int            `json:"connections"` // grown
	Connected   int            `json:"connected"`   // of them: their handshake is done
	Ready       int            `json:"ready"`       // of them: know what they watch
	Stalled     int            `json:"stalled"`     // do not read
	States      map[string]int `json:"states"`      // by hash of what they know: how many of those who are ready and not stalled

	// What happened.
	Opened     int64            `json:"opened"`     // handshakes done
	Lost       int64            `json:"lost"`       // connections that ended by themselves, those of who stalled aside
	Reconnects int64            `json:"reconnects"` // handshakes done by those who had been connected before
	Resumed    int64            `json:"resumed"`    // came back and were told what they missed
	Restarted  int64            `json:"restarted"`  // came back and got a snapshot instead
	Refused    int64            `json:"refused"`    // handshakes answered by 503, and tried again after Retry-After
	Deliveries int64            `json:"deliveries"` // snapshots, deltas, boards or publications
	Snapshots  int64            `json:"snapshots"`  // of them
	Bytes      int64            `json:"bytes"`      // of messages, without WebSocket headers
	Gaps       int64            `json:"gaps"`       // deltas that begin behind what was known
	Skips      int64            `json:"skips"`      // snapshots that nobody asked for
	Wrong      map[string]int64 `json:"wrong"`      // other faults of the fold
	Pings      int64            `json:"pings"`      // answered
	Drains     int64            `json:"drains"`     // requests to go elsewhere
	Closes     map[int]int64    `json:"closes"`     // by close code of the server
	Errors     map[string]int64 `json:"errors"`     // by kind, closes aside

	Latency Histogram `json:"latency"` // from a delivery's time stamp until recv returned it; healthy connections only
	Connect Histogram `json:"connect"` // from connect to the handshake's end
	Join    Histogram `json:"join"`    // from connect until ready
}

// NewStats returns the figures of a crowd that saw nothing.
func NewStats() *Stats {
	return &Stats{States: map[string]int{}, Wrong: map[string]int64{}, Closes: map[int]int64{}, Errors: map[string]int64{}}
}

// merge adds what another part of the crowd saw at the same time.
func (s *Stats) merge(o *Stats) {
	s.Seconds = max(s.Seconds, o.Seconds)
	s.Connections += o.Connections
	s.Connected += o.Connected
	s.Ready += o.Ready
	s.Stalled += o.Stalled
	s.Opened += o.Opened
	s.Lost += o.Lost
	s.Reconnects += o.Reconnects
	s.Resumed += o.Resumed
	s.Restarted += o.Restarted
	s.Refused += o.Refused
	s.Deliveries += o.Deliveries
	s.Snapshots += o.Snapshots
	s.Bytes += o.Bytes
	s.Gaps += o.Gaps
	s.Skips += o.Skips
	s.Pings += o.Pings
	s.Drains += o.Drains
	for k, n := range o.States {
		s.States[k] += n
	}
	for k, n := range o.Wrong {
		s.Wrong[k] += n
	}
	for k, n := range o.Closes {
		s.Closes[k] += n
	}
	for k, n := range o.Errors {
		s.Errors[k] += n
	}
	s.Latency.merge(o.Latency)
	s.Connect.merge(o.Connect)
	s.Join.merge(o.Join)
}

// Add adds what the same crowd saw in a later window to s.
func (s *Stats) Add(later *Stats) {
	seconds := s.Seconds + later.Seconds
	s.Connections, s.Connected, s.Ready, s.Stalled = 0, 0, 0, 0
	clear(s.States)
	s.merge(later)
	s.Seconds = seconds
}

// Behind returns how many of those who are ready do not know what most do.
func (s *Stats) Behind() int {
	all, most := 0, 0
	for _, n := range s.States {
		all += n
		most = max(most, n)
	}
	return all - most
}

// Faults lists what must not happen to any connection, one a line; nil if
// nothing did. Being cut, slow or refused is no fault.
func (s *Stats) Faults() []string {
	var list []string
	if s.Gaps > 0 {
		list = append(list, fmt.Sprintf("%d gaps", s.Gaps))
	}
	for _, k := range slices.Sorted(maps.Keys(s.Wrong)) {
		list = append(list, fmt.Sprintf("%d times: %s", s.Wrong[k], k))
	}
	return list
}

// kindOf returns what an error is about: its text's last part.
func kindOf(err error) string {
	kind := err.Error()
	if i := strings.LastIndex(kind, ": "); i >= 0 {
		kind = kind[i+2:]
	}
	return kind
}

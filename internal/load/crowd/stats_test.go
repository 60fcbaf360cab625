package crowd

import (
	"encoding/json"
	"testing"
	"time"
)

// TestHistogram: what is told to another process is what was counted.
func TestHistogram(t *testing.T) {
	s := NewStats()
	for us := range int64(10_000) {
		s.Latency.record(us)
	}
	s.Latency.record(int64(time.Hour / time.Microsecond))
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var got Stats
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	if got.Connect.Count() != 0 || got.Connect.Quantile(0.99) != 0 || got.Connect.Max() != 0 || got.Connect.Mean() != 0 {
		t.Errorf("got %v of none", got.Connect)
	}
	if a, b := s.Latency, got.Latency; a.Count() != b.Count() || a.Quantile(0.5) != b.Quantile(0.5) || a.Quantile(0.99) != b.Quantile(0.99) || a.Max() != b.Max() || a.Mean() != b.Mean() {
		t.Errorf("got %v of %v, want %v of %v", b.Quantile(0.5), b.Count(), a.Quantile(0.5), a.Count())
	}
	if p := got.Latency.Quantile(0.5); p < 4990*time.Microsecond || p > 5010*time.Microsecond {
		t.Errorf("got a median of %v, want 5ms", p)
	}
	s.Add(&got)
	if s.Latency.Count() != 20_002 || s.Latency.Max() < latencyMax-latencyMax/500 {
		t.Errorf("got %d up to %v", s.Latency.Count(), s.Latency.Max())
	}
}

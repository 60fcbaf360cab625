package cairn

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestInstantText: an instant is written as the standard library writes it.
func TestInstantText(t *testing.T) {
	check := func(i Instant) {
		got, err := i.AppendText([]byte("x"))
		if want := "x" + i.String(); err != nil || string(got) != want {
			t.Errorf("%d: got %s, %v; want %s", i, got, err, want)
		}
	}
	for _, i := range []Instant{
		0, -1, -1000, 999, 1_000_000, InstantOf(time.Date(2024, 2, 29, 23, 59, 59, 999_999_999, time.UTC)),
		InstantOf(time.Date(999, 12, 31, 23, 59, 59, 0, time.UTC)), InstantOf(time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)),
		math.MinInt64, math.MaxInt64,
	} {
		check(i)
	}
	rapid.Check(t, func(t *rapid.T) {
		check(Instant(rapid.Int64Range(-70_000_000_000_000_000, 260_000_000_000_000_000).Draw(t, "µs")))
	})
}

func BenchmarkInstantText(b *testing.B) {
	i := InstantOf(time.Date(2026, 1, 2, 3, 4, 5, 678_000_000, time.UTC))
	var room [32]byte
	b.ReportAllocs()
	for b.Loop() {
		_, _ = i.AppendText(room[:0]) // never fails
	}
}

package filelog

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/veltrix/cairn/internal/eventlog"
)

// benchBody is as long as a record of a few claims.
var benchBody = make([]byte, 200)

// BenchmarkFsync is the floor: what the disk itself takes to write as much and
// make it durable, alone.
func BenchmarkFsync(b *testing.B) {
	f, err := os.Create(filepath.Join(b.TempDir(), "floor"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	if err := syscall.Fallocate(int(f.Fd()), 0, 0, 64<<20); err != nil {
		b.Fatal(err)
	}
	var took []time.Duration
	var at int64
	for b.Loop() {
		began := time.Now()
		if _, err := f.WriteAt(benchBody, at); err != nil {
			b.Fatal(err)
		}
		if err := syscall.Fdatasync(int(f.Fd())); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(began))
		at = (at + int64(len(benchBody))) % (63 << 20)
	}
	reportPercentiles(b, took)
}

func reportPercentiles(b *testing.B, took []time.Duration) {
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Nanoseconds()), "p50-ns")
	b.ReportMetric(float64(took[len(took)*99/100].Nanoseconds()), "p99-ns")
	b.ReportMetric(float64(len(took))/b.Elapsed().Seconds(), "records/s")
}

// BenchmarkAppend appends to as many durable logs at once as there are writers.
func BenchmarkAppend(b *testing.B) {
	for _, writers := range []int{1, 24, 64, 256} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			ctx := context.Background()
			s := mustOpen(b, b.TempDir(), Options{})
			defer s.Close()
			var ws []eventlog.Writer
			for i := range writers {
				ws = append(ws, benchWriter(b, s, eventlog.Spec{Name: eventlog.Name(fmt.Sprintf("b%d", i))}))
			}
			took := make([][]time.Duration, writers)
			began := syncCount(b, s)
			var left atomic.Int64
			start := make(chan struct{})
			var wg sync.WaitGroup
			for i, w := range ws {
				wg.Go(func() {
					<-start
					for left.Add(-1) >= 0 {
						t := time.Now()
						if _, err := w.Append(ctx, benchBody, eventlog.Offset{}); err != nil {
							b.Error(err)
							return
						}
						took[i] = append(took[i], time.Since(t))
					}
				})
			}
			left.Store(int64(b.N))
			b.ReportAllocs()
			b.ResetTimer()
			close(start)
			wg.Wait()
			b.StopTimer()
			reportPercentiles(b, slices.Concat(took...))
			b.ReportMetric(float64(b.N)/float64(syncCount(b, s)-began), "records/sync")
		})
	}
}

func benchWriter(b *testing.B, s *Store, spec eventlog.Spec) eventlog.Writer {
	b.Helper()
	if err := s.Provision(context.Background(), spec); err != nil {
		b.Fatal(err)
	}
	w, err := s.Open(context.Background(), spec.Name)
	if err != nil {
		b.Fatal(err)
	}
	return w
}

// BenchmarkAppendVolatile appends to a log that is not synced.
func BenchmarkAppendVolatile(b *testing.B) {
	ctx := context.Background()
	s := mustOpen(b, b.TempDir(), Options{})
	defer s.Close()
	w := benchWriter(b, s, eventlog.Spec{Name: "standings", Volatile: true})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := w.Append(ctx, benchBody, eventlog.Offset{}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkFollow has followers read a log at its tail while it is written; an
// operation is a record, read by all of them.
func BenchmarkFollow(b *testing.B) {
	for _, followers := range []int{1, 8, 64} {
		b.Run(fmt.Sprintf("followers=%d", followers), func(b *testing.B) {
			ctx := context.Background()
			s := mustOpen(b, b.TempDir(), Options{})
			defer s.Close()
			w := benchWriter(b, s, eventlog.Spec{Name: "standings", Volatile: true})
			var wg sync.WaitGroup
			b.ReportAllocs()
			b.ResetTimer()
			for range followers {
				f, err := s.Follow(ctx, "standings", w.Fence())
				if err != nil {
					b.Fatal(err)
				}
				wg.Go(func() {
					for n := 0; n < b.N; {
						recs, _, err := f.Next(ctx)
						if err != nil {
							b.Error(err)
							return
						}
						n += len(recs)
					}
				})
			}
			for range b.N {
				if _, err := w.Append(ctx, benchBody, eventlog.Offset{}); err != nil {
					b.Fatal(err)
				}
			}
			wg.Wait()
			b.ReportMetric(float64(b.N*followers)/b.Elapsed().Seconds(), "deliveries/s")
		})
	}
}

// BenchmarkCatchUp reads a log from disk, chain checked.
func BenchmarkCatchUp(b *testing.B) {
	ctx := context.Background()
	s := mustOpen(b, b.TempDir(), Options{RingBytesMax: 1})
	defer s.Close()
	w := benchWriter(b, s, eventlog.Spec{Name: "standings", Volatile: true})
	const n = 20_000
	for range n {
		if _, err := w.Append(ctx, benchBody, eventlog.Offset{}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		f, err := s.Follow(ctx, "standings", w.Fence())
		if err != nil {
			b.Fatal(err)
		}
		for got := 0; got < n; {
			recs, _, err := f.Next(ctx)
			if err != nil {
				b.Fatal(err)
			}
			got += len(recs)
		}
	}
	b.ReportMetric(n*float64(b.N)/b.Elapsed().Seconds(), "records/s")
}

//go:build unix

package engine

import (
	"context"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// A latency is a histogram of how long attempts took, in nanoseconds.
type latency struct {
	mu sync.Mutex
	h  *hdrhistogram.Histogram
}

// The bounds of a latency: what is beyond counts as the bound.
const (
	latencyMin = int64(100 * time.Nanosecond)
	latencyMax = int64(time.Minute)
)

func newLatency() *latency { return &latency{h: hdrhistogram.New(latencyMin, latencyMax, 3)} }

// record takes n attempts that were answered together.
func (l *latency) record(d time.Duration, n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.h.RecordValues(min(max(int64(d), latencyMin), latencyMax), int64(n)); err != nil {
		panic(err) // it is within the histogram's bounds
	}
}

func (l *latency) at(quantile float64) float64 {
	return float64(l.h.ValueAtQuantile(quantile)) / float64(time.Microsecond)
}

// A run is one system that takes attempts, from the first on.
type run struct {
	system system
	scene  *scene
	marks  []mark
	next   int // the first attempt that was not put yet
}

// A throughput is what a system did with as many attempts in flight as suit it.
type throughput struct {
	PerSecond float64 `json:"attempts_per_s"`
	P50       float64 `json:"p50_us"` // with all those in flight,
	P99       float64 `json:"p99_us"` // from when a batch was put until all of it was answered
}

// flatOut keeps callers busy, each with a batch of its own, and counts what is
// answered after the warm-up, until the time is over or there are no attempts
// before the given one left.
func (r *run) flatOut(ctx context.Context, callers, size, before int, warm, measure time.Duration) (throughput, error) {
	var next, answered atomic.Int64
	next.Store(int64(r.next))
	f := newFailure()
	took := newLatency()
	var measuring, stop atomic.Bool
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			back := make(chan struct{}, 1)
			b := newBatch(r.scene, r.marks, size, func(*batch) { back <- struct{}{} })
			for again := true; again; again = !stop.Load() { // each puts one at least
				b.first = int(next.Add(int64(size))) - size
				if b.n = min(size, before-b.first); b.n <= 0 {
					return
				}
				start := time.Now()
				if err := r.system.put(ctx, b); err != nil {
					f.set(err)
					return
				}
				<-back
				answered.Add(int64(b.n))
				if measuring.Load() {
					took.record(time.Since(start), b.n)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() {
		wg.Wait()
		close(done)
	}()
	rest := func(d time.Duration) {
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-t.C:
		case <-done:
		case <-f.ch:
		case <-ctx.Done():
		}
	}
	rest(warm)
	measuring.Store(true)
	from, begun := answered.Load(), time.Now()
	rest(measure)
	n, d := answered.Load()-from, time.Since(begun)
	stop.Store(true)
	<-done
	// Attempts that were taken from the list were put, for callers that saw the
	// end took none.
	r.next = min(int(next.Load()), before)
	if err := f.get(); err != nil {
		return throughput{}, err
	}
	return throughput{PerSecond: float64(n) / d.Seconds(), P50: took.at(50), P99: took.at(99)}, ctx.Err()
}

// arrival is how many attempts arrive at once at a given load, as a gateway
// reads them from its sockets.
const arrival = 16

// A response is how long a system took at a given load.
type response struct {
	Offered   float64 `json:"offered_per_s"`
	PerSecond float64 `json:"attempts_per_s"`
	P50       float64 `json:"p50_us"` // from when attempts were due until all that arrived together were answered
	P99       float64 `json:"p99_us"`
	P999      float64 `json:"p999_us"`
	Max       float64 `json:"max_us"`
}

// offer puts attempts when they are due, answered or not: arrivals of a few at
// a time, at random (a Poisson process, the same for all). Whoever is late to
// put them, or to be put, is so on its own account. callers bounds how many
// arrivals may be in flight, for systems that hold their caller meanwhile.
func (r *run) offer(ctx context.Context, perSecond float64, callers int, warm, measure time.Duration) (response, error) {
	f := newFailure()
	took := newLatency()
	begin := time.Now()
	from := begin.Add(warm)
	var answered atomic.Int64
	free := make(chan *batch, callers)
	for range callers {
		free <- newBatch(r.scene, r.marks, arrival, func(b *batch) {
			if now := time.Now(); b.due.After(from) {
				took.record(now.Sub(b.due), b.n)
				answered.Add(int64(b.n))
			}
			free <- b
		})
	}
	arrived := make(chan *batch, callers)
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for b := range arrived {
				if err := r.system.put(ctx, b); err != nil {
					f.set(err)
					free <- b
				}
			}
		})
	}
	gaps := rand.New(rand.NewPCG(48, 5))
	end := from.Add(measure)
	runtime.LockOSThread() // sleepUntil sleeps in the kernel
	for due := begin; f.get() == nil && ctx.Err() == nil && r.next+arrival <= len(r.scene.ops); {
		due = due.Add(time.Duration(gaps.ExpFloat64() * arrival / perSecond * float64(time.Second)))
		if due.After(end) {
			break
		}
		sleepUntil(due)
		b := <-free
		b.first, b.n, b.due = r.next, arrival, due
		r.next += arrival
		arrived <- b
	}
	runtime.UnlockOSThread()
	close(arrived)
	wg.Wait()
	for range callers {
		<-free // all are answered
	}
	if err := f.get(); err != nil {
		return response{}, err
	}
	return response{
		Offered: perSecond, PerSecond: float64(answered.Load()) / measure.Seconds(),
		P50: took.at(50), P99: took.at(99), P999: took.at(99.9), Max: took.at(100),
	}, ctx.Err()
}

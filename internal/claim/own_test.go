package claim

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/eventlog"
	"github.com/veltrix/cairn/internal/puzzle"
	"github.com/veltrix/cairn/internal/wire"
)

// standby runs one more service on the world's logs, which owns nothing, and
// waits until it is warm.
func (w *world) standby(store eventlog.Store) *Service {
	w.t.Helper()
	s := New(store, puzzle.New(testKey), Options{Shards: testShards, Standby: true})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	w.t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			w.t.Errorf("Run: %v", err)
		}
	})
	w.until("warm", func() bool { return s.Ready() == nil })
	return s
}

func (w *world) acquire(s *Service) {
	w.t.Helper()
	for i := range testShards {
		s.Expect(i)
		w.must(s.Acquire(w.t.Context(), i))
		if got := s.Holding(i); got != Serving {
			w.t.Fatalf("shard %d was acquired: got %v, want serving", i, got)
		}
	}
}

// TestTakeover has a standby take the shards of an owner that does not know:
// what was won stays won, and the old owner can't grant anything any more.
func TestTakeover(t *testing.T) {
	w := newWorld(t)
	a, b := w.standby(w.store), w.standby(w.store)
	m := w.emit(nowTick(), cairn.Tap)
	if _, err := a.Claim(t.Context(), w.attempt(m.Tick, 0, "ana")); !errors.Is(err, ErrNotOwner) {
		t.Fatalf("before anybody owns the shard: got %v, want ErrNotOwner", err)
	}
	w.acquire(a)
	won := make([]cairn.Verdict, len(m.Tiles)/2)
	for i := range won {
		var err error
		won[i], err = a.Claim(t.Context(), w.attempt(m.Tick, uint32(i), "ana"))
		if w.must(err); won[i].Outcome != cairn.Won {
			t.Fatalf("tile %d: got %v, want won", i, won[i].Outcome)
		}
	}
	w.acquire(b)
	for i := range m.Tiles {
		tile := uint32(i)
		v, err := a.Claim(t.Context(), w.attempt(m.Tick, tile, "bo"))
		switch {
		case err != nil && !errors.Is(err, ErrNotOwner):
			t.Errorf("tile %d at the old owner: got %v, want ErrNotOwner", i, err)
		case err == nil && i >= len(won) && v.Outcome != cairn.Pending:
			t.Errorf("tile %d at the old owner: got %v, want pending", i, v.Outcome)
		case err == nil && i < len(won) && (v.Outcome != cairn.Gone || v.Claim.Player != "ana"):
			t.Errorf("tile %d at the old owner: got %v by %q, want gone by ana", i, v.Outcome, v.Claim.Player)
		}
		v, err = b.Claim(t.Context(), w.attempt(m.Tick, tile, "ana"))
		if w.must(err); v.Outcome != cairn.Won || i < len(won) && (v.Place != won[i].Place || v.Claim.At != won[i].Claim.At) {
			t.Errorf("tile %d at the new owner: got %v at %v, want won", i, v.Outcome, v.Place)
		}
	}
	w.until("sent away", func() bool {
		for i := range testShards {
			if h := a.Holding(i); h != Warm {
				return false
			}
		}
		return true
	})
}

// TestVerify tells a quiet owner that it was fenced.
func TestVerify(t *testing.T) {
	w := newWorld(t)
	a, b := w.standby(w.store), w.standby(w.store)
	if err := a.Verify(t.Context(), 0); !errors.Is(err, ErrNotOwner) {
		t.Errorf("of one that never owned it: got %v, want ErrNotOwner", err)
	}
	w.acquire(a)
	w.must(a.Verify(t.Context(), 0))
	w.acquire(b)
	if h := a.Holding(0); h != Serving {
		t.Errorf("one that was fenced and does not know: got %v, want serving", h)
	}
	if err := a.Verify(t.Context(), 0); !errors.Is(err, ErrNotOwner) {
		t.Errorf("of one that was fenced: got %v, want ErrNotOwner", err)
	}
	w.until("sent away", func() bool { return a.Holding(0) == Warm })
	w.must(b.Verify(t.Context(), 0))
}

// TestHandOver moves the shards between two services, over and over, under
// claims that follow them: none of them is lost, fails or is left undecided.
func TestHandOver(t *testing.T) {
	w := newWorld(t)
	s := [2]*Service{w.standby(w.store), w.standby(w.store)}
	w.acquire(s[0])
	m := w.emit(nowTick(), cairn.Tap)
	var next atomic.Int64
	var wg sync.WaitGroup
	var moved atomic.Int64
	for i := range 8 {
		wg.Go(func() {
			player := fmt.Sprint("p", i)
			for at := 0; ; {
				tile := uint32(next.Load())
				if tile >= uint32(len(m.Tiles)) {
					return
				}
				v, err := s[at].Claim(context.Background(), w.attempt(m.Tick, tile, player))
				switch {
				case errors.Is(err, ErrNotOwner):
					moved.Add(1)
					at = 1 - at
				case err != nil || v.Outcome != cairn.Won && v.Outcome != cairn.Gone:
					t.Errorf("tile %d: got %v, %v", tile, v.Outcome, err)
					return
				}
			}
		})
	}
	for tile := range m.Tiles { // one hand-over while each tile is fought over
		from, to := s[tile/testShards%2], s[1-tile/testShards%2]
		shard := tile % testShards
		to.Expect(shard)
		w.must(from.Release(t.Context(), shard))
		if h := from.Holding(shard); h != Warm {
			t.Errorf("shard %d was released: got %v, want warm", shard, h)
		}
		w.must(to.Acquire(t.Context(), shard))
		next.Add(1)
	}
	wg.Wait()
	if moved.Load() == 0 {
		t.Error("no claim met a shard that had moved: the test tries nothing")
	}
	for i := range testShards {
		st, err := w.store.Status(t.Context(), eventlog.Shard(i))
		if w.must(err); st.Last.Epoch != uint64(len(m.Tiles)/testShards+1) {
			t.Errorf("shard %d: got epoch %d, want one for each owner it had, %d", i, st.Last.Epoch, len(m.Tiles)/testShards+1)
		}
	}
}

// TestExpectThenRelease sends away whoever waited for a takeover that was
// called off.
func TestExpectThenRelease(t *testing.T) {
	w := newWorld(t)
	s := w.standby(w.store)
	m := w.emit(nowTick(), cairn.Tap)
	for i := range testShards {
		s.Expect(i)
	}
	got := make(chan error, 1)
	go func() {
		_, err := s.Claim(context.Background(), w.attempt(m.Tick, 0, "ana"))
		got <- err
	}()
	w.until("queued", func() bool { return s.queued() == 1 })
	for i := range testShards {
		w.must(s.Release(t.Context(), i))
	}
	if err := <-got; !errors.Is(err, ErrNotOwner) {
		t.Errorf("got %v, want ErrNotOwner", err)
	}
	if err := s.Acquire(t.Context(), 0); !errors.Is(err, ErrNotOwner) {
		t.Errorf("Acquire after it was released: got %v, want ErrNotOwner", err)
	}
	if st, err := w.store.Status(t.Context(), eventlog.Shard(0)); err != nil || st.Last.Epoch != 0 {
		t.Errorf("got epoch %d (%v), want 0: nobody fences what was called off", st.Last.Epoch, err)
	}
}

// A slowStore holds back the maps log from whoever follows it, and counts the
// records of shards that were read.
type slowStore struct {
	eventlog.Store
	gate chan struct{} // closed: the maps log may be read
	read atomic.Int64
}

type slowFollower struct {
	eventlog.Follower
	store *slowStore
	log   eventlog.Name
}

func (s *slowStore) Follow(ctx context.Context, log eventlog.Name, after eventlog.Offset) (eventlog.Follower, error) {
	f, err := s.Store.Follow(ctx, log, after)
	return &slowFollower{f, s, log}, err
}

func (f *slowFollower) Next(ctx context.Context) ([]eventlog.Record, eventlog.Offset, error) {
	recs, durable, err := f.Follower.Next(ctx)
	for i := range recs {
		switch {
		case f.log == eventlog.Maps && recs[i].Kind == eventlog.Data:
			select {
			case <-f.store.gate:
			case <-ctx.Done():
				return nil, durable, ctx.Err()
			}
		case f.log != eventlog.Maps && f.log != eventlog.Control:
			f.store.read.Add(1)
		}
	}
	return recs, durable, err
}

// TestStandbyThatLacksMaps takes over in a process that has not read the map
// whose tiles are claimed: it must not take their claims for forgotten ones.
func TestStandbyThatLacksMaps(t *testing.T) {
	w := newWorld(t)
	slow := &slowStore{Store: w.store, gate: make(chan struct{})}
	a, b := w.standby(w.store), w.standby(slow)
	w.acquire(a)
	m := w.emit(nowTick(), cairn.Tap)
	for i := range m.Tiles {
		v, err := a.Claim(t.Context(), w.attempt(m.Tick, uint32(i), "ana"))
		if w.must(err); v.Outcome != cairn.Won {
			t.Fatalf("tile %d: got %v, want won", i, v.Outcome)
		}
	}
	var wg sync.WaitGroup
	for i := range testShards {
		wg.Go(func() {
			b.Expect(i)
			if err := b.Acquire(context.Background(), i); err != nil {
				t.Errorf("shard %d: %v", i, err)
			}
		})
	}
	// Each shard has read at least its genesis, a fence and claims by now.
	w.until("reading", func() bool { return slow.read.Load() >= 3*testShards })
	close(slow.gate)
	wg.Wait()
	for i := range m.Tiles {
		v, err := b.Claim(t.Context(), w.attempt(m.Tick, uint32(i), "bo"))
		if w.must(err); v.Outcome != cairn.Gone || v.Claim.Player != "ana" {
			t.Errorf("tile %d: got %v by %q, want gone by ana", i, v.Outcome, v.Claim.Player)
		}
	}
}

// TestTakeoverReadsTheTail counts what a takeover by a warm standby reads.
func TestTakeoverReadsTheTail(t *testing.T) {
	w := newWorld(t)
	counting := &slowStore{Store: w.store, gate: make(chan struct{})}
	close(counting.gate)
	a, b := w.standby(w.store), w.standby(counting)
	w.acquire(a)
	const shard = 0
	m := w.emit(nowTick(), cairn.Tap)
	for i := range m.Tiles {
		_, err := a.Claim(t.Context(), w.attempt(m.Tick, uint32(i), "ana"))
		w.must(err)
	}
	records := func() (n int64) {
		for i := range testShards {
			st, err := w.store.Status(t.Context(), eventlog.Shard(i))
			w.must(err)
			n += int64(st.Last.Seq) + 2 // the genesis and the fence
		}
		return n
	}
	w.until("as good as the log", func() bool { return counting.read.Load() == records() })
	before := counting.read.Load()
	b.Expect(shard)
	w.must(b.Acquire(t.Context(), shard))
	if n := counting.read.Load() - before; n != 1 {
		t.Errorf("the takeover of a quiet shard read %d records, want 1: the fence", n)
	}
	v, err := b.Claim(t.Context(), w.attempt(m.Tick, tileOf(m, shard), "bo"))
	if w.must(err); v.Outcome != cairn.Gone {
		t.Errorf("got %v, want gone", v.Outcome)
	}
}

// tileOf returns a tile of m that a shard owns.
func tileOf(m *cairn.Map, shard int) uint32 {
	lay, err := NewLayout(m)
	if err != nil {
		panic(err)
	}
	for tile := range m.Tiles {
		if s, _ := lay.Shard(uint32(tile)); s == shard {
			return uint32(tile)
		}
	}
	panic("no such tile")
}

// TestReleaseWaitsForTheLog releases a shard whose append hangs: Release waits
// as long as it may, and what was in flight is answered.
func TestReleaseWaitsForTheLog(t *testing.T) {
	w := newWorld(t)
	hang := &hangingStore{Store: w.store, gate: make(chan struct{}), hit: make(chan struct{}, 1)}
	s := w.standby(hang)
	w.acquire(s)
	m := w.emit(nowTick(), cairn.Tap)
	tile := tileOf(m, 0)
	got := make(chan cairn.Verdict, 1)
	go func() {
		v, err := s.Claim(context.Background(), w.attempt(m.Tick, tile, "ana"))
		if err != nil {
			t.Errorf("Claim: %v", err)
		}
		got <- v
	}()
	<-hang.hit
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Release(ctx, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("Release while an append hangs: got %v, want canceled", err)
	}
	if h := s.Holding(0); h != Leaving {
		t.Errorf("got %v, want leaving", h)
	}
	if _, err := s.Claim(t.Context(), w.attempt(m.Tick, tile, "bo")); !errors.Is(err, ErrNotOwner) {
		t.Errorf("one that comes late: got %v, want ErrNotOwner", err)
	}
	close(hang.gate)
	w.must(s.Release(t.Context(), 0))
	if v := <-got; v.Outcome != cairn.Won {
		t.Errorf("the one in flight: got %v, want won", v.Outcome)
	}
}

// A hangingStore's writers wait for gate before they append.
type hangingStore struct {
	eventlog.Store
	gate chan struct{}
	hit  chan struct{} // has one element once an append waits
}

type hangingWriter struct {
	eventlog.Writer
	store *hangingStore
}

func (s *hangingStore) Open(ctx context.Context, log eventlog.Name) (eventlog.Writer, error) {
	w, err := s.Store.Open(ctx, log)
	return &hangingWriter{w, s}, err
}

func (w *hangingWriter) Append(ctx context.Context, body []byte, from eventlog.Offset) (eventlog.Offset, error) {
	select {
	case w.store.hit <- struct{}{}:
	default:
	}
	<-w.store.gate
	return w.Writer.Append(ctx, body, from)
}

// A lateStore opens a log only once its follower has read what its writer
// wrote behind the fence, as a writer on Redis does when it is idle.
type lateStore struct {
	eventlog.Store

	mu   sync.Mutex
	read map[eventlog.Name]eventlog.Offset // folded by whoever follows
}

func (s *lateStore) Open(ctx context.Context, log eventlog.Name) (eventlog.Writer, error) {
	w, err := s.Store.Open(ctx, log)
	if err != nil {
		return nil, err
	}
	off, err := w.Append(ctx, wire.AppendClaims(nil, nil), w.From())
	for err == nil && s.behind(log, off) {
		if err = ctx.Err(); err == nil {
			time.Sleep(time.Millisecond)
		}
	}
	return w, err
}

func (s *lateStore) behind(log eventlog.Name, off eventlog.Offset) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.read[log].Less(off)
}

func (s *lateStore) Follow(ctx context.Context, log eventlog.Name, after eventlog.Offset) (eventlog.Follower, error) {
	f, err := s.Store.Follow(ctx, log, after)
	return &lateFollower{Follower: f, store: s, log: log}, err
}

type lateFollower struct {
	eventlog.Follower
	store *lateStore
	log   eventlog.Name
	last  eventlog.Offset // handed out
}

// Next notes that what it returned before was folded.
func (f *lateFollower) Next(ctx context.Context) ([]eventlog.Record, eventlog.Offset, error) {
	f.store.mu.Lock()
	f.store.read[f.log] = f.last
	f.store.mu.Unlock()
	recs, durable, err := f.Follower.Next(ctx)
	if len(recs) > 0 {
		f.last = recs[len(recs)-1].Offset
	}
	return recs, durable, err
}

// TestTakeoverReadsLate has a standby read its own fence after what its writer
// wrote behind it: that is nobody else's.
func TestTakeoverReadsLate(t *testing.T) {
	w := newWorld(t)
	s := w.standby(&lateStore{Store: w.store, read: map[eventlog.Name]eventlog.Offset{}})
	w.acquire(s)
	for i := range testShards {
		st, err := w.store.Status(t.Context(), eventlog.Shard(i))
		if w.must(err); st.Last.Epoch != 1 {
			t.Errorf("shard %d was opened %d times, want once", i, st.Last.Epoch)
		}
	}
}

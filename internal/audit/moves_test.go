package audit

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/eventlog"
	"github.com/veltrix/cairn/internal/ledger"
	"github.com/veltrix/cairn/internal/wire"
)

// A stepping store hands out one record of shard 1 a call, each as the log is
// then, so that a test can move the log between two of them.
type stepping struct {
	eventlog.Store
	read   func(at eventlog.Offset) error // before what stands behind at is read; nil for nothing
	status func()                         // before the shard's status; nil for nothing
}

func (s *stepping) Status(ctx context.Context, log eventlog.Name) (eventlog.Status, error) {
	if s.status != nil && log == eventlog.Shard(1) {
		s.status()
	}
	return s.Store.Status(ctx, log)
}

func (s *stepping) Follow(ctx context.Context, log eventlog.Name, after eventlog.Offset) (eventlog.Follower, error) {
	if log != eventlog.Shard(1) || s.read == nil {
		return s.Store.Follow(ctx, log, after)
	}
	return &steps{s, after, nil}, nil
}

type steps struct {
	s  *stepping
	at eventlog.Offset
	f  eventlog.Follower // of the record lent
}

func (f *steps) Next(ctx context.Context) ([]eventlog.Record, eventlog.Offset, error) {
	_ = f.Close()
	if err := f.s.read(f.at); err != nil {
		return nil, eventlog.Offset{}, err
	}
	var err error
	if f.f, err = f.s.Store.Follow(ctx, eventlog.Shard(1), f.at); err != nil {
		return nil, eventlog.Offset{}, err
	}
	recs, durable, err := f.f.Next(ctx)
	if err != nil {
		return nil, eventlog.Offset{}, err
	}
	f.at = recs[0].Offset
	return recs[:1], durable, nil
}

func (f *steps) Close() error {
	if f.f != nil {
		_ = f.f.Close()
		f.f = nil
	}
	return nil
}

// once returns a read that calls f once, when at is read.
func once(at eventlog.Offset, f func()) func(eventlog.Offset) error {
	done := false
	return func(o eventlog.Offset) error {
		if o == at && !done {
			done = true
			f()
		}
		return nil
	}
}

// TestMoves: what moves under Verify is no violation: it is read again, or
// what is gone is said.
func TestMoves(t *testing.T) {
	l := newLive(t)
	stop := l.play()
	for l.verify(Options{}).Claims < 400 {
	}
	won := stop()
	recs := l.entries(1)
	third, tenth, last := &recs[3], &recs[10], &recs[len(recs)-1]
	is := func(t *testing.T, s *stepping, opts Options, restarts int, notVerified ...string) *Report {
		t.Helper()
		s.Store = l.store
		r := l.verifyOn(s, opts)
		if !r.OK || r.Restarts != restarts || (len(notVerified) == 0) != (len(r.NotVerified) == 0) {
			t.Errorf("want it to be right, %d restarts, and not verified %q:\n%s", restarts, notVerified, r)
		}
		for _, part := range notVerified {
			if !strings.Contains(strings.Join(r.NotVerified, "\n"), part) {
				t.Errorf("not verified has no %q:\n%s", part, r)
			}
		}
		return r
	}
	// rollback appends marks behind the shard's last record, and takes them
	// away when the first was read.
	rollback := func(marks int) (read func(eventlog.Offset) error) {
		x := last
		first := behind(last, nil)
		for range marks {
			x = behind(x, nil)
			x.Kind = eventlog.Mark
			x.Chain = eventlog.NextChain(last.Chain, x)
			last = x
			l.add(x)
		}
		return once(first.Offset, func() {
			for o := first.Offset; !x.Offset.Less(o); o.Seq++ {
				l.redis.Do(t, "XDEL", key(1), o.String())
			}
		})
	}
	end := last
	t.Run("rolled back", func(t *testing.T) {
		r := is(t, &stepping{read: rollback(3)}, Options{}, 1)
		if r.Claims != won || reachOf(t, r, "s01").Read != end.Offset {
			t.Errorf("want %d claims and s01 up to %v:\n%s", won, end.Offset, r)
		}
	})
	t.Run("rolled back, seen once more at the same place", func(t *testing.T) {
		read := func(o eventlog.Offset) error {
			if o == tenth.Offset {
				return fmt.Errorf("test: %w", eventlog.ErrDiverged)
			}
			return nil
		}
		r := l.verifyOn(&stepping{Store: l.store, read: read}, Options{})
		checkReport(t, r, []string{fmt.Sprintf("s01 %v: …diverged", recs[11].Offset)}, false)
	})
	t.Run("rolled back again and again", func(t *testing.T) {
		n := 0
		read := func(o eventlog.Offset) error {
			if o == recs[n].Offset {
				n++
				return fmt.Errorf("test: %w", eventlog.ErrDiverged)
			}
			return nil
		}
		if r, err := Verify(t.Context(), &stepping{Store: l.store, read: read}, nil, Options{}); err == nil || !strings.Contains(err.Error(), "nothing is decided") || r != nil {
			t.Errorf("got %v, %v; want an error that nothing is decided", r, err)
		}
	})
	t.Run("behind the ledger for a moment", func(t *testing.T) {
		dump, err := l.redis.Do(t, "DUMP", key(1)).ToString()
		check(t, err)
		for _, r := range recs[len(recs)-3:] {
			l.redis.Do(t, "XDEL", key(1), r.Offset.String())
		}
		asked := 0
		is(t, &stepping{status: func() {
			if asked++; asked == 3 {
				l.redis.Do(t, "RESTORE", key(1), "0", dump, "REPLACE")
			}
		}}, Options{Patience: time.Minute}, 0)
	})
	t.Run("trimmed before it is read", func(t *testing.T) {
		is(t, &stepping{read: once(eventlog.Offset{}, func() { check(t, l.store.Trim(t.Context(), "s01", third.Offset)) })}, Options{}, 0,
			"s01: records up to "+third.Prev.String()+" were trimmed", "ledger entries against their claims")
	})
	t.Run("trimmed while it is read", func(t *testing.T) {
		is(t, &stepping{read: once(third.Offset, func() { check(t, l.store.Trim(t.Context(), "s01", tenth.Offset)) })}, Options{}, 0,
			fmt.Sprintf("s01: records behind %v and up to %v were trimmed while the log was read", third.Offset, tenth.Prev))
	})
	t.Run("maps trimmed while claims are read", func(t *testing.T) {
		st, err := l.store.Status(t.Context(), eventlog.Maps)
		check(t, err)
		is(t, &stepping{read: once(tenth.Prev, func() { check(t, l.store.Trim(t.Context(), eventlog.Maps, st.Last)) })}, Options{}, 0,
			"claims against their maps")
	})
	t.Run("away", func(t *testing.T) {
		s := &stepping{Store: l.store, read: once(tenth.Offset, l.redis.Kill)}
		led, err := ledger.Open(t.Context(), l.dsn, ledger.Options{ReadOnly: true})
		check(t, err)
		defer led.Close()
		r, err := Verify(t.Context(), s, led, Options{})
		if r != nil || err == nil || saysOfData(err) {
			t.Errorf("got %v, %v; want an error that says nothing of the data", r, err)
		}
	})
}

// TestSilent: a log that owes a record and gives none is not waited for for ever.
func TestSilent(t *testing.T) {
	w := newWorld(t)
	store := w.openLogs()
	defer store.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s := &stepping{Store: store, read: func(o eventlog.Offset) error {
		<-ctx.Done()
		return ctx.Err()
	}}
	time.AfterFunc(50*time.Millisecond, cancel)
	if r, err := Verify(t.Context(), s, nil, Options{AnswerWithin: time.Millisecond}); err == nil || errors.Is(err, eventlog.ErrDamaged) {
		t.Errorf("got %v, %v; want an error", r, err)
	}
}

// TestTrimmedStandings: with records trimmed, the boards of a hunt that began
// behind them are verified, and of others it is said that they are not.
func TestTrimmedStandings(t *testing.T) {
	w := newWorld(t)
	store := w.openLogs()
	defer store.Close()
	h := w.hunt
	h.Name = "later"
	w.change(store, cairn.Change{Hunt: h.Name, Create: &h})
	m := w.newMap(h.Name, tick0+ticks, cairn.Digest{})
	w.emit(store, m)
	byShard := make([][]cairn.Claim, shards)
	board := wire.Board{BoardKey: wire.BoardKey{Hunt: h.Name}, Players: 1, Rows: []wire.Row{{Player: "ana"}}}
	for tile := range tiles {
		c, shard := w.claimOf(m, tile, m.Opens.Add(time.Duration(tile)*time.Millisecond))
		c.Player = "ana"
		byShard[shard] = append(byShard[shard], c)
		board.Rows[0].Score += c.Reward
		board.Rows[0].Claims++
		board.Newest = c.At
	}
	for shard, cs := range byShard {
		w.claim(store, shard, cs)
		st, err := store.Status(t.Context(), eventlog.Shard(shard))
		check(t, err)
		board.AsOf = append(board.AsOf, wire.ShardOffset{Shard: shard, Offset: st.Last})
	}
	older := board
	older.Hunt = name // trimmed: its first claims are gone
	w.append(store, eventlog.Standings, wire.AppendBoard(nil, &board), wire.AppendBoard(nil, &older))
	w.settle(store)
	for shard := range shards {
		check(t, store.Trim(t.Context(), eventlog.Shard(shard), eventlog.Offset{Epoch: 7}))
	}
	verify := func() *Report {
		t.Helper()
		r, err := Verify(t.Context(), store, nil, Options{})
		check(t, err)
		return r
	}
	if r := verify(); !r.OK || !strings.Contains(r.String(), "board hunt of oslo-winter, since records of s00 were trimmed") || strings.Contains(r.String(), "of later") {
		t.Errorf("boards of a trimmed log:\n%s", r)
	}
	board.Rows[0].Score++
	o := w.append(store, eventlog.Standings, wire.AppendBoard(nil, &board))
	checkReport(t, verify(), []string{fmt.Sprintf("standings %v: board hunt of later…rank 1 is ana", o)}, false)
}

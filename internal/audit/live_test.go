package audit

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/eventlog"
	"github.com/veltrix/cairn/internal/eventlog/redislog"
	"github.com/veltrix/cairn/internal/eventlog/redislog/redistest"
	"github.com/veltrix/cairn/internal/ledger"
	"github.com/veltrix/cairn/internal/ledger/pgtest"
	"github.com/veltrix/cairn/internal/wire"
)

// A live is a world whose logs are in Redis and whose ledger is in PostgreSQL.
type live struct {
	*world
	redis *redistest.Server
	store *redislog.Store // of the rooms
}

func newLive(t *testing.T) *live {
	l := &live{world: &world{t: t, dsn: pgtest.Shared(t).Schema(t)}, redis: redistest.Start(t)}
	l.store = l.open()
	l.begin(l.store)
	return l
}

func (l *live) open() *redislog.Store {
	l.t.Helper()
	s, err := redislog.Open(l.t.Context(), l.redis.URL(), redislog.Options{})
	check(l.t, err)
	l.t.Cleanup(func() { _ = s.Close() })
	return s
}

// verify does what `cairn verify --log` does: it has a store and a ledger of
// its own.
func (l *live) verify(opts Options) *Report {
	l.t.Helper()
	store := l.open()
	defer store.Close()
	return l.verifyOn(store, opts)
}

func (l *live) verifyOn(store eventlog.Store, opts Options) *Report {
	l.t.Helper()
	led, err := ledger.Open(l.t.Context(), l.dsn, ledger.Options{ReadOnly: true})
	check(l.t, err)
	defer led.Close()
	r, err := Verify(l.t.Context(), store, led, opts)
	check(l.t, err)
	return r
}

// play runs the game until stop is called, which returns how many claims won.
func (l *live) play() (stop func() int64) {
	ctx, cancel := context.WithCancel(l.t.Context())
	_, claims, end := l.rooms(ctx, l.store)
	done := make(chan error, 1)
	var won atomic.Int64
	var over atomic.Bool
	go func() {
		done <- l.players(ctx, l.store, claims, func(n int64) bool {
			won.Store(n)
			return !over.Load()
		})
	}()
	return func() int64 {
		over.Store(true)
		check(l.t, <-done)
		l.paid(won.Load())
		end()
		cancel()
		return won.Load()
	}
}

// paid waits until the ledger has so many entries.
func (l *live) paid(n int64) {
	l.t.Helper()
	led, err := ledger.Open(l.t.Context(), l.dsn, ledger.Options{ReadOnly: true})
	check(l.t, err)
	defer led.Close()
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	for deadline := time.Now().Add(time.Minute); ; <-poll.C {
		got, err := led.Totals(l.t.Context())
		check(l.t, err)
		if got.Entries == n {
			return
		}
		if time.Now().After(deadline) {
			l.t.Fatalf("%d entries after a minute, want %d", got.Entries, n)
		}
	}
}

// reachOf returns how far a log was verified.
func reachOf(t *testing.T, r *Report, log eventlog.Name) Reach {
	t.Helper()
	i := slices.IndexFunc(r.Verified, func(x Reach) bool { return x.Log == string(log) })
	if i < 0 {
		t.Fatalf("the report says nothing of %s:\n%s", log, r)
	}
	return r.Verified[i]
}

// TestRedis: a game on Redis and PostgreSQL is right in Verify's eyes while it
// runs, further and further; and what is then altered in either is found.
func TestRedis(t *testing.T) {
	l := newLive(t)
	stop := l.play()
	reports := []*Report{}
	for deadline := time.Now().Add(time.Minute); len(reports) < 5; {
		r := l.verify(Options{})
		if !r.OK {
			t.Fatalf("while the game runs:\n%s", r)
		}
		if n := len(reports); n == 0 || r.Claims > reports[n-1].Claims {
			reports = append(reports, r)
		}
		if time.Now().After(deadline) {
			t.Fatalf("no more claims in a minute:\n%s", r)
		}
	}
	for i, r := range reports[1:] {
		for shard := range shards {
			was, is := reachOf(t, reports[i], eventlog.Shard(shard)), reachOf(t, r, eventlog.Shard(shard))
			if is.To.Less(was.To) || is.Settled.Less(was.Settled) || is.Read.Less(is.Settled) {
				t.Errorf("s%02d: verified %+v, and before %+v", shard, is, was)
			}
		}
	}
	won := stop()
	r := l.verify(Options{})
	if !r.OK || len(r.NotVerified) > 0 || r.Claims != won || r.Ledger.Entries != won || r.Ledger.Behind != 0 {
		t.Fatalf("%d claims were won\n%s", won, r)
	}
	for shard := range shards {
		if is := reachOf(t, r, eventlog.Shard(shard)); is.To != is.Read || is.Settled.IsZero() {
			t.Errorf("s%02d: verified %+v of a log at rest", shard, is)
		}
	}
	for _, d := range liveDamages {
		t.Run(d.name, func(t *testing.T) {
			c := *l
			w := *l.world
			c.world, w.t = &w, t
			want, undo := d.do(&c, c.entries(1))
			defer undo()
			checkReport(t, c.verify(Options{}), want, d.also)
		})
	}
}

// entries are a shard's records as Redis has them.
func (l *live) entries(shard int) (recs []eventlog.Record) {
	l.t.Helper()
	f, err := l.store.Follow(l.t.Context(), eventlog.Shard(shard), eventlog.Offset{})
	check(l.t, err)
	defer f.Close()
	st, err := l.store.Status(l.t.Context(), eventlog.Shard(shard))
	check(l.t, err)
	for len(recs) == 0 || recs[len(recs)-1].Offset.Less(st.Last) {
		some, _, err := f.Next(l.t.Context())
		check(l.t, err)
		for _, r := range some {
			r.Body = slices.Clone(r.Body)
			recs = append(recs, r)
		}
	}
	return recs
}

func key(shard int) string { return redislog.Key("cairn", eventlog.Shard(shard)) }

// add appends a record to shard 1 beneath the log, in redislog's format
// (redislog/codec.go).
func (l *live) add(r *eventlog.Record) {
	l.t.Helper()
	st, err := l.store.Status(l.t.Context(), eventlog.Shard(1))
	check(l.t, err)
	h := append([]byte{1, byte(r.Kind), 0}, st.Genesis[:]...)
	h = append(append(h, r.Nonce[:]...), r.Chain[:]...)
	for _, o := range [...]eventlog.Offset{r.Prev, r.Mark, r.From} {
		h = binary.AppendUvarint(binary.AppendUvarint(h, o.Epoch), o.Seq)
	}
	l.redis.Do(l.t, "XADD", key(1), "NOMKSTREAM", r.Offset.String(), "h", string(h), "b", string(r.Body))
}

// behind returns a record that can stand directly behind r.
func behind(r *eventlog.Record, body []byte) *eventlog.Record {
	x := &eventlog.Record{
		Offset: eventlog.Offset{Epoch: r.Offset.Epoch, Seq: r.Offset.Seq + 1}, Kind: eventlog.Data, Nonce: r.Nonce,
		Prev: r.Offset, Mark: r.Offset, From: r.From, Body: body,
	}
	x.Chain = eventlog.NextChain(r.Chain, x)
	return x
}

// claimsOf returns the first record of recs that has claims, its index and they.
func (l *live) claimsOf(recs []eventlog.Record) (int, []cairn.Claim) {
	l.t.Helper()
	i := slices.IndexFunc(recs, func(r eventlog.Record) bool { return r.Kind == eventlog.Data })
	cs, err := wire.DecodeClaims(nil, recs[i].Body)
	check(l.t, err)
	return i, cs
}

// A liveDamage is made on shard 1, whose records are recs, and undone, but for
// the last.
type liveDamage struct {
	name string
	do   func(l *live, recs []eventlog.Record) (want []string, undo func())
	also bool
}

func tile(c *cairn.Claim) (where string, args []any) {
	return " WHERE hunt = ? AND map = ? AND tile = ?", []any{string(c.Hunt), int64(c.Tick), int64(c.Tile)}
}

var liveDamages = []liveDamage{
	{"ledger row altered", func(l *live, recs []eventlog.Record) ([]string, func()) {
		i, cs := l.claimsOf(recs)
		where, args := tile(&cs[0])
		l.sql("UPDATE entries SET reward = reward + 1"+where, args...)
		return []string{
			fmt.Sprintf("s01 1/%v/0: …reward is %d, want %d", recs[i].Offset, cs[0].Reward+1, cs[0].Reward),
		}, func() { l.sql("UPDATE entries SET reward = reward - 1"+where, args...) }
	}, true},
	{"ledger row dropped", func(l *live, recs []eventlog.Record) ([]string, func()) {
		i, cs := l.claimsOf(recs)
		where, args := tile(&cs[0])
		l.sql("UPDATE entries SET hunt = 'hidden'"+where, args...)
		return []string{fmt.Sprintf("s01 1/%v/0: claim of tile %v …has no entry", recs[i].Offset, cs[0].TileRef)}, func() {
			l.sql("UPDATE entries SET hunt = ? WHERE hunt = 'hidden'", string(cs[0].Hunt))
		}
	}, true},
	{"paid what the log has not", func(l *live, recs []eventlog.Record) ([]string, func()) {
		_, cs := l.claimsOf(recs)
		l.sql(`INSERT INTO entries (hunt, map, tile, player, name, cell, reward, at, shard, epoch, seq, idx)
			VALUES (?, ?, 60001, 'mallory', 'M', 'zzz', 9, 9, 1, 1, 1, 77)`, string(cs[0].Hunt), int64(cs[0].Tick))
		return []string{"s01 1/1-1/77: …pays player mallory 9, and the log has no such claim"}, func() {
			l.sql("DELETE FROM entries WHERE player = 'mallory'")
		}
	}, true},
	{"second winner", func(l *live, recs []eventlog.Record) ([]string, func()) {
		i := len(recs) - 1
		for recs[i].Kind != eventlog.Data {
			i--
		}
		_, cs := l.claimsOf(recs[i:])
		cs[0].Player = "thief"
		x := behind(&recs[len(recs)-1], wire.AppendClaims(nil, cs[:1]))
		l.add(x)
		return []string{fmt.Sprintf("s01 1/%v/0: tile %v is claimed here again, by player thief", x.Offset, cs[0].TileRef)}, func() {
			l.redis.Do(l.t, "XDEL", key(1), x.Offset.String())
		}
	}, false},
	{"entry that can't stand there", func(l *live, recs []eventlog.Record) ([]string, func()) {
		// The seq before was added, and taken away again.
		x := behind(behind(&recs[len(recs)-1], nil), nil)
		x.Prev = recs[len(recs)-1].Offset
		x.Chain = eventlog.NextChain(recs[len(recs)-1].Chain, x)
		l.add(x)
		return []string{fmt.Sprintf("s01 %v: …a record is missing", x.Offset)}, func() {
			l.redis.Do(l.t, "XDEL", key(1), x.Offset.String())
		}
	}, true},
	{"entry that is none", func(l *live, recs []eventlog.Record) ([]string, func()) {
		x := recs[len(recs)-1].Offset
		x.Seq += 3
		l.redis.Do(l.t, "XADD", key(1), x.String(), "what", "ever")
		return []string{fmt.Sprintf("s01 …record %v has 1 fields", x)}, func() { l.redis.Do(l.t, "XDEL", key(1), x.String()) }
	}, true},
	{"last entries gone", func(l *live, recs []eventlog.Record) ([]string, func()) {
		dump, err := l.redis.Do(l.t, "DUMP", key(1)).ToString()
		check(l.t, err)
		for _, r := range recs[len(recs)-3:] {
			l.redis.Do(l.t, "XDEL", key(1), r.Offset.String())
		}
		return []string{fmt.Sprintf("s01 …is settled in the ledger, and the log ends at %v", recs[len(recs)-4].Offset)}, func() {
			l.redis.Do(l.t, "RESTORE", key(1), "0", dump, "REPLACE")
		}
	}, true},
	{"log gone", func(l *live, recs []eventlog.Record) ([]string, func()) {
		dump, err := l.redis.Do(l.t, "DUMP", key(1)).ToString()
		check(l.t, err)
		l.redis.Do(l.t, "DEL", key(1))
		found := []string{
			"s01 …is settled in the ledger, and there is no such log",
			"s01 …ledger entries name a shard that has no log",
		}
		return found, func() { l.redis.Do(l.t, "RESTORE", key(1), "0", dump) }
	}, true},
	{"entry gone", func(l *live, recs []eventlog.Record) ([]string, func()) {
		i, _ := l.claimsOf(recs)
		l.redis.Do(l.t, "XDEL", key(1), recs[i].Offset.String())
		return []string{fmt.Sprintf("s01 …%v", recs[i].Offset)}, func() {}
	}, true},
}

package audit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/eventlog"
	"github.com/veltrix/cairn/internal/ledger"
	"github.com/veltrix/cairn/internal/ledger/pgtest"
	"github.com/veltrix/cairn/internal/wire"
)

// A damage is something that must not be, and what Verify must say of it.
type damage struct {
	name string
	// do damages the folder and returns, a violation each, parts of its line.
	do func(w *world) []string
	// also allows other violations that follow from the same damage.
	also bool
}

func TestVerify(t *testing.T) {
	clean := newWorld(t)
	t.Run("clean", func(t *testing.T) { testClean(t, clean.copy(t)) })
	for name, all := range map[string][]damage{"log": logDamages, "claims": claimDamages, "maps": mapDamages, "ledger": ledgerDamages, "file": fileDamages} {
		if testing.Short() {
			all = all[:min(2, len(all))]
		}
		for _, d := range all {
			t.Run(name+"/"+d.name, func(t *testing.T) {
				w := clean.copy(t)
				want := d.do(w)
				r := w.verify(Options{})
				checkReport(t, r, want, d.also)
			})
		}
	}
}

// TestVerifyPostgres: what Verify finds does not depend on where the ledger
// lies.
func TestVerifyPostgres(t *testing.T) {
	clean := newWorld(t)
	elsewhere := func(t *testing.T) *world {
		w := clean.copy(t)
		w.dsn = pgtest.Shared(t).Schema(t)
		store := w.openLogs()
		defer store.Close()
		w.settle(store)
		return w
	}
	t.Run("clean", func(t *testing.T) {
		w := elsewhere(t)
		got, want := w.verify(Options{}), clean.verify(Options{})
		got.Began, got.TookMS = want.Began, want.TookMS
		if d := cmp.Diff(want, got); d != "" || !got.OK || got.Ledger.Entries == 0 {
			t.Errorf("the report differs from that with SQLite (-sqlite +postgres):\n%s\n%s", d, got)
		}
	})
	for _, d := range ledgerDamages {
		t.Run(d.name, func(t *testing.T) {
			w := elsewhere(t)
			want := d.do(w)
			checkReport(t, w.verify(Options{}), want, d.also)
		})
	}
	t.Run("away", func(t *testing.T) {
		w := clean.copy(t)
		server := pgtest.Start(t, false)
		w.dsn = server.Schema(t)
		store := w.openLogs()
		defer store.Close()
		w.settle(store)
		led, err := ledger.Open(t.Context(), w.dsn, ledger.Options{ReadOnly: true})
		check(t, err)
		defer led.Close()
		server.Kill()
		if r, err := Verify(t.Context(), store, led, Options{}); !ledger.IsAway(err) {
			t.Errorf("Verify: %v, %v; want that the database is away, and no report", r, err)
		}
	})
}

// checkReport wants a violation with each of want, and no others unless also.
func checkReport(t *testing.T, r *Report, want []string, also bool) {
	t.Helper()
	if r.OK || r.Total != int64(len(r.Violations)) {
		t.Fatalf("OK is %v with %d violations of %d:\n%s", r.OK, len(r.Violations), r.Total, r)
	}
	left := slices.Clone(r.Violations)
	for _, parts := range want {
		i := slices.IndexFunc(left, func(v Violation) bool {
			for _, part := range strings.Split(parts, "…") {
				if !strings.Contains(v.String(), part) {
					return false
				}
			}
			return true
		})
		if i < 0 {
			t.Errorf("no violation has %q:\n%s", parts, r)
			continue
		}
		left = slices.Delete(left, i, i+1)
	}
	if len(left) > 0 && !also {
		t.Errorf("%d violations too many, beginning with %q:\n%s", len(left), left[0], r)
	}
}

func testClean(t *testing.T, w *world) {
	before := files(t, w.dir)
	var said []Progress
	r := w.verify(Options{Progress: func(p Progress) { said = append(said, p) }})
	if !r.OK || r.Total != 0 || len(r.Violations) != 0 || len(r.NotVerified) != 0 {
		t.Fatalf("clean folder:\n%s", r)
	}
	var rewards cairn.Micro
	players := map[cairn.PlayerID]bool{}
	for _, c := range w.won {
		rewards += c.Reward
		players[c.Player] = true
	}
	n := int64(len(w.won))
	want := &Report{
		OK: true, Logs: shards + 3, Records: r.Records, Hunts: 1, Maps: ticks, Claims: n, Rewards: rewards,
		Began: r.Began, TookMS: r.TookMS, Verified: r.Verified,
		Ledger:     &LedgerReport{Entries: n, Rewards: rewards, Players: int64(len(players)), Settled: shards},
		Violations: []Violation{}, NotVerified: []string{},
	}
	if d := cmp.Diff(want, r); d != "" || n < 300 {
		t.Errorf("report of %d claims (-want +got):\n%s", n, d)
	}
	if last := said[len(said)-1]; last.Records != r.Records || last.Claims != n || last.Entries != n {
		t.Errorf("last progress: %+v", last)
	}
	if !maps.Equal(before, files(t, w.dir)) {
		t.Error("verify changed the folder")
	}
	if b, err := json.Marshal(r); err != nil || !strings.Contains(string(b), `"violations":[],"violations_total":0,"not_verified":[]`) {
		t.Errorf("JSON: %s, %v", b, err)
	}
	if s := r.String(); !strings.HasSuffix(s, "ok: every invariant holds\n") {
		t.Errorf("text: %s", s)
	}
	// Without a ledger.
	store := w.openLogs()
	defer store.Close()
	if r, err := Verify(t.Context(), store, nil, Options{Parallel: 1}); err != nil || !r.OK || r.Ledger != nil || r.Claims != n {
		t.Errorf("without a ledger: %v, %v", r, err)
	}
}

func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	m := map[string]string{}
	check(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		m[path] = string(b)
		return err
	}))
	return m
}

// logDamages are made beneath the log. The fixture's shards have more than the
// newest records that filelog looks at when it opens, so Verify must read.
var logDamages = []damage{
	{"record altered", func(w *world) []string {
		c := w.won[10]
		w.forge(eventlog.Shard(c.Shard), false, func(rs []eventlog.Record) []eventlog.Record {
			rs[at(rs, c.offset())].Body[9] ^= 1
			return rs
		})
		return []string{where(c) + "…altered"}
	}, true},
	{"record altered, with a chain hash that fits", func(w *world) []string {
		c := w.won[10]
		var next eventlog.Offset
		w.forge(eventlog.Shard(c.Shard), false, func(rs []eventlog.Record) []eventlog.Record {
			i := at(rs, c.offset())
			rs[i].Body[9] ^= 1
			rs[i].Chain = eventlog.NextChain(rs[i-1].Chain, &rs[i])
			next = rs[i+1].Offset
			return rs
		})
		return []string{fmt.Sprintf("%s…%v…altered", eventlog.Shard(c.Shard), next)}
	}, true},
	{"claim's player altered, and the whole log linked anew", func(w *world) []string {
		c := w.won[10]
		w.forge(eventlog.Shard(c.Shard), true, func(rs []eventlog.Record) []eventlog.Record {
			i := at(rs, c.offset())
			cs, err := wire.DecodeClaims(nil, rs[i].Body)
			check(w.t, err)
			cs[c.Index].Player = "mallory"
			rs[i].Body = wire.AppendClaims(nil, cs)
			return rs
		})
		return []string{
			fmt.Sprintf("%s %v: …differ: player is %s, want mallory", eventlog.Shard(c.Shard), c.Place, c.Player),
			fmt.Sprintf("%s …was settled by the ledger", eventlog.Shard(c.Shard)),
		}
	}, false},
	{"record dropped", func(w *world) []string {
		c := w.won[10]
		w.forge(eventlog.Shard(c.Shard), false, func(rs []eventlog.Record) []eventlog.Record {
			i := at(rs, c.offset())
			return slices.Delete(rs, i, i+1)
		})
		return []string{where(c)}
	}, true},
	{"record dropped, and the log linked over the gap", func(w *world) []string {
		c := w.won[10]
		w.forge(eventlog.Shard(c.Shard), true, func(rs []eventlog.Record) []eventlog.Record {
			i := at(rs, c.offset())
			return slices.Delete(rs, i, i+1)
		})
		return []string{fmt.Sprintf("%s…%v", eventlog.Shard(c.Shard), c.offset())}
	}, true},
	{"record dropped, and all behind it numbered and linked anew", func(w *world) []string {
		c := w.won[10]
		var last eventlog.Offset
		w.forge(eventlog.Shard(c.Shard), true, func(rs []eventlog.Record) []eventlog.Record {
			last = rs[len(rs)-1].Offset
			i := at(rs, c.offset())
			rs = slices.Delete(rs, i, i+1)
			for ; rs[i].Offset.Epoch == c.Epoch; i++ {
				rs[i].Offset.Seq--
				rs[i].Mark = eventlog.Offset{}
			}
			return rs
		})
		return []string{
			fmt.Sprintf("%s %v: …was settled by the ledger", eventlog.Shard(c.Shard), last),
			fmt.Sprintf("%s %v: up to here the log has", eventlog.Shard(c.Shard), last),
			fmt.Sprintf("ledger entry of tile %v pays player %s", c.TileRef, c.Player),
		}
	}, true},
	{"acknowledged tail cut", func(w *world) []string {
		c := w.won[len(w.won)-1]
		w.forge(eventlog.Shard(c.Shard), true, func(rs []eventlog.Record) []eventlog.Record { return rs[:len(rs)-1] })
		return []string{fmt.Sprintf("store: …log %s ends at…%v was acknowledged", eventlog.Shard(c.Shard), c.offset())}
	}, false},
	{"another writer's record in an epoch", func(w *world) []string {
		c := w.won[10]
		w.forge(eventlog.Shard(c.Shard), true, func(rs []eventlog.Record) []eventlog.Record {
			rs[at(rs, c.offset())].Nonce[0] ^= 1
			return rs
		})
		return []string{where(c) + ": was written by", fmt.Sprintf("%s…was settled by the ledger", eventlog.Shard(c.Shard))}
	}, false},
	{"record of the control log altered", func(w *world) []string {
		w.forge(eventlog.Control, false, func(rs []eventlog.Record) []eventlog.Record {
			rs[4].Body[10] ^= 1
			return rs
		})
		return []string{"control…2-1…altered"}
	}, true},
	{"a file damaged", func(w *world) []string {
		matches, err := filepath.Glob(filepath.Join(w.logs(), "*.log"))
		check(w.t, err)
		for _, f := range matches {
			if b, err := os.ReadFile(f); err == nil && len(b) > 10_000 {
				b[5000] ^= 0xff
				check(w.t, os.WriteFile(f, b, 0o600))
				return []string{"store: …" + filepath.Base(f)}
			}
		}
		w.t.Fatalf("no log file to damage among %v", matches)
		return nil
	}, false},
	{"trimmed past the ledger", func(w *world) []string {
		store := w.openLogs()
		defer store.Close()
		st, err := store.Status(w.t.Context(), eventlog.Shard(1))
		check(w.t, err)
		w.claim(store, 1, w.freeOf(1, 2))
		last, err := store.Status(w.t.Context(), eventlog.Shard(1))
		check(w.t, err)
		check(w.t, store.Trim(w.t.Context(), eventlog.Shard(1), last.Last))
		return []string{fmt.Sprintf("s01 …trimmed…settled only up to %v", st.Last)}
	}, false},
}

// claimDamages are claims that a claim service should not have appended, and
// the ledger settled.
var claimDamages = []damage{
	bad("reward", 2, func(w *world, c *cairn.Claim) string { c.Reward++; return "and the map offers" }),
	bad("cell", 2, func(w *world, c *cairn.Claim) string { c.Cell ^= 1 << 30; return "is of cell" }),
	bad("before the map opens", 2, func(w *world, c *cairn.Claim) string {
		c.At = w.mapOf(c).Opens - 1
		return "its map is open from"
	}, "before the claim before it"),
	bad("when the map closes", 2, func(w *world, c *cairn.Claim) string {
		c.At = w.mapOf(c).Closes
		return "its map is open from"
	}),
	bad("earlier than the one before", 2, func(w *world, c *cairn.Claim) string {
		c.At = w.mapOf(c).Opens
		return "before the claim before it"
	}),
	bad("of a map that is not", 2, func(w *world, c *cairn.Claim) string { c.Tick += 1000; return "there is no such map" }),
	bad("of a hunt that is not", 2, func(w *world, c *cairn.Claim) string { c.Hunt = "bergen"; return "there is no such map" }),
	bad("of a tile that is not", 2, func(w *world, c *cairn.Claim) string { c.Tile = tiles; return "its map has 200 tiles" }),
	bad("in another shard", 3, func(w *world, c *cairn.Claim) string { return "is in shard 3, and belongs in 2" }),
	bad("of a tile that is taken", 2, func(w *world, c *cairn.Claim) string {
		i := slices.IndexFunc(w.won, func(o claimed) bool { return o.Shard == 2 && o.Tick == tick0+ticks-1 })
		at := c.At
		*c = w.won[i].Claim
		c.At, c.Player = at, "thief"
		return "is claimed here again, by player thief"
	}),
	{"of a tile that is taken, not settled", func(w *world) []string {
		store := w.openLogs()
		defer store.Close()
		old := w.won[len(w.won)-1] // of the last map
		c := old.Claim
		c.At = w.mapOf(&c).Opens.Add(20e9)
		won := w.claim(store, old.Shard, []cairn.Claim{c})
		return []string{fmt.Sprintf("s%02d %v: tile %v is claimed here again", won[0].Shard, won[0].Place, c.TileRef)}
	}, false},
	{"malformed", func(w *world) []string {
		store := w.openLogs()
		defer store.Close()
		o := w.append(store, eventlog.Shard(2), []byte{1, 2, 3})
		return []string{fmt.Sprintf("s02 %v: wire: malformed", o)}
	}, false},
	{"over the budget", func(w *world) []string {
		store := w.openLogs()
		defer store.Close()
		h := w.hunt
		h.Name, h.Reward.Budget = "tiny", 1_000_000
		w.change(store, cairn.Change{Hunt: "tiny", Create: &h})
		w.hunt = h
		var sum cairn.Micro
		var prev cairn.Digest
		all := make([][]cairn.Claim, shards)
		for i := range 5 {
			m := w.newMap("tiny", tick0+cairn.Tick(i), prev)
			prev = m.Digest
			w.emit(store, m)
			for tile := range tiles {
				c, shard := w.claimOf(m, tile, w.maps[ticks-1].Opens.Add(10e9))
				all[shard] = append(all[shard], c)
				sum += c.Reward
			}
		}
		for shard, cs := range all {
			w.claim(store, shard, cs)
		}
		w.settle(store)
		return []string{fmt.Sprintf("control: hunt tiny: claims are worth %d, over its budget of 1000000", sum)}
	}, false},
}

// TestTrimmed: what was trimmed is said, and the rest is verified from what
// the ledger kept.
func TestTrimmed(t *testing.T) {
	w := newWorld(t)
	store := w.openLogs()
	var left int64
	for i := range shards {
		st, err := store.Status(t.Context(), eventlog.Shard(i))
		check(t, err)
		cut := eventlog.Offset{Epoch: 7, Seq: uint64(i)} // in the middle of an epoch, or before its fence
		if i == 3 {
			cut = st.Last
		}
		check(t, store.Trim(t.Context(), eventlog.Shard(i), cut))
		for _, c := range w.won {
			if c.Shard == i && !c.offset().Less(cut) {
				left++
			}
		}
	}
	check(t, store.Trim(t.Context(), eventlog.Maps, eventlog.Offset{Epoch: 1, Seq: 18})) // within the 9th map
	check(t, store.Close())
	r := w.verify(Options{})
	if !r.OK || r.Claims != left || r.Maps != 3 || r.Ledger.Entries != int64(len(w.won)) {
		t.Fatalf("trimmed folder: want %d claims and 3 maps\n%s", left, r)
	}
	all := strings.Join(r.NotVerified, "\n")
	for _, part := range []string{
		"s00: records up to 6-", "s03: records up to 12-", "maps: records up to 1-17 were trimmed",
		"claims against their maps", fmt.Sprintf("%d ledger entries against their claims", int64(len(w.won))-left),
	} {
		if !strings.Contains(all, part) {
			t.Errorf("not verified has no %q:\n%s", part, all)
		}
	}
	// What is left is still verified.
	c := w.won[slices.IndexFunc(w.won, func(c claimed) bool { return c.Shard == 1 && c.Epoch == 11 })]
	w.sql("UPDATE entries SET reward = reward + 1 WHERE hunt = ? AND map = ? AND tile = ?", string(c.Hunt), int64(c.Tick), c.Tile)
	checkReport(t, w.verify(Options{}), []string{fmt.Sprintf("s01 %v: …reward is", c.Place)}, true)
	w.sql("UPDATE entries SET reward = reward - 1 WHERE hunt = ? AND map = ? AND tile = ?", string(c.Hunt), int64(c.Tick), c.Tile)
	w.sql("UPDATE offsets SET chain = x'00112233445566778899aabbccddeeff' WHERE shard = 1")
	checkReport(t, w.verify(Options{}), []string{"s01…was settled by the ledger"}, false)
}

// TestLive: logs and ledger that are written while Verify reads them are no
// violation.
func TestLive(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) { testLive(t, newWorld(t)) })
	t.Run("postgres", func(t *testing.T) {
		w := newWorld(t)
		w.dsn = pgtest.Shared(t).Schema(t)
		testLive(t, w)
	})
}

func testLive(t *testing.T, w *world) {
	store := w.openLogs()
	defer store.Close()
	led, err := ledger.Open(t.Context(), w.ledgerDSN(), ledger.Options{CommitEvery: time.Millisecond})
	check(t, err)
	defer led.Close()
	ctx, cancel := context.WithCancel(t.Context())
	ran, played := make(chan error, 1), make(chan struct{})
	go func() { ran <- led.Run(ctx, store) }()
	go func() {
		defer close(played)
		for i := ticks; i < ticks+4; i++ {
			m := w.newMap(name, tick0+cairn.Tick(i), w.prev())
			w.emit(store, m)
			w.maps = append(w.maps, m)
			for tile := range tiles {
				c, shard := w.claimOf(m, tile, m.Opens.Add(time.Duration(tile)*time.Millisecond))
				w.claim(store, shard, []cairn.Claim{c})
			}
		}
	}()
	var seen []int64
	for live := true; live; {
		select {
		case <-played:
			live = false
		default:
		}
		r, err := Verify(t.Context(), store, led, Options{})
		check(t, err)
		if !r.OK {
			t.Fatalf("live:\n%s", r)
		}
		seen = append(seen, r.Claims)
	}
	cancel()
	check(t, <-ran)
	if len(seen) < 2 || seen[0] >= seen[len(seen)-1] {
		t.Errorf("claims seen: %v; want more and more", seen)
	}
}

func TestListMax(t *testing.T) {
	w := newWorld(t)
	store := w.openLogs()
	for range 30 {
		w.append(store, eventlog.Control, []byte("{"))
	}
	check(t, store.Close())
	r := w.verify(Options{ListMax: 7})
	if len(r.Violations) != 7 || r.Total != 30 || r.OK || !strings.Contains(r.String(), "and 23 more\n") {
		t.Errorf("%d violations of %d:\n%s", len(r.Violations), r.Total, r)
	}
	if !slices.IsSortedFunc(r.Violations, func(a, b Violation) int {
		x, _ := eventlog.ParseOffset(a.Offset)
		y, _ := eventlog.ParseOffset(b.Offset)
		return x.Compare(y)
	}) {
		t.Errorf("violations are not in order:\n%s", r)
	}
}

func TestCancelled(t *testing.T) {
	w := newWorld(t)
	store := w.openLogs()
	defer store.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if r, err := Verify(ctx, store, nil, Options{}); !errors.Is(err, context.Canceled) || r != nil {
		t.Errorf("cancelled: %v, %v", r, err)
	}
}

package audit

import (
	"fmt"
	"os"
	"slices"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/eventlog"
	"github.com/veltrix/cairn/internal/wire"
)

// at returns the index of the record at o.
func at(rs []eventlog.Record, o eventlog.Offset) int {
	return slices.IndexFunc(rs, func(r eventlog.Record) bool { return r.Offset == o })
}

// where names the record of a claim, as a violation does.
func where(c claimed) string { return fmt.Sprintf("%s…%v", eventlog.Shard(c.Shard), c.offset()) }

func (w *world) mapOf(c *cairn.Claim) *cairn.Map { return w.maps[c.Tick-tick0] }

// freeOf takes n claims of the last map that a shard could still grant.
func (w *world) freeOf(shard, n int) (cs []cairn.Claim) {
	w.t.Helper()
	last := w.maps[ticks-1]
	for _, c := range w.free {
		if c.Tick == last.Tick && shardOf(last, int(c.Tile)) == shard && len(cs) < n {
			c.At = last.Opens.Add(20e9)
			cs = append(cs, c)
		}
	}
	if len(cs) < n {
		w.t.Fatalf("only %d tiles of shard %d are free, want %d", len(cs), shard, n)
	}
	return cs
}

// bad appends a claim that is wrong in one way to a shard, lets the ledger
// settle it, and wants one violation there, and those that also come with it.
func bad(name string, shard int, spoil func(*world, *cairn.Claim) string, with ...string) damage {
	return damage{name, func(w *world) []string {
		store := w.openLogs()
		defer store.Close()
		cs := w.freeOf(2, 2)
		want := spoil(w, &cs[1])
		if shard != 2 {
			cs = cs[1:2]
		}
		won := w.claim(store, shard, cs)
		w.settle(store)
		c := won[min(1, len(won)-1)]
		lines := []string{fmt.Sprintf("s%02d %v: …tile %v…%s", shard, c.Place, c.TileRef, want)}
		for _, also := range with {
			lines = append(lines, fmt.Sprintf("s%02d %v: …%s", shard, c.Place, also))
		}
		return lines
	}, false}
}

// emitBad emits a map that is wrong and wants a violation at its header.
func emitBad(name, want string, spoil func(*world, *cairn.Map)) damage {
	return damage{name, func(w *world) []string {
		store := w.openLogs()
		defer store.Close()
		m := w.newMap(w.hunt.Name, tick0+ticks, w.prev())
		spoil(w, m)
		o := w.emit(store, m)
		return []string{fmt.Sprintf("maps %v: %s", o, want)}
	}, false}
}

func seal(m *cairn.Map) { m.Digest = wire.MapDigest(m) }

var mapDamages = []damage{
	emitBad("same tick again", "map oslo-winter/1760000011 was emitted before", func(w *world, m *cairn.Map) {
		*m = *w.newMap(w.hunt.Name, tick0+ticks-1, w.prev())
	}),
	emitBad("does not name the one before", "…names…as the map before it", func(w *world, m *cairn.Map) {
		m.Prev = w.maps[0].Digest
		seal(m)
	}),
	emitBad("tile altered", "…does not match its digest", func(w *world, m *cairn.Map) { m.Tiles[3].Reward++ }),
	emitBad("header altered", "…does not match its digest", func(w *world, m *cairn.Map) { m.Budget++ }),
	emitBad("offers more than its budget", "…and has a budget of 5", func(w *world, m *cairn.Map) {
		m.Budget = 5
		seal(m)
	}),
	emitBad("offers what it does not say", "…offers…says 7", func(w *world, m *cairn.Map) {
		m.Offer = 7
		seal(m)
	}),
	emitBad("reward above the hunt's", "…reward of 5001 on tile 3", func(w *world, m *cairn.Map) {
		m.Offer += 5001 - m.Tiles[3].Reward
		m.Tiles[3].Reward = 5001
		seal(m)
	}),
	emitBad("open at another time", "…is open from", func(w *world, m *cairn.Map) {
		m.Opens++
		seal(m)
	}),
	emitBad("open for longer", "…is open from", func(w *world, m *cairn.Map) {
		m.Closes++
		seal(m)
	}),
	emitBad("more tiles than the hunt ever had", "…has 201 tiles and a budget of…want at most 200", func(w *world, m *cairn.Map) {
		w.hunt.TilesPerMap++
		*m = *w.newMap(w.hunt.Name, tick0+ticks, w.prev())
		w.hunt.TilesPerMap--
	}),
	emitBad("of a hunt that is not", "…the control log does not have", func(w *world, m *cairn.Map) {
		*m = *w.newMap("bergen", tick0+ticks, cairn.Digest{})
	}),
	{"a first map that names one before", func(w *world) []string {
		store := w.openLogs()
		defer store.Close()
		h := w.hunt
		h.Name = "second"
		w.change(store, cairn.Change{Hunt: h.Name, Create: &h})
		o := w.emit(store, w.newMap(h.Name, tick0, w.prev()))
		return []string{fmt.Sprintf("maps %v: map second/%d is the hunt's first and names", o, tick0)}
	}, false},
	{"header without its tiles", func(w *world) []string {
		store := w.openLogs()
		defer store.Close()
		m := w.newMap(w.hunt.Name, tick0+ticks, w.prev())
		o := w.append(store, eventlog.Maps, wire.AppendMapHeader(nil, &m.MapHeader))
		return []string{fmt.Sprintf("maps %v: …without its 200 tiles", o)}
	}, false},
	{"change that can't follow", func(w *world) []string {
		store := w.openLogs()
		defer store.Close()
		w.change(store, cairn.Change{Hunt: w.hunt.Name, State: cairn.Ended})
		o := w.change(store, cairn.Change{Hunt: w.hunt.Name, State: cairn.Live})
		return []string{fmt.Sprintf("control %v: …oslo-winter…can't become", o)}
	}, false},
	{"change that is none", func(w *world) []string {
		store := w.openLogs()
		defer store.Close()
		o := w.append(store, eventlog.Control, []byte("{"))
		return []string{fmt.Sprintf("control %v: …malformed", o)}
	}, false},
}

// column alters one column of one entry.
func column(name, set, want string, args ...any) damage {
	return damage{"entry's " + name, func(w *world) []string {
		c := w.won[20]
		w.sql("UPDATE entries SET "+set+" WHERE hunt = ? AND map = ? AND tile = ?", append(args, string(c.Hunt), int64(c.Tick), c.Tile)...)
		return []string{fmt.Sprintf("s%02d %v: …its entry in the ledger differ: %s", c.Shard, c.Place, want)}
	}, true}
}

// sums alters the row of a shard's offset.
func sums(name, set string, want ...string) damage {
	return damage{"offset's " + name, func(w *world) []string {
		w.sql("UPDATE offsets SET " + set + " WHERE shard = 2")
		return want
	}, false}
}

var ledgerDamages = []damage{
	column("player", "player = 'mallory'", "player is mallory, want"),
	column("name", "name = 'Mallory'", "name is Mallory, want"),
	column("reward", "reward = reward + 1", "reward is"),
	column("geohash", "cell = 'zzzzzzz'", "geohash is zzzzzzz, want"),
	column("geohash to none", "cell = 'not a geohash'", "geohash is not a geohash, want"),
	column("time", "at = at - 1", "at is"),
	column("shard", "shard = 3", "offset is 3/"),
	column("seq", "seq = seq - 1", "offset is"),
	column("index", "idx = idx + 1", "offset is"),
	{"entry dropped", func(w *world) []string {
		c := w.won[20]
		w.sql("DELETE FROM entries WHERE hunt = ? AND map = ? AND tile = ?", string(c.Hunt), int64(c.Tick), c.Tile)
		return []string{
			fmt.Sprintf("s%02d %v: claim of tile %v by player %s, worth %d, has no entry", c.Shard, c.Place, c.TileRef, c.Player, c.Reward),
			fmt.Sprintf("s%02d …the ledger has", c.Shard),
			fmt.Sprintf("ledger: balance of player %s", c.Player),
		}
	}, false},
	{"entry added", func(w *world) []string {
		c := w.free[0]
		w.sql(`INSERT INTO entries (hunt, map, tile, player, name, cell, reward, at, shard, epoch, seq, idx)
			VALUES (?, ?, ?, 'mallory', 'M', 'zzz', 9, 9, 2, 1, 1, 77)`, string(c.Hunt), int64(c.Tick), c.Tile)
		return []string{
			fmt.Sprintf("s02 2/1-1/77: ledger entry of tile %v pays player mallory 9, and the log has no such claim", c.TileRef),
			"s02 …the ledger has",
			"ledger: player mallory has no balance, and 1 entries worth 9",
		}
	}, false},
	{"entry moved to another tile", func(w *world) []string {
		c, free := w.won[20], w.free[0]
		w.sql("UPDATE entries SET map = ?, tile = ? WHERE hunt = ? AND map = ? AND tile = ?",
			int64(free.Tick), free.Tile, string(c.Hunt), int64(c.Tick), c.Tile)
		return []string{
			fmt.Sprintf("s%02d %v: claim of tile %v …has no entry", c.Shard, c.Place, c.TileRef),
			fmt.Sprintf("s%02d %v: ledger entry of tile %v …no such claim", c.Shard, c.Place, free.TileRef),
		}
	}, false},
	{"balance altered", func(w *world) []string {
		w.sql("UPDATE balances SET total = total + 1 WHERE player = 'p03'")
		return []string{"ledger: balance of player p03"}
	}, false},
	{"balance's count altered", func(w *world) []string {
		w.sql("UPDATE balances SET entries = entries + 1 WHERE player = 'p03'")
		return []string{"ledger: balance of player p03"}
	}, false},
	{"balance dropped", func(w *world) []string {
		w.sql("DELETE FROM balances WHERE player = 'p03'")
		return []string{"ledger: player p03 has no balance"}
	}, false},
	{"balance added", func(w *world) []string {
		w.sql("INSERT INTO balances VALUES ('mallory', 0, 5)")
		return []string{"ledger: balance of player mallory is 5"}
	}, false},
	sums("seq, back", "seq = seq - 1", "s02 …was settled by the ledger", "s02 …ledger entries stand behind what the ledger says it has settled", "s02 …up to here the log has"),
	sums("seq, ahead", "seq = seq + 1", "s02 …the log ends at"),
	sums("epoch, back", "epoch = 1, seq = 99999", "s02 1-99999: …the log has no such record", "s02 1-99999: up to here the log has", "s02 2/2-1/0: from here on"),
	sums("chain", "chain = x'00112233445566778899aabbccddeeff'", "s02 …00112233445566778899aabbccddeeff was settled by the ledger"),
	sums("count", "entries = entries + 1", "s02 …up to here the log has", "s02 …the ledger has"),
	sums("total", "total = total - 1", "s02 …up to here the log has", "s02 …the ledger has"),
	sums("conflicts", "conflicts = 3", "s02 …claims of taken tiles"),
	{"offset dropped", func(w *world) []string {
		w.sql("DELETE FROM offsets WHERE shard = 2")
		return []string{"s02 2/1-1/0: from here on…ledger entries stand behind what the ledger says it has settled, 0-0", "s02 0-0: the ledger has"}
	}, false},
	{"offset of a shard that is not", func(w *world) []string {
		w.sql("INSERT INTO offsets VALUES (9, 1, 1, x'00112233445566778899aabbccddeeff', 0, 0, 0)")
		return []string{"s09 1-1: …there is no such log"}
	}, false},
	{"offset that can't be read", func(w *world) []string {
		w.sql("UPDATE offsets SET chain = x'00' WHERE shard = 2")
		return []string{"ledger: …chain hash of shard 2 has 1 bytes"}
	}, true},
}

// fileDamages are of the ledger that is a file.
var fileDamages = []damage{
	ledgerFile("pages overwritten", func(b []byte) []byte {
		for i := 8 * 4096; i < len(b)-4096; i++ {
			b[i] = 0xa5
		}
		return b
	}),
	ledgerFile("header overwritten", func(b []byte) []byte {
		copy(b, "not a database at all")
		return b
	}),
	ledgerFile("cut short", func(b []byte) []byte { return b[:len(b)/2] }),
	{"file is gone", func(w *world) []string {
		check(w.t, os.Remove(w.ledger()))
		return []string{"store: …" + w.ledger()}
	}, false},
}

// ledgerFile damages the database's file and wants it named.
func ledgerFile(name string, do func([]byte) []byte) damage {
	return damage{"file: " + name, func(w *world) []string {
		b, err := os.ReadFile(w.ledger())
		check(w.t, err)
		if len(b) < 20*4096 {
			w.t.Fatalf("ledger of %d bytes is too small to damage", len(b))
		}
		check(w.t, os.WriteFile(w.ledger(), do(b), 0o600))
		return []string{w.ledger()}
	}, true}
}

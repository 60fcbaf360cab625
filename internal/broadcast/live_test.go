package broadcast

import (
	"testing"
	"time"
)

func TestSnapshotOnJoinAndDeltas(t *testing.T) { eachCodec(t, testSnapshotOnJoinAndDeltas) }

func testSnapshotOnJoinAndDeltas(t *testing.T) {
	r := newRig(t, Options{})
	m := r.open("u4xsu", "u4xsv", "u4prm", "9q8yy")
	r.claim(r.claimOf(m, 0, "ana"))
	r.until("the claim is folded", func() bool {
		r.hub.mu.RLock()
		defer r.hub.mu.RUnlock()
		return r.hub.life.state.find(huntID, m.Tick).holders != nil
	})

	c, snap := r.join("u4")
	if len(snap.Maps) != 1 || len(snap.Maps[0].Tiles) != 3 || len(snap.Maps[0].Claimed) != 1 {
		t.Fatalf("got %s; want the map with 3 tiles and 1 claim", snap.raw)
	}
	if got := snap.Maps[0]; got.Digest != m.Digest.String() || got.Opens != m.Opens || got.Closes != m.Closes || got.Hunt != string(huntID) {
		t.Errorf("got header %+v; want %+v", got, m.MapHeader)
	}
	if got := snap.Maps[0].Claimed[0]; got.Tile != 0 || got.Player != "ana" || got.Name != "Name of ana" || got.Map != int64(m.Tick) {
		t.Errorf("got claim %+v", got)
	}

	r.claim(r.claimOf(m, 2, "bo"), r.claimOf(m, 3, "cy"))
	d := c.want("delta")
	if len(d.Claimed) != 1 || d.Claimed[0].Tile != 2 || d.Claimed[0].Player != "bo" || d.Region != "u4" || d.From > snap.Seq || d.Seq <= snap.Seq {
		t.Errorf("got %s; want bo's claim of tile 2, from at most %d", d.raw, snap.Seq)
	}

	n := r.open("u4xsu", "9q8yy")
	d = c.want("delta")
	if len(d.Opened) != 1 || d.Opened[0].Tick != int64(n.Tick) || len(d.Opened[0].Tiles) != 1 || len(d.Closed) != 0 {
		t.Errorf("got %s; want map %d opened with one tile in view", d.raw, n.Tick)
	}
	r.pass(31 * time.Second)
	d = c.want("delta")
	if len(d.Closed) != 2 || d.Closed[0] != int64(m.Tick) || d.Closed[1] != int64(n.Tick) {
		t.Errorf("got %s; want both maps closed", d.raw)
	}
}

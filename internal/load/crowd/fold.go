package crowd

import (
	"encoding/binary"
	"maps"
	"slices"

	"github.com/cespare/xxhash/v2"
	"github.com/tidwall/btree"

	"github.com/veltrix/cairn"
)

// A state is all that a connection knows. It never changes once it is in a
// table: who learns something is in another state from then on, which shares
// what did not change. So connections that know the same are in the same one,
// and thousands of them cost as much as one.
type state struct {
	id    uint32
	refs  int    // connections that are in it
	epoch string // of the last welcome
	known bool   // a snapshot came in this epoch
	seq   uint64 // the highest seen in this epoch
	at    []uint64
	maps  map[cairn.Tick]*openMap
	board map[string]uint64
	sum   uint64 // of what maps and boards hold, whatever the order they came in
}

// An openMap is a map that a state holds: shared with other states, and copied
// before it is changed.
type openMap struct {
	opens, closes cairn.Instant
	tiles         *btree.Map[uint32, heldTile]
}

type heldTile struct {
	tile   uint64 // hash of what it is
	holder uint64 // hash of who holds it; 0 is nobody
}

// What may be wrong with an update.
const (
	wrongGap     = "gap"                            // a delta begins behind what is known
	wrongRegion  = "delta of a region not watched"  // or before any snapshot
	wrongTile    = "claim of a tile not shown"      // of a map that is open
	wrongHolder  = "tile changed hands"             // it was won, and then by another
	wrongChanged = "tile changed"                   // it was opened anew, and is another
	wrongBack    = "sweep number went back"         // within an epoch
	wrongBefore  = "frame of a hunt before welcome" // nothing was asked for yet
)

// A fold computes states. Regions are those that all connections watch.
type fold struct {
	regions []cairn.Cell
}

// apply returns the state of one who is in s and hears u, and what is wrong
// with that. It returns s itself if nothing is learnt.
func (f *fold) apply(s *state, u *update) (*state, []string) {
	switch u.kind {
	case kindWelcome:
		if u.epoch == s.epoch {
			return s, nil
		}
		return &state{epoch: u.epoch}, nil
	case kindSnapshot:
		return f.snapshot(s, u)
	case kindDelta:
		return f.delta(s, u)
	case kindStandings:
		n := s.clone()
		n.standings(u.boards)
		n.seq = max(n.seq, u.seq)
		return n, nil
	case kindData:
		return f.data(s, u)
	}
	return s, nil
}

func (s *state) clone() *state {
	n := *s
	n.id, n.refs = 0, 0
	n.at, n.maps, n.board = slices.Clone(s.at), maps.Clone(s.maps), maps.Clone(s.board)
	return &n
}

func (f *fold) snapshot(s *state, u *update) (*state, []string) {
	var wrong []string
	if s.epoch == "" {
		wrong = append(wrong, wrongBefore)
	}
	if u.seq < s.seq {
		wrong = append(wrong, wrongBack)
	}
	n := &state{epoch: s.epoch, known: true, seq: u.seq, maps: make(map[cairn.Tick]*openMap, len(u.maps))}
	n.at = slices.Repeat([]uint64{u.seq}, len(f.regions))
	for i := range u.maps {
		wrong = n.open(&u.maps[i], wrong)
	}
	n.standings(u.boards)
	return n, wrong
}

func (f *fold) delta(s *state, u *update) (*state, []string) {
	i := slices.Index(f.regions, u.region)
	if i < 0 {
		return s, []string{wrongRegion}
	}
	if !s.known || u.from > s.at[i] {
		return &state{}, []string{wrongGap} // it has a bug, and begins anew
	}
	if u.seq <= s.at[i] {
		return s, nil // all of it is known
	}
	n := s.clone()
	n.at[i], n.seq = u.seq, max(n.seq, u.seq)
	var wrong []string
	for i := range u.maps {
		wrong = n.open(&u.maps[i], wrong)
	}
	for _, c := range u.claimed {
		wrong = n.claim(c, wrong)
	}
	for _, tick := range u.closed {
		n.close(tick)
	}
	return n, wrong
}

// data follows the numbers of publications that have some.
func (f *fold) data(s *state, u *update) (*state, []string) {
	if u.seq == 0 || u.seq == s.seq {
		return s, nil
	}
	var wrong []string
	if s.known && u.from > s.seq {
		wrong = []string{wrongGap}
	}
	if s.known && u.seq < s.seq {
		wrong = []string{wrongBack}
	}
	return &state{known: true, seq: u.seq, sum: u.seq}, wrong
}

// open adds a map, or more of its tiles.
func (s *state) open(u *mapUpdate, wrong []string) []string {
	m := s.maps[u.tick]
	if m == nil {
		m = &openMap{opens: u.opens, closes: u.closes, tiles: &btree.Map[uint32, heldTile]{}}
		s.sum += hashMap(u.tick, m)
	} else {
		m = &openMap{opens: m.opens, closes: m.closes, tiles: m.tiles.Copy()}
	}
	if s.maps == nil {
		s.maps = map[cairn.Tick]*openMap{}
	}
	s.maps[u.tick] = m
	for i := range u.tiles {
		t := &u.tiles[i]
		h := heldTile{tile: hashTile(u.tick, t)}
		if old, ok := m.tiles.Get(t.index); ok {
			if old.tile != h.tile {
				wrong = append(wrong, wrongChanged)
			}
			continue
		}
		m.tiles.Set(t.index, h)
		s.sum += h.tile
	}
	for _, c := range u.claimed {
		wrong = hold(s, m, c, wrong)
	}
	return wrong
}

// claim takes up who holds a tile, if its map is open.
func (s *state) claim(c claim, wrong []string) []string {
	m := s.maps[c.tick]
	if m == nil {
		return wrong
	}
	if old, ok := m.tiles.Get(c.tile); ok && old.holder == c.holder {
		return wrong
	}
	m = &openMap{opens: m.opens, closes: m.closes, tiles: m.tiles.Copy()}
	s.maps[c.tick] = m
	return hold(s, m, c, wrong)
}

// hold sets who holds a tile of m, which is s's own.
func hold(s *state, m *openMap, c claim, wrong []string) []string {
	h, ok := m.tiles.Get(c.tile)
	switch {
	case !ok:
		return append(wrong, wrongTile)
	case h.holder == c.holder:
		return wrong
	case h.holder != 0:
		wrong = append(wrong, wrongHolder)
		s.sum -= hashHeld(c.tick, c.tile, h.holder)
	}
	h.holder = c.holder
	m.tiles.Set(c.tile, h)
	s.sum += hashHeld(c.tick, c.tile, h.holder)
	return wrong
}

func (s *state) close(tick cairn.Tick) {
	m := s.maps[tick]
	if m == nil {
		return
	}
	delete(s.maps, tick)
	s.sum -= hashMap(tick, m)
	m.tiles.Scan(func(i uint32, h heldTile) bool {
		s.sum -= h.tile
		if h.holder != 0 {
			s.sum -= hashHeld(tick, i, h.holder)
		}
		return true
	})
}

func (s *state) standings(boards []board) {
	if s.board == nil {
		s.board = make(map[string]uint64, len(boards))
	}
	for _, b := range boards {
		s.sum += b.hash - s.board[b.key]
		s.board[b.key] = b.hash
	}
}

// hashes of what a state holds are summed up, so that each can be taken back.
// Each begins with a number of its own.
func hashMap(tick cairn.Tick, m *openMap) uint64 {
	return hashWords(1, uint64(tick), uint64(m.opens), uint64(m.closes))
}

func hashTile(tick cairn.Tick, t *tile) uint64 {
	return hashWords(2, uint64(tick), uint64(t.index), uint64(t.cell), t.puzzle, uint64(t.reward))
}

func hashHeld(tick cairn.Tick, index uint32, holder uint64) uint64 {
	return hashWords(3, uint64(tick), uint64(index), holder)
}

func hashWords(words ...uint64) uint64 {
	var b [8 * 8]byte
	for i, w := range words {
		binary.LittleEndian.PutUint64(b[8*i:], w)
	}
	return xxhash.Sum64(b[:8*len(words)])
}

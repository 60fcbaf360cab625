package broadcast

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/wire"
)

const (
	// mapsKept is how long a closed map can still be asked for.
	mapsKept = 10 * time.Minute

	// holdersKept is how long after a map closed its claims are still taken:
	// far longer than a claim takes from its shard's owner to here.
	holdersKept = time.Minute

	// earlyMax bounds the claims that wait for their map, which another log
	// brings.
	earlyMax = 1 << 16

	// playersMax bounds the table of players that share their encoding.
	playersMax = 1 << 20
)

// A state is the fold of the logs: what is open, who holds what, who leads. It
// is a plain value without goroutines, clock or I/O.
type state struct {
	hunts   cairn.Hunts
	byHunt  map[cairn.HuntID]*huntMaps
	boards  map[wire.BoardKey]*board
	players map[cairn.PlayerID]*player

	early      map[mapKey][]cairn.Claim // of maps that are not folded yet
	earlyCount int

	ignored int // claims that no open map has: far too late, or of no tile
}

type mapKey struct {
	hunt cairn.HuntID
	tick cairn.Tick
}

// huntMaps are the maps of one hunt, by tick. Time cuts them in four:
//
//	maps[:shed] │ maps[shed:closed] │ maps[closed:opened] │ maps[opened:]
//	forgotten   │ closed            │ open                │ yet to open
//
// Of the forgotten ones only the map itself is left.
type huntMaps struct {
	maps                 []*mapState
	shed, closed, opened int
}

// A mapState is a map and who holds its tiles.
type mapState struct {
	*cairn.Map
	byCell  []uint32 // the tiles' numbers in the order of their cells
	holders []holder // by tile; nil before the first claim
}

// A holder is who won a tile, and when; who is nil while nobody has.
type holder struct {
	who *player
	at  cairn.Instant
}

// A player is someone who won something, with the JSON that every frame about
// them shares: "player":"…","name":"…".
type player struct {
	id   cairn.PlayerID
	name string
	json []byte
}

// A board is the newest version of a leaderboard.
type board struct {
	*wire.Board
	seq   uint64        // of the sweep that tells of it; 0 before it
	fresh cairn.Instant // its newest claim, if no version before it had that; 0 else

	forms [codecs]boardForm
}

// A boardForm is a board in one codec, made when first needed.
type boardForm struct {
	bodyOnce, frameOnce sync.Once
	body                []byte // its members as frames have them
	frame               *frame // of its sweep
}

// lag is how late the board is for its newest claim, in milliseconds. A version
// with nothing new in it is late for nobody, however long ago that claim is.
func (x *board) lag() int64 {
	if x.fresh == 0 {
		return 0
	}
	return max(0, x.Published.Sub(x.fresh).Milliseconds())
}

// body returns the members of the board as frames have them, cut to rows. It
// may be called concurrently.
func (x *board) body(codec Codec, rows int) []byte {
	form := &x.forms[codec]
	form.bodyOnce.Do(func() { form.body = codec.encoder().appendBoard(nil, x, rows) })
	return form.body
}

// frame returns the board as the frame of its sweep. It may be called
// concurrently, once seq is set.
func (x *board) frame(codec Codec, rows int) *frame {
	form := &x.forms[codec]
	form.frameOnce.Do(func() {
		body := x.body(codec, rows)
		form.frame = newFrame(codec, kindStandings, x.seq, codec.encoder().appendStandings(room(len(body)+128), x, body))
		form.frame.fresh = x.fresh
	})
	return form.frame
}

func newState() *state {
	return &state{
		byHunt:  map[cairn.HuntID]*huntMaps{},
		boards:  map[wire.BoardKey]*board{},
		players: map[cairn.PlayerID]*player{},
		early:   map[mapKey][]cairn.Claim{},
	}
}

// A won is a claim that the fold took.
type won struct {
	m    *mapState
	tile uint32
	cell cairn.Cell
	holder
	first bool // its map was not open yet: the claim opens it
}

// addMap folds a map, and returns the claims that waited for it. Maps of a
// hunt come in the order of their ticks; one that does not is ignored.
func (s *state) addMap(m *cairn.Map, now cairn.Instant) []won {
	hm := s.byHunt[m.Hunt]
	if hm == nil {
		hm = &huntMaps{}
		s.byHunt[m.Hunt] = hm
	}
	if n := len(hm.maps); n > 0 && hm.maps[n-1].Tick >= m.Tick {
		return nil
	}
	ms := &mapState{Map: m}
	if m.Closes.Add(holdersKept) > now {
		ms.byCell = tilesByCell(m.Tiles)
	}
	hm.maps = append(hm.maps, ms)

	key := mapKey{m.Hunt, m.Tick}
	var ws []won
	waited := s.early[key]
	for k, cs := range s.early {
		if k.hunt == m.Hunt && k.tick <= m.Tick { // those before it never come
			delete(s.early, k)
			s.earlyCount -= len(cs)
		}
	}
	for i := range waited {
		if w, ok := s.claim(&waited[i], now); ok {
			ws = append(ws, w)
		}
	}
	return ws
}

func tilesByCell(tiles []cairn.Tile) []uint32 {
	order := make([]uint32, len(tiles))
	for i := range order {
		order[i] = uint32(i)
	}
	slices.SortFunc(order, func(a, b uint32) int { return cmp.Compare(tiles[a].Cell, tiles[b].Cell) })
	return order
}

// claim folds a claim. The first one in the log's order has the tile, for
// ever. It is false for claims that change nothing that can still be seen, and
// for one whose map is not folded yet, which waits for it.
func (s *state) claim(c *cairn.Claim, now cairn.Instant) (won, bool) {
	m := s.find(c.Hunt, c.Tick)
	if m == nil {
		hm := s.byHunt[c.Hunt]
		mayCome := hm == nil || len(hm.maps) == 0 || hm.maps[len(hm.maps)-1].Tick < c.Tick
		if mayCome && c.At.Add(holdersKept) > now && s.earlyCount < earlyMax {
			key := mapKey{c.Hunt, c.Tick}
			s.early[key] = append(s.early[key], *c)
			s.earlyCount++
		} else {
			s.ignored++
		}
		return won{}, false
	}
	if m.byCell == nil || int(c.Tile) >= len(m.Tiles) {
		s.ignored++
		return won{}, false
	}
	if m.holders == nil {
		m.holders = make([]holder, len(m.Tiles))
	}
	if m.holders[c.Tile].who != nil {
		return won{}, false
	}
	m.holders[c.Tile] = holder{s.player(c.Player, c.Name), c.At}
	hm := s.byHunt[c.Hunt]
	first := hm.opened == 0 || hm.maps[hm.opened-1].Tick < c.Tick
	return won{m, c.Tile, m.Tiles[c.Tile].Cell, m.holders[c.Tile], first}, true
}

// player returns the shared record of a player.
func (s *state) player(id cairn.PlayerID, name string) *player {
	p := s.players[id]
	if p == nil || p.name != name {
		if len(s.players) >= playersMax {
			clear(s.players) // those in use live on in their holders
		}
		p = &player{id: id, name: name, json: appendPlayer(nil, id, name)}
		s.players[id] = p
	}
	return p
}

func (s *state) find(hunt cairn.HuntID, tick cairn.Tick) *mapState {
	hm := s.byHunt[hunt]
	if hm == nil {
		return nil
	}
	i, ok := slices.BinarySearchFunc(hm.maps, tick, func(m *mapState, t cairn.Tick) int { return cmp.Compare(m.Tick, t) })
	if !ok {
		return nil
	}
	return hm.maps[i]
}

// advance moves a hunt's maps on to now, and returns those that opened and
// those that closed. A map that a claim came for is open, whatever the clock
// here says. Maps that were never seen open are not said to have closed.
func (hm *huntMaps) advance(now cairn.Instant) (opened, closed []*mapState) {
	was := hm.opened
	for hm.opened < len(hm.maps) && (hm.maps[hm.opened].Opens <= now || hm.claimedFrom(hm.opened)) {
		hm.opened++
	}
	for hm.closed < hm.opened && hm.maps[hm.closed].Closes <= now {
		if hm.closed < was {
			closed = append(closed, hm.maps[hm.closed])
		}
		hm.closed++
	}
	for hm.shed < hm.closed && hm.maps[hm.shed].Closes.Add(holdersKept) <= now {
		m := hm.maps[hm.shed]
		m.byCell, m.holders = nil, nil
		hm.shed++
	}
	gone := 0
	for gone < hm.shed && hm.maps[gone].Closes.Add(mapsKept) <= now {
		gone++
	}
	if first := max(was, hm.closed); first < hm.opened {
		opened = hm.maps[first:hm.opened:hm.opened]
	}
	if gone > 0 {
		hm.maps = slices.Clone(hm.maps[gone:])
		hm.shed, hm.closed, hm.opened = hm.shed-gone, hm.closed-gone, hm.opened-gone
	}
	return opened, closed
}

// nextMove returns when the next map opens or closes by the clock, if one is to.
func (hm *huntMaps) nextMove() (at cairn.Instant, ok bool) {
	if hm.opened < len(hm.maps) {
		at, ok = hm.maps[hm.opened].Opens, true
	}
	if hm.closed < hm.opened && (!ok || hm.maps[hm.closed].Closes < at) {
		at, ok = hm.maps[hm.closed].Closes, true
	}
	return at, ok
}

// claimedFrom reports whether a map from maps[i] on has a claim.
func (hm *huntMaps) claimedFrom(i int) bool {
	return slices.ContainsFunc(hm.maps[i:], func(m *mapState) bool { return m.holders != nil })
}

// open returns the open maps of a hunt, by tick.
func (s *state) open(hunt cairn.HuntID) []*mapState {
	hm := s.byHunt[hunt]
	if hm == nil {
		return nil
	}
	return hm.maps[hm.closed:hm.opened]
}

// addBoard folds a board, and returns it unless it is older than what is known
// or of an hour that is long over.
func (s *state) addBoard(b *wire.Board, now cairn.Instant) *board {
	hour := int64(now) / int64(time.Hour/time.Microsecond)
	old := s.boards[b.BoardKey]
	if old != nil && old.Published > b.Published || b.Window == wire.WindowHour && b.Hour < hour-1 {
		return nil
	}
	if old == nil {
		for key := range s.boards { // a new key is rare
			if key.Window == wire.WindowHour && key.Hour < hour-1 {
				delete(s.boards, key)
			}
		}
	}
	nb := &board{Board: b}
	if old == nil || old.Newest < b.Newest {
		nb.fresh = b.Newest
	}
	s.boards[b.BoardKey] = nb
	return nb
}

// boardsOf returns a hunt's boards that someone who watches regions sees, in a
// fixed order.
func (s *state) boardsOf(hunt cairn.HuntID, regions []cairn.Cell) []*board {
	var bs []*board
	for key, b := range s.boards {
		if key.Hunt == hunt && boardInView(key.Region, regions) {
			bs = append(bs, b)
		}
	}
	slices.SortFunc(bs, func(a, b *board) int {
		return cmp.Or(cmp.Compare(a.Window, b.Window), cmp.Compare(a.Hour, b.Hour), cmp.Compare(a.Region, b.Region))
	})
	return bs
}

// boardInView reports whether a board of a region concerns someone who watches
// regions: it is everywhere's, or a watched region lies in its region.
func boardInView(region cairn.Cell, regions []cairn.Cell) bool {
	return region == 0 || slices.ContainsFunc(regions, region.Contains)
}

// tilesIn calls yield for each tile of m that lies in one of the regions, none
// of which lies in another. Tiles come in the order of their cells.
func (m *mapState) tilesIn(regions []cairn.Cell, yield func(tile uint32)) {
	for _, r := range regions {
		lo := r &^ 15
		i, _ := slices.BinarySearchFunc(m.byCell, lo, func(t uint32, c cairn.Cell) int { return cmp.Compare(m.Tiles[t].Cell, c) })
		for ; i < len(m.byCell); i++ {
			t := m.byCell[i]
			if c := m.Tiles[t].Cell; r.Contains(c) {
				yield(t)
			} else if c.Prefix(r.Precision())&^15 != lo {
				break
			}
		}
	}
}

package claim

import (
	"strings"
	"time"
	"unsafe"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/eventlog"
	"github.com/veltrix/cairn/internal/puzzle"
)

const (
	// Tries is how many wrong answers a player may give for one tile.
	Tries = 3

	// Memory is how long after its close a map is remembered, so that the
	// holder's retry and those who came late still hear who holds a tile.
	Memory = 10 * time.Minute

	// triesMax bounds the wrong answers remembered for one map in one shard,
	// and with it what guessing can cost in memory.
	triesMax = 1 << 14
)

// A Book decides the attempts of one shard. It is a plain value: no goroutine,
// no clock, no I/O; whoever owns it drives it.
//
// A grant is the Book's decision that a player holds a tile. Grants are
// numbered from 1 in the order they were made, and go one way:
//
//	made (Decide) ─▶ taken (Take) ─▶ committed (Commit): a claim, a fact
//	                     └──────▶ withdrawn (Withdraw): as if never made
//
// Committed ≤ taken ≤ made. Nobody may hear of a grant before it is committed,
// neither its winner nor those who lost to it.
type Book struct {
	shard  int
	keeper *puzzle.Keeper
	sheets map[*Layout]*sheet
	at     cairn.Instant   // of the newest grant, or a later close that was forgotten; no grant is below it
	from   eventlog.Offset // min of the sheets' first; zero if none has one

	made, taken, committed uint64
	pending                []cairn.Claim // grants committed+1 … made
	refs                   []ref         // where the pending grants stand; parallel to pending
}

// A sheet is what a Book knows of one map: who holds which of its tiles.
// It holds no pointers per tile or claim, so that the garbage collector has
// nothing to walk through.
type sheet struct {
	lay    *Layout
	holder []uint32 // by local tile: 1 + its index in grants; 0 is nobody
	grants []grant
	text   []byte          // players and names of the grants; only ever appended to
	first  eventlog.Offset // of the first record with a claim of this map; zero if none
	tries  map[try]uint8   // wrong answers so far
}

// A grant takes 24 bytes and its text.
type grant struct {
	seq    uint64 // of its record; while uncommitted, its number
	epoch  uint32 // of its record; 0 while uncommitted
	at     uint32 // microseconds after the map opened; LifetimeMax is below 2^32 of them
	text   uint32 // where in the sheet's text its player begins; the name follows
	index  uint16 // in its record
	player uint8  // bytes of the player id
	name   uint8  // bytes of the name
}

type ref struct {
	sheet *sheet
	grant uint32
}

type try struct {
	tile   uint32
	player cairn.PlayerID
}

// NewBook returns an empty Book for a shard. The keeper checks puzzles.
func NewBook(shard int, keeper *puzzle.Keeper) *Book {
	return &Book{shard: shard, keeper: keeper, sheets: map[*Layout]*sheet{}}
}

func (b *Book) sheet(l *Layout) *sheet {
	s := b.sheets[l]
	if s == nil {
		s = &sheet{lay: l, holder: make([]uint32, l.count[b.shard])}
		b.sheets[l] = s
	}
	return s
}

// Decide decides an attempt received at the given instant on a tile of l that
// this shard owns, and fills v. It returns the number of the grant that must
// be committed before v may be told (the winner's and the losers' alike), or 0
// if v is final now. v.Place is set only if it is final.
//
// A halted hunt takes no new claims, but its holders are still known.
// The Book keeps none of a's strings unless it wins.
func (b *Book) Decide(l *Layout, a *cairn.Attempt, at cairn.Instant, halted bool, v *cairn.Verdict) uint64 {
	s := b.sheet(l)
	m := &l.Map.MapHeader
	spot := &l.spots[a.Tile]
	tile := spot.local
	if h := s.holder[tile]; h != 0 {
		return b.held(s, a, at, h-1, v)
	}
	at = max(at, b.at)
	if halted || at < m.Opens || at >= m.Closes {
		*v = cairn.Verdict{Outcome: cairn.Closed, Opens: m.Opens, Closes: m.Closes}
		return 0
	}
	if spot.puzzle != cairn.Tap && !b.solved(s, spot.puzzle, a, tile, v) {
		return 0
	}
	b.at = at
	return b.grant(s, a, at, tile, v)
}

// held answers an attempt on a tile that has a holder: won again for the
// holder, gone for everybody else.
func (b *Book) held(s *sheet, a *cairn.Attempt, at cairn.Instant, i uint32, v *cairn.Verdict) uint64 {
	g := &s.grants[i]
	s.claim(g, a.Tile, &v.Claim)
	v.Outcome, v.Margin = cairn.Gone, max(0, at.Sub(v.Claim.At))
	if v.Claim.Player == a.Player {
		v.Outcome, v.Margin = cairn.Won, 0
	}
	if g.epoch == 0 {
		v.Place = cairn.Place{}
		return g.seq
	}
	v.Place = cairn.Place{Shard: b.shard, Epoch: uint64(g.epoch), Seq: g.seq, Index: int(g.index)}
	return 0
}

// claim fills c with the claim of g, its id aside, which only the log keeps.
func (s *sheet) claim(g *grant, tile uint32, c *cairn.Claim) {
	m := s.lay.Map
	t := &m.Tiles[tile]
	// The text is only ever appended to, never changed, so strings may share
	// it: an answer to one of thousands who lost costs no allocation.
	text := unsafe.String(&s.text[g.text], int(g.player)+int(g.name))
	*c = cairn.Claim{
		TileRef: cairn.TileRef{Hunt: m.Hunt, Tick: m.Tick, Tile: tile},
		Cell:    t.Cell,
		Reward:  t.Reward,
		Player:  cairn.PlayerID(text[:g.player]),
		Name:    text[g.player:],
		At:      m.Opens + cairn.Instant(g.at),
	}
}

// solved checks the answer to a puzzle, and fills v if it does not hold.
func (b *Book) solved(s *sheet, kind cairn.PuzzleKind, a *cairn.Attempt, tile uint32, v *cairn.Verdict) bool {
	k := try{tile, a.Player}
	n := s.tries[k]
	if n < Tries && b.keeper.Check(kind, a.TileRef, a.Player, a.Answer, a.Token) {
		return true
	}
	if n < Tries {
		if n == 0 && len(s.tries) >= triesMax {
			*v = cairn.Verdict{Outcome: cairn.Throttled, RetryAfter: time.Second}
			return false
		}
		if s.tries == nil {
			s.tries = map[try]uint8{}
		}
		n++
		k.player = cairn.PlayerID(strings.Clone(string(k.player)))
		s.tries[k] = n
	}
	*v = cairn.Verdict{Outcome: cairn.Wrong, AttemptsLeft: int(Tries - n)}
	return false
}

func (b *Book) grant(s *sheet, a *cairn.Attempt, at cairn.Instant, tile uint32, v *cairn.Verdict) uint64 {
	b.made++
	s.add(tile, a.Player, a.Name, grant{seq: b.made, at: uint32(at - s.lay.Map.Opens)})
	i := uint32(len(s.grants) - 1)
	s.claim(&s.grants[i], a.Tile, &v.Claim)
	v.Outcome, v.Place, v.Margin = cairn.Won, cairn.Place{}, 0
	c := v.Claim
	c.ID = a.ClaimID
	b.pending = append(b.pending, c)
	b.refs = append(b.refs, ref{s, i})
	return b.made
}

// add makes g, with its player's text, the holder of a local tile.
func (s *sheet) add(tile uint32, player cairn.PlayerID, name string, g grant) {
	g.text, g.player, g.name = uint32(len(s.text)), uint8(len(player)), uint8(len(name))
	s.text = append(append(s.text, player...), name...)
	s.grants = append(s.grants, g)
	s.holder[tile] = uint32(len(s.grants))
}

// Untaken returns how many grants wait to be taken.
func (b *Book) Untaken() int { return int(b.made - b.taken) }

// Oldest returns the at of the oldest uncommitted grant, if there is one.
func (b *Book) Oldest() (cairn.Instant, bool) {
	if len(b.pending) == 0 {
		return 0, false
	}
	return b.pending[0].At, true
}

// Take takes up to most of the untaken grants for one record and returns them
// in order, with the number of the first. Only one batch can be out: Commit or
// Withdraw ends it. The claims are valid until then.
func (b *Book) Take(most int) (claims []cairn.Claim, first uint64) {
	n := min(most, b.Untaken())
	first = b.taken + 1
	b.taken += uint64(n)
	return b.pending[:n], first
}

// Commit tells the Book that the batch taken is the record at off. All grants
// up to the number it returns are now facts.
func (b *Book) Commit(off eventlog.Offset) uint64 {
	n := int(b.taken - b.committed)
	for i, r := range b.refs[:n] {
		g := &r.sheet.grants[r.grant]
		g.epoch, g.seq, g.index = uint32(off.Epoch), off.Seq, uint16(i)
		b.seen(r.sheet, off)
	}
	b.committed = b.taken
	b.drop(n)
	return b.committed
}

// Withdraw undoes every grant that is not committed: the log did not and will
// not take them. Their numbers are not used again.
func (b *Book) Withdraw() {
	for i, r := range b.refs {
		// The grant and its text stay behind as waste until the map is
		// forgotten: strings that share the text may be about.
		r.sheet.holder[r.sheet.lay.spots[b.pending[i].Tile].local] = 0
	}
	b.drop(len(b.refs))
	b.taken, b.committed = b.made, b.made
}

// drop forgets the first n pending grants.
func (b *Book) drop(n int) {
	rest := copy(b.pending, b.pending[n:])
	clear(b.pending[rest:])
	b.pending = b.pending[:rest]
	copy(b.refs, b.refs[n:])
	clear(b.refs[rest:])
	b.refs = b.refs[:rest]
}

// Replay folds a claim that the log already has, on a tile of l, or of a map
// that is forgotten if l is nil. The first grant of a tile in log order wins;
// it reports false for any other.
func (b *Book) Replay(l *Layout, c *cairn.Claim, off eventlog.Offset, index int) bool {
	b.at = max(b.at, c.At)
	if l == nil {
		return true
	}
	if owner, ok := l.Shard(c.Tile); !ok || owner != b.shard {
		return false
	}
	s := b.sheet(l)
	tile := l.spots[c.Tile].local
	if s.holder[tile] != 0 {
		return false
	}
	b.seen(s, off)
	s.add(tile, c.Player, c.Name, grant{
		seq: off.Seq, epoch: uint32(off.Epoch), index: uint16(index), at: uint32(max(0, c.At-l.Map.Opens)),
	})
	return true
}

// Lookup fills v with who holds a tile of l and returns what Decide would: a
// grant to wait for, or 0. If nobody does, v.Outcome is zero.
func (b *Book) Lookup(l *Layout, a *cairn.Attempt, at cairn.Instant, v *cairn.Verdict) uint64 {
	if s := b.sheets[l]; s != nil {
		if h := s.holder[l.spots[a.Tile].local]; h != 0 {
			return b.held(s, a, at, h-1, v)
		}
	}
	*v = cairn.Verdict{}
	return 0
}

// seen notes that the record at off holds a claim of s. Offsets only grow, so
// the first that is seen is the oldest.
func (b *Book) seen(s *sheet, off eventlog.Offset) {
	if s.first.IsZero() {
		s.first = off
	}
	if b.from.IsZero() {
		b.from = off
	}
}

// From returns the oldest record that holds a claim of a remembered map, or
// next if there is none: where whoever takes over has to read from.
func (b *Book) From(next eventlog.Offset) eventlog.Offset {
	if b.from.IsZero() {
		return next
	}
	return b.from
}

// Forget drops every map that closed more than Memory before now, and the
// wrong answers of every map that is closed. No grant is made from then on that
// could be of a map it dropped, even if the clock is set back. While a grant is
// uncommitted it does nothing.
func (b *Book) Forget(now cairn.Instant) {
	if b.made != b.committed {
		return
	}
	b.from = eventlog.Offset{}
	for l, s := range b.sheets {
		if l.Map.Closes.Add(Memory) < now {
			b.at = max(b.at, l.Map.Closes)
			delete(b.sheets, l)
			continue
		}
		if l.Map.Closes < now {
			s.tries = nil
		}
		if !s.first.IsZero() && (b.from.IsZero() || s.first.Less(b.from)) {
			b.from = s.first
		}
	}
}

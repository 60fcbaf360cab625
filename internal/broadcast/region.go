package broadcast

import (
	"cmp"
	"slices"
	"sync/atomic"

	"github.com/veltrix/cairn"
)

// unwatchedMax bounds what a region that nobody watches any more collects for
// those who may come back; past it they get a snapshot.
const unwatchedMax = 4096

type regionKey struct {
	hunt cairn.HuntID
	cell cairn.Cell
}

// A region is a part of a hunt that someone watches, or watched until a moment
// ago: what changed there since its last delta, and its recent deltas.
//
//	… ─ ring[0] ─ … ─ ring[n-1] ─│─ opened, closed, claimed
//	base                       last
//
// The deltas of the ring are contiguous: each covers from the one before it,
// and no delta after base is missing.
type region struct {
	regionKey
	views map[*view]struct{}
	idle  uint64 // the sweep since which nobody watches; 0 while someone does

	watching [codecs]int    // how many of the views have the codec
	left     [codecs]uint64 // the sweep since which none does; 0 if none ever did

	base, last uint64 // of the newest sweep whose delta is not kept; of the newest delta
	ring       []delta
	ringBytes  int

	dirty   bool // it stands in index.dirty
	opened  []*mapState
	closed  []*mapState
	claimed []won
}

// A delta is what changed in a region in one sweep, and before it since the
// region's last delta.
type delta struct {
	seq    uint64
	frames [codecs]*frame // nil in a codec that was not in use
}

func (d *delta) size() int {
	n := 0
	for _, f := range d.frames {
		if f != nil {
			n += len(f.ws)
		}
	}
	return n
}

// enter counts a view in, and exit counts it out in sweep seq.
func (r *region) enter(v *view) {
	r.views[v], r.idle = struct{}{}, 0
	r.watching[v.codec]++
}

func (r *region) exit(v *view, seq uint64) {
	delete(r.views, v)
	if r.watching[v.codec]--; r.watching[v.codec] == 0 {
		r.left[v.codec] = seq
	}
	if len(r.views) == 0 {
		r.idle = seq
	}
}

// uses reports whether deltas are made in a codec: a view has it, or had it at
// most kept sweeps ago, so that those who come back find what they missed.
func (r *region) uses(codec Codec, seq uint64, kept int) bool {
	return r.watching[codec] > 0 || r.left[codec] != 0 && seq-r.left[codec] <= uint64(kept)
}

// pending is how many changes wait for the next delta.
func (r *region) pending() int { return len(r.opened) + len(r.closed) + len(r.claimed) }

// push adds the newest delta to the ring, and drops the oldest ones that are
// too many or take too many bytes.
func (r *region) push(d delta, count, bytes int) {
	r.ring = append(r.ring, d)
	r.ringBytes += d.size()
	r.last = d.seq
	drop := 0
	for n := len(r.ring); n-drop > 1 && (n-drop > count || r.ringBytes > bytes); drop++ {
		r.base = r.ring[drop].seq
		r.ringBytes -= r.ring[drop].size()
	}
	r.ring = slices.Delete(r.ring, 0, drop) // and clears what it leaves behind
	r.forget()
}

// forget drops what waits for the next delta.
func (r *region) forget() {
	clear(r.opened)
	clear(r.closed)
	clear(r.claimed)
	r.opened, r.closed, r.claimed = r.opened[:0], r.closed[:0], r.claimed[:0]
}

// An index finds the regions that a change concerns. Like the state it is a
// plain value.
type index struct {
	regions map[regionKey]*region
	byHunt  map[cairn.HuntID]*huntRegions
	dirty   []*region // with changes that wait, each once
}

// huntRegions are the regions of one hunt.
type huntRegions struct {
	all       map[*region]struct{}
	precision [cairn.CellPrecisionMax + 1]int // how many regions have it
	standings map[*view]struct{}              // who watches the standings
}

func newIndex() *index {
	return &index{regions: map[regionKey]*region{}, byHunt: map[cairn.HuntID]*huntRegions{}}
}

func (x *index) hunt(id cairn.HuntID) *huntRegions {
	hr := x.byHunt[id]
	if hr == nil {
		hr = &huntRegions{all: map[*region]struct{}{}, standings: map[*view]struct{}{}}
		x.byHunt[id] = hr
	}
	return hr
}

// region returns a region, which from now on collects its changes.
func (x *index) region(key regionKey, seq uint64) *region {
	r := x.regions[key]
	if r == nil {
		r = &region{regionKey: key, views: map[*view]struct{}{}, base: seq - 1, last: seq}
		x.regions[key] = r
		hr := x.hunt(key.hunt)
		hr.all[r] = struct{}{}
		hr.precision[key.cell.Precision()]++
	}
	return r
}

// drop forgets a region that nobody watches.
func (x *index) drop(r *region) {
	delete(x.regions, r.regionKey)
	hr := x.byHunt[r.hunt]
	delete(hr.all, r)
	hr.precision[r.cell.Precision()]--
	x.tidy(r.hunt)
}

func (x *index) tidy(hunt cairn.HuntID) {
	if hr := x.byHunt[hunt]; hr != nil && len(hr.all) == 0 && len(hr.standings) == 0 {
		delete(x.byHunt, hunt)
	}
}

func (x *index) touch(r *region) {
	if !r.dirty {
		r.dirty = true
		x.dirty = append(x.dirty, r)
	}
}

// won tells the regions that hold the tile.
func (x *index) won(w won) {
	hr := x.byHunt[w.m.Hunt]
	if hr == nil {
		return
	}
	for p, n := range hr.precision[:w.cell.Precision()+1] {
		if n == 0 {
			continue
		}
		if r := x.regions[regionKey{w.m.Hunt, w.cell.Prefix(p)}]; r != nil {
			r.claimed = append(r.claimed, w)
			x.touch(r)
		}
	}
}

// moved tells every region of a hunt which maps opened and closed.
func (x *index) moved(hunt cairn.HuntID, opened, closed []*mapState) {
	hr := x.byHunt[hunt]
	if hr == nil || len(opened)+len(closed) == 0 {
		return
	}
	for r := range hr.all {
		r.opened = append(r.opened, opened...)
		r.closed = append(r.closed, closed...)
		x.touch(r)
	}
}

// A view is what some connections watch alike: regions of one hunt, and maybe
// its standings, in one codec. Its frames are put together once for all of
// them.
type view struct {
	// Static.
	key       viewKey
	codec     Codec
	hunt      cairn.HuntID
	asked     []cairn.Cell // as clients asked, sorted, none twice
	cells     []cairn.Cell // of these, those that lie in no other
	standings bool
	regions   []*region

	head atomic.Pointer[batch] // the newest; never nil
	snap atomic.Pointer[snapshot]

	// Guarded by the hub's mu.
	refs    int
	changed []*frame // of the sweep that runs
}

type viewKey struct {
	codec     Codec
	hunt      cairn.HuntID
	cells     string
	standings bool
}

// A batch is what one sweep sends to a view.
type batch struct {
	life   *life
	n      uint64 // numbers the batches of a view
	prev   uint64 // seq of the batch before it: who has that lacks nothing but this
	seq    uint64
	frames []*frame
}

// A snapshot is a view's snapshot frame, good until the next sweep.
type snapshot struct {
	life  *life
	n     uint64 // the view's batch that it includes
	frame *frame
}

func newViewKey(in *Interest) viewKey {
	b := make([]byte, 0, 128)
	for _, c := range in.Regions {
		b, _ = c.AppendText(b) // never fails
		b = append(b, ',')
	}
	return viewKey{in.Codec, in.Hunt, string(b), in.Standings}
}

// normal returns cells sorted and without doubles, and of these the ones that
// lie in no other.
func normal(cells []cairn.Cell) (asked, outer []cairn.Cell) {
	asked = slices.Clone(cells)
	slices.Sort(asked)
	asked = slices.Compact(asked)
	for _, c := range asked {
		if !slices.ContainsFunc(asked, func(o cairn.Cell) bool { return o != c && o.Contains(c) }) {
			outer = append(outer, c)
		}
	}
	return asked, outer
}

// since returns the frames after seq of the view's regions and of boards, in
// the order of their sweeps. It is false if some are no longer kept, or never
// were in the view's codec.
func (v *view) since(seq uint64, boards []*board, rows int) ([]*frame, bool) {
	var fs []*frame
	for _, r := range v.regions {
		if r.base > seq {
			return nil, false
		}
		i := len(r.ring)
		for i > 0 && r.ring[i-1].seq > seq {
			i--
		}
		for _, d := range r.ring[i:] {
			f := d.frames[v.codec]
			if f == nil {
				return nil, false
			}
			fs = append(fs, f)
		}
	}
	for _, b := range boards {
		if b.seq > seq {
			fs = append(fs, b.frame(v.codec, rows))
		}
	}
	slices.SortStableFunc(fs, func(a, b *frame) int { return cmp.Compare(a.seq, b.seq) })
	return fs, true
}

package broadcast

import (
	"fmt"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/wire"
)

// missed returns what a cursor lacks out of the rings, and moves it on. It is
// false if they don't hold all of it.
func (h *Hub) missed(c *cursor) ([]*frame, bool) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	head := c.view.head.Load()
	if c.life != h.life || c.seq > h.seq {
		return nil, false
	}
	var boards []*board
	if c.view.standings {
		boards = h.life.state.boardsOf(c.view.hunt, c.view.asked)
	}
	fs, ok := c.view.since(c.seq, boards, h.opts.StandingRows)
	if ok {
		c.n, c.seq, c.resume = head.n, max(head.seq, c.seq), false
	}
	return fs, ok
}

// snapshot returns all that is to be seen in a view, as of the newest sweep
// and maybe a little more.
func (h *Hub) snapshot(v *view) *snapshot {
	h.encoding <- struct{}{} // few at a time: they would hold up the sweep
	defer func() { <-h.encoding }()
	h.mu.RLock()
	defer h.mu.RUnlock()
	if s := v.snap.Load(); s != nil && s.life == h.life && s.frame.seq == h.seq {
		return s
	}
	st := h.life.state
	var boards [][]byte
	if v.standings {
		boards = [][]byte{}
		for _, b := range st.boardsOf(v.hunt, v.asked) {
			boards = append(boards, b.body(v.codec, h.opts.StandingRows))
		}
	}
	size := 1024
	if old := v.snap.Load(); old != nil {
		size += len(old.frame.payload) + len(old.frame.payload)/8
	}
	b := v.codec.encoder().appendSnapshot(room(size), v, h.seq, st.open(v.hunt), boards)
	s := &snapshot{life: h.life, n: v.head.Load().n, frame: newFrame(v.codec, kindSnapshot, h.seq, b)}
	h.metrics.encoded(s.frame)
	v.snap.Store(s)
	return s
}

// acquire returns the view of an interest, for [Hub.release]. Its errors are
// those of [Hub.Subscribe].
func (h *Hub) acquire(in Interest) (*view, error) {
	if len(in.Regions) > wire.WatchRegionsMax {
		return nil, &cairn.FieldError{Field: "regions", Msg: fmt.Sprintf("has %d items; want at most %d", len(in.Regions), wire.WatchRegionsMax)}
	}
	most := h.precisionMax()
	for i, c := range in.Regions {
		if p := c.Precision(); p > most {
			return nil, &cairn.FieldError{Field: fmt.Sprintf("regions[%d]", i), Msg: fmt.Sprintf("has %d characters; want at most %d", p, most)}
		}
	}
	asked, cells := normal(in.Regions)
	in.Regions = asked
	key := newViewKey(&in)

	h.mu.Lock()
	defer h.mu.Unlock()
	if h.life == nil {
		return nil, ErrNotReady
	}
	if h.life.state.hunts.Get(in.Hunt) == nil {
		return nil, fmt.Errorf("%w: %s", ErrHuntUnknown, in.Hunt)
	}
	v := h.views[key]
	if v == nil {
		v = &view{key: key, codec: in.Codec, hunt: in.Hunt, asked: asked, cells: cells, standings: in.Standings}
		v.head.Store(&batch{life: h.life, prev: h.seq, seq: h.seq})
		for _, c := range asked {
			r := h.index.region(regionKey{in.Hunt, c}, h.seq)
			r.enter(v)
			v.regions = append(v.regions, r)
		}
		if v.standings {
			h.index.hunt(in.Hunt).standings[v] = struct{}{}
		}
		h.views[key] = v
	}
	v.refs++
	return v, nil
}

// release gives back what acquire returned. A region that nobody watches any
// more is kept for a moment, for those who come back.
func (h *Hub) release(v *view) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if v.refs--; v.refs > 0 {
		return
	}
	delete(h.views, v.key)
	for _, r := range v.regions {
		r.exit(v, h.seq)
		if len(r.views) == 0 {
			h.index.touch(r) // so that the sweep looks whether to keep it
		}
	}
	if v.standings {
		delete(h.index.hunt(v.hunt).standings, v)
		h.index.tidy(v.hunt)
	}
}

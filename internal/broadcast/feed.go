package broadcast

import (
	"slices"

	"github.com/veltrix/cairn"
)

// A cursor is how far one connection has been told of one view. Frames are
// never queued for a connection: it fetches what it lacks when it can be
// written to, so that a slow one costs nobody anything.
type cursor struct {
	view     *view
	listener listener

	at int // in its deliverer's list; guarded by that one's mu

	// Owned by the feed's owner.
	life   *life  // nil before the first frame
	n, seq uint64 // of the newest batch that it has
	resume bool   // it was set by the client and not yet by a frame
}

// A feed is what one connection watches: the half of it that does not depend
// on how its bytes are written. One goroutine at a time.
type feed struct {
	hub     *Hub
	del     *deliverer
	cursors []*cursor // one a hunt
}

// watch replaces what the feed watches of a hunt; v was acquired for it, and
// is nil to end that. resume is where the client says that it was.
func (f *feed) watch(l listener, hunt cairn.HuntID, v *view, resume Resume) {
	i := slices.IndexFunc(f.cursors, func(c *cursor) bool { return c.view.hunt == hunt })
	if i >= 0 {
		if f.cursors[i].view == v { // it watches that already
			f.hub.release(v)
			return
		}
		f.drop(f.cursors[i])
		f.cursors = slices.Delete(f.cursors, i, i+1)
	}
	if v == nil {
		return
	}
	c := &cursor{view: v, listener: l}
	if life := v.head.Load().life; resume.Seq > 0 && resume.Epoch == life.epoch {
		// The client may have got only some of the frames of its newest sweep.
		c.life, c.seq, c.resume = life, resume.Seq-1, true
	}
	f.cursors = append(f.cursors, c)
	f.del.join(c)
}

func (f *feed) drop(c *cursor) {
	f.del.leave(c)
	f.hub.release(c.view)
}

// close ends what the feed watches.
func (f *feed) close() {
	for _, c := range f.cursors {
		f.drop(c)
	}
	f.cursors = nil
}

// collect appends the frames that the feed has not had. With quick it leaves
// out what takes long to make, and more says that there was such.
func (f *feed) collect(dst []*frame, quick bool) (_ []*frame, more bool) {
	for _, c := range f.cursors {
		var later bool
		dst, later = f.hub.collect(c, dst, quick)
		more = more || later
	}
	return dst, more
}

// reborn reports whether a cursor has come to a life that is not told.
func (f *feed) reborn(told *life) bool {
	return slices.ContainsFunc(f.cursors, func(c *cursor) bool { return c.life != nil && c.life != told })
}

// collect appends the frames that a cursor has not had, as [feed.collect] does,
// and moves it on.
func (h *Hub) collect(c *cursor, dst []*frame, quick bool) (_ []*frame, more bool) {
	b := c.view.head.Load()
	same := c.life == b.life
	switch {
	case same && c.seq >= b.seq && !c.resume:
		return dst, false
	case same && c.seq >= b.prev && !c.resume:
		c.n, c.seq = b.n, b.seq
		return append(dst, b.frames...), false
	case same && (c.resume || b.n-c.n <= uint64(h.opts.CatchUp)):
		if fs, ok := h.missed(c); ok {
			return append(dst, fs...), false
		}
	}
	if quick {
		return dst, true
	}
	if c.life != nil && !c.resume {
		h.metrics.skips.Inc()
	}
	s := h.snapshot(c.view)
	c.life, c.n, c.seq, c.resume = s.life, s.n, s.frame.seq, false
	return append(dst, s.frame), false
}

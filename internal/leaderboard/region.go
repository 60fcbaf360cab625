package leaderboard

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"sync"

	"github.com/mmcloughlin/geohash"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/eventlog"
	"github.com/veltrix/cairn/internal/wire"
)

// rootOf returns the smallest cell that holds all of a hunt's region. A
// region that can't be read, or that crosses ±180°, is the whole world.
func rootOf(r cairn.Region) cairn.Cell {
	box := bounds{w: math.Inf(1), s: math.Inf(1), e: math.Inf(-1), n: math.Inf(-1)}
	switch {
	case r.Geohash != nil:
		return *r.Geohash
	case len(r.BBox) == 4 && r.BBox[0] < r.BBox[2]:
		box = bounds{r.BBox[0], r.BBox[1], r.BBox[2], r.BBox[3]}
	case len(r.GeoJSON) > 0:
		var v any
		if json.Unmarshal(r.GeoJSON, &v) != nil {
			return 0
		}
		box.coordinates(v)
	}
	if !(box.w <= box.e && box.s <= box.n) {
		return 0
	}
	// The longest cell that holds two opposite corners holds the box.
	a, b := cellAt(box.s, box.w), cellAt(box.n, box.e)
	for a != b {
		p := a.Precision() - 1
		a, b = a.Prefix(p), b.Prefix(p)
	}
	return a
}

func cellAt(lat, lng float64) cairn.Cell {
	// The library wraps what is on the upper edge to the lower one.
	const in = 1e-9
	lat, lng = min(max(lat, -90), 90-in), min(max(lng, -180), 180-in)
	return cairn.CellOfBits(geohash.EncodeIntWithPrecision(lat, lng, 5*cairn.CellPrecisionMax), cairn.CellPrecisionMax)
}

// bounds is a box in degrees.
type bounds struct{ w, s, e, n float64 }

// coordinates widens b by every position in the coordinates of a GeoJSON
// object, and of those within it.
func (b *bounds) coordinates(v any) {
	switch v := v.(type) {
	case map[string]any:
		for _, member := range []string{"coordinates", "geometry", "geometries", "features"} {
			b.coordinates(v[member])
		}
	case []any:
		if len(v) >= 2 {
			lng, ok := v[0].(float64)
			lat, too := v[1].(float64)
			if ok && too {
				b.w, b.e = min(b.w, lng), max(b.e, lng)
				b.s, b.n = min(b.s, lat), max(b.n, lat)
				return
			}
		}
		for _, x := range v {
			b.coordinates(x)
		}
	}
}

// find returns the board that answers key, nil if nobody is on it yet, or why
// there can be none. A region around the hunt's own is the whole hunt; one
// beside it is empty.
func (f *fold) find(key wire.BoardKey) (*board, error) {
	if key.Window == wire.WindowHour && key.Hour < f.oldestHour() {
		return nil, &cairn.FieldError{Field: "hour", Msg: fmt.Sprintf("is %d; boards are kept from hour %d on", key.Hour, f.oldestHour())}
	}
	if f.gone[key.Hunt] {
		return nil, &cairn.FieldError{Field: "hunt", Msg: "ended, and its standings are not kept any more"}
	}
	h := f.hunts[key.Hunt]
	if h == nil {
		return nil, nil
	}
	s := h.all
	if key.Window == wire.WindowHour {
		if h.shut {
			return nil, &cairn.FieldError{Field: "window", Msg: "is hour; the hunt has ended, and the board of the whole hunt is kept alone"}
		}
		s = h.hours[key.Hour]
	}
	if err := h.refuse(key.Region, s); err != nil || s == nil {
		return nil, err
	}
	switch {
	case key.Region.Contains(h.root):
		return s.whole, nil
	case h.root.Contains(key.Region):
		return s.level(key.Region).boards[key.Region], nil
	}
	return nil, nil
}

// refuse returns why there are no boards of a region's length in s, or nil. s
// is nil for a window without a claim.
func (h *huntFold) refuse(region cairn.Cell, s *span) error {
	if region.Contains(h.root) || !h.root.Contains(region) {
		return nil
	}
	bad := func(most int, why string) error {
		return &cairn.FieldError{Field: "region", Msg: fmt.Sprintf("is %q; want at most %d characters in this hunt%s", region, most, why)}
	}
	if most := h.root.Precision() + h.depth; region.Precision() > most {
		return bad(most, "")
	}
	if h.shut {
		return bad(h.root.Precision(), ", which has ended")
	}
	if s == nil || !s.level(region).over {
		return nil
	}
	most := region.Precision()
	for most > h.root.Precision() && s.levels[most-h.root.Precision()-1].over {
		most--
	}
	return bad(most, ": more boards of that length are needed than are kept")
}

// regions knows in which cell a hunt lies, out of the control log. It reads
// that log when it is asked for a hunt that it does not know: a claim is always
// younger than the record that made its hunt, so its fold does not hang on when
// that is. Its methods may be called concurrently.
type regions struct {
	store eventlog.Store

	mu    sync.Mutex
	hunts cairn.Hunts
	at    eventlog.Offset // folded up to here
}

// root returns the cell of a hunt. One that the control log does not have may
// be anywhere in the world.
func (r *regions) root(ctx context.Context, id cairn.HuntID) (cairn.Cell, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.hunts.Get(id) == nil {
		if err := r.catchUp(ctx); err != nil {
			return 0, fmt.Errorf("leaderboard: region of hunt %s: %w", id, err)
		}
	}
	if h := r.hunts.Get(id); h != nil {
		return rootOf(h.Region), nil
	}
	return 0, nil
}

// catchUp folds the control log up to its head. mu is held.
func (r *regions) catchUp(ctx context.Context) error {
	st, err := r.store.Status(ctx, eventlog.Control)
	if err != nil || !r.at.Less(st.Last) {
		return err
	}
	f, err := r.store.Follow(ctx, eventlog.Control, r.at)
	if err != nil {
		return err
	}
	defer f.Close()
	for r.at.Less(st.Last) {
		recs, _, err := f.Next(ctx)
		if err != nil {
			return err
		}
		for i := range recs {
			if recs[i].Kind == eventlog.Data {
				c, err := wire.DecodeChange(recs[i].Body)
				if err != nil {
					return fmt.Errorf("control log at %v: %w", recs[i].Offset, err)
				}
				r.hunts.Apply(c)
			}
			r.at = recs[i].Offset
		}
	}
	return nil
}

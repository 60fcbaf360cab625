package broadcast

import (
	"cmp"
	"slices"
	"sort"

	"github.com/veltrix/cairn"
)

// A catalog is what there is: hunts and maps. It is immutable but for the
// mapStates' holders, which its readers leave alone.
type catalog struct {
	hunts []*cairn.HuntStatus
	maps  map[cairn.HuntID][]*mapState // by tick
}

// publish makes a catalog of the state. h.mu is held.
func (h *Hub) publish() {
	st := h.life.state
	c := &catalog{hunts: st.hunts.All(), maps: make(map[cairn.HuntID][]*mapState, len(st.byHunt))}
	for id, hm := range st.byHunt {
		c.maps[id] = hm.maps[:len(hm.maps):len(hm.maps)]
	}
	h.catalog.Store(c)
}

// Hunts returns every hunt by name. They must not be changed.
func (h *Hub) Hunts() []*cairn.HuntStatus { return h.catalog.Load().hunts }

// Hunt returns the status of a hunt, or nil. It must not be changed.
func (h *Hub) Hunt(id cairn.HuntID) *cairn.HuntStatus {
	hunts := h.catalog.Load().hunts
	i, ok := slices.BinarySearchFunc(hunts, id, func(s *cairn.HuntStatus, id cairn.HuntID) int { return cmp.Compare(s.Name, id) })
	if !ok {
		return nil
	}
	return hunts[i]
}

// Map returns the map of a hunt at a tick, kept until 10 minutes after it
// closes. That may be a map that is yet to open: who shows it to players must
// look at Opens. It must not be changed.
func (h *Hub) Map(hunt cairn.HuntID, tick cairn.Tick) (*cairn.Map, bool) {
	maps := h.catalog.Load().maps[hunt]
	i, ok := slices.BinarySearchFunc(maps, tick, func(m *mapState, t cairn.Tick) int { return cmp.Compare(m.Tick, t) })
	if !ok {
		return nil, false
	}
	return maps[i].Map, true
}

// Current returns the newest map of a hunt with opens ≤ now. It may have
// closed. It must not be changed.
func (h *Hub) Current(hunt cairn.HuntID, now cairn.Instant) (*cairn.Map, bool) {
	maps := h.catalog.Load().maps[hunt]
	i := sort.Search(len(maps), func(i int) bool { return maps[i].Opens > now })
	if i == 0 {
		return nil, false
	}
	return maps[i-1].Map, true
}

package leaderboard

// nodes is an arena of large T by number. What free gave back is reused first.
type nodes[T any] struct {
	of   []*T
	idle []uint32
}

func (c *nodes[T]) at(i uint32) *T { return c.of[i] }

func (c *nodes[T]) alloc() uint32 {
	if k := len(c.idle); k > 0 {
		i := c.idle[k-1]
		c.idle = c.idle[:k-1]
		return i
	}
	c.of = append(c.of, new(T))
	return uint32(len(c.of) - 1)
}

func (c *nodes[T]) free(i uint32) { c.idle = append(c.idle, i) }

// chunks is an arena of small T by number. A chunk is never moved nor freed.
type chunks[T any] struct {
	of []*[chunkLen]T
	n  uint32 // numbers handed out
}

const chunkLen = 64

func (c *chunks[T]) at(i uint32) *T { return &c.of[i/chunkLen][i%chunkLen] }

func (c *chunks[T]) alloc() uint32 {
	if int(c.n) == len(c.of)*chunkLen {
		c.of = append(c.of, new([chunkLen]T))
	}
	c.n++
	return c.n - 1
}

// A slotIndex maps a hunt's players to the slots of one board. It grows in
// small steps. The zero value is dense: a table over all players up to the
// largest, 4 bytes each; with a map as sparse it is that map.
type slotIndex struct {
	dense  []*[indexLen]uint32 // slot + 1, or 0
	sparse map[uint32]uint32
}

const indexLen = 1024

func (x *slotIndex) get(player uint32) (slot uint32, ok bool) {
	if x.sparse != nil {
		slot, ok = x.sparse[player]
		return slot, ok
	}
	if i := int(player / indexLen); i < len(x.dense) && x.dense[i] != nil {
		slot = x.dense[i][player%indexLen]
	}
	return slot - 1, slot != 0
}

func (x *slotIndex) set(player, slot uint32) {
	if x.sparse != nil {
		x.sparse[player] = slot
		return
	}
	i := int(player / indexLen)
	for len(x.dense) <= i {
		x.dense = append(x.dense, nil)
	}
	if x.dense[i] == nil {
		x.dense[i] = new([indexLen]uint32)
	}
	x.dense[i][player%indexLen] = slot + 1
}

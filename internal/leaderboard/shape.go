package leaderboard

// This file keeps the counted B+-tree of ranks in shape.

// find returns where in the leaf a slot is. It is there.
func (lf *leaf) find(slot uint32) int {
	i := 0
	for lf.slots[i] != slot {
		i++
	}
	return i
}

func (lf *leaf) take(i int) {
	copy(lf.his[i:lf.n], lf.his[i+1:lf.n])
	copy(lf.slots[i:lf.n], lf.slots[i+1:lf.n])
	lf.n--
}

func (lf *leaf) give(i int, hi uint64, slot uint32) {
	n := lf.n
	lf.n++
	copy(lf.his[i+1:n+1], lf.his[i:n])
	copy(lf.slots[i+1:n+1], lf.slots[i:n])
	lf.his[i], lf.slots[i] = hi, slot
}

// find returns the kid that (key, pl) belongs to: the last whose bound is not
// above it, or 0.
func (in *inner) find(key sortKey, pl *place) int {
	n := int(in.n)
	i := lowerBound(&in.his, n, key.hi)
	if i == n || in.his[i] != key.hi {
		return max(i-1, 0)
	}
	for j := tied(&in.his, n, key.hi); i < j; {
		mid := int(uint(i+j) / 2)
		if in.los[mid] < key.lo || in.los[mid] == key.lo && in.places[mid].compare(pl) <= 0 {
			i = mid + 1
		} else {
			j = mid
		}
	}
	return max(i-1, 0)
}

// take removes kid i. The kid before it inherits its range; if it is the
// first, then the one behind.
func (in *inner) take(i int) {
	k := max(i, 1) // the first bound stays: it is the node's own
	if k < int(in.n) {
		copy(in.his[k:in.n], in.his[k+1:in.n])
		copy(in.los[k:in.n], in.los[k+1:in.n])
		copy(in.places[k:in.n], in.places[k+1:in.n])
	}
	copy(in.kids[i:in.n], in.kids[i+1:in.n])
	copy(in.sums[i:in.n], in.sums[i+1:in.n])
	in.n--
}

func (in *inner) give(i int, k sortKey, p place, kid, sum uint32) {
	n := in.n
	in.n++
	copy(in.his[i+1:n+1], in.his[i:n])
	copy(in.los[i+1:n+1], in.los[i:n])
	copy(in.places[i+1:n+1], in.places[i:n])
	copy(in.kids[i+1:n+1], in.kids[i:n])
	copy(in.sums[i+1:n+1], in.sums[i:n])
	in.his[i], in.los[i], in.places[i], in.kids[i], in.sums[i] = k.hi, k.lo, p, kid, sum
}

// climb adds d to the count of a leaf in all its ancestors.
func (r *tree) climb(lf *leaf, d int32) {
	up, pos := lf.parent, lf.pos
	for up != none {
		in := r.inners.at(up)
		in.sums[pos] += uint32(d)
		up, pos = in.parent, in.pos
	}
}

// splitLeaf moves the upper half of a full leaf to a new one behind it.
func (r *tree) splitLeaf(id uint32) (right uint32) {
	right = r.leaves.alloc()
	a, b := r.leaves.at(id), r.leaves.at(right)
	const half = nodeMax / 2
	b.n, b.prev, b.next = 0, id, a.next
	r.moveLeaf(a, half, b, right)
	if b.next != none {
		r.leaves.at(b.next).prev = right
	}
	a.next = right
	first := r.at(b, 0)
	r.adopt(id, a.parent, 1, right, first.key, first.last, [2]uint32{a.n, b.n})
	return right
}

// moveLeaf moves what a holds from i on to the end of b, whose number is to.
func (r *tree) moveLeaf(a *leaf, i int, b *leaf, to uint32) {
	copy(b.his[b.n:], a.his[i:a.n])
	copy(b.slots[b.n:], a.slots[i:a.n])
	for _, slot := range a.slots[i:a.n] {
		r.standings.at(slot).leaf = to
	}
	b.n += a.n - uint32(i)
	a.n = uint32(i)
}

// splitInner moves the upper half of a full inner node to a new one behind it.
func (r *tree) splitInner(id uint32) (right uint32) {
	right = r.inners.alloc()
	a, b := r.inners.at(id), r.inners.at(right)
	const half = nodeMax / 2
	b.n, b.level = 0, a.level
	k, p := sortKey{a.his[half], a.los[half]}, a.places[half]
	r.moveInner(a, half, b, right)
	r.adopt(id, a.parent, a.level+1, right, k, p, [2]uint32{a.sum(), b.sum()})
	return right
}

// moveInner moves the kids of a from i on to the end of b, whose number is to.
func (r *tree) moveInner(a *inner, i int, b *inner, to uint32) {
	copy(b.his[b.n:], a.his[i:a.n])
	copy(b.los[b.n:], a.los[i:a.n])
	copy(b.places[b.n:], a.places[i:a.n])
	copy(b.kids[b.n:], a.kids[i:a.n])
	copy(b.sums[b.n:], a.sums[i:a.n])
	for _, kid := range a.kids[i:a.n] {
		r.setParent(kid, to, a.level)
	}
	was := int(b.n)
	b.n += a.n - uint32(i)
	a.n = uint32(i)
	r.renumber(b, was)
}

func (in *inner) sum() (n uint32) {
	for _, k := range in.sums[:in.n] {
		n += k
	}
	return n
}

// renumber tells the kids of up, from number i on, where they are.
func (r *tree) renumber(up *inner, i int) {
	for ; i < int(up.n); i++ {
		if kid := up.kids[i]; up.level == 1 {
			r.leaves.at(kid).pos = uint32(i)
		} else {
			r.inners.at(kid).pos = uint32(i)
		}
	}
}

// pos returns where a node is among the kids of its parent, which is of that level.
func (r *tree) pos(kid, level uint32) int {
	if level == 1 {
		return int(r.leaves.at(kid).pos)
	}
	return int(r.inners.at(kid).pos)
}

// setParent makes up, an inner node of that level, the parent of kid.
func (r *tree) setParent(kid, up, level uint32) {
	if level == 1 {
		r.leaves.at(kid).parent = up
	} else {
		r.inners.at(kid).parent = up
	}
}

// adopt makes right, split off left at the bound (k, p), a kid of left's
// parent up, which is of that level, or of a new root if up is none. sums are
// the counts of the two after the split.
func (r *tree) adopt(left, up, level, right uint32, k sortKey, p place, sums [2]uint32) {
	if up == none {
		up = r.inners.alloc()
		in := r.inners.at(up)
		in.n, in.level, in.parent = 0, level, none
		in.pos = 0
		in.give(0, sortKey{}, place{}, left, 0)
		r.renumber(in, 0)
		r.setParent(left, up, level)
		r.root = up
		r.height++
	}
	in := r.inners.at(up)
	i := r.pos(left, level)
	if in.n == nodeMax {
		half := r.splitInner(up)
		if i >= nodeMax/2 {
			up, i = half, i-nodeMax/2
			in = r.inners.at(up)
		}
	}
	in.sums[i] = sums[0]
	in.give(i+1, k, p, right, sums[1])
	r.setParent(right, up, level)
	r.renumber(in, i)
}

// shrinkLeaf merges a leaf that has become small with a neighbour under the
// same parent, if that leaves room in the one, and drops it when it is empty.
// So of two neighbours one is more than half full or both are a quarter.
func (r *tree) shrinkLeaf(id uint32) {
	lf := r.leaves.at(id)
	up := lf.parent
	in := r.inners.at(up)
	i := int(lf.pos)
	switch {
	case lf.n == 0:
		r.dropLeaf(id, in, i)
	case i+1 < int(in.n) && lf.n+in.sums[i+1] <= nodeMax*3/4:
		r.mergeLeaf(in, i)
	case i > 0 && lf.n+in.sums[i-1] <= nodeMax*3/4:
		r.mergeLeaf(in, i-1)
	default:
		return
	}
	r.shrinkInner(up)
}

// mergeLeaf moves all of kid i+1 to kid i.
func (r *tree) mergeLeaf(in *inner, i int) {
	a, b := in.kids[i], in.kids[i+1]
	r.moveLeaf(r.leaves.at(b), 0, r.leaves.at(a), a)
	in.sums[i] += in.sums[i+1]
	r.dropLeaf(b, in, i+1)
}

// dropLeaf frees an empty leaf, kid i of in.
func (r *tree) dropLeaf(id uint32, in *inner, i int) {
	lf := r.leaves.at(id)
	if lf.prev != none {
		r.leaves.at(lf.prev).next = lf.next
	} else {
		r.first = lf.next
	}
	if lf.next != none {
		r.leaves.at(lf.next).prev = lf.prev
	}
	in.take(i)
	r.renumber(in, i)
	r.leaves.free(id)
}

// shrinkInner does for inner nodes what shrinkLeaf does for leaves, up to the
// root, which goes when it has one kid left.
func (r *tree) shrinkInner(id uint32) {
	in := r.inners.at(id)
	up := in.parent
	if up == none {
		if in.n == 1 {
			r.root = in.kids[0]
			r.setParent(r.root, none, in.level)
			r.height--
			r.inners.free(id)
		}
		return
	}
	if in.n >= nodeMax/4 {
		return
	}
	over := r.inners.at(up)
	i := int(in.pos)
	switch {
	case in.n == 0:
		over.take(i)
		r.renumber(over, i)
		r.inners.free(id)
	case i+1 < int(over.n) && in.n+r.inners.at(over.kids[i+1]).n <= nodeMax*3/4:
		r.mergeInner(over, i)
	case i > 0 && in.n+r.inners.at(over.kids[i-1]).n <= nodeMax*3/4:
		r.mergeInner(over, i-1)
	default:
		return
	}
	r.shrinkInner(up)
}

// mergeInner moves all of kid i+1 to kid i. A node's own bound, the first,
// may have grown stale when it inherited a range; its parent's is right.
func (r *tree) mergeInner(over *inner, i int) {
	a, b := over.kids[i], over.kids[i+1]
	right := r.inners.at(b)
	right.his[0], right.los[0], right.places[0] = over.his[i+1], over.los[i+1], over.places[i+1]
	r.moveInner(right, 0, r.inners.at(a), a)
	over.sums[i] += over.sums[i+1]
	over.take(i + 1)
	r.renumber(over, i+1)
	r.inners.free(b)
}

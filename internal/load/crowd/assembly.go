package crowd

import (
	"bytes"

	"github.com/cespare/xxhash/v2"
)

// An assembly is a frame of which parts are missing. Many members get the same
// frame at the same time, and what they have of it is the same up to a point:
// those share one assembly, so that a snapshot to all takes the memory of one.
type assembly struct {
	data []byte // up to what the furthest has
	need int    // bytes of the whole frame; 0 while its header is not whole
	refs int
	key  assemblyKey
	hash uint64 // of the payload, once someone has all of it; 0 before
}

// An assemblyKey finds an assembly that may be of the same frame.
type assemblyKey struct {
	need  int
	begin uint64 // hash of the first bytes
}

// A partial is what one member has of a frame: the first n bytes.
type partial struct {
	of *assembly
	n  int
}

// beginBytes is how much of a frame must be there to look for others who get
// the same.
const beginBytes = 64

// assemblies are the frames of which parts are missing, of all members.
type assemblies struct {
	bySlot map[uint32]partial
	shared map[assemblyKey]*assembly
}

func newAssemblies() assemblies {
	return assemblies{map[uint32]partial{}, map[assemblyKey]*assembly{}}
}

// begin keeps the first bytes of a frame.
func (x *assemblies) begin(slot uint32, b []byte, need int) {
	if need == 0 || len(b) < beginBytes {
		x.bySlot[slot] = partial{&assembly{data: bytes.Clone(b), need: need, refs: 1}, len(b)}
		return
	}
	key := assemblyKey{need, xxhash.Sum64(b[:beginBytes])}
	a := x.shared[key]
	if a == nil {
		a = &assembly{need: need, key: key}
		x.shared[key] = a
	}
	a.refs++
	p := partial{of: a}
	x.add(&p, b)
	x.bySlot[slot] = p
}

// add gives a partial its next bytes.
func (x *assemblies) add(p *partial, b []byte) {
	a := p.of
	have := min(len(a.data)-p.n, len(b))
	if !bytes.Equal(a.data[p.n:p.n+have], b[:have]) { // another frame after all
		own := &assembly{data: append(bytes.Clone(a.data[:p.n]), b...), need: a.need, refs: 1}
		x.release(a)
		p.of, p.n = own, len(own.data)
		return
	}
	a.data = append(a.data, b[have:]...)
	p.n += len(b)
}

func (x *assemblies) release(a *assembly) {
	if a.refs--; a.refs == 0 && x.shared[a.key] == a {
		delete(x.shared, a.key)
	}
}

// forget lets go of what a member has.
func (x *assemblies) forget(slot uint32) {
	if p, ok := x.bySlot[slot]; ok {
		x.release(p.of)
		delete(x.bySlot, slot)
	}
}

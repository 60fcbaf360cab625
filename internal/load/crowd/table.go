package crowd

import (
	"encoding/binary"

	"github.com/cespare/xxhash/v2"

	"github.com/veltrix/cairn"
)

// A table holds the states that connections are in, each once, and remembers
// where what was heard lately leads to.
type table struct {
	fold    fold
	tongue  tongue
	states  map[uint32]*state
	same    map[stateKey]*state
	nextID  uint32
	nothing *state // what a connection knows at first; never dropped

	young, old map[stepKey]*step // old is what young was, when that was full
	lastKey    stepKey           // most hear what the one before them heard
	last       *step
	parts      [partsKept]decoded
	partNext   int
}

const (
	stepsKept = 256 // in young: each holds on to a state
	partsKept = 8   // decoded parts: those in different states hear the same
)

// A stateKey is equal for states that are equal.
type stateKey struct{ sum, rest uint64 }

// A stepKey is a connection in a state that hears some bytes.
type stepKey struct {
	state uint32
	hash  uint64
}

// A step is what comes of that.
type step struct {
	kind     updateKind
	from, to *state
	at       cairn.Instant // when what it tells happened; 0 if it is not to be timed
	withinMS int64
	wrong    []string
	gap      bool
	fault    string
	err      error // it can't be understood
}

type decoded struct {
	hash uint64
	u    *update
	err  error
}

func newTable(t tongue, regions []cairn.Cell) *table {
	x := &table{fold: fold{regions}, tongue: t, states: map[uint32]*state{}, same: map[stateKey]*state{}, young: map[stepKey]*step{}}
	x.nothing = x.intern(&state{})
	x.nothing.refs = 1
	return x
}

func (s *state) key() stateKey {
	b := make([]byte, 0, 128)
	b = append(b, s.epoch...)
	if s.known {
		b = append(b, 1)
	}
	b = binary.LittleEndian.AppendUint64(b, s.seq)
	for _, at := range s.at {
		b = binary.LittleEndian.AppendUint64(b, at)
	}
	return stateKey{s.sum, xxhash.Sum64(b)}
}

// intern returns the state of the table that is equal to s: s itself if there
// is none.
func (x *table) intern(s *state) *state {
	k := s.key()
	if old := x.same[k]; old != nil {
		return old
	}
	if s.id == 0 {
		x.nextID++
		s.id = x.nextID
	}
	x.same[k] = s
	x.states[s.id] = s
	return s
}

// enter counts a connection into a state, which may have been dropped
// meanwhile, and returns it.
func (x *table) enter(s *state) *state {
	if s.refs == 0 {
		s = x.intern(s)
	}
	s.refs++
	return s
}

// leave counts a connection out. A state that nobody is in is dropped.
func (x *table) leave(s *state) {
	if s.refs--; s.refs > 0 {
		return
	}
	delete(x.states, s.id)
	if k := s.key(); x.same[k] == s {
		delete(x.same, k)
	}
}

// hear returns what comes of bytes that one in a state hears. hash is theirs.
func (x *table) hear(id uint32, part []byte, hash uint64) *step {
	k := stepKey{id, hash}
	if x.last != nil && k == x.lastKey {
		return x.last
	}
	st := x.young[k]
	if st != nil {
		x.lastKey, x.last = k, st
		return st
	}
	st = x.old[k]
	if st == nil {
		var u *update
		st, u = x.compute(x.states[id], part, hash)
		if u != nil && u.unique() {
			return st
		}
	}
	if len(x.young) >= stepsKept {
		x.young, x.old = make(map[stepKey]*step, stepsKept), x.young
	}
	x.young[k] = st
	return st
}

func (x *table) compute(s *state, part []byte, hash uint64) (*step, *update) {
	u, err := x.decode(part, hash)
	if err != nil {
		return &step{from: s, to: s, err: err}, nil
	}
	st := &step{kind: u.kind, from: s, at: u.at, withinMS: u.withinMS, fault: u.fault}
	st.to, st.wrong = x.fold.apply(s, u)
	if st.to != s {
		st.to = x.intern(st.to)
	}
	for _, w := range st.wrong {
		st.gap = st.gap || w == wrongGap
	}
	return st, u
}

func (x *table) decode(part []byte, hash uint64) (*update, error) {
	for i := range x.parts {
		if p := &x.parts[i]; p.hash == hash && p.u != nil {
			return p.u, p.err
		}
	}
	u, err := x.tongue.decode(part)
	if err == nil && !u.unique() {
		x.parts[x.partNext] = decoded{hash, u, err}
		x.partNext = (x.partNext + 1) % partsKept
	}
	return u, err
}

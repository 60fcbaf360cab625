package history

import (
	"fmt"
	"slices"
	"sync"

	"github.com/veltrix/cairn"
)

// samplesMax is how many findings are kept in words.
const samplesMax = 20

// A Log keeps the ops of maps until they are checked, and of all maps what was
// won. Its methods may be called concurrently.
type Log struct {
	mu    sync.Mutex
	open  map[cairn.Tick][]Op
	held  map[cairn.Tick][]Held
	found Findings
}

// A Held is a tile that somebody was told to have won.
type Held struct {
	Tile   uint32
	Player Player
	Place  cairn.Place
	At     int64 // when they were told, as an Op's Return
}

// Findings counts what was checked, and what should never be.
type Findings struct {
	Ops        int64    `json:"ops"`          // tries that were checked
	Undecided  int64    `json:"undecided"`    // of which nothing was told
	Tiles      int64    `json:"tiles"`        // histories that porcupine checked, one a tile
	Contested  int64    `json:"contested"`    // tiles that two or more players tried for
	Impossible int64    `json:"impossible"`   // histories without a legal order
	TwoWinners int64    `json:"two_winners"`  // tiles that two players were told to have won
	Won        int64    `json:"won"`          // tiles that somebody was told to have won
	Asked      int64    `json:"asked_again"`  // tries of a holder after having been told won
	Same       int64    `json:"told_same"`    // of them: told won at the same place
	Other      int64    `json:"told_other"`   // of them: told anything else
	Untold     int64    `json:"told_nothing"` // of them: told nothing, and asked again later
	Samples    []string `json:"samples,omitempty"`
}

// Broken reports whether anything was found that should never be.
func (f *Findings) Broken() bool { return f.Impossible+f.TwoWinners+f.Other > 0 }

// NewLog returns an empty log.
func NewLog() *Log {
	return &Log{open: map[cairn.Tick][]Op{}, held: map[cairn.Tick][]Held{}}
}

// Add notes ops of one map.
func (l *Log) Add(tick cairn.Tick, ops ...Op) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open[tick] = append(l.open[tick], ops...)
}

// Check checks all maps before tick, of which no op may be added later, and
// forgets their ops but not what was won.
func (l *Log) Check(before cairn.Tick) {
	for {
		tick, ops, ok := l.take(before)
		if !ok {
			return
		}
		held, found := check(tick, ops)
		l.mu.Lock()
		l.held[tick] = append(l.held[tick], held...)
		l.found.add(found)
		l.mu.Unlock()
	}
}

func (l *Log) take(before cairn.Tick) (cairn.Tick, []Op, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for tick, ops := range l.open {
		if tick < before {
			delete(l.open, tick)
			return tick, ops, true
		}
	}
	return 0, nil, false
}

// Findings returns what was found until now.
func (l *Log) Findings() Findings {
	l.mu.Lock()
	defer l.mu.Unlock()
	f := l.found
	f.Samples = slices.Clone(f.Samples)
	return f
}

// Held returns what was won on the maps that were checked, by tick. The caller
// must not change it, nor Check concurrently.
func (l *Log) Held() map[cairn.Tick][]Held { return l.held }

func (f *Findings) add(o Findings) {
	f.Ops += o.Ops
	f.Undecided += o.Undecided
	f.Tiles += o.Tiles
	f.Contested += o.Contested
	f.Impossible += o.Impossible
	f.TwoWinners += o.TwoWinners
	f.Won += o.Won
	f.Asked += o.Asked
	f.Same += o.Same
	f.Other += o.Other
	f.Untold += o.Untold
	f.Samples = append(f.Samples, o.Samples[:min(len(o.Samples), samplesMax-len(f.Samples))]...)
}

// check checks one map's ops, and returns what was won.
func check(tick cairn.Tick, ops []Op) (held []Held, f Findings) {
	slices.SortFunc(ops, func(a, b Op) int {
		if a.Tile != b.Tile {
			return int(a.Tile) - int(b.Tile)
		}
		return int(a.Call - b.Call)
	})
	for len(ops) > 0 {
		n := 1
		for n < len(ops) && ops[n].Tile == ops[0].Tile {
			n++
		}
		if h, ok := f.tile(tick, ops[:n]); ok {
			held = append(held, h)
		}
		ops = ops[n:]
	}
	return held, f
}

// tile checks the ops of one tile, in the order of their calls, and returns
// who was told first to hold it.
func (f *Findings) tile(tick cairn.Tick, ops []Op) (held Held, ok bool) {
	f.Tiles++
	f.Ops += int64(len(ops))
	before := *f
	var first *Op // the won that was told first
	contested := false
	for i := range ops {
		o := &ops[i]
		contested = contested || o.Player != ops[0].Player
		if o.Told == Nothing {
			f.Undecided++
		}
		if o.Told == Won && (first == nil || o.Return < first.Return) {
			first = o
		}
	}
	if contested {
		f.Contested++
	}
	if first != nil {
		f.Won++
		held, ok = Held{ops[0].Tile, first.Player, first.Place, first.Return}, true
		f.again(first, ops)
	}
	if !possible(ops) {
		f.Impossible++
	}
	if f.Impossible+f.TwoWinners+f.Other > before.Impossible+before.TwoWinners+before.Other && len(f.Samples) < samplesMax {
		f.Samples = append(f.Samples, fmt.Sprintf("map %d, tile %d: %v", tick, ops[0].Tile, ops))
	}
	return held, ok
}

// again counts what the holder was told later, and whether another was told to
// hold it too.
func (f *Findings) again(first *Op, ops []Op) {
	two := false
	for i := range ops {
		o := &ops[i]
		two = two || o.Told == Won && o.Player != first.Player
		if o.Player != first.Player || o.Call <= first.Return {
			continue
		}
		f.Asked++
		switch {
		case o.Told == Nothing:
			f.Untold++
		case o.Told == Won && o.Place == first.Place:
			f.Same++
		default:
			f.Other++
		}
	}
	if two {
		f.TwoWinners++
	}
}

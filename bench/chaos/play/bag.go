package play

import (
	"math/rand/v2"
	"sync"
	"time"

	"github.com/veltrix/cairn"
)

// A batch is tiles of one map and one shard, which one array claims: so that a
// shard that stands still holds up no answer of another's.
type batch struct {
	tick   cairn.Tick
	closes time.Time
	shard  int
	tiles  []uint32
}

// A bag holds the batches that nobody tried yet, by shard, newest map last.
// Its methods may be called concurrently.
type bag struct {
	size int // tiles a batch; static

	mu      sync.Mutex
	rng     *rand.Rand
	seen    cairn.Tick
	byShard [][]batch
	next    int // shard to take from
}

func newBag(size int, seed uint64) *bag {
	return &bag{size: size, rng: rand.New(rand.NewPCG(seed, 1)), seen: -1}
}

// add adds the tiles of a map, unless it is an old one.
func (b *bag) add(hunt cairn.HuntID, m *chart) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if m.tick <= b.seen {
		return
	}
	b.seen = m.tick
	for len(b.byShard) < m.shards {
		b.byShard = append(b.byShard, nil)
	}
	slot := cairn.SlotterOf(hunt, m.tick)
	tiles := make([][]uint32, m.shards)
	for _, i := range b.rng.Perm(m.tiles) {
		s := cairn.ShardOf(slot.Slot(uint32(i)), m.shards)
		tiles[s] = append(tiles[s], uint32(i))
	}
	for s, of := range tiles {
		for len(of) > 0 {
			n := min(b.size, len(of))
			b.byShard[s] = append(b.byShard[s], batch{m.tick, m.closes, s, of[:n:n]})
			of = of[n:]
		}
	}
}

// take returns a batch that is open for a while after now: of each shard in
// turn, and of the newest map that has one.
func (b *bag) take(now time.Time) (batch, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for range b.byShard {
		b.next = (b.next + 1) % len(b.byShard)
		of := b.byShard[b.next]
		if len(of) == 0 {
			continue
		}
		w := of[len(of)-1]
		if w.closes.Before(now.Add(2 * time.Second)) {
			b.byShard[b.next] = nil // the older ones are closed too
			continue
		}
		b.byShard[b.next] = of[:len(of)-1]
		return w, true
	}
	return batch{}, false
}

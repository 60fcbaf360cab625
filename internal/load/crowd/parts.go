package crowd

import (
	"context"
	"slices"
	"sync"
)

// parts are what carries a crowd.
type parts struct {
	mu    sync.Mutex
	list  []part
	sizes []int // connections, by part
}

// add starts another part: a worker with that number, or for 0 a loop of this
// process.
func (x *parts) add(ctx context.Context, opts Options, number int) error {
	var p part
	var err error
	if number == 0 {
		p, err = newLoop(opts, 0)
	} else {
		p, err = startWorker(ctx, opts, number)
	}
	if err != nil {
		return err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.list = append(x.list, p)
	x.sizes = append(x.sizes, 0)
	return nil
}

func (x *parts) all() []part {
	x.mu.Lock()
	defer x.mu.Unlock()
	return slices.Clone(x.list)
}

func (x *parts) size() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	sum := 0
	for _, n := range x.sizes {
		sum += n
	}
	return sum
}

// deal gives n connections to the parts, so that they have equally many as far
// as that goes.
func (x *parts) deal(n int) map[part]int {
	x.mu.Lock()
	defer x.mu.Unlock()
	shares := map[part]int{}
	for ; n > 0; n-- {
		least := 0
		for i, size := range x.sizes {
			if size < x.sizes[least] {
				least = i
			}
		}
		x.sizes[least]++
		shares[x.list[least]]++
	}
	return shares
}

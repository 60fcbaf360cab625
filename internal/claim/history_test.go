package claim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/eventlog"
)

// A heard is what a player heard: how it ended, and who holds the tile.
type heard struct {
	outcome cairn.Outcome // 0: not decided, nothing taken
	holder  cairn.PlayerID
	place   cairn.Place
}

type asked struct {
	tile   uint32
	player cairn.PlayerID
}

// tileModel is one tile, whose state is who holds it and where the log says
// so. An attempt that is pending may have won or not.
var tileModel = porcupine.NondeterministicModel{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		byTile := map[uint32][]porcupine.Operation{}
		for _, op := range history {
			tile := op.Input.(asked).tile
			byTile[tile] = append(byTile[tile], op)
		}
		var parts [][]porcupine.Operation
		for _, p := range byTile {
			parts = append(parts, p)
		}
		return parts
	},
	Init: func() []any { return []any{heard{}} },
	Step: func(state, input, output any) []any {
		held, me, got := state.(heard), input.(asked).player, output.(heard)
		taken := heard{holder: me, place: got.place}
		switch got.outcome {
		case cairn.Won:
			// Whoever was pending when they won has no place in the state yet.
			if held.holder == "" || held.holder == me && (held.place == got.place || held.place == cairn.Place{}) {
				return []any{taken}
			}
		case cairn.Gone:
			if held.holder == got.holder && got.holder != me && (held.place == got.place || held.place == cairn.Place{}) {
				return []any{heard{holder: got.holder, place: got.place}}
			}
		case cairn.Pending:
			if held.holder == "" {
				return []any{held, taken}
			}
			return []any{held}
		case 0:
			return []any{held}
		}
		return nil
	},
	Equal: func(a, b any) bool { return a == b },
}

// TestHistory has players race for tiles while shards are fenced and the
// service restarts under them, and wants an order in which all that they heard
// is true.
func TestHistory(t *testing.T) {
	w := newWorld(t)
	w.start()
	m := w.emit(nowTick(), cairn.Tap)
	const players, rounds, fresh = 12, 12, 8 // each round opens the race for fresh tiles
	var round atomic.Int32
	start := time.Now()
	var mu sync.Mutex
	var history []porcupine.Operation
	service := w.Service // replaced under mu
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for p := range players {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(1, uint64(p)))
			for ctx.Err() == nil {
				in := asked{uint32(rnd.IntN(fresh * int(round.Load()+1))), cairn.PlayerID(fmt.Sprint("p", p))}
				mu.Lock()
				s := service
				mu.Unlock()
				call := time.Since(start).Nanoseconds()
				v, err := s.Claim(context.Background(), w.attempt(m.Tick, in.tile, string(in.player)))
				op := porcupine.Operation{ClientId: p, Input: in, Call: call, Return: time.Since(start).Nanoseconds()}
				switch {
				case errors.Is(err, ErrUnavailable):
					op.Output = heard{}
				case v.Outcome == cairn.Pending:
					op.Output = heard{outcome: cairn.Pending}
					op.Return = time.Hour.Nanoseconds() // it may take effect at any time
				default:
					op.Output = heard{v.Outcome, v.Claim.Player, v.Place}
				}
				mu.Lock()
				history = append(history, op)
				mu.Unlock()
			}
		})
	}
	answered := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(history)
	}
	for i := range rounds {
		round.Store(int32(i))
		before := answered()
		w.until("going on", func() bool { return answered() > before+100 })
		if i%4 == 3 {
			w.halt()
			w.start()
			mu.Lock()
			service = w.Service
			mu.Unlock()
			continue
		}
		intruder, err := w.store.Open(t.Context(), eventlog.Shard(i%testShards))
		w.must(err)
		w.must(intruder.Close())
	}
	cancel()
	wg.Wait()
	won := map[uint32]bool{}
	for _, op := range history {
		if out := op.Output.(heard); out.outcome == cairn.Won {
			won[op.Input.(asked).tile] = true
		}
	}
	if len(won) < rounds*fresh/2 {
		t.Errorf("only %d of %d tiles were won: the history says little", len(won), rounds*fresh)
	}
	model := tileModel.ToModel()
	if res := porcupine.CheckOperationsTimeout(model, history, time.Minute); res != porcupine.Ok {
		t.Errorf("no order of the %d attempts explains what the players heard: %v", len(history), res)
	}
}

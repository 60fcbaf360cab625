//go:build unix

package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/bench/claims/peer"
	"github.com/veltrix/cairn/bench/claims/world"
	"github.com/veltrix/cairn/internal/claim"
	"github.com/veltrix/cairn/internal/eventlog"
	"github.com/veltrix/cairn/internal/wire"
)

// A batch is attempts that one caller puts at once. It is used again and again.
type batch struct {
	scene    *scene
	marks    []mark // of the whole workload: what each attempt heard
	first, n int    // its attempts
	due      time.Time
	answered func(*batch) // called once, when all of it is answered, by any goroutine

	left     atomic.Int64
	ours     []cairn.Attempt
	peers    []peer.Attempt
	outcomes []peer.Outcome
	one      func(int, *claim.Answer) // of ours: takes one answer
}

// A mark is what came of an attempt.
type mark uint8

const (
	unanswered mark = iota
	won
	lost
	failed // it heard neither: an error, or an answer that there is no reason for
)

// newBatch returns a batch of up to n attempts.
func newBatch(s *scene, marks []mark, n int, answered func(*batch)) *batch {
	b := &batch{scene: s, marks: marks, answered: answered}
	b.ours, b.peers, b.outcomes = make([]cairn.Attempt, n), make([]peer.Attempt, n), make([]peer.Outcome, n)
	b.one = func(i int, a *claim.Answer) {
		m := failed
		switch {
		case a.Err != nil:
		case a.Verdict.Outcome == cairn.Won:
			m = won
		case a.Verdict.Outcome == cairn.Gone:
			m = lost
		}
		b.marks[b.first+i] = m
		if b.left.Add(-1) == 0 {
			b.answered(b)
		}
	}
	return b
}

// A system takes attempts.
type system interface {
	// put puts a batch. It may return before all of it is answered. What a
	// system does not answer at all ends the run.
	put(ctx context.Context, b *batch) error

	// facts calls fact for each claim that the system has kept, if it can, and
	// returns how many there are. Nothing is in flight.
	facts(ctx context.Context, fact func(tile tileID, player int) error) (int, error)

	stats() peer.Stats
	close() error
}

// ours is the claim service on a log.
type ours struct {
	*world.World
	scene *scene
	dir   string // to be removed
}

// openOurs starts the claim service, and has it know the maps of the first n
// attempts.
func openOurs(ctx context.Context, s *scene, n int, o world.Options, dir string) (_ *ours, err error) {
	o.Hunts, o.Dir = []cairn.HuntID{hunt}, dir
	w, err := world.Open(ctx, o)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	x := &ours{World: w, scene: s, dir: dir}
	ms := make([]*cairn.Map, s.maps(n))
	for m := range ms {
		ms[m] = s.mapOf(m, w.Shards)
	}
	if err := w.Emit(ctx, ms...); err != nil {
		return nil, errors.Join(err, x.close())
	}
	return x, nil
}

func (x *ours) put(ctx context.Context, b *batch) error {
	b.scene.ours(b.ours[:b.n], b.first)
	b.left.Store(int64(b.n))
	x.Service.Submit(ctx, b.ours[:b.n], b.one)
	return nil
}

// facts reads all shards' logs, from the first record to the last.
func (x *ours) facts(ctx context.Context, fact func(tileID, int) error) (n int, err error) {
	var claims []cairn.Claim
	for shard := range x.Shards {
		err := x.read(ctx, eventlog.Shard(shard), func(body []byte) (err error) {
			if claims, err = wire.DecodeClaims(claims[:0], body); err != nil {
				return err
			}
			n += len(claims)
			for i := range claims {
				c := &claims[i]
				m := x.scene.first - c.Tick
				if c.Hunt != hunt || m < 0 || c.Tile >= tilesAMap {
					return fmt.Errorf("a claim of %v, which nobody tried for", c.TileRef)
				}
				if err := fact(op{m: uint16(m), tile: uint16(c.Tile)}.tileID(), player(string(c.Player))); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return n, fmt.Errorf("shard %d: %w", shard, err)
		}
	}
	return n, nil
}

// read hands on the body of each data record that a log has now.
func (x *ours) read(ctx context.Context, name eventlog.Name, take func(body []byte) error) error {
	head, err := x.Store.Status(ctx, name)
	if err != nil {
		return err
	}
	f, err := x.Store.Follow(ctx, name, eventlog.Offset{})
	if err != nil {
		return err
	}
	defer f.Close()
	for at := (eventlog.Offset{}); at.Less(head.Last); {
		recs, _, err := f.Next(ctx)
		if err != nil {
			return err
		}
		for i := range recs {
			at = recs[i].Offset
			if recs[i].Kind != eventlog.Data {
				continue
			}
			if err := take(recs[i].Body); err != nil {
				return fmt.Errorf("record %v: %w", at, err)
			}
		}
	}
	return nil
}

func (x *ours) stats() peer.Stats { return peer.Stats{} }

func (x *ours) close() error {
	errs := []error{x.Close()}
	if x.dir != "" {
		errs = append(errs, os.RemoveAll(x.dir))
	}
	return errors.Join(errs...)
}

// A rival is a peer.
type rival struct {
	peer.Claimer
	after func() error // called when it is closed, and has forgotten all
}

// openRival has a peer forget what it knew, and know the maps of the first n
// attempts.
func openRival(ctx context.Context, s *scene, n int, c peer.Claimer, after func() error) (*rival, error) {
	x := &rival{c, after}
	ms := make([]*peer.Map, s.maps(n))
	for m := range ms {
		ms[m] = s.peerMap(m)
	}
	err := c.Reset(ctx)
	if err == nil {
		err = c.Prepare(ctx, ms...)
	}
	if err != nil {
		return nil, errors.Join(err, x.close())
	}
	return x, nil
}

func (x *rival) put(ctx context.Context, b *batch) error {
	b.scene.peers(b.peers[:b.n], b.first)
	if err := x.Claim(ctx, b.peers[:b.n], b.outcomes[:b.n]); err != nil {
		return err
	}
	for i, o := range b.outcomes[:b.n] {
		b.marks[b.first+i] = lost
		if o.Won {
			b.marks[b.first+i] = won
		}
	}
	b.answered(b)
	return nil
}

// facts has the peer count: which claims there are is not read back.
func (x *rival) facts(ctx context.Context, _ func(tileID, int) error) (int, error) {
	t, err := x.Tally(ctx)
	if err == nil && t.Tiles != t.Events {
		err = fmt.Errorf("%d tiles are held, and %d claims recorded", t.Tiles, t.Events)
	}
	return int(t.Tiles), err
}

func (x *rival) stats() peer.Stats { return x.Stats() }

func (x *rival) close() error {
	err := x.Reset(context.Background())
	err = errors.Join(err, x.Close())
	if x.after != nil {
		err = errors.Join(err, x.after())
	}
	return err
}

// check holds what the attempts heard against each other and against what the
// system kept: no tile is won by two, and what was won is what is kept.
func check(ctx context.Context, x system, s *scene, marks []mark) (wins int, err error) {
	holder := make([]int32, s.maps(len(marks))*tilesAMap) // by tile: its winner's number and 1, or 0
	for i, m := range marks {
		o := s.ops[i]
		switch h := &holder[o.tileID()]; {
		case m == unanswered || m == failed:
			return 0, fmt.Errorf("attempt %d was not decided", i)
		case m != won:
		case *h == 0:
			*h = int32(o.player) + 1
			wins++
		case *h != int32(o.player)+1: // who holds it may come again
			return 0, fmt.Errorf("tile %d of map %d: both %s and %s won", o.tile, o.m, s.players[*h-1], s.players[o.player])
		}
	}
	seen := make([]bool, len(holder))
	kept, err := x.facts(ctx, func(t tileID, player int) error {
		switch {
		case int(t) >= len(holder) || int(holder[t]) != player+1:
			return fmt.Errorf("tile %d is player %d's, who was not told so", t, player)
		case seen[t]:
			return fmt.Errorf("tile %d is claimed twice", t)
		}
		seen[t] = true
		return nil
	})
	if err != nil {
		return 0, err
	}
	if kept != wins {
		return 0, fmt.Errorf("%d claims are kept, of %d that were won", kept, wins)
	}
	return wins, nil
}

// failure is the first error of several goroutines.
type failure struct {
	once sync.Once
	err  error
	ch   chan struct{} // closed by the first
}

func newFailure() *failure { return &failure{ch: make(chan struct{})} }

func (f *failure) set(err error) {
	f.once.Do(func() {
		f.err = err
		close(f.ch)
	})
}

// get returns the error, or nil.
func (f *failure) get() error {
	select {
	case <-f.ch:
		return f.err
	default:
		return nil
	}
}

//go:build unix

package scaling

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/bench/claims/world"
	"github.com/veltrix/cairn/internal/eventlog"
	"github.com/veltrix/cairn/internal/wire"
)

// A Recovery is one shard that was taken over: from nothing, which is what a
// process that stands by has done already.
type Recovery struct {
	Log    string  `json:"log"`
	Claims int     `json:"claims"` // in the shard's log, of maps that are all remembered
	Round  int     `json:"round"`
	Open   float64 `json:"open_s"`   // to open the store
	Replay float64 `json:"replay_s"` // then, to fence the shard and read its log, until it is served
}

// recoveries measures how long a shard's log takes to be read.
func (b *bench) recoveries(ctx context.Context, r *Report) error {
	for _, backend := range backends {
		for _, n := range b.opts.Recoveries {
			if err := b.recovery(ctx, r, backend, n); err != nil {
				return fmt.Errorf("recovery from %d claims on %s: %w", n, backend, err)
			}
		}
	}
	return nil
}

func (b *bench) recovery(ctx context.Context, r *Report, backend string, claims int) (err error) {
	wo, drop, err := b.options(ctx, backend, 1)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, drop()) }()
	maps := (claims + cairn.TilesPerMapMax - 1) / cairn.TilesPerMapMax
	s := sceneOf(maps, maps*cairn.TilesPerMapMax, 1)
	wo.Hunts, wo.Idle = s.hunts, true
	w, err := world.Open(ctx, wo)
	if err != nil {
		return err
	}
	err = w.Emit(ctx, s.all(1)...)
	if err == nil {
		err = fill(ctx, w, s, claims, b.opts.RecoverEach)
	}
	if err := errors.Join(err, w.Close()); err != nil {
		return err
	}
	wo.Again = true
	for round := range b.opts.Rounds {
		runtime.GC()
		m := &Recovery{Log: backend, Claims: claims, Round: round}
		begun := time.Now()
		if w, err = world.Open(ctx, wo); err != nil {
			return err
		}
		opened := time.Now()
		err := w.Start(ctx)
		m.Open, m.Replay = opened.Sub(begun).Seconds(), time.Since(opened).Seconds()
		if err == nil {
			err = recovered(ctx, w, s, claims)
		}
		if err := errors.Join(err, w.Close()); err != nil {
			return err
		}
		r.Recoveries = append(r.Recoveries, m)
		b.opts.Say("scaling: recovery from %d claims on %s: %.3f s, after the store was open in %.3f s", claims, backend, m.Replay, m.Open)
	}
	return nil
}

// fill writes a shard's log as its owner would.
func fill(ctx context.Context, w *world.World, s *scene, n, each int) error {
	log, err := w.Store.Open(ctx, eventlog.Shard(0))
	if err != nil {
		return err
	}
	defer log.Close()
	var body []byte
	claims := make([]cairn.Claim, 0, each)
	var a cairn.Attempt
	at := cairn.InstantOf(time.Now().Add(-time.Minute))
	for i := 0; i < n; {
		for claims = claims[:0]; len(claims) < each && i < n; i++ {
			s.attempt(i, &a)
			claims = append(claims, cairn.Claim{
				TileRef: a.TileRef, Cell: world.Cell(int(a.Tile)), Reward: world.Reward(int(a.Tile)), Player: a.Player, Name: a.Name, At: at + cairn.Instant(i),
			})
		}
		body = wire.AppendClaims(body[:0], claims)
		if _, err := log.Append(ctx, body, eventlog.Offset{}); err != nil {
			return err
		}
	}
	return nil
}

// recovered checks that the service knows the last claim.
func recovered(ctx context.Context, w *world.World, s *scene, claims int) error {
	var a cairn.Attempt
	s.attempt(claims-1, &a)
	v, err := w.Service.Lookup(ctx, a.TileRef, a.Player)
	if err != nil || v.Outcome != cairn.Won {
		return fmt.Errorf("the last claim is answered %v, %w; want won", v.Outcome, err)
	}
	return nil
}

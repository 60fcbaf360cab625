//go:build unix

// Package world runs ours in this process for a bench: a store on a disk or on
// Redis, hunts that are live, maps that are open, and the claim service that
// decides attempts on them.
//
//	w, err := world.Open(ctx, world.Options{Dir: dir, Hunts: []cairn.HuntID{"oslo"}})
//	defer w.Close()
//	err = w.Emit(ctx, world.Map("oslo", tick, 1000, 24))
//	w.Service.ClaimAll(ctx, attempts, answers)
package world

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/claim"
	"github.com/veltrix/cairn/internal/eventlog"
	"github.com/veltrix/cairn/internal/eventlog/filelog"
	"github.com/veltrix/cairn/internal/eventlog/redislog"
	"github.com/veltrix/cairn/internal/puzzle"
	"github.com/veltrix/cairn/internal/wire"
)

// Options says what a world is like. Hunts is required.
type Options struct {
	Redis  string         // URL of a Redis that has the logs; "" means a filelog in Dir
	Prefix string         // of the logs' keys on Redis; "" means redislog's
	Ack    redislog.Ack   // when an append on Redis is acknowledged
	Dir    string         // of the filelog
	Shards int            // 0 means 24
	Hunts  []cairn.HuntID // all live
	Idle   bool           // the service does not run before Start
	Again  bool           // the logs and hunts are there, from a World before
}

// A World is a store and the claim service on it.
type World struct {
	Store   eventlog.Store
	Service *claim.Service
	Shards  int

	opts  Options
	close []func() error // of more stores
	maps  eventlog.Writer
	stop  context.CancelFunc
	ended chan error
}

// Open makes the logs and the hunts, and unless it is to be idle waits until
// the service owns every shard.
func Open(ctx context.Context, opts Options) (_ *World, err error) {
	if opts.Shards == 0 {
		opts.Shards = 24
	}
	w := &World{Shards: opts.Shards, opts: opts}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.Close())
		}
	}()
	if opts.Redis == "" {
		w.Store, err = filelog.Open(filepath.Join(opts.Dir, "log"), filelog.Options{})
		if err != nil {
			return nil, err
		}
		w.close = append(w.close, w.Store.(*filelog.Store).Close)
	} else if w.Store, err = w.connect(ctx); err != nil {
		return nil, err
	}
	if !opts.Again {
		if err := w.make(ctx); err != nil {
			return nil, err
		}
	}
	if w.maps, err = w.Store.Open(ctx, eventlog.Maps); err != nil {
		return nil, err
	}
	if opts.Idle {
		return w, nil
	}
	return w, w.Start(ctx)
}

// make makes the logs and the hunts.
func (w *World) make(ctx context.Context) error {
	specs := []eventlog.Spec{{Name: eventlog.Maps}, {Name: eventlog.Control}, {Name: eventlog.Standings, Volatile: true}}
	for i := range w.Shards {
		specs = append(specs, eventlog.Spec{Name: eventlog.Shard(i)})
	}
	if err := w.Store.Provision(ctx, specs...); err != nil {
		return err
	}
	return w.create(ctx)
}

func (w *World) connect(ctx context.Context) (eventlog.Store, error) {
	s, err := redislog.Open(ctx, w.opts.Redis, redislog.Options{Prefix: w.opts.Prefix, Ack: w.opts.Ack})
	if err != nil {
		return nil, err
	}
	w.close = append(w.close, s.Close)
	return s, nil
}

// Beside returns the store as another process has it: on Redis with
// connections of its own; a filelog is only ever one process's.
func (w *World) Beside(ctx context.Context) (eventlog.Store, error) {
	if w.opts.Redis == "" {
		return w.Store, nil
	}
	return w.connect(ctx)
}

// create makes the hunts, live.
func (w *World) create(ctx context.Context) error {
	ctl, err := w.Store.Open(ctx, eventlog.Control)
	if err != nil {
		return err
	}
	defer ctl.Close()
	for _, id := range w.opts.Hunts {
		region := root
		h := cairn.Hunt{Name: id, Region: cairn.Region{Geohash: &region}, Shards: w.Shards, Lifetime: cairn.Duration(Lifetime)}.WithDefaults()
		for _, c := range []cairn.Change{{Hunt: id, Create: &h}, {Hunt: id, State: cairn.Live}} {
			c.Who, c.When = "bench", cairn.InstantOf(time.Now())
			body, err := wire.AppendChange(nil, &c)
			if err != nil {
				return err
			}
			if _, err := ctl.Append(ctx, body, eventlog.Offset{}); err != nil {
				return err
			}
		}
	}
	return nil
}

// Start runs a new service, and waits until it owns every shard.
func (w *World) Start(ctx context.Context) error {
	w.Service = claim.New(w.Store, puzzle.New([32]byte{1}), claim.Options{Shards: w.Shards})
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	w.stop, w.ended = stop, make(chan error, 1)
	go func() { w.ended <- w.Service.Run(run) }()
	return w.until(ctx, func() (bool, error) { return w.Service.Ready() == nil, nil })
}

// Stop ends the service, and returns what it died of if it did.
func (w *World) Stop() error {
	if w.stop == nil {
		return nil
	}
	w.stop()
	err := <-w.ended
	w.stop, w.Service = nil, nil
	return err
}

// until asks often whether something has come about.
func (w *World) until(ctx context.Context, ok func() (bool, error)) error {
	tick := time.NewTicker(500 * time.Microsecond)
	defer tick.Stop()
	for {
		if done, err := ok(); done || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-w.ended:
			w.ended <- err // for Stop
			return fmt.Errorf("world: the claim service ended: %w", err)
		case <-tick.C:
		}
	}
}

// Emit puts maps into the maps log, and waits until the service, if it runs,
// knows them.
func (w *World) Emit(ctx context.Context, ms ...*cairn.Map) error {
	for _, m := range ms {
		for first := 0; first < len(m.Tiles); first += wire.TilesPerChunk {
			if _, err := w.maps.Append(ctx, wire.AppendMapChunk(nil, m, first), eventlog.Offset{}); err != nil {
				return err
			}
		}
		if _, err := w.maps.Append(ctx, wire.AppendMapHeader(nil, &m.MapHeader), eventlog.Offset{}); err != nil {
			return err
		}
	}
	if w.Service == nil || len(ms) == 0 {
		return nil
	}
	last := ms[len(ms)-1]
	return w.until(ctx, func() (bool, error) {
		v, err := w.Service.Lookup(ctx, cairn.TileRef{Hunt: last.Hunt, Tick: last.Tick}, "nobody")
		return err == nil && v.Outcome == 0, nil
	})
}

// Close ends the service and closes the stores.
func (w *World) Close() error {
	errs := []error{w.Stop()}
	if w.maps != nil {
		errs = append(errs, w.maps.Close())
	}
	for i := len(w.close) - 1; i >= 0; i-- {
		errs = append(errs, w.close[i]())
	}
	w.close, w.maps = nil, nil
	return errors.Join(errs...)
}

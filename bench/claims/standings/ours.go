//go:build unix

package standings

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"

	"github.com/gobwas/ws"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/bench/claims/world"
	"github.com/veltrix/cairn/internal/broadcast"
	"github.com/veltrix/cairn/internal/claim"
	"github.com/veltrix/cairn/internal/eventlog"
	"github.com/veltrix/cairn/internal/leaderboard"
	"github.com/veltrix/cairn/internal/wire"
)

// ours is a claim service, a leaderboard that follows its logs and a gateway
// that follows those and the leaderboard's. On Redis each has connections of
// its own, as in a fleet.
type ours struct {
	world   *world.World
	clock   clock
	field   field
	ticks   []cairn.Tick
	hunts   []cairn.HuntID
	players []string

	boards    *leaderboard.Projection // nil without
	published []*observer             // by hunt
	clients   *clients

	stop context.CancelFunc
	wg   sync.WaitGroup
	ln   net.Listener
	mu   sync.Mutex
	err  error // of what runs beside
}

// openOurs starts a system with the field's maps open and, if it is to have a
// leaderboard, that and clients that watch it.
func openOurs(ctx context.Context, o *Options, c clock, f field, opts world.Options, board bool) (_ *ours, err error) {
	x := &ours{clock: c, field: f, players: names(f.players, playerName)}
	for _, n := range names(f.hunts, huntName) {
		x.hunts = append(x.hunts, cairn.HuntID(n))
	}
	opts.Hunts, opts.Shards = x.hunts, o.Shards
	if x.world, err = world.Open(ctx, opts); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, x.close())
		}
	}()
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	x.stop = stop
	var maps []*cairn.Map
	newest := world.Newest()
	for i := range f.maps {
		x.ticks = append(x.ticks, newest-cairn.Tick(i))
		for _, h := range x.hunts {
			maps = append(maps, world.Map(h, x.ticks[i], f.tiles, o.Shards))
		}
	}
	if err := x.world.Emit(ctx, maps...); err != nil {
		return nil, err
	}
	if !board {
		return x, nil
	}
	if err := x.lead(ctx, run); err != nil {
		return nil, err
	}
	return x, x.gate(ctx, run, o)
}

// start runs f beside until the system is closed.
func (x *ours) start(run context.Context, f func(context.Context) error) {
	x.wg.Go(func() {
		if err := f(run); err != nil && run.Err() == nil {
			x.mu.Lock()
			defer x.mu.Unlock()
			x.err = errors.Join(x.err, err)
		}
	})
}

// lead starts the leaderboard, and what follows the standings log.
func (x *ours) lead(ctx, run context.Context) error {
	store, err := x.world.Beside(ctx)
	if err != nil {
		return err
	}
	x.boards = leaderboard.New(store, leaderboard.Options{})
	x.start(run, x.boards.Run)
	if err := wait(ctx, "the leaderboard to be ready", func() bool { return x.boards.Ready() == nil }); err != nil {
		return err
	}
	if store, err = x.world.Beside(ctx); err != nil {
		return err
	}
	log, err := store.Follow(ctx, eventlog.Standings, eventlog.Offset{})
	if err != nil {
		return err
	}
	for i := range x.hunts {
		x.published = append(x.published, &observer{hunt: i})
	}
	x.start(run, func(ctx context.Context) error { return x.read(ctx, log) })
	return nil
}

// read notes what is published as whoever follows the standings log has it.
func (x *ours) read(ctx context.Context, log eventlog.Follower) error {
	defer log.Close()
	byHunt := map[cairn.HuntID]*observer{}
	for i, h := range x.hunts {
		byHunt[h] = x.published[i]
	}
	for {
		recs, _, err := log.Next(ctx)
		if err != nil {
			return err
		}
		at := x.clock.now()
		for i := range recs {
			if recs[i].Kind != eventlog.Data {
				continue
			}
			bs, err := wire.DecodeBoards(recs[i].Body)
			if err != nil {
				return err
			}
			for _, b := range bs {
				if b.Window != wire.WindowHunt || b.Region != 0 {
					continue
				}
				upTo := make([]place, len(b.AsOf))
				for j, o := range b.AsOf {
					upTo[j] = place{o.Shard, o.Offset}
				}
				byHunt[b.Hunt].saw(at, upTo)
			}
		}
	}
}

// gate starts the gateway, and clients that watch the standings.
func (x *ours) gate(ctx, run context.Context, o *Options) (err error) {
	store, err := x.world.Beside(ctx)
	if err != nil {
		return err
	}
	hub := broadcast.New(store, broadcast.Options{})
	x.start(run, hub.Run)
	if err := wait(ctx, "the gateway to be ready", func() bool { return hub.Ready() == nil && len(hub.Hunts()) == len(x.hunts) }); err != nil {
		return err
	}
	if x.ln, err = (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0"); err != nil {
		return err
	}
	x.start(run, func(context.Context) error { return serve(x.ln, hub) })
	x.clients, err = watch(ctx, x.clock, x.ln.Addr().String(), len(x.hunts), o.Clients, func(hunt int) []string {
		return []string{`{"type":"hello"}`, fmt.Sprintf(`{"type":"watch","hunt":%q,"regions":[],"standings":true}`, x.hunts[hunt])}
	})
	return err
}

// serve hands the hub each socket, upgraded, until the listener is closed.
func serve(ln net.Listener, hub *broadcast.Hub) error {
	up := ws.Upgrader{Protocol: func(p []byte) bool { return string(p) == protocol }}
	for {
		conn, err := ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		if _, err := up.Upgrade(conn); err != nil {
			conn.Close()
			return err
		}
		hub.Serve(conn, nil, broadcast.JSON, onlyWatch{}, nil)
	}
}

// onlyWatch is an edge whose clients have no token: so they are never asked
// what they claim.
type onlyWatch struct{ broadcast.Edge }

func (onlyWatch) Hello(string) (cairn.PlayerID, string, error) {
	return "", "", errors.New("nobody has a token here")
}

func (x *ours) claim(ctx context.Context, as []attempt, wins []win) ([]win, error) {
	try, out := make([]cairn.Attempt, len(as)), make([]claim.Answer, len(as))
	for i, a := range as {
		name := x.players[a.player]
		try[i] = cairn.Attempt{
			TileRef: cairn.TileRef{Hunt: x.hunts[a.hunt], Tick: x.ticks[a.m], Tile: uint32(a.tile)},
			Player:  cairn.PlayerID(name), Name: name,
		}
	}
	x.world.Service.ClaimAll(ctx, try, out)
	for i := range out {
		v := &out[i].Verdict
		if err := out[i].Err; err != nil || v.Outcome != cairn.Won {
			return wins, fmt.Errorf("ours: the only attempt for %s: got %v, %w; want won", try[i].TileRef, v.Outcome, err)
		}
		wins = append(wins, win{hunt: as[i].hunt, place: place{v.Place.Shard, eventlog.Offset{Epoch: v.Place.Epoch, Seq: v.Place.Seq}}})
	}
	return wins, nil
}

func (x *ours) observers() (published, watching []*observer) {
	if x.clients == nil {
		return nil, nil
	}
	return x.published, x.clients.all
}

func (x *ours) close() error {
	var err error
	if x.clients != nil { // first, so that nobody cuts them off
		err = x.clients.close()
	}
	if x.stop != nil {
		x.stop()
	}
	if x.ln != nil {
		x.ln.Close()
	}
	x.wg.Wait()
	return errors.Join(x.err, err, x.world.Close())
}

//go:build unix

package standings

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/rueidis"

	"github.com/veltrix/cairn/bench/claims/peer"
	"github.com/veltrix/cairn/bench/claims/world"
)

// A rival is a peer: what takes claims, and a gateway that asks for the boards
// and tells them to its clients.
type rival struct {
	peer.Claimer
	clock   clock
	players []string
	hunts   []string
	cells   []string // by tile

	gate      *gateway // nil without boards
	clients   *clients
	published []*observer // by hunt
	stop      context.CancelFunc
	wg        sync.WaitGroup
	closers   []func()

	mu  sync.Mutex
	err error
}

// openRival prepares the field's maps and, with boards, a gateway and its
// clients. It closes c if it fails.
func openRival(ctx context.Context, o *Options, c clock, f field, claimer peer.Claimer, board bool) (*rival, error) {
	x := &rival{Claimer: claimer, clock: c, players: names(f.players, playerName), hunts: names(f.hunts, huntName)}
	x.stop = func() {}
	x.cells = names(f.tiles, func(i int) string { return world.Cell(i).String() })
	tiles := make([]peer.Tile, f.tiles)
	for i := range tiles {
		tiles[i] = peer.Tile{Geohash: x.cells[i], Reward: int64(world.Reward(i))}
	}
	var maps []*peer.Map
	for m := range f.maps {
		for _, h := range x.hunts {
			maps = append(maps, &peer.Map{Hunt: h, Tick: int64(m), Tiles: tiles})
		}
	}
	if err := x.Prepare(ctx, maps...); err != nil {
		return nil, errors.Join(err, x.close())
	}
	if !board {
		return x, nil
	}
	for i := range x.hunts {
		x.published = append(x.published, &observer{hunt: i})
	}
	if err := x.open(ctx, o); err != nil {
		return nil, errors.Join(err, x.close())
	}
	return x, nil
}

func (x *rival) open(ctx context.Context, o *Options) (err error) {
	if x.gate, err = openGateway(ctx, len(x.hunts)); err != nil {
		return err
	}
	x.clients, err = watch(ctx, x.clock, x.gate.ln.Addr().String(), len(x.hunts), o.Clients, func(hunt int) []string {
		return []string{fmt.Sprint(hunt)}
	})
	if err != nil {
		return err
	}
	return wait(ctx, "a peer's clients to be there", func() bool { return x.gate.ready(o.Clients) })
}

// start runs f beside until the rival is closed.
func (x *rival) start(run context.Context, f func(context.Context) error) {
	x.wg.Go(func() {
		if err := f(run); err != nil && run.Err() == nil {
			x.mu.Lock()
			defer x.mu.Unlock()
			x.err = errors.Join(x.err, err)
		}
	})
}

func (x *rival) claim(ctx context.Context, as []attempt, wins []win) ([]win, error) {
	try, out := make([]peer.Attempt, len(as)), make([]peer.Outcome, len(as))
	for i, a := range as {
		try[i] = peer.Attempt{
			Hunt: x.hunts[a.hunt], Tick: int64(a.m), Tile: uint32(a.tile), Player: x.players[a.player],
			Reward: rewardOf(a), Geohash: x.cells[a.tile],
		}
	}
	if err := x.Claim(ctx, try, out); err != nil {
		return wins, err
	}
	at := moment(x.clock.now())
	for i := range out {
		if !out[i].Won {
			return wins, fmt.Errorf("the only attempt for %s/%d/%d: lost to %q; want won", try[i].Hunt, try[i].Tick, try[i].Tile, out[i].Holder)
		}
		wins = append(wins, win{hunt: as[i].hunt, place: at})
	}
	return wins, nil
}

func (x *rival) observers() (published, watching []*observer) {
	if x.clients == nil {
		return nil, nil
	}
	return x.published, x.clients.all
}

func (x *rival) close() error {
	var errs []error
	if x.clients != nil { // first, so that nobody cuts them off
		errs = append(errs, x.clients.close())
	}
	x.stop()
	x.wg.Wait()
	if x.gate != nil {
		errs = append(errs, x.gate.close())
	}
	for _, c := range x.closers {
		c()
	}
	return errors.Join(append(errs, x.err, x.Close())...)
}

// pollEvery is how often the gateway asks for each hunt's ZSET: as often as
// our gateway sweeps.
const pollEvery = 50 * time.Millisecond

// openZSET is peer (b): the script that decides a claim also adds its reward to
// a ZSET, and the gateway asks each hunt's for its first rows.
func openZSET(ctx context.Context, o *Options, c clock, f field, addr string, board bool) (_ *rival, err error) {
	lua, err := peer.OpenLua(ctx, addr, peer.RedisOptions{Board: board})
	if err != nil {
		return nil, err
	}
	x, err := openRival(ctx, o, c, f, lua, board)
	if err != nil || !board {
		return x, err
	}
	client, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{addr}, ForceSingleClient: true, DisableCache: true})
	if err != nil {
		return nil, errors.Join(err, x.close())
	}
	x.closers = append(x.closers, client.Close)
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	x.stop = stop
	for hunt := range x.hunts {
		x.start(run, func(ctx context.Context) error {
			// Each at its own time, so that they don't all come at once.
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(pollEvery * time.Duration(hunt) / time.Duration(len(x.hunts))):
			}
			return x.poll(ctx, client, hunt)
		})
	}
	return x, nil
}

func (x *rival) poll(ctx context.Context, client rueidis.Client, hunt int) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		asked := x.clock.now()
		top, err := client.Do(ctx, client.B().Zrevrange().Key(peer.BoardKey(x.hunts[hunt])).Start(0).Stop(boardRows-1).Withscores().Build()).AsZScores()
		if err != nil {
			return err
		}
		x.published[hunt].saw(x.clock.now(), []place{moment(asked)})
		rows := make([]row, len(top))
		for i, z := range top {
			rows[i] = row{z.Member, int64(z.Score)}
		}
		x.gate.tell(hunt, asked, rows)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// openView is peer (a): a materialised view is refreshed, concurrently, as fast
// as it can be, and after each refresh the gateway asks it for each hunt's
// first rows while the next one is on its way.
func openView(ctx context.Context, o *Options, c clock, f field, dsn string, board bool) (_ *rival, err error) {
	pg, err := peer.OpenPostgres(ctx, dsn, peer.IfFree, peer.PostgresOptions{RefreshEvery: -1})
	if err != nil {
		return nil, err
	}
	x, err := openRival(ctx, o, c, f, pg, board)
	if err != nil || !board {
		return x, err
	}
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	x.stop = stop
	refreshed := make(chan int64, 1) // when a refresh that is over began; the newest
	x.start(run, func(ctx context.Context) error {
		return x.connected(ctx, dsn, func(conn *pgx.Conn) error { return x.refresh(ctx, conn, refreshed) })
	})
	x.start(run, func(ctx context.Context) error {
		return x.connected(ctx, dsn, func(conn *pgx.Conn) error { return x.query(ctx, conn, refreshed) })
	})
	return x, nil
}

func (x *rival) connected(ctx context.Context, dsn string, f func(*pgx.Conn) error) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return f(conn)
}

func (x *rival) refresh(ctx context.Context, conn *pgx.Conn, refreshed chan int64) error {
	for ctx.Err() == nil {
		began := x.clock.now()
		if _, err := conn.Exec(ctx, "REFRESH MATERIALIZED VIEW CONCURRENTLY standings"); err != nil {
			return err
		}
		at := x.clock.now()
		for _, o := range x.published {
			o.saw(at, []place{moment(began)})
		}
		select {
		case <-refreshed: // nobody looked at it
		default:
		}
		refreshed <- began
	}
	return nil
}

func (x *rival) query(ctx context.Context, conn *pgx.Conn, refreshed <-chan int64) error {
	for {
		var asked int64
		select {
		case <-ctx.Done():
			return nil
		case asked = <-refreshed:
		}
		for hunt, name := range x.hunts {
			got, err := conn.Query(ctx, "SELECT player, score FROM standings WHERE hunt = $1 ORDER BY score DESC LIMIT $2", name, boardRows)
			if err != nil {
				return err
			}
			rows, err := pgx.CollectRows(got, func(r pgx.CollectableRow) (x row, err error) {
				err = r.Scan(&x.player, &x.score)
				return x, err
			})
			if err != nil {
				return err
			}
			x.gate.tell(hunt, asked, rows)
		}
	}
}

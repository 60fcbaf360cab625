//go:build unix

// Package standings measures how late a leaderboard is, and what it costs the
// claim path, while claims are won: ours beside a ZSET that the claim's script
// keeps on Redis, and beside a materialised view in PostgreSQL.
//
// Each system has clients that watch its boards on WebSockets, on the loopback,
// through its gateway. A claim's lag ends when a client has a board that
// reflects it.
package standings

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"time"

	"github.com/veltrix/cairn/bench/claims/peer"
	"github.com/veltrix/cairn/bench/claims/world"
	"github.com/veltrix/cairn/internal/lab"
)

// Options says what is measured. See [Short] and [Full].
type Options struct {
	Systems []string // of those that Systems returns; nil means all
	Rounds  int

	Hunts, Players int // that claims are spread over
	Tiles          int // of a map, at most
	Clients        int // that watch each hunt
	Shards         int // of ours

	Rate       float64       // won claims a second, paced
	Warm       time.Duration // of that what does not count, at first
	Paced      time.Duration // how long it does
	Saturated  time.Duration // how long without a pace, or until the tiles are won
	Callers    int           // without a pace
	Batch      int           // attempts that each of them has at once
	BatchPG    int           // of the materialised view's: what takes some 10 ms
	WinsMax    int           // tiles of ours without a pace,
	WinsMaxLua int           // of the ZSET,
	WinsMaxPG  int           // and of the materialised view: all are made beforehand

	Dir string                           // for what is on disk; "" means the system's for temporary files
	Say func(format string, args ...any) // progress; nil means nobody hears it
}

// The systems.
const (
	OursRedis   = "ours-redis"
	OursFilelog = "ours-filelog"
	ZSET        = "zset"
	View        = "materialised-view"
)

// Systems returns the names of all systems.
func Systems() []string { return []string{OursRedis, OursFilelog, ZSET, View} }

// Short returns options for a run of less than a minute.
func Short() Options {
	o := Full()
	o.Systems = []string{OursRedis, ZSET, View}
	o.Rounds, o.Paced, o.Saturated = 3, 1500*time.Millisecond, 700*time.Millisecond
	o.WinsMax, o.WinsMaxLua, o.WinsMaxPG = 600_000, 200_000, 30_000
	return o
}

// Full returns options for a run of some minutes.
func Full() Options {
	return Options{
		Systems: Systems(), Rounds: 5, Hunts: 8, Players: 10_000, Tiles: 2500, Clients: 4, Shards: 24,
		Rate: 20_000, Warm: 500 * time.Millisecond, Paced: 10 * time.Second, Saturated: 3 * time.Second, Callers: 16, Batch: 64, BatchPG: 4,
		WinsMax: 1_600_000, WinsMaxLua: 600_000, WinsMaxPG: 60_000,
	}
}

// Run measures all systems, in each round each with and without its boards,
// each round beginning with another system.
func Run(ctx context.Context, o Options) (*Report, error) {
	if o.Say == nil {
		o.Say = func(string, ...any) {}
	}
	if o.Systems == nil {
		o.Systems = Systems()
	}
	for _, s := range o.Systems {
		if !slices.Contains(Systems(), s) {
			return nil, fmt.Errorf("standings: system %q: want one of %v", s, Systems())
		}
	}
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // as the command has it
	l, err := lab.New(lab.Options{Parent: o.Dir})
	if err != nil {
		return nil, err
	}
	defer l.Close()
	b := &bench{opts: &o, lab: l}
	r := &Report{Hunts: o.Hunts, Players: o.Players, Clients: o.Hunts * o.Clients, Rate: o.Rate, Seconds: o.Paced.Seconds()}
	for round := range o.Rounds {
		for i := range o.Systems {
			name := o.Systems[(i+round)%len(o.Systems)]
			for _, load := range loadsOf(name) {
				// Which of the two comes first changes, too.
				for _, board := range []bool{round%2 == 0, round%2 != 0} {
					m, err := b.measure(ctx, name, load, board)
					if err != nil {
						return nil, fmt.Errorf("standings: %s, %s: %w", name, load, err)
					}
					m.Round = round
					r.Runs = append(r.Runs, m)
					o.Say("standings: round %d: %s", round+1, m)
				}
			}
		}
	}
	return r, nil
}

// The loads.
const (
	Paced     = "paced"
	Saturated = "saturated"
)

// loadsOf returns the loads of a system. PostgreSQL can't keep the pace.
func loadsOf(system string) []string {
	if system == View {
		return []string{Saturated}
	}
	return []string{Paced, Saturated}
}

// A bench starts systems, one at a time, each on a store of its own.
type bench struct {
	opts *Options
	lab  *lab.Lab
	n    int // of stores
}

// measure puts one load on one system, and waits until its boards have all of it.
func (b *bench) measure(ctx context.Context, name, load string, board bool) (_ *Measured, err error) {
	o := b.opts
	wins, batch := o.WinsMax, o.Batch
	switch {
	case load == Paced:
		wins = int(o.Rate * (o.Warm + o.Paced).Seconds())
	case name == ZSET:
		wins = o.WinsMaxLua
	case name == View:
		wins, batch = o.WinsMaxPG, o.BatchPG
	}
	c := clock{time.Now()}
	f := fieldOf(o, wins)
	if load == Saturated {
		big := *o
		big.Tiles = 1 << 16
		f = fieldOf(&big, wins)
	}
	s, stop, err := b.open(ctx, c, f, name, board)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.close(), stop()) }()
	runtime.GC()
	var done *shift
	var last places
	if load == Paced {
		done, last, err = pace(ctx, s, f, c, o.Rate, o.Warm, o.Paced)
	} else {
		done, last, err = saturate(ctx, s, f, c, o.Callers, batch, o.Saturated)
	}
	if err != nil {
		return nil, err
	}
	m := &Measured{System: name, Load: load, Board: board, Rate: done.rate(), Claims: len(done.wins), Latency: done.latency()}
	if !board {
		return m, nil
	}
	return m, m.observe(ctx, s, done, last)
}

// observe waits until every observer has seen all that was won, up to last, and
// notes how late each claim was.
func (m *Measured) observe(ctx context.Context, s system, done *shift, last places) (err error) {
	published, watching := s.observers()
	err = wait(ctx, "all boards to have all claims", func() bool {
		return !slices.ContainsFunc(slices.Concat(published, watching), func(o *observer) bool { return !o.has(last[o.hunt]) })
	})
	if err != nil {
		return err
	}
	if m.Published, err = lagOf(done.wins, published); err != nil {
		return err
	}
	if m.Client, err = lagOf(done.wins, watching); err != nil {
		return err
	}
	for _, o := range published {
		m.Boards += float64(o.count()) / done.seconds
	}
	for _, o := range watching {
		m.Frames += float64(o.count()) / done.seconds
	}
	return nil
}

// open starts a system. stop ends its store.
func (b *bench) open(ctx context.Context, c clock, f field, name string, board bool) (_ system, stop func() error, err error) {
	o := b.opts
	b.n++
	store := fmt.Sprintf("%s-%d", name, b.n)
	switch name {
	case OursFilelog:
		dir := filepath.Join(b.lab.Dir, store)
		if err := os.Mkdir(dir, 0o755); err != nil {
			return nil, nil, err
		}
		stop = func() error { return os.RemoveAll(dir) }
		s, err := openOurs(ctx, o, c, f, world.Options{Dir: dir}, board)
		return orStop(s, stop, err)
	case View:
		pg, err := b.lab.StartPostgres(ctx, store, lab.PostgresOptions{Durable: true, Settings: peer.PostgresSettings})
		if err != nil {
			return nil, nil, err
		}
		s, err := openView(ctx, o, c, f, pg.DSN(), board)
		return orStop(s, pg.Kill, err)
	}
	redis, err := b.lab.StartRedis(ctx, store)
	if err != nil {
		return nil, nil, err
	}
	if name == ZSET {
		s, err := openZSET(ctx, o, c, f, redis.Addr, board)
		return orStop(s, redis.Kill, err)
	}
	s, err := openOurs(ctx, o, c, f, world.Options{Redis: redis.URL()}, board)
	return orStop(s, redis.Kill, err)
}

// orStop ends the store of a system that did not open.
func orStop[T system](s T, stop func() error, err error) (system, func() error, error) {
	if err != nil {
		return nil, nil, errors.Join(err, stop())
	}
	return s, stop, nil
}

// wait asks often whether something has come about.
func wait(ctx context.Context, what string, ok func() bool) error {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	late := time.NewTimer(time.Minute)
	defer late.Stop()
	for !ok() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-late.C:
			return fmt.Errorf("waited a minute for %s", what)
		case <-tick.C:
		}
	}
	return nil
}

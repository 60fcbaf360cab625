package load

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/veltrix/cairn"
)

// Options tunes Run. Targets are required.
type Options struct {
	Targets     []string      // base URLs of the public API: players use the first, WebSockets all in turn
	Hunt        cairn.HuntID  // "" means the first that is live
	Connections int           // WebSockets that watch
	ConnectRate float64       // of them a second; 0 means as fast as it goes
	Codec       string        // json or proto; "" means json
	Regions     []string      // that they watch, as geohashes; none means the world
	Stalled     float64       // percent of them that stop reading once all are connected
	Worker      []string      // command line of a process that calls crowd.Work; nil has this one carry all WebSockets
	Players     int           // who claim; 0 means 200
	Rate        float64       // attempts a second, all players together; 0 sends none
	For         time.Duration // how long; 0 means 10s
	Crowd       int           // players that try each tile, at the same time; 0 means 1
	InFlight    int           // attempts that may wait for their answers; 0 means 4096
	Log         *slog.Logger  // nil discards

	// Progress is called once a second with what was done so far; nil is nobody.
	Progress func(Progress)
}

// A Progress is what a load has done so far.
type Progress struct {
	Elapsed, For time.Duration
	Connected    int   // sockets
	Deliveries   int64 // to them
	Attempts     int64 // answered
	Won          int64
	Failed       int64 // answered by nobody
	P99          time.Duration
}

func (o Options) withDefaults() (Options, error) {
	if o.Players == 0 {
		o.Players = 200
	}
	if o.For == 0 {
		o.For = 10 * time.Second
	}
	if o.Crowd == 0 {
		o.Crowd = 1
	}
	if o.InFlight == 0 {
		o.InFlight = 4096
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Codec == "" {
		o.Codec = "json"
	}
	if len(o.Regions) == 0 {
		o.Regions = []string{""}
	}
	var errs []error
	if len(o.Targets) == 0 {
		errs = append(errs, &cairn.FieldError{Field: "--target", Msg: "is missing; want a URL such as http://127.0.0.1:8080"})
	}
	for _, r := range o.Regions {
		if _, err := cairn.ParseCell(r); err != nil {
			errs = append(errs, &cairn.FieldError{Field: "--regions", Msg: err.Error()})
		}
	}
	if o.Codec != "json" && o.Codec != "proto" {
		errs = append(errs, &cairn.FieldError{Field: "--codec", Msg: fmt.Sprintf("is %q; want json or proto", o.Codec)})
	}
	check := func(field string, v, lo, hi float64) {
		if !(v >= lo && v <= hi) {
			errs = append(errs, &cairn.FieldError{Field: field, Msg: fmt.Sprintf("is %v; want %v to %v", v, lo, hi)})
		}
	}
	check("--connections", float64(o.Connections), 0, 1e6)
	check("--connect-rate", o.ConnectRate, 0, 1e6)
	check("--stalled", o.Stalled, 0, 100)
	check("--players", float64(o.Players), 1, 1e6)
	check("--rate", o.Rate, 0, 1e6)
	check("--crowd", float64(o.Crowd), 1, float64(o.Players))
	if o.For < time.Second || o.For > 24*time.Hour {
		errs = append(errs, &cairn.FieldError{Field: "--for", Msg: fmt.Sprintf("is %v; want 1s to 24h", o.For)})
	}
	return o, errors.Join(errs...)
}

// A run is one load.
type run struct {
	opts    Options
	client  *client
	hunt    cairn.HuntID
	players []player
	tiles   *tileBag
	stats   *stats
	probe   *probe   // decodes all that it is sent; nil without connections
	sockets *sockets // the others

	began atomic.Pointer[time.Time] // when the first attempt was due; nil before
}

// Run signs players in, connects sockets, and claims tiles at an even rate
// until the time is over or ctx ends, which is no error: the report then
// covers what was done. Attempts start when they are due, whether or not
// earlier ones were answered, and are timed from when they were due, so that a
// system that stalls can't hide it.
func Run(ctx context.Context, opts Options) (*Report, error) {
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	c, err := newClient(opts.Targets[0], opts.InFlight)
	if err != nil {
		return nil, err
	}
	defer c.close()
	r := &run{opts: opts, client: c, tiles: newTileBag(opts.Crowd), stats: newStats()}
	if r.hunt, err = c.liveHunt(ctx, opts.Hunt); err != nil {
		return nil, err
	}
	if err := r.signIn(ctx); err != nil {
		return nil, err
	}
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	var background sync.WaitGroup
	defer background.Wait()
	defer end()
	if err := r.connect(ctx, life, &background); err != nil {
		return nil, err
	}
	defer r.sockets.close()
	start := time.Now()
	r.began.Store(&start)
	r.drive(ctx)
	took := time.Since(start)
	r.linger(ctx)
	if err := r.sockets.settle(ctx); err != nil {
		return nil, err
	}
	return r.report(start, took), nil
}

// parallel runs f for 0 to n-1, at most width at a time, and returns the first
// error.
func parallel(ctx context.Context, n, width int, f func(ctx context.Context, i int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(n, width) {
		wg.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				if err := f(ctx, i); err != nil {
					cancel(err)
				}
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

func (r *run) signIn(ctx context.Context) error {
	if r.opts.Rate == 0 {
		return nil
	}
	r.players = make([]player, r.opts.Players)
	err := parallel(ctx, len(r.players), 32, func(ctx context.Context, i int) (err error) {
		r.players[i], err = r.client.signIn(ctx, fmt.Sprintf("load %d", i+1))
		return err
	})
	if err != nil {
		return fmt.Errorf("signing players in: %w", err)
	}
	return nil
}

// drive sends attempts at the rate until the time is over.
func (r *run) drive(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, r.opts.For)
	defer cancel()
	var background, flying sync.WaitGroup
	background.Go(func() { r.followMaps(ctx) })
	defer background.Wait()
	// Answers to what was sent count, also those that come after the end.
	defer flying.Wait()
	if r.opts.Rate == 0 {
		<-ctx.Done()
		return
	}
	slots := make(chan struct{}, r.opts.InFlight)
	answers := context.WithoutCancel(ctx)
	start := time.Now()
	for n := 0; ; n++ {
		due := start.Add(time.Duration(float64(n) / r.opts.Rate * float64(time.Second)))
		if !sleepUntil(ctx, due) {
			return
		}
		p := &r.players[n%len(r.players)]
		tile, ok := r.tiles.take(cairn.InstantOf(due))
		if !ok {
			r.stats.starved.Add(1)
			continue
		}
		select {
		case slots <- struct{}{}:
		default:
			r.stats.shed.Add(1)
			continue
		}
		flying.Go(func() {
			defer func() { <-slots }()
			r.attempt(answers, p, tile, due)
		})
	}
}

// sleepUntil waits for t and reports whether ctx still lives. It returns at
// once for a time that has passed: what is late is made up for.
func sleepUntil(ctx context.Context, t time.Time) bool {
	if d := time.Until(t); d > 0 {
		return sleep(ctx, d)
	}
	return ctx.Err() == nil
}

// attempt solves a tile's puzzle and claims it.
func (r *run) attempt(ctx context.Context, p *player, t tile, due time.Time) {
	answer, token, err := r.client.solve(ctx, r.hunt, t.tick, t.index, t.kind, p.Token)
	if err != nil {
		r.stats.failed(err)
		return
	}
	if t.kind != cairn.Tap {
		due = time.Now() // the puzzle was fetched first: the claim begins here
	}
	o, err := r.client.claim(ctx, r.hunt, p.Token, attempt{Map: t.tick, Tile: t.index, Answer: answer, Token: token})
	now := time.Now()
	if err != nil {
		r.stats.failed(err)
		return
	}
	r.stats.answered(o.Outcome, now.Sub(due))
	if o.Outcome == "won" && r.probe != nil {
		r.probe.expect(tileKey{t.tick, t.index}, o.Offset, due)
	}
}

// followMaps keeps the bag filled with the tiles of the newest maps.
func (r *run) followMaps(ctx context.Context) {
	maps := mapWatch{c: r.client, hunt: r.hunt}
	for {
		m, err := maps.next(ctx)
		switch {
		case err == nil && m != nil:
			r.tiles.add(m)
		case err != nil && ctx.Err() == nil:
			r.stats.failed(fmt.Errorf("current map: %w", err))
		}
		if !sleep(ctx, 200*time.Millisecond) {
			return
		}
	}
}

// tell calls Progress once a second.
func (r *run) tell(ctx context.Context) {
	if r.opts.Progress == nil {
		return
	}
	for sleep(ctx, time.Second) {
		p := r.stats.progress()
		p.For = r.opts.For
		if began := r.began.Load(); began != nil {
			p.Elapsed = min(time.Since(*began), p.For)
		}
		p.Connected, p.Deliveries = r.sockets.progress()
		r.opts.Progress(p)
	}
}

// linger gives the last claims time to reach the sockets.
func (r *run) linger(ctx context.Context) {
	if r.probe == nil {
		return
	}
	for end := time.Now().Add(2 * time.Second); r.probe.waiting() > 0 && time.Now().Before(end); {
		if !sleep(ctx, 10*time.Millisecond) {
			return
		}
	}
}

// A tile is one to try.
type tile struct {
	tick   cairn.Tick
	index  uint32
	kind   cairn.PuzzleKind
	closes cairn.Instant
}

// A tileBag holds the tiles that were not tried yet, newest map first.
type tileBag struct {
	mu    sync.Mutex
	crowd int
	seen  cairn.Tick
	left  []tile
	last  tile
	tries int // left on last
}

func newTileBag(crowd int) *tileBag { return &tileBag{crowd: crowd, seen: -1} }

func (b *tileBag) add(m *treasureMap) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if m.Tick <= b.seen {
		return
	}
	b.seen = m.Tick
	for _, i := range rand.Perm(len(m.Tiles)) {
		b.left = append(b.left, tile{m.Tick, m.Tiles[i].Index, m.Tiles[i].Puzzle, m.Closes})
	}
}

// take returns a tile that is open at now: each one crowd times in a row.
func (b *tileBag) take(now cairn.Instant) (tile, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.tries > 0 {
		b.tries--
		return b.last, true
	}
	for len(b.left) > 0 {
		t := b.left[len(b.left)-1]
		b.left = b.left[:len(b.left)-1]
		if t.closes > now.Add(time.Second) {
			b.last, b.tries = t, b.crowd-1
			return t, true
		}
	}
	return tile{}, false
}

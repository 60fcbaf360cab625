package play

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/bench/chaos/gap"
	"github.com/veltrix/cairn/bench/chaos/history"
	"github.com/veltrix/cairn/bench/program"
)

// When players stop asking, after a map's close, and how long a holder waits
// before asking again. A claims process remembers a map for ten minutes after
// its close.
const (
	againWithin   = 60 * time.Second
	giveUpAfter   = 90 * time.Second
	checkAfter    = giveUpAfter + answerWithin + 10*time.Second
	retryAfterMin = 100 * time.Millisecond
	retryAfterMax = time.Second
)

// Options tunes a Play.
type Options struct {
	Hunt     cairn.HuntID
	Tick     time.Duration   // of the hunt
	Lifetime time.Duration   // of its maps
	Gateways func() []string // bases of the gateways that take requests now
	Players  int             // 0 means 64
	Rate     float64         // tiles a second
	Pace     func() float64  // multiplies Rate from now on, above 0; nil means 1, always
	Crowd    int             // players that try for each tile at once; 0 means 2
	Batch    int             // tiles in an array; 0 means 8
	Again    float64         // the share of winners who ask again; 0 means none
	InFlight int             // arrays at most; 0 means 8192
	Seed     uint64
	Log      *slog.Logger // nil discards
}

// A Play is players at play.
type Play struct {
	// Static after New.
	opts    Options
	client  *client
	players []player
	number  map[string]history.Player // by id
	start   time.Time

	History   *history.Log
	Shards    []*gap.Track // a decided answer of each shard
	Maps      *gap.Track   // a new map, against when it should have opened
	Standings *gap.Track   // standings that are newer than before
	Rewards   *gap.Track   // a player's balance that is higher than before

	bag   *bag
	wheel *wheel
	stats *stats
}

// New signs players in.
func New(ctx context.Context, opts Options) (*Play, error) {
	if opts.Players == 0 {
		opts.Players = 64
	}
	if opts.Crowd == 0 {
		opts.Crowd = 2
	}
	if opts.Batch == 0 {
		opts.Batch = 8
	}
	if opts.InFlight == 0 {
		opts.InFlight = 8192
	}
	if opts.Pace == nil {
		opts.Pace = func() float64 { return 1 }
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	if opts.Crowd > opts.Players {
		return nil, fmt.Errorf("play: %d players try for each tile; want at most all %d", opts.Crowd, opts.Players)
	}
	p := &Play{
		opts: opts, client: newClient(opts.Gateways, 512), number: map[string]history.Player{},
		History: history.NewLog(), Maps: new(gap.Track), Standings: new(gap.Track), Rewards: new(gap.Track),
		bag: newBag(opts.Batch, opts.Seed), wheel: newWheel(),
	}
	for range cairn.ShardsMax {
		p.Shards = append(p.Shards, new(gap.Track))
	}
	for i := range opts.Players {
		who, err := p.client.signIn(ctx, fmt.Sprintf("chaos %d", i+1))
		if err != nil {
			return nil, err
		}
		p.players = append(p.players, who)
		p.number[who.ID] = history.Player(i + 1)
	}
	p.start = time.Now()
	p.stats = &stats{start: p.start}
	return p, nil
}

// PlayerID returns who a number of the history is.
func (p *Play) PlayerID(n history.Player) string { return p.players[n-1].ID }

// Started is when the clocks of the history and of the counts began.
func (p *Play) Started() time.Time { return p.start }

// Touching returns what was counted in the seconds that touch a to b.
func (p *Play) Touching(a, b time.Time) (Counts, Waits) {
	c, w, _ := p.stats.between(a, b, true)
	return c, w
}

// Within returns what was counted in the whole seconds in a to b, and how many
// those are.
func (p *Play) Within(a, b time.Time) (Counts, Waits, int) { return p.stats.between(a, b, false) }

// Run plays until ctx ends; then players ask at once for all that they still
// want to ask again, and Run returns when everything is decided or given up,
// or hard ends. All that was told is checked then.
func (p *Play) Run(ctx, hard context.Context) {
	defer p.client.close()
	var loops, flights sync.WaitGroup
	loops.Go(func() { p.followMaps(ctx) })
	loops.Go(func() { p.followStandings(ctx) })
	loops.Go(func() { p.followRewards(ctx) })
	loops.Go(func() { p.askAgain(ctx, hard, &flights) })
	loops.Go(func() { p.check(ctx) })
	p.offer(ctx, hard, &flights)
	loops.Wait()
	flights.Wait()
	p.ask(hard, &flights, time.Now().Add(2*againWithin))
	flights.Wait()
	p.History.Check(1 << 62)
}

// offer has batches claimed at the rate, whether or not earlier ones were
// answered.
func (p *Play) offer(ctx, hard context.Context, flights *sync.WaitGroup) {
	slots := make(chan struct{}, p.opts.InFlight)
	rng := rand.New(rand.NewPCG(p.opts.Seed, 2))
	for due := time.Now(); ; {
		if d := time.Until(due); d > 0 && program.Sleep(ctx, d) != nil || ctx.Err() != nil {
			return
		}
		b, ok := p.bag.take(due)
		now := due
		if !ok {
			due = p.after(due, p.opts.Batch)
			p.stats.count(now, Counts{Starved: int64(p.opts.Batch)})
			continue
		}
		due = p.after(due, len(b.tiles))
		first := rng.IntN(len(p.players))
		for i := range p.opts.Crowd {
			select {
			case slots <- struct{}{}:
			default:
				p.stats.count(now, Counts{Shed: int64(len(b.tiles))})
				continue
			}
			who := (first + i) % len(p.players)
			flights.Go(func() {
				defer func() { <-slots }()
				p.race(hard, who, b, now)
			})
		}
	}
}

// after returns when the next is due, at the present pace, after so many tiles.
func (p *Play) after(due time.Time, tiles int) time.Time {
	return due.Add(time.Duration(float64(tiles) / (p.opts.Rate * p.opts.Pace()) * float64(time.Second)))
}

// race has a player try for the tiles of a batch until all are decided.
func (p *Play) race(ctx context.Context, who int, b batch, due time.Time) {
	left := make([]question, len(b.tiles))
	for i, tile := range b.tiles {
		left[i] = question{b.tick, tile, b.closes}
	}
	p.try(ctx, who, left, func(q question, a *answer, at time.Time) {
		p.Shards[b.shard].Good(at)
		var c Counts
		switch a.told {
		case history.Won:
			c.Won = 1
		case history.Gone:
			c.Gone = 1
		case history.Closed:
			c.Closed = 1
		case history.Unknown:
			c.Unknown = 1
		}
		p.stats.count(at, c)
		p.stats.waited(due, at.Sub(due), 1)
		share := p.opts.Again
		if a.told != history.Won {
			share /= 20 // losers ask too, but what is asked of interest is told to holders
		}
		if rand.Float64() < share {
			p.wheel.put(at.Add(time.Second+rand.N(againWithin)), who, q)
		}
	})
}

// try asks for what is left, through one gateway after another, until all is
// decided, it is given up or ctx ends. Each answer that decides is given to
// decided.
func (p *Play) try(ctx context.Context, who int, left []question, decided func(question, *answer, time.Time)) {
	base := p.client.gateway()
	pause := retryAfterMin
	for tries := 1; ; tries++ {
		body := []byte{'['}
		for i, q := range left {
			if i > 0 {
				body = append(body, ',')
			}
			body = appendBody(body, q.tick, q.tile)
		}
		call := time.Now()
		answers, err := p.client.claim(ctx, base, p.opts.Hunt, p.players[who].Token, append(body, ']'), len(left))
		at := time.Now()
		if err != nil {
			p.opts.Log.Debug("no answer", "gateway", base, "tries", tries, "err", err)
			answers = make([]answer, len(left))
		}
		p.note(who, left, answers, err, call, at)
		var still []question
		for i, q := range left {
			switch {
			case answers[i].told != history.Nothing:
				decided(q, &answers[i], at)
			case at.After(q.closes.Add(giveUpAfter)):
				p.stats.count(at, Counts{GivenUp: 1})
			default:
				still = append(still, q)
			}
		}
		if left = still; len(left) == 0 {
			return
		}
		// A socket that broke is no reason to wait: there are other gateways.
		if (err == nil || tries > 1) && program.Sleep(ctx, pause/2+rand.N(pause)) != nil || ctx.Err() != nil {
			p.stats.count(at, Counts{GivenUp: int64(len(left))})
			return
		}
		pause = min(2*pause, retryAfterMax)
		base = p.client.gateway()
	}
}

// note writes down what was told.
func (p *Play) note(who int, qs []question, answers []answer, err error, call, at time.Time) {
	var c Counts
	ops := make([]history.Op, len(qs))
	for i, q := range qs {
		a := &answers[i]
		ops[i] = history.Op{
			Call: int64(call.Sub(p.start)), Return: int64(at.Sub(p.start)), Tile: q.tile,
			Told: a.told, Player: history.Player(who + 1), Place: a.place,
		}
		switch {
		case a.told == history.Gone:
			if ops[i].Holder = p.number[a.holder]; ops[i].Holder == 0 {
				ops[i].Holder = -1 // somebody who does not play: no history allows it
			}
		case a.told != history.Nothing:
		case err != nil:
			c.Failed++
		case a.why == "pending":
			c.Pending++
		case a.why == "throttled":
			c.Throttled++
		default:
			c.Unavailable++
		}
	}
	p.stats.count(at, c)
	for from := 0; from < len(qs); {
		to := from + 1
		for to < len(qs) && qs[to].tick == qs[from].tick {
			to++
		}
		p.History.Add(qs[from].tick, ops[from:to]...)
		from = to
	}
}

// askAgain has players ask for what is on the wheel until ctx ends.
func (p *Play) askAgain(ctx, hard context.Context, flights *sync.WaitGroup) {
	for program.Sleep(ctx, time.Second) == nil {
		p.ask(hard, flights, time.Now())
	}
}

// arrayMax is how many attempts an array may have.
const arrayMax = 256

// ask has players ask, in the next second, for what is on the wheel until t.
func (p *Play) ask(ctx context.Context, flights *sync.WaitGroup, t time.Time) {
	for who, qs := range p.wheel.take(t) {
		for len(qs) > 0 {
			n := min(arrayMax, len(qs))
			some := qs[:n:n]
			qs = qs[n:]
			flights.Go(func() {
				if program.Sleep(ctx, rand.N(time.Second)) != nil {
					return
				}
				p.try(ctx, who, some, func(_ question, _ *answer, at time.Time) {
					p.stats.count(at, Counts{Again: 1})
				})
			})
		}
	}
}

// check checks the history of maps that nobody asks for any more.
func (p *Play) check(ctx context.Context) {
	for program.Sleep(ctx, 5*time.Second) == nil {
		// Map n opens n ticks after the Unix epoch.
		opened := time.Now().Add(-checkAfter - p.opts.Lifetime)
		p.History.Check(cairn.Tick(opened.UnixNano() / int64(p.opts.Tick)))
	}
}

var errNoMap = errors.New("play: no map was seen")

// AwaitMap waits until there is a map to play on.
func (p *Play) AwaitMap(ctx context.Context) error {
	for {
		_, ok, err := p.client.current(ctx, p.client.gateway(), p.opts.Hunt, "")
		if ok {
			return nil
		}
		if program.Sleep(ctx, 100*time.Millisecond) != nil {
			return errors.Join(errNoMap, err, ctx.Err())
		}
	}
}

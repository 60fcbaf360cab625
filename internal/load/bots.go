package load

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/veltrix/cairn"
)

// BotOptions tunes RunBots. Target is required.
type BotOptions struct {
	Target string       // base URL of the public API
	Bots   int          // how many; 0 means 12
	Hunt   cairn.HuntID // "" means the first that is live, looked up anew when it ends
	Log    *slog.Logger // nil discards
}

// think is how long a bot looks at a puzzle of each kind before it answers,
// about as long as a practised player: it gives people a chance.
var think = map[cairn.PuzzleKind]time.Duration{
	cairn.Tap:    700 * time.Millisecond,
	cairn.Cipher: 6 * time.Second,
	cairn.Lights: 9 * time.Second,
	cairn.Echo:   5 * time.Second,
	cairn.Odd:    6 * time.Second,
}

const (
	botSlip   = 0.08            // how often a bot answers wrong the first time
	botRest   = 3 * time.Second // mean time between two tiles
	botLook   = 500 * time.Millisecond
	botRetry  = time.Second
	botMemory = 40 // maps in view of the bots
)

var botNames = []string{
	"Ada", "Bjarne", "Chimalma", "Dag", "Edda", "Fenn", "Grace", "Hedy", "Ines", "Jorunn", "Kalle", "Liv",
	"Mirza", "Nils", "Oona", "Pia", "Quill", "Runa", "Sven", "Tove", "Una", "Vidar", "Wren", "Ylva",
}

// A crew is bots that share one view of the hunt: they see the same maps, as
// people who look at the same page do.
type crew struct {
	client *client
	opts   BotOptions
	hunt   atomic.Pointer[cairn.HuntID]

	mu   sync.Mutex
	maps []*treasureMap // open ones, oldest first
	gone map[tileKey]bool
}

type tileKey struct {
	tick cairn.Tick
	tile uint32
}

// RunBots plays until ctx ends, through whatever restarts the system goes: a
// bot that can't reach it tries again. It returns an error only for options
// that can't work.
func RunBots(ctx context.Context, opts BotOptions) error {
	if opts.Bots == 0 {
		opts.Bots = 12
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	c, err := newClient(opts.Target, opts.Bots+1)
	if err != nil {
		return err
	}
	defer c.close()
	crew := &crew{client: c, opts: opts, gone: map[tileKey]bool{}}
	var wg sync.WaitGroup
	wg.Go(func() { crew.look(ctx) })
	for i := range opts.Bots {
		wg.Go(func() { crew.play(ctx, i) })
	}
	wg.Wait()
	return nil
}

// look keeps the crew's view of the hunt fresh.
func (c *crew) look(ctx context.Context) {
	maps := mapWatch{c: c.client}
	for sleep(ctx, botLook) {
		id, err := c.client.liveHunt(ctx, c.opts.Hunt)
		if err != nil {
			c.hunt.Store(nil)
			continue
		}
		c.hunt.Store(&id)
		if maps.hunt != id {
			maps = mapWatch{c: c.client, hunt: id}
		}
		if m, err := maps.next(ctx); err == nil && m != nil {
			c.see(m)
		}
	}
}

func (c *crew) see(m *treasureMap) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := cairn.InstantOf(time.Now())
	open := c.maps[:0]
	for _, old := range c.maps {
		if old.Closes > now && old.Tick != m.Tick {
			open = append(open, old)
		}
	}
	c.maps = append(open, m)
	if len(c.maps) > botMemory {
		c.maps = c.maps[1:]
	}
	for k := range c.gone {
		if k.tick < c.maps[0].Tick {
			delete(c.gone, k)
		}
	}
}

// pick chooses an open tile that nobody of the crew has seen taken, and keeps
// the others of the crew off it.
func (c *crew) pick() (m *treasureMap, tile int, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for range 20 {
		if len(c.maps) == 0 {
			return nil, 0, false
		}
		m = c.maps[rand.IntN(len(c.maps))]
		if len(m.Tiles) == 0 {
			continue
		}
		tile = rand.IntN(len(m.Tiles))
		k := tileKey{m.Tick, m.Tiles[tile].Index}
		left := time.Until(m.Closes.Time())
		if !c.gone[k] && left > 2*think[m.Tiles[tile].Puzzle] {
			c.gone[k] = true
			return m, tile, true
		}
	}
	return nil, 0, false
}

// play is the life of one bot.
func (c *crew) play(ctx context.Context, i int) {
	name := fmt.Sprintf("%s ⚙", botNames[i%len(botNames)])
	if n := i / len(botNames); n > 0 {
		name = fmt.Sprintf("%s %d ⚙", botNames[i%len(botNames)], n+1)
	}
	var me player
	for sleep(ctx, jitter(botRest)) {
		id := c.hunt.Load()
		if id == nil {
			continue
		}
		if me.Token == "" {
			p, err := c.client.signIn(ctx, name)
			if err != nil {
				c.opts.Log.Debug("bot can't sign in", "bot", name, "err", err)
				continue
			}
			me = p
		}
		m, tile, ok := c.pick()
		if !ok {
			continue
		}
		if err := c.try(ctx, *id, &me, m, tile); err != nil && ctx.Err() == nil {
			c.opts.Log.Debug("bot gave up on a tile", "bot", name, "err", err)
			var p *problem
			if errors.As(err, &p) && p.Status == http.StatusUnauthorized {
				me = player{}
			}
			sleep(ctx, botRetry)
		}
	}
}

// try solves a tile's puzzle, as slowly as a person, and claims it.
func (c *crew) try(ctx context.Context, hunt cairn.HuntID, me *player, m *treasureMap, tile int) error {
	t := &m.Tiles[tile]
	answer, token, err := c.client.solve(ctx, hunt, m.Tick, t.Index, t.Puzzle, me.Token)
	if err != nil || !sleep(ctx, jitter(think[t.Puzzle])) {
		return err
	}
	a := attempt{Map: m.Tick, Tile: t.Index, Answer: answer, Token: token}
	if t.Puzzle != cairn.Tap && rand.Float64() < botSlip {
		slip := a
		slip.Answer += "?"
		if _, err := c.client.claim(ctx, hunt, me.Token, slip); err != nil || !sleep(ctx, jitter(think[t.Puzzle]/3)) {
			return err
		}
	}
	_, err = c.client.claim(ctx, hunt, me.Token, a)
	return err
}

// jitter returns a time of mean d, from d/2 to 3d/2.
func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d) }

// sleep waits for d and reports whether ctx still lives.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

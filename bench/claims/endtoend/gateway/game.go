//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/time/rate"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/bench/claims/peer"
	"github.com/veltrix/cairn/bench/claims/world"
	"github.com/veltrix/cairn/internal/wire"
)

const (
	lifetime = 30 * time.Second // of a map; a new one opens each second
	ahead    = 3                // maps that are prepared before they open
)

// The limits of a player: as high as ours are set for a bench.
const (
	claimRate  = 1_000_000
	claimBurst = 1_000_000
)

// A game is one hunt, on a store that others keep.
type game struct {
	hunt     string
	claimer  peer.Claimer
	follower *pgxpool.Pool // nil where there are no standings
	cells    []string      // by tile
	rewards  []int64       // likewise
	key      []byte        // signs tokens

	players  sync.Map // token → *player
	prepared int64    // the newest tick; owned by prepareAll

	mu      sync.Mutex
	sockets map[net.Conn]struct{} // nil once all is over
	serving sync.WaitGroup
}

// A player is one whose token was verified.
type player struct {
	id, name string
	bucket   *rate.Limiter
}

func newGame(hunt string, tiles int) *game {
	g := &game{hunt: hunt, key: []byte("a key of a benchmark, 32 bytes or more"), sockets: map[net.Conn]struct{}{}}
	for i := range tiles {
		g.cells = append(g.cells, world.Cell(i).String())
		g.rewards = append(g.rewards, int64(world.Reward(i)))
	}
	return g
}

// prepare makes the maps claimable that open until a little after now.
func (g *game) prepare(ctx context.Context, now time.Time) error {
	tiles := make([]peer.Tile, len(g.cells))
	for i := range tiles {
		tiles[i] = peer.Tile{Geohash: g.cells[i], Reward: g.rewards[i]}
	}
	if g.prepared == 0 {
		g.prepared = now.Unix() - 1
	}
	for g.prepared < now.Unix()+ahead {
		if err := g.claimer.Prepare(ctx, &peer.Map{Hunt: g.hunt, Tick: g.prepared + 1, Tiles: tiles}); err != nil {
			return err
		}
		g.prepared++
	}
	return nil
}

func (g *game) prepareAll(ctx context.Context) error {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			if err := g.prepare(ctx, now); err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
}

type tokenClaims struct {
	jwt.RegisteredClaims
	Name string `json:"name"`
}

// signIn makes a player, and its token.
func (g *game) signIn(id, name string) (string, error) {
	return jwt.NewWithClaims(jwt.SigningMethodHS256, tokenClaims{Name: name, RegisteredClaims: jwt.RegisteredClaims{
		Subject: id, ExpiresAt: jwt.NewNumericDate(time.Now().Add(24 * time.Hour)),
	}}).SignedString(g.key)
}

// who returns whose token it is. A token that was good once is known.
func (g *game) who(token string) (*player, error) {
	if p, ok := g.players.Load(token); ok {
		return p.(*player), nil
	}
	var c tokenClaims
	if _, err := jwt.ParseWithClaims(token, &c, func(*jwt.Token) (any, error) { return g.key, nil }, jwt.WithValidMethods([]string{"HS256"})); err != nil {
		return nil, err
	}
	p, _ := g.players.LoadOrStore(token, &player{id: c.Subject, name: c.Name, bucket: rate.NewLimiter(claimRate, claimBurst)})
	return p.(*player), nil
}

// A batch is claims that are decided together. It is used again.
type batch struct {
	claims   []wire.ClaimFrame
	attempts []peer.Attempt
	outcomes []peer.Outcome
	out      []byte
	text     wire.Text
}

func (b *batch) clear() {
	b.claims, b.attempts, b.out = b.claims[:0], b.attempts[:0], b.out[:0]
}

var errClosed = errors.New("closed")

// check returns why a claim can't be tried.
func (g *game) check(c *wire.ClaimFrame, now time.Time) error {
	opens := time.Unix(int64(c.Map), 0)
	switch {
	case string(c.Hunt) != g.hunt || int(c.Tile) >= len(g.cells):
		return errors.New("unknown_tile")
	case now.Before(opens) || !now.Before(opens.Add(lifetime)):
		return errClosed
	}
	return nil
}

// decide decides a batch's claims for a player, and fills outcomes: those of
// the attempts alone, which are all claims that check lets through.
func (g *game) decide(ctx context.Context, p *player, b *batch, now time.Time) error {
	for i := range b.claims {
		c := &b.claims[i]
		if err := g.check(c, now); err != nil {
			return fmt.Errorf("%s/%d/%d: %w", c.Hunt, c.Map, c.Tile, err)
		}
		b.attempts = append(b.attempts, peer.Attempt{
			Hunt: string(c.Hunt), Tick: int64(c.Map), Tile: c.Tile, Player: p.id, Reward: g.rewards[c.Tile], Geohash: g.cells[c.Tile],
		})
	}
	if !p.bucket.AllowN(now, len(b.claims)) {
		return errors.New("throttled")
	}
	if n := len(b.attempts); n > cap(b.outcomes) {
		b.outcomes = make([]peer.Outcome, n)
	}
	b.outcomes = b.outcomes[:len(b.attempts)]
	return g.claimer.Claim(ctx, b.attempts, b.outcomes)
}

// appendOutcome appends what came of a claim, as members of a JSON object: those
// that ours has, but for what the store does not tell.
func (g *game) appendOutcome(b []byte, c *wire.ClaimFrame, o *peer.Outcome, now time.Time) []byte {
	word := `"outcome":"gone","hunt":"`
	if o.Won {
		word = `"outcome":"won","hunt":"`
	}
	b = append(append(b, word...), g.hunt...)
	b = strconv.AppendInt(append(b, `","map":`...), int64(c.Map), 10)
	b = strconv.AppendUint(append(b, `,"tile":`...), uint64(c.Tile), 10)
	if o.Won {
		b = strconv.AppendInt(append(b, `,"reward":`...), g.rewards[c.Tile], 10)
	} else {
		b = append(append(append(b, `,"winner":"`...), o.Holder...), '"')
	}
	b, _ = cairn.InstantOf(now).AppendText(append(b, `,"at":"`...)) // can't fail
	return append(b, '"')
}

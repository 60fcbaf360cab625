package play

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/veltrix/cairn/bench/chaos/gap"
	"github.com/veltrix/cairn/bench/program"
)

// How often maps, standings and rewards are looked at.
const (
	mapsEvery  = 100 * time.Millisecond
	otherEvery = 200 * time.Millisecond
)

// followMaps fills the bag with new maps until ctx ends.
func (p *Play) followMaps(ctx context.Context) {
	base := p.client.gateway()
	var last chart
	for ctx.Err() == nil {
		m, ok, err := p.client.current(ctx, base, p.opts.Hunt, last.etag)
		switch {
		case err != nil:
			base = p.client.gateway()
		case ok && m.tick > last.tick:
			now := time.Now()
			if last.tick != 0 {
				p.Maps.Late(last.opens.Add(p.opts.Tick), now, m.opens.Add(p.opts.Tick))
			}
			last = m
			p.bag.add(p.opts.Hunt, &m)
		}
		_ = program.Sleep(ctx, mapsEvery)
	}
}

// followStandings notes each time that the standings change, until ctx ends.
func (p *Play) followStandings(ctx context.Context) {
	path := "/v1/hunts/" + string(p.opts.Hunt) + "/standings?limit=1"
	p.follow(ctx, path, "", p.Standings, func(h http.Header, _ []byte) []byte { return []byte(h.Get("ETag")) })
}

// followRewards notes each time that a player's balance changes, until ctx
// ends.
func (p *Play) followRewards(ctx context.Context) {
	p.follow(ctx, "/v1/players/me/rewards?limit=1", p.players[0].Token, p.Rewards, func(_ http.Header, b []byte) []byte {
		var body struct{ Balance json.Number }
		if json.Unmarshal(b, &body) != nil {
			return nil
		}
		return []byte(body.Balance)
	})
}

// follow asks for path again and again until ctx ends, and notes each time
// that what is seen in the answer differs. It stays with one gateway while
// that answers.
func (p *Play) follow(ctx context.Context, path, token string, t *gap.Track, see func(http.Header, []byte) []byte) {
	base := p.client.gateway()
	var last []byte
	for ctx.Err() == nil {
		within, cancel := context.WithTimeout(ctx, 2*time.Second)
		status, h, b, err := p.client.send(within, http.MethodGet, base, path, token, nil)
		cancel()
		if err != nil || status != http.StatusOK {
			base = p.client.gateway()
		} else if now := see(h, b); len(now) > 0 && !bytes.Equal(now, last) {
			t.Good(time.Now())
			last = now
		}
		_ = program.Sleep(ctx, otherEvery)
	}
}

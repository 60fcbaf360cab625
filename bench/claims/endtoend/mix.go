//go:build unix

package endtoend

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// A Mixed is what came of the mix of reads and claims over HTTP, on one system.
// Latencies are from when a request was due.
type Mixed struct {
	System    string  `json:"system"`
	Rate      float64 `json:"requests_per_s"`
	ReadP50   float64 `json:"read_p50_us"`
	ReadP99   float64 `json:"read_p99_us"`
	ClaimP50  float64 `json:"claim_p50_us"`
	ClaimP99  float64 `json:"claim_p99_us"`
	CPU       float64 `json:"server_cpu_share"` // of a core: all processes but the players'
	StaleP50  float64 `json:"stale_p50_ms"`     // the age of what standings lack
	StaleP99  float64 `json:"stale_p99_ms"`
	ReplayP50 float64 `json:"replication_lag_p50_ms,omitempty"` // from a position of the primary's log to its replay
	ReplayP99 float64 `json:"replication_lag_p99_ms,omitempty"`
}

// String returns what there is to say while more is measured.
func (m *Mixed) String() string {
	s := fmt.Sprintf("%s: %.0f requests/s; reads p50 %.2f ms, p99 %.2f ms; claims p50 %.2f ms, p99 %.2f ms; standings p99 %.0f ms old",
		m.System, m.Rate, m.ReadP50/1000, m.ReadP99/1000, m.ClaimP50/1000, m.ClaimP99/1000, m.StaleP99)
	if m.ReplayP99 > 0 {
		s += fmt.Sprintf("; the follower p99 %.1f ms behind", m.ReplayP99)
	}
	return s
}

const standingsPath = "/v1/hunts/" + hunt + "/standings?limit=100"

// mix measures a system by the mix.
func (b *bench) mix(ctx context.Context, name string) (_ *Mixed, err error) {
	s, err := b.start(ctx, name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.end()) }()
	c := newCaller(s.addr)
	defer c.close()
	x := &mixer{bench: b, system: s, caller: c, wins: map[target]int{}}
	if x.tokens, err = c.signIn(ctx, b.opts.MixPlayers); err != nil {
		return nil, err
	}
	if err := s.await(ctx); err != nil {
		return nil, err
	}
	if err := x.seed(ctx); err != nil {
		return nil, err
	}
	// The first views and plans, and connections, are made when it counts.
	if err := x.play(ctx, time.Second); err != nil {
		return nil, err
	}
	x.reads, x.claims = histogram{}, histogram{}
	life, stop := context.WithCancel(ctx)
	defer stop()
	var ages, lags histogram
	watched := make(chan error, 1)
	go func() { watched <- x.watch(life, &ages, &lags) }()
	before, start := cpuOf(s), time.Now()
	err = x.play(ctx, b.opts.Mix)
	took, used := time.Since(start).Seconds(), cpuOf(s)-before
	stop()
	if err := errors.Join(err, <-watched); err != nil {
		return nil, err
	}
	ms := func(h *histogram, q float64) float64 { return h.us(q) / 1000 }
	m := &Mixed{
		System: name, Rate: float64(x.reads.count()+x.claims.count()) / took, CPU: used / took,
		ReadP50: x.reads.us(50), ReadP99: x.reads.us(99), ClaimP50: x.claims.us(50), ClaimP99: x.claims.us(99),
		StaleP50: ms(&ages, 50), StaleP99: ms(&ages, 99), ReplayP50: ms(&lags, 50), ReplayP99: ms(&lags, 99),
	}
	return m, s.check(ctx, len(x.wins))
}

// A mixer is the players of a mix.
type mixer struct {
	*bench
	system *system
	caller *caller
	tokens []string

	mu            sync.Mutex
	wins          map[target]int // player
	reads, claims histogram
	errs          error
}

// seed gives the standings something to sort: each player tries some tiles.
func (x *mixer) seed(ctx context.Context) error {
	return each(len(x.tokens), 8, func(i int) error {
		ts := make([]target, x.opts.MixClaims)
		body := []byte{'['}
		for n := range ts {
			k := i*len(ts) + n
			ts[n] = target{x.system.first + int64(k/x.opts.Tiles)%mapsFirst, uint32(k % x.opts.Tiles)}
			body = append(appendBody(body, ts[n]), ',')
		}
		body[len(body)-1] = ']'
		b, err := x.caller.call(ctx, http.MethodPost, "/v1/hunts/"+hunt+"/claims", x.tokens[i], body)
		if err != nil {
			return err
		}
		var out []struct{ Outcome string }
		if err := json.Unmarshal(b, &out); err != nil || len(out) != len(ts) {
			return fmt.Errorf("%d outcomes of %d claims: %w: %.200s", len(out), len(ts), err, b)
		}
		for n := range out {
			if err := x.outcome(i, ts[n], out[n].Outcome == "won"); err != nil {
				return err
			}
		}
		return nil
	})
}

func appendBody(b []byte, t target) []byte {
	b = strconv.AppendInt(append(b, `{"map":`...), t.tick, 10)
	b = strconv.AppendUint(append(b, `,"tile":`...), uint64(t.tile), 10)
	return append(b, '}')
}

// outcome notes how a claim ended.
func (x *mixer) outcome(player int, t target, won bool) error {
	if !won {
		return nil
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if other, held := x.wins[t]; held && other != player {
		return fmt.Errorf("tile %d of map %d was won by two players", t.tile, t.tick)
	}
	x.wins[t] = player
	return nil
}

// play sends requests when they are due, whether or not earlier ones were
// answered, for as long as connections allow.
func (x *mixer) play(ctx context.Context, d time.Duration) error {
	total := int(x.opts.MixRate * d.Seconds())
	start := time.Now()
	r := rand.New(rand.NewPCG(7, uint64(start.UnixNano())))
	slots := make(chan struct{}, connectionsMax)
	var flying sync.WaitGroup
	for i := 0; i < total && ctx.Err() == nil; i++ {
		due := start.Add(time.Duration(float64(i) / x.opts.MixRate * float64(time.Second)))
		if d := time.Until(due); d > 0 {
			time.Sleep(d)
		}
		claim, player := r.IntN(100) < claimShare, r.IntN(len(x.tokens))
		t := x.system.draw(due, r, x.opts.Tiles)
		slots <- struct{}{}
		flying.Go(func() {
			defer func() { <-slots }()
			x.request(ctx, due, claim, player, t)
		})
	}
	flying.Wait()
	return errors.Join(x.errs, ctx.Err())
}

// request makes one request, and times it.
func (x *mixer) request(ctx context.Context, due time.Time, claim bool, player int, t target) {
	h := &x.reads
	var err error
	if claim {
		h = &x.claims
		var b []byte
		b, err = x.caller.call(ctx, http.MethodPost, "/v1/hunts/"+hunt+"/claims", x.tokens[player], appendBody(nil, t))
		if err == nil {
			err = x.outcome(player, t, bytes.Contains(b, []byte(`"outcome":"won"`)))
		}
	} else {
		_, err = x.caller.call(ctx, http.MethodGet, standingsPath, "", nil)
	}
	took := time.Since(due)
	x.mu.Lock()
	defer x.mu.Unlock()
	h.record(took)
	if err != nil && x.errs == nil {
		x.errs = err
	}
}

// lookEvery is how often it is looked how old the standings are.
const lookEvery = 50 * time.Millisecond

// watch looks, until ctx ends, how old standings are and how far a follower is
// behind.
func (x *mixer) watch(ctx context.Context, ages, lags *histogram) error {
	look := x.lagOfBoard
	if x.system.follower != nil {
		primary, err := pgx.Connect(ctx, x.system.primary.DSN())
		if err != nil {
			return err
		}
		defer primary.Close(context.WithoutCancel(ctx))
		follower, err := pgx.Connect(ctx, x.system.follower.DSN())
		if err != nil {
			return err
		}
		defer follower.Close(context.WithoutCancel(ctx))
		look = func(ctx context.Context, ages *histogram) error { return lagOfView(ctx, primary, follower, ages, lags) }
	}
	for ctx.Err() == nil {
		if err := look(ctx, ages); err != nil && ctx.Err() == nil {
			return fmt.Errorf("how old standings are: %w", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(lookEvery):
		}
	}
	return nil
}

// lagOfBoard asks ours, which says it with every answer.
func (x *mixer) lagOfBoard(ctx context.Context, ages *histogram) error {
	b, err := x.caller.call(ctx, http.MethodGet, "/v1/hunts/"+hunt+"/standings?limit=1", "", nil)
	if err != nil {
		return err
	}
	var board struct {
		LagMS int64 `json:"lag_ms"`
	}
	err = json.Unmarshal(b, &board)
	ages.record(time.Duration(board.LagMS) * time.Millisecond)
	return err
}

// lagOfView reads from the follower how old the newest claim of the view is,
// which has claims all the time, and waits for the follower to replay what the
// primary has logged.
func lagOfView(ctx context.Context, primary, follower *pgx.Conn, ages, lags *histogram) error {
	var age *float64
	if err := follower.QueryRow(ctx, "SELECT extract(epoch FROM clock_timestamp() - max(last_at))::float8 FROM standings").Scan(&age); err != nil {
		return err
	}
	if age != nil {
		ages.record(time.Duration(*age * float64(time.Second)))
	}
	var at string
	if err := primary.QueryRow(ctx, "SELECT pg_current_wal_flush_lsn()::text").Scan(&at); err != nil {
		return err
	}
	for start := time.Now(); ; time.Sleep(200 * time.Microsecond) {
		var there bool
		if err := follower.QueryRow(ctx, "SELECT pg_last_wal_replay_lsn() >= $1::text::pg_lsn", at).Scan(&there); err != nil {
			return err
		}
		if there {
			lags.record(time.Since(start))
			return nil
		}
	}
}

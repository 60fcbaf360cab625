//go:build unix

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/bench/chaos/history"
	"github.com/veltrix/cairn/bench/program"
)

// A verified is what `cairn verify` said at one time.
type verified struct {
	When   string  `json:"when"`
	At     float64 `json:"at_s"`
	Took   float64 `json:"took_ms"`
	Report struct {
		OK         bool  `json:"ok"`
		Records    int64 `json:"records"`
		Claims     int64 `json:"claims"`
		Rewards    int64 `json:"rewards"`
		Violations []struct {
			Log, Offset, What string
		} `json:"violations"`
		Total  int64 `json:"violations_total"`
		Ledger struct {
			Entries int64 `json:"entries"`
			Rewards int64 `json:"rewards"`
			Behind  int64 `json:"behind"`
		} `json:"ledger"`
	} `json:"report"`
}

// verify has cairn verify the logs and the ledger. A broken invariant is no
// error: it is in the report.
func (r *run) verify(ctx context.Context, when string) error {
	began := time.Now()
	out, err := r.fleet.Verify(ctx)
	v := verified{When: when, At: began.Sub(r.began).Seconds(), Took: ms(time.Since(began))}
	if json.Unmarshal(out, &v.Report) != nil {
		return fmt.Errorf("cairn verify (%s) printed no report: %w", when, err)
	}
	r.verified = append(r.verified, v)
	r.say("verify %s: %s", when, v)
	return nil
}

// String says in a line what was found.
func (v verified) String() string {
	p := v.Report
	s := fmt.Sprintf("ok=%v, %d claims, Σ log %d, %d entries, Σ ledger %d, %d claims behind, in %.1fs", p.OK, p.Claims, p.Rewards, p.Ledger.Entries, p.Ledger.Rewards, p.Ledger.Behind, v.Took/1000)
	for i, x := range p.Violations {
		if i == 5 {
			return s + fmt.Sprintf("\n        and %d more", p.Total-int64(i))
		}
		s += fmt.Sprintf("\n        %s %s: %s", x.Log, x.Offset, x.What)
	}
	return s
}

// finish lets the ledger have everything, ends the roles in good order,
// verifies what is left and compares it with what players were told.
func (r *run) finish(ctx context.Context) (*result, error) {
	for end := time.Now().Add(settleWithin); ; {
		if err := r.verify(ctx, "after the load"); err != nil {
			return nil, err
		}
		last := r.verified[len(r.verified)-1].Report
		if last.Ledger.Behind == 0 || time.Now().After(end) {
			break
		}
		r.verified = r.verified[:len(r.verified)-1] // it settles
		if err := program.Sleep(ctx, time.Second); err != nil {
			return nil, err
		}
	}
	if err := r.fleet.Drain(ctx); err != nil {
		return nil, err
	}
	if err := r.verify(ctx, "when all is drained"); err != nil {
		return nil, err
	}
	paid, err := r.compare(ctx)
	if err != nil {
		return nil, fmt.Errorf("comparing with the ledger: %w", err)
	}
	return r.result(paid), nil
}

// A comparison is the ledger, entry by entry, against what players were told
// to have won.
type comparison struct {
	Entries int64 `json:"entries"`
	Told    int64 `json:"told"`     // tiles that a player was told to have won
	Lost    int64 `json:"lost"`     // of them: not in the ledger, or another's there
	Moved   int64 `json:"moved"`    // of them: theirs, but at another place in the log than they were told
	NotTold int64 `json:"not_told"` // entries of which nobody was told: pending to the end

	Samples []string `json:"samples,omitempty"`
}

// compare reads the whole ledger.
func (r *run) compare(ctx context.Context) (c comparison, err error) {
	conn, err := pgx.Connect(ctx, r.fleet.Ledger.DSN())
	if err != nil {
		return c, err
	}
	defer conn.Close(ctx)
	rows, err := conn.Query(ctx, "SELECT map, tile, player, shard, epoch, seq, idx FROM entries WHERE hunt = $1 ORDER BY map", huntName)
	if err != nil {
		return c, err
	}
	defer rows.Close()
	type entry struct {
		player string
		place  cairn.Place
	}
	held := r.play.History.Held()
	seen := map[cairn.Tick]bool{}
	var tick cairn.Tick
	var entries map[uint32]entry
	settle := func() {
		if entries != nil {
			seen[tick] = true
			c.Entries += int64(len(entries))
			c.Told += int64(len(held[tick]))
			c.NotTold += int64(len(entries))
			for _, h := range held[tick] {
				e, ok := entries[h.Tile]
				if ok {
					c.NotTold--
				}
				switch {
				case !ok:
					r.lost(&c, tick, h, "nobody's")
				case e.player != r.play.PlayerID(h.Player):
					r.lost(&c, tick, h, e.player+"'s")
				case e.place != h.Place:
					c.Moved++
				}
			}
		}
		entries = map[uint32]entry{}
	}
	var m, tile int64
	var e entry
	_, err = pgx.ForEachRow(rows, []any{&m, &tile, &e.player, &e.place.Shard, &e.place.Epoch, &e.place.Seq, &e.place.Index}, func() error {
		if t := cairn.Tick(m); t != tick || entries == nil {
			settle()
			tick = t
		}
		entries[uint32(tile)] = e
		return nil
	})
	if err != nil {
		return c, err
	}
	settle()
	for tick, hs := range held { // maps of which the ledger has nothing at all
		if seen[tick] {
			continue
		}
		c.Told += int64(len(hs))
		for _, h := range hs {
			r.lost(&c, tick, h, "nobody's")
		}
	}
	return c, nil
}

// lost counts a claim that was acknowledged and is not in the ledger, also
// against the fault nearest before which, or in which, it was acknowledged.
func (r *run) lost(c *comparison, tick cairn.Tick, h history.Held, whose string) {
	c.Lost++
	told := r.play.Started().Add(time.Duration(h.At))
	by := "no fault"
	for _, f := range slices.Backward(r.faults) {
		if told.Before(f.to) && told.After(f.from.Add(-lostBefore)) {
			f.Lost++
			by = f.Kind
			break
		}
	}
	if len(c.Samples) < 20 {
		c.Samples = append(c.Samples, fmt.Sprintf("map %d, tile %d: won by %s at %v, %.3fs into the load (%s); in the ledger it is %s",
			tick, h.Tile, r.play.PlayerID(h.Player), h.Place, told.Sub(r.began).Seconds(), by, whose))
	}
}

// lostBefore is how long before a fault a claim may have been acknowledged
// that the fault then lost.
const lostBefore = 5 * time.Second

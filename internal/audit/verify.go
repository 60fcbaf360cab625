// Package audit verifies what is stored: it folds the logs anew, trusting
// nothing, and holds the result against every invariant of the architecture
// that data can show, and against the ledger (docs/verify.md).
package audit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/eventlog"
	"github.com/veltrix/cairn/internal/ledger"
)

// Options tunes Verify. The zero value is ready for use.
type Options struct {
	ListMax  int            // violations listed in the report; 0 means 100
	Parallel int            // shards read at once; 0 means one a CPU
	Progress func(Progress) // called now and then while Verify runs, never twice at once; nil for none
	Log      *slog.Logger   // nil discards
}

// A Progress says how far Verify has come. Its counts only grow.
type Progress struct {
	Doing   string // "control", "maps", "standings", "claims" or "ledger"
	Records int64
	Claims  int64
	Entries int64 // of the ledger
}

// progressEvery is the shortest time between two calls of Options.Progress.
const progressEvery = 100 * time.Millisecond

// Verify reads the logs of store, up to where they end when it begins, and the
// ledger led (nil if there is none) as it is at that moment, and reports what
// they hold and every violation. Neither is changed; both may be in use. The
// error is ctx's, or of a store that can't be read for a reason that says
// nothing about the data; data that is damaged is a violation and no error.
func Verify(ctx context.Context, store eventlog.Store, led *ledger.Ledger, opts Options) (*Report, error) {
	v := &verifier{
		store:  store,
		opts:   opts,
		maps:   map[mapKey]*mapState{},
		oldest: map[cairn.HuntID]cairn.Tick{},
		claims: map[cairn.HuntID]cairn.Micro{},
		strays: map[cairn.TileRef]cairn.Place{},
		boards: map[cairn.HuntID][]*boardCheck{},
	}
	if v.opts.ListMax <= 0 {
		v.opts.ListMax = 100
	}
	if v.opts.Parallel <= 0 {
		v.opts.Parallel = runtime.GOMAXPROCS(0)
	}
	defer v.close()
	if err := v.run(ctx, led); err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, fmt.Errorf("audit: %w", err)
	}
	v.say("ledger", true)
	v.report.Records = v.records.Load()
	v.report.Claims = v.claimed.Load()
	v.found.into(&v.report, v.opts.ListMax)
	return &v.report, nil
}

// A verifier is one Verify.
type verifier struct {
	// Static after run began.
	store   eventlog.Store
	opts    Options
	view    *ledger.View // nil without a ledger
	settled map[int]ledger.ShardSums
	shards  []*shardState // by id

	found   findings
	records atomic.Int64
	claimed atomic.Int64
	entries atomic.Int64
	said    struct {
		sync.Mutex
		at time.Time
	}

	// Written before claims are read, and only read then.
	hunts   cairn.Hunts
	maps    map[mapKey]*mapState
	oldest  map[cairn.HuntID]cairn.Tick // of the maps that are held
	mapsLog *reader                     // nil if there is no maps log

	mu     sync.Mutex
	claims map[cairn.HuntID]cairn.Micro   // Σ of the claims that hold their tile
	strays map[cairn.TileRef]cairn.Place  // claims of tiles whose map is not known
	boards map[cairn.HuntID][]*boardCheck // the newest of each key
	loaded []*mapState                    // maps whose tiles are in memory
	ledErr error                          // the ledger can't be read any further

	report Report
}

func (v *verifier) run(ctx context.Context, led *ledger.Ledger) error {
	// The ledger first: what it has settled, the logs then hold.
	if led != nil {
		if err := v.open(ctx, led); err != nil {
			return err
		}
	}
	names, err := v.store.Logs(ctx)
	if err != nil {
		return err
	}
	readers := map[eventlog.Name]*reader{}
	slices.Sort(names)
	slices.Reverse(names) // what refers to others before those: standings, shards, maps, control
	for _, name := range names {
		st, err := v.store.Status(ctx, name)
		if err != nil {
			return err
		}
		var known position
		id, isShard := shardID(name)
		if isShard {
			known = position{v.settled[id].Offset, v.settled[id].Chain}
		}
		r := newReader(v.store, name, st, known, &v.found)
		defer r.close()
		readers[name] = r
		if isShard {
			v.shards = append(v.shards, &shardState{v: v, id: id, reader: r, sums: v.settled[id]})
		}
	}
	slices.SortFunc(v.shards, func(a, b *shardState) int { return a.id - b.id })
	v.report.Logs = len(readers)
	v.orphans()

	if err := v.foldControl(ctx, readers[eventlog.Control]); err != nil {
		return err
	}
	if err := v.foldMaps(ctx, readers[eventlog.Maps]); err != nil {
		return err
	}
	if err := v.foldStandings(ctx, readers[eventlog.Standings]); err != nil {
		return err
	}
	if err := v.foldShards(ctx); err != nil {
		return err
	}
	v.standings()
	for _, name := range slices.Sorted(maps.Keys(readers)) {
		if _, isShard := shardID(name); isShard || name == eventlog.Control || name == eventlog.Maps || name == eventlog.Standings {
			continue
		}
		if err := v.walk(ctx, readers[name]); err != nil {
			return err
		}
	}
	if err := v.foldLedger(ctx); err != nil {
		return err
	}
	v.budgets()
	return nil
}

// orphans notes shards of the ledger that have no log.
func (v *verifier) orphans() {
	have := map[int]bool{}
	for _, s := range v.shards {
		have[s.id] = true
	}
	for _, id := range slices.Sorted(maps.Keys(v.settled)) {
		if !have[id] {
			v.found.at(eventlog.Shard(id), v.settled[id].Offset, "is settled in the ledger, and there is no such log")
		}
	}
}

// shardID returns which shard a log is of.
func shardID(name eventlog.Name) (int, bool) {
	digits, ok := strings.CutPrefix(string(name), "s")
	id, err := strconv.Atoi(digits)
	return id, ok && err == nil && eventlog.Shard(id) == name
}

// foldControl folds the control log into v.hunts.
func (v *verifier) foldControl(ctx context.Context, r *reader) error {
	if r == nil {
		v.found.of(string(eventlog.Control), "there is no control log")
		return nil
	}
	f := controlFold{v: v, log: r.log}
	err := v.each(ctx, "control", r, f.apply)
	v.report.Hunts = len(v.hunts.All())
	return err
}

// walk reads a log whose bodies are not looked into: its chain is checked.
func (v *verifier) walk(ctx context.Context, r *reader) error {
	return v.each(ctx, string(r.log), r, func(*eventlog.Record) {})
}

// each calls f for every Data record of a log.
func (v *verifier) each(ctx context.Context, doing string, r *reader, f func(*eventlog.Record)) error {
	for !r.done() {
		recs, err := r.next(ctx)
		if err != nil {
			return err
		}
		for i := range recs {
			if recs[i].Kind == eventlog.Data {
				f(&recs[i])
			}
		}
		v.records.Add(int64(len(recs)))
		v.say(doing, false)
	}
	return nil
}

// budgets checks that no hunt gave away more than it had.
func (v *verifier) budgets() {
	for _, id := range slices.Sorted(maps.Keys(v.claims)) {
		v.report.Rewards += v.claims[id]
		h := v.hunts.Get(id)
		if h != nil && v.claims[id] > h.Reward.Budget {
			v.found.of(string(eventlog.Control), "hunt %s: claims are worth %d, over its budget of %d", id, v.claims[id], h.Reward.Budget)
		}
	}
}

// say reports progress, at most every progressEvery unless it must.
func (v *verifier) say(doing string, must bool) {
	if v.opts.Progress == nil {
		return
	}
	v.said.Lock()
	defer v.said.Unlock()
	if now := time.Now(); must || now.Sub(v.said.at) >= progressEvery {
		v.said.at = now
		v.opts.Progress(Progress{doing, v.records.Load(), v.claimed.Load(), v.entries.Load()})
	}
}

func (v *verifier) close() {
	if v.view != nil {
		_ = v.view.Close()
	}
}

// isData reports whether err says something about the ledger's data, and so is
// a violation, and not that ctx ended or that the database can't be asked.
func isData(ctx context.Context, err error) bool {
	return err != nil && ctx.Err() == nil && !errors.Is(err, context.Canceled) && !ledger.IsAway(err)
}

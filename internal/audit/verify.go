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

	// Patience is how long logs may end before what the ledger has settled
	// of them, all together, and be no violation if they are whole by then:
	// after a failover the owner appends again what the new primary lacks. 0
	// means not at all.
	Patience time.Duration

	AnswerWithin time.Duration // longest wait for a record that is there; 0 means 30s
}

func (o Options) withDefaults() Options {
	if o.ListMax <= 0 {
		o.ListMax = 100
	}
	if o.Parallel <= 0 {
		o.Parallel = runtime.GOMAXPROCS(0)
	}
	if o.AnswerWithin <= 0 {
		o.AnswerWithin = 30 * time.Second
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// A Progress says how far Verify has come. Its counts only grow: what is read
// again after a rollback counts again.
type Progress struct {
	Doing   string // "control", "maps", "standings", "claims" or "ledger"
	Records int64
	Claims  int64
	Entries int64 // of the ledger
}

// progressEvery is the shortest time between two calls of Options.Progress.
const progressEvery = 100 * time.Millisecond

// rollbacksMax bounds how often Verify begins anew because a log was rolled
// back under it.
const rollbacksMax = 3

// Verify reads the ledger led (nil if there is none) as it is at the moment
// when it begins, and the logs of store up to where they end directly after
// that, and reports what they hold and every violation. Neither is changed;
// both may be in use, and what is written meanwhile is no violation. A log that
// is rolled back meanwhile, by a failover, is read again with all the others.
//
// The error is ctx's, or says that store or ledger can't be read for a reason
// that says nothing about the data; data that is damaged is a violation and no
// error.
func Verify(ctx context.Context, store eventlog.Store, led *ledger.Ledger, opts Options) (*Report, error) {
	opts = opts.withDefaults()
	began := time.Now()
	var (
		rolled  []rollback
		earlier Progress
	)
	for {
		v := newVerifier(store, opts, rolled, earlier)
		err := v.verify(ctx, led)
		if err == nil {
			v.report.Began, v.report.TookMS = began.UTC(), time.Since(began).Milliseconds()
			v.report.Restarts = len(rolled)
			return &v.report, nil
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		var r *rollback
		if !errors.As(err, &r) {
			return nil, fmt.Errorf("audit: %w", err)
		}
		if len(rolled) == rollbacksMax {
			return nil, fmt.Errorf("audit: logs were rolled back %d times while they were read, so nothing is decided: verify again once failovers have ended: %w", len(rolled)+1, err)
		}
		opts.Log.Warn("audit: begins anew, since a log was rolled back", "log", r.log, "offset", r.at, "err", r.err)
		rolled, earlier = append(rolled, *r), v.progress("")
	}
}

// A rollback is an error: a log does not hold what was read of it. A failover
// does that, once; a log that is damaged does it again at the same place.
type rollback struct {
	log eventlog.Name
	at  eventlog.Offset // read last
	err error
}

func (r *rollback) Error() string { return fmt.Sprintf("%s behind %v: %v", r.log, r.at, r.err) }
func (r *rollback) Unwrap() error { return r.err }

// A verifier is one reading of all logs and the ledger.
type verifier struct {
	// Static after run began.
	store   eventlog.Store
	opts    Options
	rolled  []rollback // why earlier readings ended
	earlier Progress   // of those
	led     *ledger.Ledger
	view    *ledger.View // nil without a ledger
	settled map[int]ledger.ShardSums
	readers map[eventlog.Name]*reader
	shards  []*shardState // by id
	whole   time.Time     // when Patience ends; zero while no log was short

	found   findings
	records atomic.Int64
	claimed atomic.Int64
	entries atomic.Int64
	said    struct {
		sync.Mutex
		at time.Time
	}

	// Written before claims are read, and only read then.
	hunts     cairn.Hunts
	tilesMost map[cairn.HuntID]int // that a map of a hunt may ever have had
	maps      map[mapKey]*mapState
	oldest    map[cairn.HuntID]cairn.Tick    // of the maps that are held
	began     map[cairn.HuntID]cairn.Instant // when a hunt's first map opened, where that is held
	mapsLog   *reader                        // nil if there is no maps log

	mu     sync.Mutex
	claims map[cairn.HuntID]cairn.Micro   // Σ of the claims that hold their tile
	strays map[cairn.TileRef]cairn.Place  // claims of tiles whose map is not known
	boards map[cairn.HuntID][]*boardCheck // the newest of each key
	loaded []*mapState                    // maps of which something is in memory
	ledErr error                          // the ledger can't be read any further

	report Report
}

func newVerifier(store eventlog.Store, opts Options, rolled []rollback, earlier Progress) *verifier {
	return &verifier{
		store:     store,
		opts:      opts,
		rolled:    rolled,
		earlier:   earlier,
		readers:   map[eventlog.Name]*reader{},
		maps:      map[mapKey]*mapState{},
		oldest:    map[cairn.HuntID]cairn.Tick{},
		tilesMost: map[cairn.HuntID]int{},
		began:     map[cairn.HuntID]cairn.Instant{},
		claims:    map[cairn.HuntID]cairn.Micro{},
		strays:    map[cairn.TileRef]cairn.Place{},
		boards:    map[cairn.HuntID][]*boardCheck{},
	}
}

// verify makes the report.
func (v *verifier) verify(ctx context.Context, led *ledger.Ledger) error {
	defer v.close()
	if err := v.run(ctx, led); err != nil {
		return err
	}
	v.say("ledger", true)
	v.report.Records = v.records.Load()
	v.report.Claims = v.claimed.Load()
	v.found.into(&v.report, v.opts.ListMax)
	return nil
}

func (v *verifier) run(ctx context.Context, led *ledger.Ledger) error {
	if err := v.frame(ctx, led); err != nil {
		return err
	}
	if err := v.foldControl(ctx, v.readers[eventlog.Control]); err != nil {
		return err
	}
	if err := v.foldMaps(ctx, v.readers[eventlog.Maps]); err != nil {
		return err
	}
	v.absent()
	if err := v.foldShards(ctx); err != nil {
		return err
	}
	v.standings()
	for _, name := range slices.Sorted(maps.Keys(v.readers)) {
		if _, isShard := shardID(name); isShard || name == eventlog.Control || name == eventlog.Maps || name == eventlog.Standings {
			continue
		}
		if err := v.walk(ctx, v.readers[name]); err != nil {
			return err
		}
	}
	if err := v.foldLedger(ctx); err != nil {
		return err
	}
	v.budgets()
	return v.reaches(ctx)
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
		v.opts.Progress(v.progress(doing))
	}
}

func (v *verifier) progress(doing string) Progress {
	e := v.earlier
	return Progress{doing, e.Records + v.records.Load(), e.Claims + v.claimed.Load(), e.Entries + v.entries.Load()}
}

func (v *verifier) close() {
	for _, r := range v.readers {
		r.close()
	}
	if v.view != nil {
		_ = v.view.Close()
	}
}

// isData reports whether err says something about the ledger's data, and so is
// a violation, and not that ctx ended or that the database can't be asked.
func isData(ctx context.Context, err error) bool {
	return err != nil && ctx.Err() == nil && !errors.Is(err, context.Canceled) && !ledger.IsAway(err)
}

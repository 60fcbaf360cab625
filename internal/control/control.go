// Package control is the operator's acts: what hunts there are, in which state,
// and the live settings. They are the control log's records, who and when
// included, and this package both folds that log and appends to it.
//
// An act is one short life of a writer: fence, fold up to the fence, check,
// append, close. The fence makes the check exact, with no lock between
// processes: an act that was decided on anything but the newest state is
// refused by the log and decided anew.
package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/eventlog"
	"github.com/veltrix/cairn/internal/wire"
)

// ErrKey reports an act that would put other keys on a log that has its own:
// what was promised under the old ones could no longer be checked.
var ErrKey = errors.New("the log runs on other keys")

// tries bounds how often an act is decided anew after another process came
// between.
const tries = 12

// Options tunes a Control. The zero value is ready for production.
type Options struct {
	// CheckHunt reports what is wrong with a new hunt beyond what
	// [cairn.Hunt.Validate] sees, such as a region without land. It is called
	// before the hunt is created. nil checks nothing more.
	CheckHunt func(cairn.Hunt) error

	Now     func() time.Time      // the clock that stamps changes without a When; nil means time.Now
	Log     *slog.Logger          // nil means discard
	Metrics prometheus.Registerer // nil means unregistered
}

// A Control is the state of all hunts, folded from the control log, and the
// way to change it. Its methods may be called concurrently.
type Control struct {
	// Static after Open.
	store   eventlog.Store
	opts    Options
	metrics *metrics

	doing sync.Mutex // held by Do: acts of one process never fence each other

	mu    sync.RWMutex // guards what follows
	hunts cairn.Hunts
	at    eventlog.Offset // of the newest record folded
}

// Open folds the control log up to its head at the time of the call. The log
// must have been provisioned: [eventlog.ErrMissing] else. From then on
// [Control.Run] keeps the fold fresh.
func Open(ctx context.Context, store eventlog.Store, opts Options) (*Control, error) {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	c := &Control{store: store, opts: opts, metrics: newMetrics(opts.Metrics)}
	st, err := store.Status(ctx, eventlog.Control)
	if err != nil {
		return nil, fmt.Errorf("control: %w", err)
	}
	if err := c.foldTo(ctx, st.Last); err != nil {
		return nil, err
	}
	return c, nil
}

// Run follows the control log until ctx ends or the log can't be followed any
// more, and returns why. A log that took back an act, in a failover that lost
// it, is folded anew. Call it once.
func (c *Control) Run(ctx context.Context) error {
	for {
		err := c.follow(ctx)
		if !errors.Is(err, eventlog.ErrDiverged) {
			return err
		}
		c.opts.Log.Warn("control: folding the log anew", "err", err)
		pause(ctx, tries) // a log that stays out of reach must not be asked in a circle
		if err := c.refold(ctx); err != nil {
			return err
		}
	}
}

func (c *Control) follow(ctx context.Context) error {
	f, err := c.store.Follow(ctx, eventlog.Control, c.folded())
	if err != nil {
		return fmt.Errorf("control: %w", err)
	}
	defer f.Close()
	for {
		recs, _, err := f.Next(ctx)
		if err != nil {
			return fmt.Errorf("control: %w", err)
		}
		if err := c.fold(recs); err != nil {
			return err
		}
	}
}

// refold replaces the fold by one of what the log holds now.
func (c *Control) refold(ctx context.Context) error {
	st, err := c.store.Status(ctx, eventlog.Control)
	if err != nil {
		return fmt.Errorf("control: %w", err)
	}
	fresh := &Control{store: c.store, opts: c.opts}
	if err := fresh.foldTo(ctx, st.Last); err != nil && !errors.Is(err, eventlog.ErrDiverged) {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hunts, c.at = fresh.hunts, fresh.at
	return nil
}

// Hunts returns the status of every hunt, by name. They must not be changed.
func (c *Control) Hunts() []*cairn.HuntStatus {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.hunts.All()
}

// Hunt returns the status of a hunt, or nil. It must not be changed.
func (c *Control) Hunt(id cairn.HuntID) *cairn.HuntStatus {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.hunts.Get(id)
}

// Knob returns the value of a live setting, or "" if nobody set it.
func (c *Control) Knob(name string) string {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.hunts.Knobs[name]
}

// Key returns the fingerprint of the keys that this system runs on, or "".
func (c *Control) Key() string {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.hunts.Key
}

// Do makes ch a record of the control log, and returns the status of its hunt
// (zero for a knob or a key) once it is acknowledged and folded here. Defaults
// of a hunt to create, its name in ch.Hunt, and a When of zero are filled in.
// A change that changes nothing is not recorded.
//
// Errors: those of [cairn.Hunts.Check] and Options.CheckHunt, ErrKey, or a
// FieldError, and nothing was recorded; [eventlog.ErrUnknown] when ctx ended
// while the outcome was open; else the log's.
func (c *Control) Do(ctx context.Context, ch cairn.Change) (cairn.HuntStatus, error) {
	what := whatOf(ch)
	st, err := c.do(ctx, ch)
	switch {
	case err == nil:
		c.metrics.changes.WithLabelValues(what, "done").Inc()
		c.opts.Log.Info("control: changed", "what", what, "hunt", string(ch.Hunt), "who", ch.Who)
	case isRefusal(err):
		c.metrics.changes.WithLabelValues(what, "refused").Inc()
	default:
		c.metrics.changes.WithLabelValues(what, "failed").Inc()
		c.opts.Log.Warn("control: change failed", "what", what, "hunt", string(ch.Hunt), "who", ch.Who, "err", err)
	}
	return st, err
}

// Check reports what [Control.Do] would say of a change now, and records
// nothing. Until it is recorded another may come between.
func (c *Control) Check(ctx context.Context, ch cairn.Change) error {
	if err := c.precheck(ctx, ch); err != nil {
		return err
	}
	_, err := c.check(ch)
	return err
}

func (c *Control) do(ctx context.Context, ch cairn.Change) (cairn.HuntStatus, error) {
	if ch.When == 0 {
		ch.When = cairn.InstantOf(c.opts.Now())
	}
	if ch.Create != nil {
		h := ch.Create.WithDefaults()
		ch.Create = &h
		if ch.Hunt == "" {
			ch.Hunt = h.Name
		}
	}
	if err := c.precheck(ctx, ch); err != nil {
		return cairn.HuntStatus{}, err
	}
	body, err := wire.AppendChange(nil, &ch)
	if err != nil {
		return cairn.HuntStatus{}, err
	}
	if len(body) > eventlog.BodyBytesMax {
		return cairn.HuntStatus{}, &cairn.FieldError{Field: "region.geojson", Msg: fmt.Sprintf("makes a record of %d bytes; want at most %d", len(body), eventlog.BodyBytesMax)}
	}
	c.doing.Lock()
	defer c.doing.Unlock()
	for try := range tries {
		if err = c.once(ctx, ch, body); err == nil {
			return c.status(ch.Hunt), nil
		}
		if !errors.Is(err, eventlog.ErrFenced) && !errors.Is(err, eventlog.ErrPushback) && !errors.Is(err, eventlog.ErrUnknown) || ctx.Err() != nil {
			return cairn.HuntStatus{}, err
		}
		pause(ctx, try)
	}
	return cairn.HuntStatus{}, fmt.Errorf("control: gave up after %d tries: %w", tries, err)
}

// once is one life of a writer. The record it appends stands directly behind
// its fence, in an epoch that no other writer has, so that an append with an
// unknown outcome is settled by looking there.
func (c *Control) once(ctx context.Context, ch cairn.Change, body []byte) error {
	w, err := c.store.Open(ctx, eventlog.Control)
	if err != nil {
		return fmt.Errorf("control: %w", err)
	}
	defer w.Close()
	if err := c.foldTo(ctx, w.Fence()); err != nil {
		return err
	}
	if same, err := c.check(ch); err != nil || same {
		return err
	}
	o, err := w.Append(ctx, body, eventlog.GenesisOffset)
	if errors.Is(err, eventlog.ErrUnknown) && ctx.Err() == nil {
		return c.settle(ctx, w.Fence(), err)
	}
	if err != nil {
		return fmt.Errorf("control: %w", err)
	}
	return c.foldTo(ctx, o)
}

// settle finds out whether the one append of the writer with that fence took
// place: nil if it did, ErrFenced if it never will, so that it can be made
// anew.
func (c *Control) settle(ctx context.Context, fence eventlog.Offset, unknown error) error {
	w, err := c.store.Open(ctx, eventlog.Control)
	if err != nil {
		return fmt.Errorf("control: %w (after %w)", err, unknown)
	}
	defer w.Close()
	f, err := c.store.Follow(ctx, eventlog.Control, fence)
	if err != nil {
		return fmt.Errorf("control: %w", err)
	}
	defer f.Close()
	recs, err := nextSome(ctx, f)
	if err != nil {
		return err
	}
	if first := recs[0]; first.Offset.Epoch != fence.Epoch {
		return fmt.Errorf("control: %w", eventlog.ErrFenced)
	}
	return c.foldTo(ctx, w.Fence())
}

// check decides ch on the fold as it is, and reports whether it would change
// nothing.
func (c *Control) check(ch cairn.Change) (same bool, err error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if err := c.hunts.Check(ch); err != nil {
		return false, err
	}
	switch {
	case ch.Create != nil:
		return false, nil
	case ch.Knob != "":
		v, known := c.hunts.Knobs[ch.Knob]
		return known && v == ch.Value, nil
	case ch.Key != "":
		if c.hunts.Key != "" && c.hunts.Key != ch.Key {
			return false, fmt.Errorf("control: %w: fingerprint %.16s, and the log has %.16s", ErrKey, ch.Key, c.hunts.Key)
		}
		return c.hunts.Key == ch.Key, nil
	}
	h := c.hunts.Get(ch.Hunt)
	return (ch.State == "" || ch.State == h.State) && (ch.Shards == 0 || ch.Shards == h.Shards) &&
		(ch.TilesPerMap == 0 || ch.TilesPerMap == h.TilesPerMap), nil
}

// foldTo folds the log up to and with the record at to.
func (c *Control) foldTo(ctx context.Context, to eventlog.Offset) error {
	at := c.folded()
	if !at.Less(to) {
		return nil
	}
	f, err := c.store.Follow(ctx, eventlog.Control, at)
	if err != nil {
		return fmt.Errorf("control: %w", err)
	}
	defer f.Close()
	for c.folded().Less(to) {
		recs, err := nextSome(ctx, f)
		if err != nil {
			return err
		}
		if err := c.fold(recs); err != nil {
			return err
		}
	}
	return nil
}

// fold folds records. Those that it has, from another follower, it leaves out.
func (c *Control) fold(recs []eventlog.Record) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range recs {
		r := &recs[i]
		if !c.at.Less(r.Offset) {
			continue
		}
		if r.Kind == eventlog.Data {
			ch, err := wire.DecodeChange(r.Body)
			if err != nil {
				return fmt.Errorf("control: record %v: %w", r.Offset, err)
			}
			c.hunts.Apply(ch)
		}
		c.at = r.Offset
	}
	return nil
}

func (c *Control) folded() eventlog.Offset {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.at
}

func (c *Control) status(id cairn.HuntID) cairn.HuntStatus {
	if h := c.Hunt(id); h != nil {
		return *h
	}
	return cairn.HuntStatus{}
}

// nextSome returns the next records, at least one.
func nextSome(ctx context.Context, f eventlog.Follower) ([]eventlog.Record, error) {
	for {
		recs, _, err := f.Next(ctx)
		if err != nil {
			return nil, fmt.Errorf("control: %w", err)
		}
		if len(recs) > 0 {
			return recs, nil
		}
	}
}

// pause waits for a random time that grows with try, so that processes that
// fence each other out come apart.
func pause(ctx context.Context, try int) {
	t := time.NewTimer(rand.N(time.Duration(try+1) * 4 * time.Millisecond))
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

package broadcast

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/eventlog"
	"github.com/veltrix/cairn/internal/wire"
)

// follow lives life after life until ctx ends (nil) or the store fails.
func (h *Hub) follow(ctx context.Context) error {
	for {
		err := h.live(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if !errors.Is(err, eventlog.ErrTrimmed) && !errors.Is(err, eventlog.ErrDiverged) {
			return fmt.Errorf("broadcast: %w", err)
		}
		h.opts.Log.Warn("broadcast: fold begins anew", "err", err)
		h.metrics.restarts.Inc()
		select { // a log that stays out of reach must not be asked in a circle
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// live folds the logs from the beginning of what they hold: first up to their
// heads, with clients still on the life before, if there was one, and from then
// on for all to see.
func (h *Hub) live(ctx context.Context) error {
	l := &life{epoch: newEpoch(), state: newState()}
	names, err := h.store.Logs(ctx)
	if err != nil {
		return err
	}
	// In this order: claims are of maps, and maps of hunts.
	tails := []*tail{h.newTail(l, eventlog.Control), h.newTail(l, eventlog.Maps), h.newTail(l, eventlog.Standings)}
	for _, name := range names {
		if isShard(name) {
			tails = append(tails, h.newTail(l, name))
		}
	}
	defer func() {
		for _, t := range tails {
			t.close()
		}
	}()
	start := time.Now()
	for _, t := range tails[:3] {
		if err := t.catchUp(ctx); err != nil {
			return err
		}
	}
	shards, sctx := errgroup.WithContext(ctx)
	shards.SetLimit(4)
	for _, t := range tails[3:] {
		shards.Go(func() error { return t.catchUp(sctx) })
	}
	if err := shards.Wait(); err != nil {
		return err
	}
	h.begin(l)
	h.opts.Log.Info("broadcast: logs are read", "epoch", l.epoch, "shards", len(tails)-3, "took", time.Since(start))

	all, actx := errgroup.WithContext(ctx)
	for _, t := range tails {
		all.Go(func() error {
			for {
				if err := t.step(actx); err != nil {
					return err
				}
			}
		})
	}
	return all.Wait()
}

func newEpoch() string {
	var b [8]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

func isShard(n eventlog.Name) bool {
	i, err := strconv.Atoi(string(n[1:]))
	return err == nil && n == eventlog.Shard(i)
}

// begin makes a life the one that clients see. Whoever watches gets a snapshot.
func (h *Hub) begin(l *life) {
	h.mu.Lock()
	l.number = 1
	if h.life != nil {
		l.number = h.life.number + 1
	}
	h.life = l
	h.seq++
	now := cairn.InstantOf(h.opts.Now())
	for _, hm := range l.state.byHunt {
		hm.advance(now) // what opened before is in the snapshots
	}
	h.publish()
	clear(h.boards)
	h.newest = 0
	for _, r := range h.index.regions {
		r.base, r.last, r.ring, r.ringBytes = h.seq-1, h.seq, nil, 0
		r.forget()
	}
	views := make([]*view, 0, len(h.views))
	for _, v := range h.views {
		v.head.Store(&batch{life: l, n: v.head.Load().n + 1, prev: h.seq, seq: h.seq})
		views = append(views, v)
	}
	h.mu.Unlock()
	h.recipients(func(r recipient) { r.sweep(views, 0) })
}

// A tail reads one log for one life. One goroutine at a time.
type tail struct {
	hub  *Hub
	life *life
	name eventlog.Name
	take func(body []byte) error // folds one record

	f      eventlog.Follower // nil before catchUp
	at     eventlog.Offset   // of the newest record read
	maps   wire.MapFold
	claims []cairn.Claim
}

func (h *Hub) newTail(l *life, name eventlog.Name) *tail {
	t := &tail{hub: h, life: l, name: name}
	switch name {
	case eventlog.Control:
		t.take = t.change
	case eventlog.Maps:
		t.take = t.mapRecord
	case eventlog.Standings:
		t.take = t.board
	default:
		t.take = t.batch
	}
	return t
}

// catchUp opens the follower and reads up to where the log's head is now.
func (t *tail) catchUp(ctx context.Context) error {
	st, err := t.hub.store.Status(ctx, t.name)
	if err != nil {
		return err
	}
	after := t.from(st)
	t.f, err = t.hub.store.Follow(ctx, t.name, after)
	if errors.Is(err, eventlog.ErrTrimmed) || errors.Is(err, eventlog.ErrDiverged) {
		after = st.Base // trimmed in between, or a From that means nothing
		t.f, err = t.hub.store.Follow(ctx, t.name, after)
	}
	if err != nil {
		return err
	}
	t.at, t.maps.Trimmed = after, !after.IsZero()
	for t.at.Less(st.Last) {
		if err := t.step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// from returns the offset to follow a log from. A shard's owner says in each
// record what the oldest one is that still matters.
func (t *tail) from(st eventlog.Status) eventlog.Offset {
	if isShard(t.name) && st.Base.Less(st.From) {
		return before(st.From)
	}
	return st.Base
}

// before returns an offset such that what matters from o on lies behind it: of
// a fence, which says nothing, itself.
func before(o eventlog.Offset) eventlog.Offset {
	if o.Seq == 0 {
		return o
	}
	return eventlog.Offset{Epoch: o.Epoch, Seq: o.Seq - 1}
}

// step waits for records and folds them.
func (t *tail) step(ctx context.Context) error {
	recs, _, err := t.f.Next(ctx)
	if err != nil {
		return fmt.Errorf("log %s: %w", t.name, err)
	}
	t.claims = t.claims[:0]
	for i := range recs {
		t.at = recs[i].Offset
		if recs[i].Kind != eventlog.Data {
			continue
		}
		// A record that makes no sense is the auditor's to judge: what is
		// shown here is what does.
		if err := t.take(recs[i].Body); err != nil {
			t.hub.metrics.ignored.WithLabelValues("malformed").Inc()
			t.hub.opts.Log.Warn("broadcast: record left out", "log", t.name, "offset", t.at, "err", err)
		}
	}
	if len(t.claims) > 0 {
		t.fold()
	}
	return nil
}

func (t *tail) close() {
	if t.f != nil {
		t.f.Close()
	}
}

func (t *tail) change(body []byte) error {
	c, err := wire.DecodeChange(body)
	if err != nil {
		return err
	}
	h := t.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	t.life.state.hunts.Apply(c)
	h.turn(c.Knob, c.Value)
	if h.life == t.life {
		h.publish()
	}
	return nil
}

// turn sets a live setting, if knob is one of the hub's. A value that makes no
// sense is left alone: whoever wrote it was told when the act was checked, or is
// told by the log.
func (h *Hub) turn(knob, value string) {
	var want string
	switch knob {
	case sweepKnob:
		d, err := time.ParseDuration(value)
		if err == nil && d >= sweepMin && d <= sweepMax {
			h.knob.Store(int64(d))
			select {
			case h.hurry <- struct{}{}:
			default:
			}
			return
		}
		want = fmt.Sprintf("%v to %v", sweepMin, sweepMax)
	case precisionKnob:
		if n, err := strconv.Atoi(value); err == nil && n >= 1 && n <= precisionMost {
			h.precision.Store(int32(n))
			return
		}
		want = fmt.Sprintf("1 to %d", precisionMost)
	default:
		return
	}
	h.opts.Log.Warn("broadcast: knob left alone", "knob", knob, "value", value, "want", want)
}

func (t *tail) mapRecord(body []byte) error {
	m, err := t.maps.Apply(body)
	if err != nil || m == nil {
		return err
	}
	h := t.hub
	now := cairn.InstantOf(h.opts.Now())
	if m.Closes.Add(mapsKept) <= now {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	ws := t.life.state.addMap(m, now)
	if h.life != t.life {
		return nil
	}
	h.publish()
	for _, w := range ws {
		h.won(w, now)
	}
	h.changed()
	return nil
}

func (t *tail) board(body []byte) error {
	bs, err := wire.DecodeBoards(body)
	if err != nil {
		return err
	}
	h := t.hub
	now := cairn.InstantOf(h.opts.Now())
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, b := range bs {
		nb := t.life.state.addBoard(b, now)
		if nb != nil && h.life == t.life {
			if old := h.boards[b.BoardKey]; old != nil && nb.fresh == 0 {
				nb.fresh = old.fresh // the version in between was never told
			}
			h.boards[b.BoardKey] = nb
			h.changed()
		}
	}
	return nil
}

// batch decodes a shard's record; step folds it, all that came at once under
// one lock.
func (t *tail) batch(body []byte) (err error) {
	t.claims, err = wire.DecodeClaims(t.claims, body)
	return err
}

func (t *tail) fold() {
	h := t.hub
	now := cairn.InstantOf(h.opts.Now())
	h.mu.Lock()
	defer h.mu.Unlock()
	st := t.life.state
	was := st.ignored
	for i := range t.claims {
		w, ok := st.claim(&t.claims[i], now)
		if ok && h.life == t.life {
			h.won(w, now)
		}
	}
	if h.life == t.life {
		h.metrics.ignored.WithLabelValues("unknown_tile").Add(float64(st.ignored - was))
	}
	clear(t.claims)
	h.changed()
}

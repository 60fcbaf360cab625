package redislog

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/veltrix/cairn/internal/eventlog"
	"github.com/veltrix/cairn/internal/eventlog/redislog/redissim"
)

// A record is what a simulation remembers of itself, to be held against what
// the log has in the end.
type record struct {
	serial  int
	acked   map[eventlog.Offset]string  // bodies
	pushed  map[string]bool             // bodies that were said to be nowhere
	landed  map[landing]string          // bytes of what a server took
	trimmed map[eventlog.Offset][]entry // at an offset may have been several, one after the other
	newest  uint64                      // the newest epoch whose writer was handed out
	final   eventlog.Offset
	folds   map[string]*fold
	sql     database
	halted  bool // the ledger stopped: what it paid is not in the log any more

	rolled    bool // a failover or a restart may have lost records
	lossy     bool // … that were acknowledged, as the mode of acknowledgement allows
	lost      bool // the whole log was lost
	remade    bool // … and another is in its place
	fragile   bool // it may be
	forgetful bool // owners grant twice
	sqlFaults bool
}

// A landing is an id of a writer.
type landing struct {
	at    eventlog.Offset
	nonce eventlog.Nonce
}

func (r *record) init() {
	r.acked, r.pushed = make(map[eventlog.Offset]string), make(map[string]bool)
	r.landed, r.trimmed = make(map[landing]string), make(map[eventlog.Offset][]entry)
	r.folds = make(map[string]*fold)
	r.sql.paid = make(map[int]int)
}

// A moment is what was so when an append began.
type moment struct {
	epoch uint64
	lost  bool
}

func (w *sim) moment() moment { return moment{w.newest, w.lost} }

func (w *sim) opened(p *proc, wr *writer, began moment) {
	w.tracef("%s: opened %v, from %v", p.name, wr.fence, wr.from)
	if began.lost && !w.lossy && !p.fresh {
		w.failf("%s opened a log that was lost", p.name)
	}
	w.newest = max(w.newest, wr.fence.Epoch)
}

func (w *sim) refusedOpen(p *proc, err error) {
	if errors.Is(err, eventlog.ErrDamaged) || errors.Is(err, eventlog.ErrMissing) && !w.lost {
		w.failf("%s: open: %v", p.name, err)
	}
}

// answered holds what an append returned against what it may.
func (w *sim) answered(p *proc, wr *writer, body string, at eventlog.Offset, began moment, err error) {
	switch {
	case err == nil:
		if began.lost && !w.lossy && !p.fresh { // a primary that is none any more may have it
			w.failf("%s: %v was acknowledged, and the log is lost", p.name, at)
		}
		if began.epoch > wr.fence.Epoch && !w.lossy && !p.fresh {
			w.failf("%s: %v was acknowledged, though epoch %d had begun", p.name, at, began.epoch)
		}
		w.acked[at] = body
	case errors.Is(err, eventlog.ErrPushback):
		w.pushed[body] = true
	case errors.Is(err, eventlog.ErrMissing) && !w.lost:
		w.failf("%s: append: %v", p.name, err)
	case strings.Contains(err.Error(), "rolled back"):
		w.failf("%s: not put back: %v", p.name, err)
	}
}

// unreadable holds the error that a follower met against what it may.
func (w *sim) unreadable(p *proc, err error) {
	switch {
	case w.lost:
	case errors.Is(err, eventlog.ErrDamaged), errors.Is(err, eventlog.ErrMissing):
		w.failf("%s: %v", p.name, err)
	case errors.Is(err, eventlog.ErrDiverged) && !w.rolled:
		w.failf("%s: nothing was rolled back, and yet: %v", p.name, err)
	}
}

// before sees a command that a server is about to do.
func (w *sim) before(c *simConn, cmd []string) {
	if cmd[0] != "XTRIM" || c.n != w.primary {
		return
	}
	entries, _ := c.n.Stream(simKey)
	for _, e := range entries {
		r := toEntry(e)
		w.trimmed[r.Offset] = append(w.trimmed[r.Offset], r)
	}
}

// after sees what a server answered.
func (w *sim) after(c *simConn, cmd []string, r redissim.Reply) {
	switch cmd[0] {
	case "MULTI":
		c.multi = c.multi[:0]
	case "XADD":
		if r.Kind == redissim.Bulk {
			w.land(c, cmd)
		} else if r.Kind == redissim.Status {
			c.multi = append(c.multi, cmd)
		}
	case "EXEC":
		for i, cmd := range c.multi {
			if r.Kind == redissim.Array && r.List[i].Kind == redissim.Bulk {
				w.land(c, cmd)
			}
		}
	}
}

// land checks that an id is never given to other bytes (R6).
func (w *sim) land(c *simConn, cmd []string) {
	if entries, _ := c.n.Stream(simKey); len(entries) == 1 {
		w.failf("%s: an append made the log anew", c.p.name)
	}
	var e entry
	id, _ := eventlog.ParseOffset(cmd[len(cmd)-5])
	header, body := cmd[len(cmd)-3], cmd[len(cmd)-1]
	if err := e.readHeader([]byte(header)); err != nil || e.sealed() {
		return
	}
	key := landing{id, e.Nonce}
	if had, ok := w.landed[key]; ok && had != header+body {
		w.failf("%s: id %v was given to other bytes", c.p.name, id)
	}
	w.landed[key] = header + body
}

func toEntry(e redissim.Entry) entry {
	r := entry{}
	r.Offset = eventlog.Offset{Epoch: e.ID.Ms, Seq: e.ID.Seq}
	if err := r.readHeader([]byte(e.Fields[1])); err != nil {
		panic(err)
	}
	r.Body = []byte(e.Fields[3])
	return r
}

// stream returns the records that the primary has.
func (w *sim) stream() []entry {
	entries, _ := w.primary.Stream(simKey)
	var out []entry
	for _, e := range entries {
		if r := toEntry(e); !r.sealed() {
			out = append(out, r)
		}
	}
	return out
}

// well reports whether all who follow have all there is.
func (w *sim) well() bool {
	if w.lost {
		return true
	}
	if w.final.IsZero() {
		return false
	}
	list := w.stream()
	for _, name := range [...]string{"f0", "f1"} {
		if f := w.folds[name]; f == nil || f.at != list[len(list)-1].Offset || f.chain != list[len(list)-1].Chain {
			return false
		}
	}
	settled := slices.ContainsFunc(list, func(e entry) bool { return e.Offset == w.sql.at && e.Chain == w.sql.chain })
	return w.halted || settled && !w.sql.at.Less(w.lastData())
}

func (w *sim) lastData() eventlog.Offset {
	for _, e := range slices.Backward(w.stream()) {
		if e.Kind == eventlog.Data {
			return e.Offset
		}
	}
	return eventlog.Offset{}
}

// check holds the end against the promises.
func (w *sim) check() {
	if w.lost || w.failed != "" {
		return
	}
	list := w.stream()
	if len(list) == 0 {
		w.failf("the log is gone")
		return
	}
	for i := 1; i < len(list); i++ {
		e, before := &list[i], &list[i-1]
		if e.Prev != before.Offset || e.Chain != eventlog.NextChain(before.Chain, &e.Record) {
			w.failf("the chain is broken between %v and %v, whose prev is %v", before.Offset, e.Offset, e.Prev)
			return
		}
	}
	all := w.whole(list)
	for at, body := range w.acked {
		if e, ok := all[at]; !w.lossy && (!ok || string(e.Body) != body) {
			w.failf("%v was acknowledged, and is not in the log", at)
		}
	}
	order := slices.SortedFunc(maps.Keys(all), eventlog.Offset.Compare)
	granted := make(map[int]eventlog.Offset)
	for _, at := range order {
		e := all[at]
		if e.Kind != eventlog.Data {
			continue
		}
		if w.pushed[string(e.Body)] {
			w.failf("%v was said to be nowhere, and is in the log", at)
		}
		for _, g := range parseBody(string(e.Body)).grants {
			if had, twice := granted[g.tile]; twice && !w.forgetful {
				w.failf("tile %d is granted by %v and by %v", g.tile, had, at)
			}
			granted[g.tile] = at
		}
	}
	w.checkFolds(all, order)
}

// whole returns the log's records, those included that were trimmed.
func (w *sim) whole(list []entry) map[eventlog.Offset]entry {
	all := make(map[eventlog.Offset]entry)
	for _, e := range list {
		all[e.Offset] = e
	}
	for e := list[0]; ; {
		had := w.trimmed[e.Prev]
		i := slices.IndexFunc(had, func(b entry) bool { return eventlog.NextChain(b.Chain, &e.Record) == e.Chain })
		if i < 0 {
			return all
		}
		e = had[i]
		all[e.Offset] = e
	}
}

// checkFolds holds what followers made of the log against the log.
func (w *sim) checkFolds(all map[eventlog.Offset]entry, order []eventlog.Offset) {
	views := maps.Clone(w.folds)
	if !w.halted {
		views["ledger"] = &fold{at: w.sql.at, owner: w.sql.paid}
		if w.sql.sum != len(w.sql.paid) {
			w.failf("the ledger paid %d times for %d tiles", w.sql.sum, len(w.sql.paid))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(views)) {
		v := views[name]
		want := fold{owner: make(map[int]int)}
		for _, at := range order {
			if e := all[at]; e.Kind == eventlog.Data && v.base.Less(at) && !v.at.Less(at) {
				want.add(at, parseBody(string(e.Body)), false)
			}
		}
		if !maps.Equal(want.owner, v.owner) {
			w.failf("%s has %v, want %v", name, v.owner, want.owner)
		}
	}
}

// run runs a seed to its end and returns what was violated, or "".
func (w *sim) run(steps int) string {
	for i := range 2 + w.rng.IntN(2) {
		w.start("o"+string(rune('0'+i)), w.owner)
	}
	for _, name := range []string{"f0", "f1"} {
		w.start(name, w.watch)
	}
	for _, name := range []string{"l0", "l1"} {
		w.start(name, w.pay)
	}
	w.start("trim", w.trim)
	w.warm = 150
	for range steps {
		if w.failed != "" || w.lost && w.rng.IntN(200) == 0 || !w.step() {
			break
		}
	}
	w.settle()
	end := w.now + 20*time.Second
	for n := 0; w.failed == "" && !w.well(); n++ {
		if !w.step() || w.now > end || n > 50_000 {
			w.failf("all is mended, and yet not all is well: final %v, ledger at %v of %v", w.final, w.sql.at, w.lastData())
		}
	}
	w.check()
	w.dump()
	for _, p := range w.procs {
		if !p.dead {
			p.kill()
		}
	}
	return w.failed
}

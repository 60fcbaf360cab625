// Package broadcast is the Broadcast Layer: it follows the logs, keeps what is
// open in memory, and tells everyone who looks at a region what changed there.
//
//	logs ─▶ state ─▶ sweep: one delta a changed region, encoded once ─▶ deliverers ─▶ connections
//
// It does not know why a tile changed, nor HTTP: the edge hands it sockets that
// are already upgraded. docs/live.md is the protocol.
//
// Nothing is ever queued for a connection. A view (what some connections watch
// alike) points to its newest batch of frames, and each connection has a cursor
// that says how far it got: when it can be written to, it fetches what it
// lacks, from the newest batch, else from the regions' rings, else as a
// snapshot. So a slow client costs a cursor.
//
// What a client says is a session's to answer (session.go, inbound.go). Bytes
// are moved by one of two halves. On Linux, loops that are driven by readiness
// (loop_linux.go) serve plain sockets: an idle connection costs a record
// without pointers, and no goroutine, timer or buffer. Elsewhere, and for
// whatever is no plain socket, each connection has a goroutine that reads
// (conn.go). One suite of tests runs on both.
package broadcast

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/eventlog"
	"github.com/veltrix/cairn/internal/wire"
)

// Errors.
var (
	// ErrNotReady: the logs were not yet read up to their heads. Ask again.
	ErrNotReady = errors.New("broadcast: still reading the logs")

	// ErrDraining: the hub shuts down and takes nobody new. Go elsewhere.
	ErrDraining = errors.New("broadcast: draining")

	// ErrHuntUnknown: there is no such hunt.
	ErrHuntUnknown = errors.New("broadcast: no such hunt")
)

// An Edge is what the hub asks of whoever accepted the connection: who a token
// belongs to, and to decide claims. Its methods may be called concurrently.
type Edge interface {
	// Hello returns whose token it is, and the player's name. It is called
	// once a connection that sent a token; an error is told to the client,
	// text and all, and ends the connection.
	Hello(token string) (cairn.PlayerID, string, error)

	// Claims decides attempts of a player who said hello, each on its own: those
	// that came together. It is called on a goroutine that reads for many
	// connections: decide elsewhere what takes time. cs is borrowed until Claims
	// returns; its strings are the callee's to keep. reply must be called exactly
	// once for each, from any goroutine, at any time, also after ctx ended (which
	// it does with the connection): with the payload of an outcome frame in the
	// connection's codec, without WebSocket header: {"type":"outcome","id":…} in
	// JSON. The hub copies it.
	Claims(ctx context.Context, player cairn.PlayerID, name string, codec Codec, cs []wire.ClaimFrame, reply func(frame []byte))
}

// Options tunes a Hub. The zero value is ready for production.
type Options struct {
	Sweep        time.Duration // from one sweep to the next, until the knob "sweep" says otherwise; 0 means 50ms
	Ring         int           // deltas kept a region for those who resume, and sweeps that an unwatched region is kept; 0 means 256
	RingBytes    int           // bytes of them kept a region, the newest aside; 0 means 4 MiB
	CatchUp      int           // batches that a connection may be behind before it skips to a snapshot; 0 means 20
	PrecisionMax int           // longest geohash of a region, until the knob "precision" says otherwise; 0 means 8
	StandingRows int           // rows of a board in a standings frame; 0 means 20

	HelloWithin time.Duration // for a client's first message; 0 means 10s
	PingEvery   time.Duration // from one ping to a client to the next; 0 means 30s
	DeadAfter   time.Duration // without a byte from the client; 0 means 75s
	StuckFor    time.Duration // how long a client may take no byte before it is closed; 0 means 10s
	BatchWithin time.Duration // how long a client that takes a byte now and then may take for what it is sent at once; 0 means 1m
	ClaimsMax   int           // claims in flight a connection; 0 means 64

	Portable bool // do without readiness, also where there is it

	oneByOne  bool          // do without io_uring, also where there is it: for tests
	sweepIdle time.Duration // 0 means the constant: tests have clocks that jump

	Now     func() time.Time      // nil means time.Now
	Log     *slog.Logger          // nil discards
	Metrics prometheus.Registerer // nil registers nothing
}

func (o Options) withDefaults() Options {
	def := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	wait := func(v *time.Duration, d time.Duration) {
		if *v == 0 {
			*v = d
		}
	}
	wait(&o.Sweep, 50*time.Millisecond)
	wait(&o.sweepIdle, sweepIdle)
	def(&o.Ring, 256)
	def(&o.RingBytes, 4<<20)
	def(&o.CatchUp, 20)
	def(&o.PrecisionMax, 8)
	def(&o.StandingRows, 20)
	wait(&o.HelloWithin, 10*time.Second)
	wait(&o.PingEvery, 30*time.Second)
	wait(&o.DeadAfter, 75*time.Second)
	wait(&o.StuckFor, 10*time.Second)
	wait(&o.BatchWithin, time.Minute)
	def(&o.ClaimsMax, 64)
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// A Hub follows the logs of a store and serves those who watch. Its methods
// may be called concurrently.
type Hub struct {
	// Static after New.
	store      eventlog.Store
	opts       Options
	metrics    *metrics
	deliverers []*deliverer  // of connections with a goroutine, and of streams
	born       time.Time     // the zero of clock
	hurry      chan struct{} // wakes the sweep when its period changed
	news       chan struct{} // holds a token when there is something to sweep
	calm       chan struct{} // holds a token when all may have been delivered
	encoding   chan struct{} // held by those who encode a snapshot
	rounds     rounds        // of deliveries

	catalog   atomic.Pointer[catalog] // what is asked for most, without a lock
	knob      atomic.Int64            // the period that an operator set; 0 while none did
	precision atomic.Int32            // likewise, the longest geohash of a region
	joined    atomic.Uint64           // deals clients out over the deliverers and loops
	loops     atomic.Pointer[loops]   // nil where there is no readiness to go by
	draining  atomic.Bool
	open      atomic.Int64   // WebSockets
	serving   sync.WaitGroup // clients

	mu      sync.RWMutex // guards what follows
	stopped bool         // Run has ended: nobody is taken any more
	life    *life        // nil until the logs were first read
	seq     uint64       // of the newest sweep
	index   *index
	views   map[viewKey]*view
	boards  map[wire.BoardKey]*board // that changed since the newest sweep
	newest  cairn.Instant            // at of the newest claim since then; 0 if none
}

// A life is one fold of the logs from their beginning. Its epoch tells it apart
// from every other of any hub.
type life struct {
	epoch  string
	number uint32 // from 1 on, within the hub
	state  *state // guarded by the hub's mu
}

// New returns a hub on store. It does nothing before [Hub.Run].
func New(store eventlog.Store, opts Options) *Hub {
	h := &Hub{
		store:    store,
		opts:     opts.withDefaults(),
		born:     time.Now(),
		hurry:    make(chan struct{}, 1),
		news:     make(chan struct{}, 1),
		calm:     make(chan struct{}, 1),
		encoding: make(chan struct{}, 2),
		rounds:   rounds{next: make(chan struct{}, 1)},
		index:    newIndex(),
		views:    map[viewKey]*view{},
		boards:   map[wire.BoardKey]*board{},
	}
	h.catalog.Store(&catalog{})
	h.metrics = newMetrics(opts.Metrics, h)
	for range max(2, runtime.GOMAXPROCS(0)) {
		h.deliverers = append(h.deliverers, newDeliverer(h))
	}
	return h
}

// Run follows the logs and sweeps until ctx ends, and then returns nil once all
// its goroutines ended and every connection is closed. A log that was trimmed
// past it or rolled back makes it start its fold anew; other errors of the
// store are final and returned. Call it once.
func (h *Hub) Run(ctx context.Context) error {
	lctx, stopLoops := context.WithCancel(context.WithoutCancel(ctx))
	defer stopLoops()
	var polling, others sync.WaitGroup
	if err := h.poll(lctx, &polling); err != nil {
		h.opts.Log.Warn("broadcast: each connection gets a goroutine", "err", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	others.Go(func() { h.sweeps(ctx) })
	others.Go(func() { h.checks(lctx) })
	for _, d := range h.deliverers {
		others.Go(func() { d.run(ctx) })
	}
	err := h.follow(ctx)
	cancel()
	h.stop() // while the loops still run: they say goodbye
	stopLoops()
	others.Wait()
	polling.Wait()
	return err
}

// clock returns the time since the hub was made, in milliseconds, modulo 2³².
func (h *Hub) clock() uint32 { return uint32(time.Since(h.born).Milliseconds()) }

// period is the time from one sweep to the next.
func (h *Hub) period() time.Duration {
	if d := h.knob.Load(); d != 0 {
		return time.Duration(d)
	}
	return h.opts.Sweep
}

// precisionKnob is the name of the live setting of the longest geohash that a
// region may have, and precisionMost its highest value.
const (
	precisionKnob = "precision"
	precisionMost = 8
)

// precisionMax is the longest geohash that a region may have from now on. Who
// watches a finer one already goes on.
func (h *Hub) precisionMax() int {
	if n := h.precision.Load(); n != 0 {
		return int(n)
	}
	return h.opts.PrecisionMax
}

// Ready returns nil once the hub has read the logs up to where their heads were
// when it started, and ErrNotReady or ErrDraining else.
func (h *Hub) Ready() error {
	if h.draining.Load() {
		return ErrDraining
	}
	h.mu.RLock()
	defer h.mu.RUnlock()
	switch {
	case h.stopped:
		return ErrDraining
	case h.life == nil:
		return ErrNotReady
	}
	return nil
}

// admit counts a client in; whoever is admitted calls h.serving.Done.
func (h *Hub) admit() error {
	if h.draining.Load() {
		return ErrDraining
	}
	h.mu.RLock()
	defer h.mu.RUnlock()
	switch {
	case h.stopped:
		return ErrDraining
	case h.life == nil:
		return ErrNotReady
	}
	h.serving.Add(1)
	return nil
}

// Connections returns how many WebSockets are open.
func (h *Hub) Connections() int { return int(h.open.Load()) }

// connected counts a WebSocket in, or out.
func (h *Hub) connected(n int) {
	h.open.Add(int64(n))
	h.metrics.websockets.Add(float64(n))
}

// deliverer picks one for a client.
func (h *Hub) deliverer() *deliverer {
	return h.deliverers[h.joined.Add(1)%uint64(len(h.deliverers))]
}

// Serve speaks a codec's protocol on a WebSocket that is already upgraded, as
// its server, until the connection ends or the hub drains. It takes the
// connection over, for better or worse, and returns at once, or when it has told
// the client that nobody is taken. early is what the
// client sent behind its handshake and was read already; the hub keeps none of
// it. ended, if it is not nil, is called once when all is over, with nil if the
// client or the hub ended the connection in the protocol's way, and otherwise
// with what ended it.
func (h *Hub) Serve(conn net.Conn, early []byte, codec Codec, edge Edge, ended func(error)) {
	if ended == nil {
		ended = func(error) {}
	}
	if err := h.admit(); err != nil {
		refuse(conn, err)
		ended(err)
		return
	}
	if h.poach(conn, early, codec, edge, ended) {
		return
	}
	c := newConn(h, h.deliverer(), conn, codec, edge)
	h.connected(1)
	go func() {
		defer h.serving.Done()
		err := c.serve(early)
		h.connected(-1)
		ended(err)
	}()
}

// The transports, as metrics name them.
const (
	transportWebSocket = "websocket"
	transportSSE       = "sse"
)

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
// snapshot. So a slow client costs a cursor, and the half that writes bytes
// (conn.go) can be replaced alone: it implements listener, owns a feed, and
// calls collect when its socket takes bytes.
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

	// Claim decides an attempt of a player who said hello. It is called on
	// the connection's reading goroutine, so while it runs nothing else is
	// read from this client: decide elsewhere what takes time. reply must be
	// called exactly once, from any goroutine, at any time, also after ctx
	// ended (which it does with the connection): with an
	// outcome frame in the codec, {"type":"outcome","id":c.ID,…} in JSON,
	// without WebSocket header. The hub copies it. c is the callee's to keep.
	Claim(ctx context.Context, player cairn.PlayerID, name string, codec Codec, c *wire.ClaimFrame, reply func(frame []byte))
}

// Options tunes a Hub. The zero value is ready for production.
type Options struct {
	Sweep        time.Duration // from one sweep to the next, until the knob "sweep" says otherwise; 0 means 50ms
	Ring         int           // deltas kept a region for those who resume, and sweeps that an unwatched region is kept; 0 means 256
	RingBytes    int           // bytes of them kept a region, the newest aside; 0 means 4 MiB
	CatchUp      int           // batches that a connection may be behind before it skips to a snapshot; 0 means 20
	PrecisionMax int           // longest geohash of a region; 0 means 8
	StandingRows int           // rows of a board in a standings frame; 0 means 20

	HelloWithin time.Duration // for a client's first message; 0 means 10s
	PingEvery   time.Duration // to a client that is silent; 0 means 30s
	DeadAfter   time.Duration // without a byte from the client; 0 means 75s
	StuckFor    time.Duration // how long a client may take no byte before it is closed; 0 means 10s
	ClaimsMax   int           // claims in flight a connection; 0 means 64

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
	def(&o.Ring, 256)
	def(&o.RingBytes, 4<<20)
	def(&o.CatchUp, 20)
	def(&o.PrecisionMax, 8)
	def(&o.StandingRows, 20)
	wait(&o.HelloWithin, 10*time.Second)
	wait(&o.PingEvery, 30*time.Second)
	wait(&o.DeadAfter, 75*time.Second)
	wait(&o.StuckFor, 10*time.Second)
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
	deliverers []*deliverer
	hurry      chan struct{} // wakes the sweep when its period changed
	encoding   chan struct{} // held by those who encode a snapshot

	catalog  atomic.Pointer[catalog] // what is asked for most, without a lock
	knob     atomic.Int64            // the period that an operator set; 0 while none did
	joined   atomic.Uint64           // deals clients out over the deliverers
	draining atomic.Bool
	serving  sync.WaitGroup // clients

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
	epoch string
	state *state // guarded by the hub's mu
}

// New returns a hub on store. It does nothing before [Hub.Run].
func New(store eventlog.Store, opts Options) *Hub {
	h := &Hub{
		store:    store,
		opts:     opts.withDefaults(),
		hurry:    make(chan struct{}, 1),
		encoding: make(chan struct{}, 2),
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
	ctx, cancel := context.WithCancel(ctx)
	var loops sync.WaitGroup
	loops.Go(func() { h.sweeps(ctx) })
	loops.Go(func() { h.checks(ctx) })
	for _, d := range h.deliverers {
		loops.Go(func() { d.run(ctx) })
	}
	err := h.follow(ctx)
	cancel()
	loops.Wait()
	h.stop()
	return err
}

// period is the time from one sweep to the next.
func (h *Hub) period() time.Duration {
	if d := h.knob.Load(); d != 0 {
		return time.Duration(d)
	}
	return h.opts.Sweep
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

// admit counts a client in, and picks its deliverer; whoever is admitted calls
// h.serving.Done.
func (h *Hub) admit() (*deliverer, error) {
	if h.draining.Load() {
		return nil, ErrDraining
	}
	h.mu.RLock()
	defer h.mu.RUnlock()
	switch {
	case h.stopped:
		return nil, ErrDraining
	case h.life == nil:
		return nil, ErrNotReady
	}
	h.serving.Add(1)
	return h.deliverers[h.joined.Add(1)%uint64(len(h.deliverers))], nil
}

// Serve speaks the protocol in codec on a WebSocket that is already upgraded, as its
// server, until the connection ends, the hub drains or ctx ends. It owns conn
// and closes it; whatever the client sent behind its handshake must still be
// readable from it. It returns nil if the client or the hub ended the
// connection in the protocol's way, and otherwise what ended it.
func (h *Hub) Serve(ctx context.Context, conn net.Conn, codec Codec, edge Edge) error {
	d, err := h.admit()
	if err != nil {
		refuse(conn, err)
		return err
	}
	defer h.serving.Done()
	c := newConn(ctx, h, d, conn, codec, edge)
	h.metrics.connections.WithLabelValues(transportWebSocket).Inc()
	defer h.metrics.connections.WithLabelValues(transportWebSocket).Dec()
	return c.serve()
}

// The transports, as metrics name them.
const (
	transportWebSocket = "websocket"
	transportSSE       = "sse"
)

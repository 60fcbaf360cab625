// Package broadcast is the Broadcast Layer: it follows the logs, keeps what is
// open in memory, and tells everyone who looks at a region what changed there.
//
//	logs ─▶ state ─▶ sweep: one delta a changed region, encoded once ─▶ connections
//
// It does not know why a tile changed, nor HTTP: the edge hands it sockets that
// are already upgraded.
package broadcast

import (
	"context"
	"errors"
	"log/slog"
	"net"
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
	// ended (which it does with the connection): with the JSON object of an
	// outcome frame, {"type":"outcome","id":c.ID,…}, without WebSocket
	// header; the hub keeps the slice. c is the callee's to keep.
	Claim(ctx context.Context, player cairn.PlayerID, name string, c *wire.ClaimFrame, reply func(frame []byte))
}

// Options tunes a Hub. The zero value is ready for production.
type Options struct {
	Sweep        time.Duration // from one sweep to the next, until the knob "sweep" says otherwise; 0 means 50ms
	Ring         int           // deltas kept a region for those who resume; 0 means 256
	RingBytes    int           // bytes of them kept a region, the newest aside; 0 means 4 MiB
	CatchUp      int           // sweeps that a connection may be behind before it skips to a snapshot; 0 means 20
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

// A Hub follows the logs of a store and serves those who watch. Its methods
// may be called concurrently.
type Hub struct {
	store eventlog.Store
	opts  Options
}

// New returns a hub on store. It does nothing before [Hub.Run].
func New(store eventlog.Store, opts Options) *Hub { return &Hub{store: store, opts: opts} }

// Run follows the logs and sweeps until ctx ends, and then returns nil once all
// its goroutines ended and every connection is closed. A log that was trimmed
// past it or rolled back makes it start its fold anew; other errors of the
// store are final and returned.
func (h *Hub) Run(ctx context.Context) error { <-ctx.Done(); return nil }

// Ready returns nil once the hub has read the logs up to where their heads were
// when it started, and ErrNotReady or ErrDraining else.
func (h *Hub) Ready() error { return ErrNotReady }

// Hunts returns every hunt by name. They must not be changed.
func (h *Hub) Hunts() []*cairn.HuntStatus { return nil }

// Hunt returns the status of a hunt, or nil. It must not be changed.
func (h *Hub) Hunt(id cairn.HuntID) *cairn.HuntStatus { return nil }

// Map returns the map of a hunt at a tick, kept until 10 minutes after it
// closes. That may be a map that is yet to open: who shows it to players must
// look at Opens. It must not be changed.
func (h *Hub) Map(hunt cairn.HuntID, tick cairn.Tick) (*cairn.Map, bool) { return nil, false }

// Current returns the newest map of a hunt with opens ≤ now. It may have
// closed. It must not be changed.
func (h *Hub) Current(hunt cairn.HuntID, now cairn.Instant) (*cairn.Map, bool) { return nil, false }

// Serve speaks cairn.v1.json on a WebSocket that is already upgraded, as its
// server, until the connection ends, the hub drains or ctx ends. It owns conn
// and closes it. It returns nil if the client or the hub ended the connection
// in the protocol's way, and otherwise what ended it.
func (h *Hub) Serve(ctx context.Context, conn net.Conn, edge Edge) error {
	conn.Close()
	return ErrNotReady
}

// Drain tells every connection to reconnect elsewhere, spread over the first
// half of within, closes those that are still there when within has passed, and
// returns when all are gone. From its start on nobody new is taken.
func (h *Hub) Drain(within time.Duration) {}

// An Interest is what one who watches wants to see of one hunt.
type Interest struct {
	Hunt      cairn.HuntID
	Regions   []cairn.Cell // at most wire.WatchRegionsMax
	Standings bool
}

// A Resume is where a client was when it lost its connection. The zero Resume
// is a client without a past.
type Resume struct {
	Epoch string
	Seq   uint64
}

// ParseResume parses the id of an event as Last-Event-ID brings it back,
// "epoch-seq". Anything else is a client without a past.
func ParseResume(id string) Resume { return Resume{} }

// A Subscription is one who watches through Server-Sent Events.
type Subscription struct{}

// Subscribe begins to watch. ErrHuntUnknown, ErrNotReady, ErrDraining, or a
// *cairn.FieldError about regions.
func (h *Hub) Subscribe(interest Interest, resume Resume) (*Subscription, error) {
	return nil, ErrNotReady
}

// Next waits until there is something to send, and returns it as whole
// events, shared and immutable, to be written in order before Next is called
// again. Every 15 s without an event it returns a comment, so that a dead
// connection is noticed. One goroutine at a time. Errors: ctx's, and
// ErrDraining after the drain event was returned.
func (s *Subscription) Next(ctx context.Context) (frames [][]byte, err error) {
	return nil, ErrDraining
}

// Close ends the subscription.
func (s *Subscription) Close() {}

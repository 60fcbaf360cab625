// Package server is the edge: HTTP and WebSocket, who is asking, what they may
// ask for, and the words that the rooms' answers have in the public API
// (docs/api.md). It decides nothing about the game.
//
// There are two handlers: [Server.Public] for players and [Server.Admin] for
// operators. Listeners are their caller's; [Serve] runs one.
package server

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net/http"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/broadcast"
	"github.com/veltrix/cairn/internal/claim"
	"github.com/veltrix/cairn/internal/ledger"
	"github.com/veltrix/cairn/internal/puzzle"
	"github.com/veltrix/cairn/internal/trail"
	"github.com/veltrix/cairn/internal/wire"
)

// Claims decides attempts: a *claim.Service, or what stands for one elsewhere.
type Claims interface {
	Claim(ctx context.Context, a *cairn.Attempt) (cairn.Verdict, error)
	ClaimAll(ctx context.Context, as []cairn.Attempt, out []claim.Answer)

	// Submit is ClaimAll for who does not wait: answered is called once for
	// each, with its place in as, by any goroutine, also before Submit returns.
	// It must be quick. The Answer is borrowed; as is the callee's until the
	// last answer. Submit itself may wait, until ctx ends, for maps that it does
	// not know.
	Submit(ctx context.Context, as []cairn.Attempt, answered func(int, *claim.Answer))

	// Knows reports whether Submit would take an attempt on a tile without
	// waiting for its map.
	Knows(ref cairn.TileRef) bool

	Lookup(ctx context.Context, ref cairn.TileRef, player cairn.PlayerID) (cairn.Verdict, error)
}

// Boards answers questions about standings: a *leaderboard.Projection, or a
// *fleet.Boards that asks one elsewhere. Beside a board comes how old it is. An
// error that is a cairn.FieldError says what is wrong with the key; any other,
// that nobody can answer now.
type Boards interface {
	Standings(ctx context.Context, key wire.BoardKey, limit int) (*wire.Board, time.Duration, error)

	// Around returns a nil board if the player has no claim on it.
	Around(ctx context.Context, key wire.BoardKey, player cairn.PlayerID, n int) (*wire.Board, time.Duration, error)
}

// Rewards reads what players earned: a *ledger.Ledger.
type Rewards interface {
	Rewards(ctx context.Context, player cairn.PlayerID, cursor string, limit int) (entries []ledger.Entry, next string, err error)
	Balance(ctx context.Context, player cairn.PlayerID) (cairn.Micro, error)
}

// Control records operators' acts: a *control.Control.
type Control interface {
	Do(ctx context.Context, c cairn.Change) (cairn.HuntStatus, error)
	Check(ctx context.Context, c cairn.Change) error // what Do would say now
	Hunts() []*cairn.HuntStatus
	Hunt(id cairn.HuntID) *cairn.HuntStatus
	Knob(name string) string
}

// Rooms are what the edge stands in front of. All are required.
type Rooms struct {
	Control Control
	Claims  Claims
	Hub     *broadcast.Hub
	Boards  Boards
	Rewards Rewards
	Keeper  *puzzle.Keeper
}

// A Check is one thing that /readyz asks. An advisory one is reported and
// never makes the answer a 503.
type Check struct {
	Name     string
	Ready    func() error
	Advisory bool
}

// Options tunes a Server. The zero value serves, but signs nobody in and has
// no page.
type Options struct {
	Guests   bool    // players may sign themselves in
	TokenKey []byte  // signs guests' tokens, at least 32 bytes; required with Guests
	Issuer   *Issuer // whose other tokens are taken; nil means nobody's

	Origins []string // other origins whose pages may call and open /v1/live, such as https://play.example; "*" is any
	Page    fs.FS    // the player page, rooted where index.html is; nil means none
	Limits  Limits

	Admission Admission // of handshakes of /v1/live

	AdminToken string // operators' bearer token; "" lets loopback in, and nobody else
	Ready      []Check
	Gatherer   prometheus.Gatherer // what /metrics shows; nil means nothing

	ClaimWithin time.Duration // longest that a claim waits to be decided before it is pending; 0 means 5s

	Traces trail.Edge // of what there are traces; the zero value makes none

	Version string                // of the binary, for the API's document
	Now     func() time.Time      // nil means time.Now
	Log     *slog.Logger          // nil discards
	Metrics prometheus.Registerer // nil registers nothing
}

func (o Options) withDefaults() Options {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	o.Log = trail.Logger(o.Log)
	if o.ClaimWithin == 0 {
		o.ClaimWithin = 5 * time.Second
	}
	if o.Gatherer == nil {
		o.Gatherer = prometheus.NewRegistry()
	}
	return o
}

// A Server is the edge. Its methods may be called concurrently.
type Server struct {
	// Static after New.
	rooms   Rooms
	opts    Options
	tokens  *tokens
	metrics *metrics
	page    *page
	public  http.Handler
	admin   http.Handler

	byPlayer  *limiter[cairn.PlayerID]
	byAddress *limiter[netip.Addr]
	guests    *limiter[netip.Addr]

	bodies mapBodies

	admission *admission

	undecided trail.Few // log lines of claims that were not

	drainCtx context.Context // ended by Drain
	drain    context.CancelFunc
}

// New returns the edge in front of rooms. ctx bounds what it keeps running in
// the background: the refresh of an issuer's keys. Its errors are of Options.
func New(ctx context.Context, rooms Rooms, opts Options) (*Server, error) {
	if rooms.Control == nil || rooms.Claims == nil || rooms.Hub == nil || rooms.Boards == nil || rooms.Rewards == nil || rooms.Keeper == nil {
		return nil, errors.New("server: a room is missing")
	}
	opts = opts.withDefaults()
	toks, err := newTokens(ctx, opts.Guests, opts.TokenKey, opts.Issuer, opts.Now)
	if err != nil {
		return nil, err
	}
	pg, err := newPage(opts.Page)
	if err != nil {
		return nil, err
	}
	s := &Server{
		rooms: rooms, opts: opts, tokens: toks, page: pg, metrics: newMetrics(opts.Metrics),
		byPlayer:  newLimiter[cairn.PlayerID](opts.Limits.PlayerClaims.or(defaultPlayerClaims)),
		byAddress: newLimiter[netip.Addr](opts.Limits.AddressClaims.or(defaultAddressClaims)),
		bodies:    mapBodies{most: mapBodiesBytes},
		guests:    newLimiter[netip.Addr](opts.Limits.AddressGuests.or(defaultAddressGuests)),
	}
	s.admission = newAdmission(opts.Admission, s.connections)
	s.admission.register(opts.Metrics)
	s.drainCtx, s.drain = context.WithCancel(context.Background())
	s.exportReady()
	problemsOfHuma()
	s.public = s.publicHandler()
	s.admin = s.adminHandler()
	return s, nil
}

// Public returns the players' handler.
func (s *Server) Public() http.Handler { return s.public }

// Admin returns the operators' handler: hunts, knobs, metrics, health, pprof.
func (s *Server) Admin() http.Handler { return s.admin }

// Drain makes /readyz say no, takes no more sockets and, 3 s later, ends the
// event streams that the hub has not ended until then. Calls in flight go on.
// It returns at once. Drain the hub at the same time: it tells who watches.
func (s *Server) Drain() { s.drain() }

func (s *Server) draining() bool { return s.drainCtx.Err() != nil }

func (s *Server) now() cairn.Instant { return cairn.InstantOf(s.opts.Now()) }

var errDraining = errors.New("shutting down")

// Package leaderboard is the read-optimised projection of the shard logs:
// who stands where, by hunt, window and region (docs/leaderboard.md).
//
// It is a fold: it reads every shard's log, keeps all in memory, and publishes
// the boards that changed to the standings log. It never writes a shard's log
// and knows nothing of sockets or of money's way to the player.
package leaderboard

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/eventlog"
	"github.com/veltrix/cairn/internal/wire"
)

// Bounds of reads and of what is published.
const (
	RowsMax       = 1000 // rows of one answer; a larger limit is cut to it
	RowsPublished = 100  // rows of a board in the standings log
)

// Options tunes a Projection. The zero value is ready for production, but for
// Checkpoint.
type Options struct {
	// Checkpoint is the path of the durable snapshot; the one before it is
	// kept beside it as Checkpoint+".prev". Empty means none: every start
	// folds the logs from their beginning, and nothing may be trimmed.
	Checkpoint string

	CheckpointEvery time.Duration // at most this often, and only when something changed; 0 means 10s
	Publish         time.Duration // pace of publication; 0 means 10ms
	Takeover        time.Duration // a standby takes over once the standings log rested so long; 0 means 5s
	RegionDepth     int           // levels of regional boards below a hunt's own region; 0 means 2, negative none

	// Shards names the shard logs to fold. Nil means all that the store has.
	Shards []int

	Now     func() time.Time      // nil means time.Now
	Log     *slog.Logger          // nil means none
	Metrics prometheus.Registerer // nil means unregistered
}

// ErrCatchingUp is what Ready returns until all that stood in the logs at the
// start has been folded. Standings are then served, but are of the past.
var ErrCatchingUp = errors.New("leaderboard: catching up with the logs")

// A Projection folds the shard logs into boards. Its methods may be called
// concurrently, before, while and after Run runs.
type Projection struct {
	store eventlog.Store
	opts  Options
}

// New returns a projection of store's shard logs, with nothing folded yet.
func New(store eventlog.Store, opts Options) *Projection {
	return &Projection{store: store, opts: opts}
}

// Run folds the shard logs, publishes and writes checkpoints until ctx ends,
// which is no error. It may be called once. Other errors are final and an
// operator must look: a log that is missing, damaged, or trimmed past every
// checkpoint.
func (p *Projection) Run(ctx context.Context) error { <-ctx.Done(); return nil }

// Ready returns nil once the projection has caught up, ErrCatchingUp before,
// and what ended Run after.
func (p *Projection) Ready() error { return ErrCatchingUp }

// Check reports why there can be no board of that key, as a cairn.FieldError
// on "region" or "hour": a region finer than the hunt keeps boards of, or an
// hour that is over for too long. Nil means that Standings has an answer, be it
// an empty board. A hunt that has no claim yet passes.
func (p *Projection) Check(key wire.BoardKey) error { return nil }

// Standings returns the first limit rows of a board (1 ≤ limit ≤ RowsMax, cut
// to it), with what it reflects: AsOf, Newest, and in Published the time of
// this answer. The board is the caller's own. False if [Projection.Check]
// refuses the key; a board without claims is empty, and true.
func (p *Projection) Standings(key wire.BoardKey, limit int) (*wire.Board, bool) { return nil, false }

// Around returns a player's row and up to n rows on each side (cut so that
// there are at most RowsMax), with their true ranks. False if Check refuses
// the key or the player has no claim on that board.
func (p *Projection) Around(key wire.BoardKey, player cairn.PlayerID, n int) (*wire.Board, bool) {
	return nil, false
}

// Lag returns how old the standings are: 0 when every claim that the logs are
// known to hold is folded and published, and else the age (now − at) of the
// oldest claim that is not. It is what the public API calls lag_ms.
func (p *Projection) Lag() time.Duration { return 0 }

// Durable returns, for each shard, up to where the logs are not needed any
// more: what the older of the two checkpoints on disk covers, so that either
// of them can be started from. Empty until there are two. The map is the
// caller's own.
func (p *Projection) Durable() map[int]eventlog.Offset { return nil }

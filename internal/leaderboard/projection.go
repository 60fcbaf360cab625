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
	"io"
	"io/fs"
	"log/slog"
	"math"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
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

// A Leader says which of several projections on one store publishes (a
// fleet.Leader). Two may be told so at once, for a moment: the fence of the
// standings log tells them apart.
type Leader interface {
	// Leads reports whether this one is to publish.
	Leads() bool

	// Changed returns a channel that is closed when Leads has another answer
	// than when Changed was called.
	Changed() <-chan struct{}

	// Fenced says that this one was fenced out: another publishes.
	Fenced()
}

// Options tunes a Projection. The zero value is ready for production, but for
// Checkpoint.
type Options struct {
	// Checkpoint is the path of the durable snapshot; the one before it is
	// kept beside it as Checkpoint+".prev". Its folder must exist. Empty means
	// none: every start folds the logs from their beginning, and nothing may
	// be trimmed.
	Checkpoint string

	CheckpointEvery time.Duration // at most this often, at most a tenth of the time, and only when something changed; 0 means 10s
	Publish         time.Duration // a board that changed is published at most so often; 0 means 20ms
	Takeover        time.Duration // without Leader: a standby takes over when claims went unpublished so long; 0 means 5s
	RegionDepth     int           // levels of regional boards below a hunt's own region, up to 4, and more if need be to reach cells of four characters; 0 means 2, negative none
	RegionBytes     int           // bound of one such level in one window, roughly; over it, it is dropped and refused; 0 means 64 MiB

	// Leader says when to publish. Nil means from when the projection has
	// caught up until another fences it out, and again after Takeover.
	Leader Leader

	// Fetch gets the newest checkpoint of a peer, for a start from whose own
	// checkpoints the logs can't be folded any more: they were trimmed. Nil
	// means that there are no peers. What it returns is checked like a file.
	Fetch func(context.Context) (io.ReadCloser, error)

	// Shards names the shard logs to fold. Nil means all that the store has.
	Shards []int

	FS      vfs.FS                // where Checkpoint is; nil means the disk
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
	// Static after New.
	store   eventlog.Store
	opts    Options
	files   checkpoints
	metrics *metrics
	regions regions
	wake    chan struct{} // something changed: publish; holds one, never closed
	marked  chan struct{} // a durable mark moved; holds one, never closed

	mu   sync.RWMutex // guards what follows, and all that fold holds
	fold *fold
	live state

	saved saved // guards itself
}

// state is what a projection knows beside the fold, as of this session.
type state struct {
	err     error // what ended Run
	ready   bool
	behind  int // shards that have not come to their head yet
	shards  [cairn.ShardsMax]follow
	ats     []cairn.Instant // of claims folded and not yet published, the newest unpublishedMax
	oldest  cairn.Instant   // the least at folded and not yet taken to be published, or 0
	taken   cairn.Instant   // the least at being published, or 0
	genesis map[int][16]byte
}

// follow is how one shard is followed.
type follow struct {
	head   eventlog.Offset // the log's newest record at the start of the session
	mark   eventlog.Offset // what is known durable
	behind bool            // offset < head
	oldest cairn.Instant   // behind: at of the newest record's first claim, or 0
}

// New returns a projection of store's shard logs, with nothing folded yet.
func New(store eventlog.Store, opts Options) *Projection {
	def := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	def(&opts.CheckpointEvery, 10*time.Second)
	def(&opts.Publish, 20*time.Millisecond)
	def(&opts.Takeover, 5*time.Second)
	if opts.RegionDepth == 0 {
		opts.RegionDepth = 2
	}
	opts.RegionDepth = min(max(opts.RegionDepth, 0), 4)
	if opts.RegionBytes <= 0 {
		opts.RegionBytes = 64 << 20
	}
	if opts.FS == nil {
		opts.FS = vfs.Default
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	p := &Projection{
		store: store, opts: opts, files: checkpoints{opts.FS, opts.Checkpoint},
		regions: regions{store: store},
		wake:    make(chan struct{}, 1), marked: make(chan struct{}, 1),
		fold: newFold(opts.rules()),
	}
	p.metrics = newMetrics(opts.Metrics, p)
	return p
}

func (o *Options) rules() rules { return rules{o.RegionDepth, o.RegionBytes} }

// Ready returns nil once the projection has caught up, ErrCatchingUp before,
// and what ended Run after.
func (p *Projection) Ready() error {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.live.err != nil {
		return p.live.err
	}
	if !p.live.ready {
		return ErrCatchingUp
	}
	return nil
}

// Standings returns the first limit rows of a board (1 ≤ limit ≤ RowsMax, cut
// to it), with what it reflects: AsOf, Newest, and in Published the time of
// this answer; and Lag. The board is the caller's own. The error is a
// cairn.FieldError that says why there can be no board of that key: a region
// finer than the hunt keeps boards of, or an hour that is over for too long. A
// board without claims is empty, and no error; so is one of a hunt that has no
// claim yet. A regional board that is asked for is published for a minute.
func (p *Projection) Standings(_ context.Context, key wire.BoardKey, limit int) (*wire.Board, time.Duration, error) {
	out, err := p.standings(key, limit)
	if err != nil {
		return nil, 0, err
	}
	return out, p.Lag(), nil
}

func (p *Projection) standings(key wire.BoardKey, limit int) (*wire.Board, error) {
	now := cairn.InstantOf(p.opts.Now())
	b, err := p.find(key)
	defer p.mu.RUnlock()
	if err != nil {
		return nil, err
	}
	out := p.fold.snapshot(key, b, min(max(limit, 1), RowsMax))
	out.Published = now
	if b != nil {
		b.watch(now)
	}
	return out, nil
}

// find returns the board of a key, in order if it is to be in order, and holds
// mu for reading.
func (p *Projection) find(key wire.BoardKey) (*board, error) {
	for {
		p.mu.RLock()
		b, err := p.fold.find(key)
		if b == nil || !b.loose() {
			return b, err
		}
		p.mu.RUnlock()
		p.mu.Lock()
		b.order()
		p.mu.Unlock()
	}
}

// Around returns a player's row and up to n rows on each side (cut so that
// there are at most RowsMax), with their true ranks, and Lag. The board is nil
// if the player has no claim on it. Errors are those of Standings.
func (p *Projection) Around(_ context.Context, key wire.BoardKey, player cairn.PlayerID, n int) (*wire.Board, time.Duration, error) {
	out, err := p.around(key, player, n)
	if err != nil {
		return nil, 0, err
	}
	return out, p.Lag(), nil
}

func (p *Projection) around(key wire.BoardKey, player cairn.PlayerID, n int) (*wire.Board, error) {
	now := cairn.InstantOf(p.opts.Now())
	b, err := p.find(key)
	defer p.mu.RUnlock()
	if err != nil || b == nil {
		return nil, err
	}
	no, ok := b.span.hunt.numbers[player]
	if !ok {
		return nil, nil
	}
	out := &wire.Board{BoardKey: key, AsOf: p.fold.asOf(), Players: b.players(), Newest: b.newest, Published: now}
	first := b.around(no, min(max(n, 0), (RowsMax-1)/2), func(s ranked) { out.Rows = append(out.Rows, b.row(s)) })
	if first == 0 {
		return nil, nil
	}
	for i := range out.Rows {
		out.Rows[i].Rank = first + i
	}
	return out, nil
}

// Lag returns how old the standings are: the age (now − at) of the oldest
// claim that was read from a log and is not yet folded and published, and 0
// when there is none. It is what the public API calls lag_ms. While catching up
// it is the age of the claims that are being folded. A process that stands by
// counts a claim as published when it is folded.
func (p *Projection) Lag() time.Duration {
	p.mu.RLock()
	oldest := cairn.Instant(math.MaxInt64)
	for _, at := range [...]cairn.Instant{p.live.oldest, p.live.taken} {
		if at != 0 {
			oldest = min(oldest, at)
		}
	}
	if p.live.behind > 0 {
		for i := range p.live.shards {
			if at := p.live.shards[i].oldest; at != 0 {
				oldest = min(oldest, at)
			}
		}
	}
	p.mu.RUnlock()
	if oldest == math.MaxInt64 {
		return 0
	}
	return max(0, cairn.InstantOf(p.opts.Now()).Sub(oldest))
}

// Durable returns, for each shard, up to where the logs are not needed any
// more: what the older of the two checkpoints on disk covers, so that either
// of them can be started from. Empty until there are two. The map is the
// caller's own.
func (p *Projection) Durable() map[int]eventlog.Offset { return p.saved.durable() }

// Checkpoint opens the newest checkpoint on disk, for a peer (Options.Fetch).
// fs.ErrNotExist if there is none. A newer one may be written meanwhile.
func (p *Projection) Checkpoint(context.Context) (io.ReadCloser, error) {
	if p.files.path == "" {
		return nil, fs.ErrNotExist
	}
	return p.files.fs.Open(p.files.path)
}

// sizes returns how many boards and players there are.
func (p *Projection) sizes() (boards, players int) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	for _, h := range p.fold.hunts {
		h.spans(func(s *span) { boards += s.count() })
		players += int(h.players.n)
	}
	return boards, players
}

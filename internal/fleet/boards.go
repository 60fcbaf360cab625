package fleet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"time"

	"connectrpc.com/connect"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/fleet/fleetpb"
	"github.com/veltrix/cairn/internal/trail"
	"github.com/veltrix/cairn/internal/wire"
)

// boardsWithin bounds an answer about standings, over all tries.
const boardsWithin = time.Second

// BoardsOptions tunes Boards. The zero value is ready for production.
type BoardsOptions struct {
	Self    string                // the name of the leaderboard process that this is: it does not ask itself; empty if it is none
	Timing  Timing                //
	Dial    DialFunc              // nil dials TCP
	Log     *slog.Logger          // nil discards
	Metrics prometheus.Registerer // nil registers nothing
	Tracer  trace.Tracer          // makes the spans of questions that are traced; nil makes none
}

// Boards answers questions about standings by asking the leaderboard
// processes: whoever leads if it can be reached, else another. What a
// leaderboard.Projection is in one process, this is to a gateway. Its methods
// may be called concurrently.
type Boards struct {
	view    *View
	opts    BoardsOptions
	peers   *peers
	metrics *boardsMetrics
}

// NewBoards returns Boards over the members that reg knows. It reaches nobody
// before Run.
func NewBoards(reg Registry, opts BoardsOptions) *Boards {
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	return &Boards{
		view: NewView(reg, RoleLeaderboard, opts.Timing, opts.Log), opts: opts, peers: newPeers(opts.Dial),
		metrics: newBoardsMetrics(opts.Metrics),
	}
}

// Run follows who is there until ctx ends. It returns nil.
func (b *Boards) Run(ctx context.Context) error {
	defer b.peers.close()
	return b.view.Run(ctx)
}

// Ready returns nil while a leaderboard process is there that has caught up.
func (b *Boards) Ready() error {
	members, _ := b.view.Members()
	switch {
	case !b.view.Fresh():
		return errors.New("the registry has not answered")
	case !slices.ContainsFunc(members, func(m Member) bool { return m.State == Live }):
		return errors.New("no leaderboard process is there")
	}
	return nil
}

// Standings returns the first limit rows of a board, and how old it is. The
// error is a cairn.FieldError if there can be no such board; any other says
// that nobody answered within a second.
func (b *Boards) Standings(ctx context.Context, key wire.BoardKey, limit int) (*wire.Board, time.Duration, error) {
	req := boardRequest(key)
	req.Limit = uint32(max(limit, 0))
	return b.ask(ctx, req)
}

// Around returns a player's row and up to n rows on each side, and how old the
// board is, which is nil if the player has no claim on it. Errors are those of
// Standings.
func (b *Boards) Around(ctx context.Context, key wire.BoardKey, player cairn.PlayerID, n int) (*wire.Board, time.Duration, error) {
	req := boardRequest(key)
	req.Player, req.Around = (*string)(&player), uint32(max(n, 0))
	return b.ask(ctx, req)
}

// ask asks one member, and if that fails another.
func (b *Boards) ask(ctx context.Context, req *fleetpb.BoardRequest) (*wire.Board, time.Duration, error) {
	began := time.Now()
	defer func() { b.metrics.duration.Observe(time.Since(began).Seconds()) }()
	if b.opts.Tracer == nil || !trail.Sampled(ctx) {
		return b.find(ctx, req)
	}
	ctx, span := b.opts.Tracer.Start(ctx, trail.SpanBoards, trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(trail.KeyHunt.String(req.Hunt)))
	defer span.End()
	board, age, err := b.find(ctx, req)
	if err != nil {
		span.SetStatus(codes.Error, err.Error())
	}
	return board, age, err
}

func (b *Boards) find(ctx context.Context, req *fleetpb.BoardRequest) (*wire.Board, time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, boardsWithin)
	defer cancel()
	var errs []error
	for tries := range 2 {
		if tries > 0 {
			b.metrics.retries.Inc()
		}
		ms := b.candidates()
		if len(ms) == 0 {
			errs = append(errs, errors.New("none is there"))
			break
		}
		m := ms[tries%len(ms)]
		reply, err := b.askOne(ctx, m, req, boardsWithin/2)
		if err == nil {
			return boardOf(reply)
		}
		errs = append(errs, fmt.Errorf("%s: %w", m.Name, err))
	}
	b.metrics.unavailable.Inc()
	return nil, 0, fmt.Errorf("fleet: no leaderboard process answers: %w", errors.Join(errs...))
}

func (b *Boards) askOne(ctx context.Context, m Member, req *fleetpb.BoardRequest, within time.Duration) (*fleetpb.BoardReply, error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	return b.peers.boards(m.Addr).Board(ctx, req)
}

// candidates returns whom to ask, the best first: who leads, who is live, who
// leaves, and at last who knows only the past.
func (b *Boards) candidates() []Member {
	members, _ := b.view.Members()
	ms := slices.DeleteFunc(slices.Clone(members), func(m Member) bool { return m.Addr == "" || m.Name == b.opts.Self })
	rank := func(m Member) int {
		switch {
		case m.State == Live && slices.Contains(m.Serves, leadShard):
			return 0
		case m.State == Live:
			return 1
		case m.State == Leaving:
			return 2
		}
		return 3
	}
	slices.SortStableFunc(ms, func(x, y Member) int { return rank(x) - rank(y) })
	return ms
}

// fetchWaits bounds how long Checkpoint waits to know who is there.
const fetchWaits = 5 * time.Second

// Checkpoint returns the newest snapshot of the standings that a leaderboard
// process has on disk, from the first that has one. The caller closes it, and
// checks it whole: a process that ends while it sends shows as an error of
// Read or as a snapshot that is broken.
func (b *Boards) Checkpoint(ctx context.Context) (io.ReadCloser, error) {
	wait, cancel := context.WithTimeout(ctx, fetchWaits)
	defer cancel()
	for !b.view.Fresh() {
		if _, changed := b.view.Members(); !pause(wait, changed, b.view.timing.PollEvery) {
			return nil, errors.New("fleet: checkpoint: the registry has not answered")
		}
	}
	errs := []error{errors.New("fleet: no leaderboard process has a checkpoint")}
	for _, m := range b.candidates() {
		r, err := b.checkpointOf(ctx, m)
		if err == nil {
			return r, nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", m.Name, err))
	}
	return nil, errors.Join(errs...)
}

// pause waits for changed, for d, or for ctx: then it returns false.
func pause(ctx context.Context, changed <-chan struct{}, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-changed:
	case <-time.After(d):
	}
	return true
}

func (b *Boards) checkpointOf(ctx context.Context, m Member) (io.ReadCloser, error) {
	ctx, cancel := context.WithCancel(ctx)
	stream, err := b.peers.boards(m.Addr).Checkpoint(ctx, &fleetpb.CheckpointRequest{})
	if err != nil {
		cancel()
		return nil, err
	}
	// The first piece says whether there is one.
	r := &chunkReader{stream: stream, cancel: cancel}
	if !stream.Receive() {
		err := stream.Err()
		r.Close()
		if err == nil {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	r.rest = stream.Msg().Data
	return r, nil
}

// A chunkReader reads what a stream of chunks carries.
type chunkReader struct {
	stream *connect.ServerStreamForClient[fleetpb.CheckpointChunk]
	cancel context.CancelFunc
	rest   []byte
}

func (r *chunkReader) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		if !r.stream.Receive() {
			if err := r.stream.Err(); err != nil {
				return 0, err
			}
			return 0, io.EOF
		}
		r.rest = r.stream.Msg().Data
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

func (r *chunkReader) Close() error {
	r.cancel()
	_ = r.stream.Close() // its error is that it was cancelled
	return nil
}

package fleet

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/eventlog"
	"github.com/veltrix/cairn/internal/wire"
)

// A fakeBoards is a source of boards that a test sets.
type fakeBoards struct {
	board      wire.Board
	err        error
	checkpoint []byte
}

func (f *fakeBoards) Standings(_ context.Context, key wire.BoardKey, limit int) (*wire.Board, time.Duration, error) {
	b := f.board
	b.BoardKey = key
	b.Rows = slices.Clone(b.Rows[:min(limit, len(b.Rows))])
	return &b, 5 * time.Millisecond, f.err
}

func (f *fakeBoards) Around(_ context.Context, key wire.BoardKey, player cairn.PlayerID, n int) (*wire.Board, time.Duration, error) {
	b := f.board
	b.BoardKey = key
	for i, row := range b.Rows {
		if row.Player == player {
			b.Rows = b.Rows[max(0, i-n):min(len(b.Rows), i+n+1)]
			return &b, 0, f.err
		}
	}
	return nil, 0, f.err
}

func (f *fakeBoards) Checkpoint(context.Context) (io.ReadCloser, error) {
	if f.checkpoint == nil {
		return nil, fs.ErrNotExist
	}
	return io.NopCloser(bytes.NewReader(f.checkpoint)), nil
}

// A boardProc is one run of a leaderboard process.
type boardProc struct {
	name   string
	host   *fakeHost
	src    *fakeBoards
	leader *Leader
	stop   func()
}

// board runs a leaderboard process whose best player is called by its name.
func (w *world) board(name string) *boardProc {
	p := &boardProc{name: name, host: w.net.host(name + ":3"), src: &fakeBoards{board: wire.Board{
		Players: 3, Newest: 7, Published: 8, AsOf: []wire.ShardOffset{{Shard: 3, Offset: eventlog.Offset{Epoch: 1, Seq: 2}}},
		Rows: []wire.Row{{Rank: 1, Player: "p1", Name: name, Score: 30, Claims: 3}, {Rank: 2, Player: "p2", Score: 20, Claims: 2}, {Rank: 3, Player: "p3", Score: 10, Claims: 1}},
	}}}
	var err error
	p.leader, err = NewLeader(&gatedRegistry{w.reg, p.host}, RoleLeaderboard, MemberOptions{Name: name, Addr: name + ":3"})
	must(w.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	srv, ln := Server(BoardsHandler(p.src)), p.host.listen()
	wg.Go(func() { _ = srv.Serve(ln) })
	wg.Go(func() { _ = p.leader.Run(ctx, nil) })
	p.stop = func() {
		cancel()
		srv.Close()
		p.host.kill()
		wg.Wait()
	}
	return p
}

// asker runs Boards, as a gateway or a process of the given name does.
func (w *world) asker(self string) (*Boards, func()) {
	h := w.net.host("asker")
	b := NewBoards(&gatedRegistry{w.reg, h}, BoardsOptions{Self: self, Dial: h.dial})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = b.Run(ctx) })
	return b, func() { cancel(); wg.Wait(); h.kill() }
}

// TestBoards asks whoever leads, and another when it is gone, paused or can't
// answer.
func TestBoards(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, net: newFakeNet(), reg: &flakyRegistry{}}
		b, stop := w.asker("")
		defer stop()
		key := wire.BoardKey{Hunt: "oslo", Window: wire.WindowHour, Hour: 488_000, Region: cairn.CellOfBits(5, 10)}
		time.Sleep(time.Second)
		if _, _, err := b.Standings(t.Context(), key, 2); err == nil || b.Ready() == nil {
			t.Errorf("nobody is there: got %v and %v, want errors", err, b.Ready())
		}
		procs := map[string]*boardProc{"a": w.board("a"), "b": w.board("b")}
		time.Sleep(2 * time.Second)
		must(t, b.Ready())
		first, other := procs["a"], procs["b"]
		if other.leader.Leads() {
			first, other = other, first
		}
		top := func() string {
			t.Helper()
			began := time.Now()
			got, lag, err := b.Standings(t.Context(), key, 2)
			if err != nil {
				t.Fatalf("no standings: %v", err)
			}
			if took := time.Since(began); took > boardsWithin {
				t.Errorf("an answer took %v, want at most %v", took, boardsWithin)
			}
			want, wantLag, _ := other.src.Standings(t.Context(), key, 2)
			want.Rows[0].Name = got.Rows[0].Name
			if diff := cmp.Diff(want, got); diff != "" || lag != wantLag {
				t.Errorf("a board changed on its way, lag %v (-want +got):\n%s", lag, diff)
			}
			return got.Rows[0].Name
		}
		if who := top(); who != first.name {
			t.Errorf("asked %s, want %s, who leads", who, first.name)
		}
		around, _, err := b.Around(t.Context(), key, "p3", 1)
		if err != nil || len(around.Rows) != 2 || around.Rows[0].Rank != 2 || around.Rows[1].Player != "p3" {
			t.Errorf("around p3: got %+v (%v), want ranks 2 and 3", around, err)
		}
		if none, _, err := b.Around(t.Context(), key, "nobody", 1); none != nil || err != nil {
			t.Errorf("around nobody: got %+v (%v), want neither", none, err)
		}

		fine := &cairn.FieldError{Field: "region", Msg: "is too fine"}
		first.src.err = fine
		var field *cairn.FieldError
		if _, _, err := b.Standings(t.Context(), key, 2); !errors.As(err, &field) || *field != *fine {
			t.Errorf("got %v, want the error of the field", err)
		}
		first.src.err = errors.New("no memory")
		if who := top(); who != other.name {
			t.Errorf("asked %s, want %s: the first can't", who, other.name)
		}
		first.src.err = nil

		first.host.pause()
		if who := top(); who != other.name {
			t.Errorf("asked %s, want %s: the first is paused", who, other.name)
		}
		time.Sleep(2 * time.Second)
		first.host.resume()
		time.Sleep(2 * time.Second)
		other.stop()
		if who := top(); who != first.name {
			t.Errorf("asked %s, want %s: the other is gone", who, first.name)
		}
		first.stop()
	})
}

// TestBoardsCheckpoint fetches a checkpoint from a peer that has one.
func TestBoardsCheckpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, net: newFakeNet(), reg: &flakyRegistry{}}
		procs := []*boardProc{w.board("a"), w.board("b"), w.board("c")}
		time.Sleep(time.Second)
		b, stop := w.asker("b") // it waits until it knows who is there
		defer stop()
		procs[1].src.checkpoint = []byte("its own")
		if _, err := b.Checkpoint(t.Context()); err == nil {
			t.Error("nobody has a checkpoint: got no error")
		}
		want := make([]byte, 3*checkpointChunkBytes+17)
		rng := rand.New(rand.NewPCG(1, 1))
		for i := range want {
			want[i] = byte(rng.Uint32())
		}
		procs[2].src.checkpoint = want
		r, err := b.Checkpoint(t.Context())
		must(t, err)
		if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, want) {
			t.Errorf("got %d bytes (%v), want the %d that were sent", len(got), err, len(want))
		}
		must(t, r.Close())

		procs[2].src.checkpoint = make([]byte, 16<<20) // more than is under way at once
		r, err = b.Checkpoint(t.Context())
		must(t, err)
		procs[2].host.kill()
		if _, err := io.ReadAll(r); err == nil {
			t.Error("its process ended: got no error")
		}
		must(t, r.Close())
		for _, p := range procs {
			p.stop()
		}
	})
}

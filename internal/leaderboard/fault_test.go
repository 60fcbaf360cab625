package leaderboard

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/veltrix/cairn/internal/eventlog"
	"github.com/veltrix/cairn/internal/wire"
)

// A faultStore is a store whose followers and writers fail when told to.
type faultStore struct {
	eventlog.Store
	follow chan error // the next Follower.Next of a shard returns it, after it has its records
	append chan error // the next append to the standings log does not happen and returns it
}

func (s *faultStore) Follow(ctx context.Context, log eventlog.Name, after eventlog.Offset) (eventlog.Follower, error) {
	f, err := s.Store.Follow(ctx, log, after)
	if err != nil || !strings.HasPrefix(string(log), "s0") {
		return f, err
	}
	return &faultFollower{f, s}, nil
}

func (s *faultStore) Open(ctx context.Context, log eventlog.Name) (eventlog.Writer, error) {
	w, err := s.Store.Open(ctx, log)
	return &faultWriter{w, s}, err
}

type faultFollower struct {
	eventlog.Follower
	s *faultStore
}

func (f *faultFollower) Next(ctx context.Context) ([]eventlog.Record, eventlog.Offset, error) {
	recs, mark, err := f.Follower.Next(ctx)
	select {
	case err := <-f.s.follow:
		return nil, eventlog.Offset{}, err
	default:
		return recs, mark, err
	}
}

type faultWriter struct {
	eventlog.Writer
	s *faultStore
}

func (w *faultWriter) Append(ctx context.Context, body []byte, from eventlog.Offset) (eventlog.Offset, error) {
	select {
	case err := <-w.s.append:
		return eventlog.Offset{}, err
	default:
		return w.Writer.Append(ctx, body, from)
	}
}

// A log that diverged, and appends that failed in each way, leave the boards
// right and published.
func TestFaults(t *testing.T) {
	for _, c := range []struct {
		name           string
		follow, append error
	}{
		{"diverged", eventlog.ErrDiverged, nil},
		{"unknown", nil, eventlog.ErrUnknown},
		{"pushback", nil, eventlog.ErrPushback},
		{"fenced", nil, eventlog.ErrFenced},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := newGame(t)
			faults := &faultStore{g.store, make(chan error, 1), make(chan error, 1)}
			p := New(faults, Options{Publish: time.Millisecond, Takeover: 20 * time.Millisecond, Checkpoint: filepath.Join(t.TempDir(), "lb"), CheckpointEvery: time.Millisecond, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
			stop := g.run(p)
			defer stop()
			rnd := rand.New(rand.NewPCG(1, 1))
			for i := range 30 {
				if i%10 == 5 {
					g.folded(p)
					if c.follow != nil {
						faults.follow <- c.follow
					} else if c.append != eventlog.ErrFenced {
						faults.append <- c.append
					} else if w, err := g.store.Open(t.Context(), eventlog.Standings); err != nil {
						t.Fatal(err) // it publishes nothing, and is gone
					} else {
						w.Close()
					}
				}
				g.play(i%testShards, 2, rnd)
			}
			until(t, "the faults are used up", func() bool {
				return len(faults.follow) == 0 && len(faults.append) == 0
			})
			g.play(0, 1, rnd)
			g.folded(p)
			if !bytes.Equal(g.encode(p), g.fromScratch(p)) {
				t.Error("not a fold from scratch")
			}
			want, _ := p.standings(oslo, RowsPublished)
			f, err := g.store.Follow(t.Context(), eventlog.Standings, eventlog.Offset{})
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			for found := false; !found; {
				recs, _, err := f.Next(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				for _, r := range recs {
					if r.Kind != eventlog.Data {
						continue
					}
					bs, err := wire.DecodeBoards(r.Body)
					if err != nil {
						t.Fatal(err)
					}
					for _, b := range bs {
						found = found || b.BoardKey == oslo && slices.Equal(b.AsOf, want.AsOf) && slices.Equal(b.Rows, want.Rows)
					}
				}
			}
			if err := stop(); err != nil {
				t.Errorf("Run: %v", err)
			}
		})
	}
}

// A record that does not decode ends Run and is named.
func TestDamagedRecord(t *testing.T) {
	g := newGame(t)
	o, err := g.writers[2].Append(t.Context(), []byte("nonsense"), eventlog.Offset{})
	if err != nil {
		t.Fatal(err)
	}
	err = New(g.store, Options{}).Run(t.Context())
	if !errors.Is(err, wire.ErrMalformed) || !strings.Contains(err.Error(), "s02 at "+o.String()) {
		t.Errorf("got %v, want ErrMalformed at s02 %v", err, o)
	}
}

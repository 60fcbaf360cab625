//go:build unix

package scaling

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"runtime"
	"strconv"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/bench/claims/world"
	"github.com/veltrix/cairn/internal/eventlog"
	"github.com/veltrix/cairn/internal/eventlog/redislog"
)

// memory measures the heap of a claim service against the tiles of its maps,
// and then against the claims of those tiles. The log is on Redis: an embedded
// one has its memory in the same heap.
func (b *bench) memory(ctx context.Context, r *Report) (err error) {
	wo, drop, err := b.options(ctx, Redis, b.opts.ShardsFix)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, drop()) }()
	s := sceneOf(b.opts.MemoryMaps, b.opts.MemoryMaps*cairn.TilesPerMapMax, 1)
	wo.Hunts = s.hunts
	w, err := world.Open(ctx, wo)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	for i, m := range s.maps {
		if err := w.Emit(ctx, world.Map(m.hunt, m.tick, s.tiles, b.opts.ShardsFix)); err != nil {
			return err
		}
		r.TileHeap = append(r.TileHeap, Point{float64((i + 1) * s.tiles), heap()})
	}
	for i := range s.maps { // all of one map, then all of the next
		one := *s
		one.maps = s.maps[i : i+1]
		if _, _, _, err := play(ctx, w, &one, b.opts.Callers, b.opts.Batch); err != nil {
			return err
		}
		r.ClaimHeap = append(r.ClaimHeap, Point{float64((i + 1) * one.size()), heap()})
	}
	b.opts.Say("scaling: %.0f bytes a tile, %.0f a claim in memory", FitOf(r.TileHeap).Slope, FitOf(r.ClaimHeap).Slope)
	return nil
}

// heap returns the bytes that are in use once the garbage is gone.
func heap() float64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // what was only to be finalised, too
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}

// logs measures what logs take against the claims in them.
func (b *bench) logs(ctx context.Context, r *Report) error {
	for _, backend := range backends {
		g, err := b.grow(ctx, backend)
		if err != nil {
			return fmt.Errorf("the log on %s: %w", backend, err)
		}
		r.Logs = append(r.Logs, g)
		f := FitOf(g.Bytes)
		b.opts.Say("scaling: %.0f bytes a claim in the log on %s, at %.1f claims a record", f.Slope, backend, g.ClaimsARecord)
	}
	return nil
}

// A Growth is what a log took.
type Growth struct {
	Log           string  `json:"log"`
	Bytes         []Point `json:"bytes"` // against claims; of Redis in its memory, of a filelog on disk
	ClaimsARecord float64 `json:"claims_a_record"`
}

func (b *bench) grow(ctx context.Context, backend string) (_ *Growth, err error) {
	wo, drop, err := b.options(ctx, backend, b.opts.ShardsFix)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, drop()) }()
	// Each step has maps of its own, so that all claims win.
	s := sceneOf(b.opts.LogSteps, b.opts.LogSteps*b.opts.LogClaims, 1)
	wo.Hunts = s.hunts
	w, err := world.Open(ctx, wo)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	if err := w.Emit(ctx, s.all(b.opts.ShardsFix)...); err != nil {
		return nil, err
	}
	g := &Growth{Log: backend}
	claims := 0
	for i := range s.maps {
		one := *s
		one.maps = s.maps[i : i+1]
		if _, _, _, err := play(ctx, w, &one, b.opts.Callers, b.opts.Batch); err != nil {
			return nil, err
		}
		claims += one.size()
		bytes, err := b.bytes(ctx, w, wo)
		if err != nil {
			return nil, err
		}
		g.Bytes = append(g.Bytes, Point{float64(claims), bytes})
	}
	records := uint64(0)
	for i := range w.Shards {
		st, err := w.Store.Status(ctx, eventlog.Shard(i))
		if err != nil {
			return nil, err
		}
		records += st.Last.Seq
	}
	g.ClaimsARecord = float64(claims) / float64(records)
	return g, nil
}

// bytes returns what the shards' logs take: on Redis they alone, on disk with
// the maps, which are as many at each step.
func (b *bench) bytes(ctx context.Context, w *world.World, wo world.Options) (float64, error) {
	sum := 0.0
	if wo.Redis == "" {
		err := filepath.WalkDir(wo.Dir, func(_ string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return ignoreGone(err)
			}
			info, err := d.Info()
			if err == nil {
				sum += float64(info.Size())
			}
			return ignoreGone(err)
		})
		return sum, err
	}
	for i := range w.Shards {
		reply, err := b.redis.Do(ctx, "MEMORY", "USAGE", redislog.Key("cairn", eventlog.Shard(i)), "SAMPLES", strconv.Itoa(0))
		if err != nil {
			return 0, err
		}
		n, err := reply.AsInt64()
		if err != nil {
			return 0, err
		}
		sum += float64(n)
	}
	return sum, nil
}

// ignoreGone is nil for a file that was deleted while the folder was read.
func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

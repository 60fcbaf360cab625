//go:build unix

// Package scaling measures how the claim service grows: attempts a second
// against shards and live maps, memory against tiles and claims, bytes of a log
// against claims, and the time to take a shard over against its log. Each comes
// with a fitted line.
package scaling

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"

	"github.com/veltrix/cairn/bench/claims/world"
	"github.com/veltrix/cairn/internal/lab"
)

// Options says what is measured. See [Short] and [Full].
type Options struct {
	Rounds int

	Shards     []int // to measure attempts with
	Maps       []int // live, likewise
	MapsAlways int   // live while shards are measured
	ShardsFix  int   // while maps are
	Tiles      int   // of all maps together
	Contenders int   // attempts on each tile, one of which wins
	Callers    int
	Batch      int // attempts that each caller has in flight

	MemoryMaps  int   // of 65,536 tiles, one step each
	LogSteps    int   // of LogClaims, to see a log grow
	LogClaims   int   //
	Recoveries  []int // claims in a log to recover from
	RecoverEach int   // claims in a record of such a log

	Dir string                           // for what is on disk; "" means the system's for temporary files
	Say func(format string, args ...any) // progress; nil means nobody hears it
}

// Short returns options for a run of half a minute.
func Short() Options {
	o := Full()
	o.Rounds, o.Shards, o.Maps = 3, []int{1, 8, 48}, []int{1, 100, 1000}
	o.Tiles, o.Contenders = 1<<15, 16
	o.MemoryMaps, o.LogSteps, o.LogClaims = 3, 3, 20_000
	o.Recoveries = []int{10_000, 50_000, 200_000}
	return o
}

// Full returns options for a run of some minutes.
func Full() Options {
	return Options{
		Rounds: 5, Shards: []int{1, 2, 4, 8, 24, 48}, Maps: []int{1, 10, 100, 1000}, MapsAlways: 8, ShardsFix: 24,
		Tiles: 1 << 16, Contenders: 32, Callers: 16, Batch: 256,
		MemoryMaps: 8, LogSteps: 5, LogClaims: 50_000,
		Recoveries: []int{10_000, 30_000, 100_000, 300_000, 1_000_000}, RecoverEach: 256,
	}
}

// The logs.
const (
	Filelog = "filelog"
	Redis   = "redis"
)

var backends = []string{Filelog, Redis}

// A bench opens worlds on logs of their own.
type bench struct {
	opts  *Options
	lab   *lab.Lab
	redis *lab.Redis
	n     int // of worlds
}

// Run measures all, one after the other.
func Run(ctx context.Context, o Options) (_ *Report, err error) {
	if o.Say == nil {
		o.Say = func(string, ...any) {}
	}
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // as the command has it
	l, err := lab.New(lab.Options{Parent: o.Dir})
	if err != nil {
		return nil, err
	}
	defer l.Close()
	b := &bench{opts: &o, lab: l}
	if b.redis, err = l.StartRedis(ctx, "redis"); err != nil {
		return nil, err
	}
	r := &Report{Contenders: o.Contenders, Callers: o.Callers, Batch: o.Batch, MapsAlways: o.MapsAlways, ShardsFix: o.ShardsFix, RecoverEach: o.RecoverEach}
	for _, step := range []func(context.Context, *Report) error{b.rates, b.memory, b.logs, b.recoveries} {
		if err := step(ctx, r); err != nil {
			return nil, fmt.Errorf("scaling: %w", err)
		}
	}
	return r, nil
}

// options returns those of a world on a log of its own, and what drops it.
func (b *bench) options(ctx context.Context, backend string, shards int) (world.Options, func() error, error) {
	b.n++
	o := world.Options{Shards: shards}
	if backend == Redis {
		o.Redis = b.redis.URL()
		return o, func() error {
			_, err := b.redis.Do(context.WithoutCancel(ctx), "FLUSHALL", "SYNC")
			return err
		}, nil
	}
	o.Dir = filepath.Join(b.lab.Dir, fmt.Sprintf("world-%d", b.n))
	return o, func() error { return os.RemoveAll(o.Dir) }, os.Mkdir(o.Dir, 0o755)
}

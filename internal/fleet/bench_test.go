package fleet

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/claim"
	"github.com/veltrix/cairn/internal/eventlog"
	"github.com/veltrix/cairn/internal/puzzle"
	"github.com/veltrix/cairn/internal/wire"
)

// benchFleet runs one claims process and one gateway on loopback, with one map
// that stays open. They make spans if they have tracers, and log to log if it is
// not nil.
func benchFleet(b testing.TB, gateway, claimer trace.Tracer, log *slog.Logger) (*Claims, cairn.Tick) {
	w := newWorld(b)
	tick := cairn.Tick(time.Now().Unix())
	m := simMap(tick)
	m.Closes = m.Opens.Add(time.Hour)
	m.Digest = wire.MapDigest(m)
	maps, err := w.store.Open(b.Context(), eventlog.Maps)
	must(b, err)
	for _, body := range [][]byte{wire.AppendMapChunk(nil, m, 0), wire.AppendMapHeader(nil, &m.MapHeader)} {
		_, err := maps.Append(b.Context(), body, eventlog.Offset{})
		must(b, err)
	}
	must(b, maps.Close())

	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(b, err)
	service := claim.New(w.store, puzzle.New([32]byte{1}), claim.Options{Shards: simShards, Standby: true, Tracer: claimer})
	owner, err := NewOwner(service, &w.reg.Local, OwnerOptions{Name: "a", Addr: ln.Addr().String(), Log: log, Tracer: claimer})
	must(b, err)
	claims := NewClaims(&w.reg.Local, ClaimsOptions{
		Shards: simShards, ShardsOf: func(cairn.HuntID, cairn.Tick) (int, bool) { return simShards, true }, Tracer: gateway,
	})
	srv := Server(owner.Handler())
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = srv.Serve(ln) })
	for _, run := range []func(context.Context) error{service.Run, owner.Run, claims.Run} {
		wg.Go(func() { _ = run(ctx) })
	}
	b.Cleanup(func() {
		cancel()
		srv.Close()
		wg.Wait()
		must(b, w.store.Close())
	})
	for owner.Ready() != nil || claims.Ready() != nil {
		time.Sleep(time.Millisecond)
	}
	return claims, tick
}

// BenchmarkClaim is one attempt a call from many callers at once, nearly all of
// which lose: what a crowd on a map does to the way from a gateway to the
// owner and back.
func BenchmarkClaim(b *testing.B) {
	claims, tick := benchFleet(b, nil, nil, nil)
	var player atomic.Uint64
	b.SetParallelism(256)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		me := cairn.PlayerID(fmt.Sprint("p", player.Add(1)))
		rng := rand.New(rand.NewPCG(1, player.Load()))
		ctx := b.Context()
		for pb.Next() {
			a := cairn.Attempt{TileRef: cairn.TileRef{Hunt: simHunt, Tick: tick, Tile: uint32(rng.IntN(simTiles))}, Player: me, Name: "somebody", ClaimID: "c"}
			if v, err := claims.Claim(ctx, &a); err != nil || v.Outcome != cairn.Gone && v.Outcome != cairn.Won {
				b.Errorf("got %v, %v", v.Outcome, err)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "attempts/s")
}

// BenchmarkClaimAll is the same with 64 attempts a call.
func BenchmarkClaimAll(b *testing.B) {
	const size = 64
	claims, tick := benchFleet(b, nil, nil, nil)
	var player atomic.Uint64
	b.SetParallelism(16)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		me := cairn.PlayerID(fmt.Sprint("p", player.Add(1)))
		rng := rand.New(rand.NewPCG(1, player.Load()))
		ctx := b.Context()
		as, out := make([]cairn.Attempt, size), make([]claim.Answer, size)
		for pb.Next() {
			for i := range as {
				as[i] = cairn.Attempt{TileRef: cairn.TileRef{Hunt: simHunt, Tick: tick, Tile: uint32(rng.IntN(simTiles))}, Player: me, Name: "somebody", ClaimID: "c"}
			}
			claims.ClaimAll(ctx, as, out)
			for i := range out {
				if v, err := out[i].Verdict, out[i].Err; err != nil || v.Outcome != cairn.Gone && v.Outcome != cairn.Won {
					b.Errorf("got %v, %v", v.Outcome, err)
					return
				}
			}
		}
	})
	b.ReportMetric(size*float64(b.N)/b.Elapsed().Seconds(), "attempts/s")
}

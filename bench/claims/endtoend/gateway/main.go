//go:build unix

// Gateway is what a careful team would put before a peer of bench/claims: the
// part of Cairn's public API that the benchmark's players use, with claims
// decided by a Lua script on Redis or by PostgreSQL.
//
//	gateway --listen 127.0.0.1:8090 --redis 127.0.0.1:6379
//	gateway --listen 127.0.0.1:8090 --postgres postgres://…  --follower postgres://…
//
// It is tuned as ours is: the same WebSocket library, the same decoder of
// claims, tokens that are verified once and then known, a token bucket a
// player. What one read of a socket brings is one pipeline to the store, and
// its outcomes are one write.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/veltrix/cairn/bench/claims/peer"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "gateway:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) (err error) {
	var (
		listen   = flag.String("listen", "127.0.0.1:0", "players' address")
		redis    = flag.String("redis", "", "HOST:PORT of the Redis that decides claims")
		postgres = flag.String("postgres", "", "URL of the database that decides claims")
		follower = flag.String("follower", "", "URL of the database that standings are read from")
		refresh  = flag.Duration("refresh", time.Second, "from one refresh of the materialised view to the next")
		hunt     = flag.String("hunt", "bench", "the hunt")
		tiles    = flag.Int("tiles", 5000, "tiles of a map")
	)
	flag.Parse()
	if (*redis == "") == (*postgres == "") {
		return errors.New("want one of --redis and --postgres")
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(400) // as cairn has it
	}
	g := newGame(*hunt, *tiles)
	if *redis != "" {
		g.claimer, err = peer.OpenLua(ctx, *redis, peer.RedisOptions{})
	} else {
		g.claimer, err = peer.OpenPostgres(ctx, *postgres, peer.IfFree, peer.PostgresOptions{RefreshEvery: *refresh})
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.claimer.Close()) }()
	if *follower != "" {
		if g.follower, err = pgxpool.New(ctx, *follower); err != nil {
			return fmt.Errorf("--follower: %w", err)
		}
		defer g.follower.Close()
	}
	return g.serve(ctx, *listen)
}

// serve serves players until ctx ends.
func (g *game) serve(ctx context.Context, listen string) error {
	if err := g.prepare(ctx, time.Now()); err != nil {
		return err
	}
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", listen)
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: g.handler(), ReadHeaderTimeout: 5 * time.Second, Protocols: new(http.Protocols)}
	srv.Protocols.SetHTTP1(true)
	srv.Protocols.SetUnencryptedHTTP2(true)
	ends := make(chan error, 2)
	go func() { ends <- g.prepareAll(ctx) }()
	go func() { ends <- srv.Serve(ln) }()
	select {
	case err = <-ends:
	case <-ctx.Done():
	}
	err = errors.Join(err, srv.Close())
	g.closeSockets()
	if errors.Is(err, http.ErrServerClosed) || ctx.Err() != nil {
		return nil
	}
	return err
}

package main

import (
	"context"
	"io/fs"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/broadcast"
	"github.com/veltrix/cairn/internal/fleet"
	"github.com/veltrix/cairn/internal/ledger"
	"github.com/veltrix/cairn/internal/puzzle"
	"github.com/veltrix/cairn/internal/server"
	"github.com/veltrix/cairn/web"
)

type gatewayCmd struct {
	roleFlags
	keysFlag
	ledgerFlag
	edgeFlags
	tracesFlag
	Guests       bool   `help:"Let players sign themselves in."`
	Issuer       string `help:"The iss that players' tokens (JWT) must have." placeholder:"NAME"`
	Audience     string `help:"The aud that players' tokens must have." placeholder:"NAME"`
	IssuerSecret string `help:"File of the secret that signs players' tokens (HS256), 32 bytes or more." placeholder:"FILE"`
	JWKS         string `name:"jwks" help:"URL of the public keys of who signs players' tokens." placeholder:"URL"`
}

// issuer returns whose tokens are taken, nil if nobody's but the guests'.
func (c gatewayCmd) issuer() (*server.Issuer, error) {
	is := &server.Issuer{Name: c.Issuer, Audience: c.Audience, JWKS: c.JWKS}
	switch {
	case c.IssuerSecret != "" && c.JWKS != "":
		return nil, usagef("--issuer-secret and --jwks exclude each other: a shared secret, or public keys")
	case c.IssuerSecret != "":
		b, err := os.ReadFile(c.IssuerSecret)
		if err != nil {
			return nil, usagef("--issuer-secret: %w", err)
		}
		if is.Secret = []byte(strings.TrimSpace(string(b))); len(is.Secret) < 32 {
			return nil, usagef("--issuer-secret: %s has %d bytes; want 32 or more", c.IssuerSecret, len(is.Secret))
		}
	case c.JWKS == "" && !c.Guests:
		return nil, usagef("--guests: nobody could sign in; want --guests, --issuer-secret FILE or --jwks URL")
	case c.JWKS == "":
		return nil, nil
	}
	return is, nil
}

// Run serves players: it decides nothing and keeps nothing but frames.
func (c gatewayCmd) Run(p *program) error {
	if err := c.ledgerFlag.required(); err != nil {
		return err
	}
	if err := c.edgeFlags.check(); err != nil {
		return err
	}
	issuer, err := c.issuer()
	if err != nil {
		return err
	}
	public, err := c.edgeFlags.listen(p.ctx)
	if err != nil {
		return err
	}
	defer closeAll(public)
	r, err := c.open(p, fleet.RoleGateway, nil)
	if err != nil {
		return err
	}
	defer r.close()
	if err := r.trace(p.ctx, c.tracesFlag); err != nil {
		return err
	}
	return c.serve(p, r, public, issuer)
}

func (c gatewayCmd) serve(p *program, r *role, public []net.Listener, issuer *server.Issuer) error {
	k, ctl, err := r.keyed(p.ctx, c.keysFlag)
	if err != nil {
		return err
	}
	page, err := fs.Sub(web.Dist, "dist")
	if err != nil {
		return err
	}
	keeper := puzzle.New(k.Puzzle)
	hub := broadcast.New(r.store, broadcast.Options{Log: r.log, Metrics: r.metrics})
	claims := fleet.NewClaims(r.reg, fleet.ClaimsOptions{Shards: r.shards, ShardsOf: shardsOf(hub), Log: r.log, Metrics: r.metrics, Tracer: r.traces.tracer})
	boards := fleet.NewBoards(r.reg, fleet.BoardsOptions{Timing: fleet.Timing{PollEvery: boardsLook}, Log: r.log, Metrics: r.metrics, Tracer: r.traces.tracer})
	led := &database{dsn: c.Ledger, opts: ledger.Options{ReadOnly: true, AnswerWithin: 5 * time.Second, Log: r.log}, log: r.log}
	defer led.close()
	seen := new(atomic.Bool)
	member := r.member(hub.Ready)
	member.Timing = fleet.Timing{TTL: gatewayLease}
	part, err := fleet.NewPartition(r.reg, fleet.RoleGateway, 0, member)
	if err != nil {
		return err
	}
	rooms := server.Rooms{Control: ctl, Claims: claims, Hub: hub, Boards: boards, Rewards: led, Keeper: keeper}
	edge, err := server.New(p.ctx, rooms, server.Options{
		Guests: c.Guests, TokenKey: k.Token[:], Issuer: issuer, Origins: c.Origin, Page: page, Limits: c.limits(), Admission: c.admission(),
		AdminToken: c.AdminToken, Version: version, Traces: c.edgeTraceFlags.edge(r.traces),
		Ready: []server.Check{
			{Name: "claims", Ready: claims.Ready},
			{Name: "broadcast", Ready: hub.Ready},
			{Name: "map", Ready: func() error { return mapOpen(hub, seen) }},
			{Name: "leaderboard", Ready: boards.Ready, Advisory: true},
			{Name: "ledger", Ready: led.ready, Advisory: true},
		},
		Gatherer: r.metrics, Metrics: r.metrics, Log: r.log,
	})
	if err != nil {
		return err
	}
	ps := newParts(p.ctx, r.log)
	defer ps.fail(nil)
	behind := ps.stage()
	defer behind.stop()
	behind.start("control", ctl.Run)
	behind.start("broadcast", hub.Run)
	behind.start("claims", claims.Run)
	behind.start("boards", boards.Run)
	behind.start("fleet", part.Run)
	behind.start("ledger", func(ctx context.Context) error {
		_, err := led.await(ctx)
		return err
	})
	listeners := serveEdge(ps, public, r.admin, edge)
	r.greet(p, public[0])
	<-ps.ctx.Done()
	r.log.Info("draining: nobody new is taken, what is in flight gets its answer")
	hub.Drain(drainWithin / 5)
	listeners.wg.Wait()
	behind.stop()
	r.log.Info("stopped")
	return ps.err()
}

// Gateways are many, and each look at the registry wakes one. They look at the
// claims processes as often as a takeover wants.
const (
	gatewayLease = 3 * time.Second        // nobody has to take over from a gateway
	boardsLook   = 250 * time.Millisecond // a leaderboard that does not answer is passed over anyway
)

// shardsOf returns over how many shards a map is spread, if the hub has it.
func shardsOf(hub *broadcast.Hub) func(cairn.HuntID, cairn.Tick) (int, bool) {
	return func(hunt cairn.HuntID, tick cairn.Tick) (int, bool) {
		m, ok := hub.Map(hunt, tick)
		if !ok {
			return 0, false
		}
		return m.Shards, true
	}
}

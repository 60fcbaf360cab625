package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/broadcast"
	"github.com/veltrix/cairn/internal/server"
)

// edgeFlags are what every command with a public listener takes.
type edgeFlags struct {
	Listen     string   `help:"Players' address." default:"127.0.0.1:8080"`
	Origin     []string `help:"Other origins whose pages may connect, such as https://play.example." placeholder:"URL"`
	ClaimRate  float64  `help:"Claims a second that one player may send." default:"20"`
	ClaimBurst int      `help:"Claims that one player may send at once." default:"50"`
}

func (f edgeFlags) check() error {
	switch {
	case f.ClaimRate <= 0 || f.ClaimRate > 1e6:
		return usagef("--claim-rate: is %v; want above 0, to 1000000", f.ClaimRate)
	case f.ClaimBurst < 1 || f.ClaimBurst > 1_000_000:
		return usagef("--claim-burst: is %d; want 1 to 1000000", f.ClaimBurst)
	}
	for _, o := range f.Origin {
		if o != "*" && !strings.HasPrefix(o, "http://") && !strings.HasPrefix(o, "https://") {
			return usagef("--origin: is %q; want * or a URL such as https://play.example", o)
		}
	}
	return nil
}

func (f edgeFlags) limits() server.Limits {
	return server.Limits{PlayerClaims: server.Rate{PerSecond: f.ClaimRate, Burst: f.ClaimBurst}}
}

// serveEdge serves both listeners of an edge until p ends and all in flight is
// answered.
func serveEdge(p *parts, public, admin net.Listener, s *server.Server) *stage {
	edge := p.stage()
	opts := server.ServeOptions{DrainWithin: drainWithin, OnDrain: s.Drain, Log: p.log}
	serve := func(ln net.Listener, h http.Handler) func(context.Context) error {
		return func(context.Context) error { return server.Serve(p.ctx, ln, h, opts) }
	}
	edge.start("public listener", serve(public, s.Public()))
	edge.start("operator's listener", serve(admin, s.Admin()))
	return edge
}

// mapGrace is how late a map may open before /readyz says so.
const mapGrace = 3 * time.Second

// mapOpen returns nil once every live hunt has a map open, and from then on as
// long as none is overdue: a hunt that has just gone live, or one whose maps
// are open for a part of its tick, must not turn players away from the others.
// seen notes that every live hunt has had a map open at once.
func mapOpen(hub *broadcast.Hub, seen *atomic.Bool) error {
	if err := hub.Ready(); err != nil {
		return err // it knows of no hunt yet, which is not that there is none
	}
	now := cairn.InstantOf(time.Now())
	for _, h := range hub.Hunts() {
		if h.State != cairn.Live {
			continue
		}
		m, ok := hub.Current(h.Name, now)
		if ok && m.Closes > now {
			continue
		}
		due := h.Changed
		if ok {
			due = max(due, m.Opens)
		}
		due = due.Add(time.Duration(h.Tick) + mapGrace)
		if !seen.Load() || now > due {
			return fmt.Errorf("hunt %s has no open map", h.Name)
		}
	}
	seen.Store(true)
	return nil
}

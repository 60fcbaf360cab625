package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
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
	Proxy      []string `help:"Addresses of proxies and balancers in front, such as 10.0.0.0/8: their X-Forwarded-For says whom limits by address count. Nobody else's is believed." placeholder:"CIDR"`
	ClaimRate  float64  `help:"Claims a second that one player may send." default:"20"`
	ClaimBurst int      `help:"Claims that one player may send at once." default:"50"`

	ConnectRate    float64 `help:"Handshakes of /v1/live a second that are taken." default:"2000"`
	ConnectBurst   int     `help:"Handshakes of /v1/live that are taken at once." default:"4000"`
	ConnectionsMax int     `help:"Clients that may watch at once. Without it: as many as the process may have files, less some for all else." placeholder:"N"`
	edgeTraceFlags

	ReusePort bool `help:"Let other processes that ask for it too listen on the same address (Linux): connections are shared out over all."`
}

func (f edgeFlags) check() error {
	if err := f.edgeTraceFlags.check(); err != nil {
		return err
	}
	switch {
	case f.ClaimRate <= 0 || f.ClaimRate > 1e6:
		return usagef("--claim-rate: is %v; want above 0, to 1000000", f.ClaimRate)
	case f.ClaimBurst < 1 || f.ClaimBurst > 1_000_000:
		return usagef("--claim-burst: is %d; want 1 to 1000000", f.ClaimBurst)
	case !(f.ConnectRate > 0 && f.ConnectRate <= 1e6):
		return usagef("--connect-rate: is %v; want above 0, to 1000000", f.ConnectRate)
	case f.ConnectBurst < 1 || f.ConnectBurst > 1_000_000:
		return usagef("--connect-burst: is %d; want 1 to 1000000", f.ConnectBurst)
	case f.ConnectionsMax < 0 || f.ConnectionsMax > 10_000_000:
		return usagef("--connections-max: is %d; want 1 to 10000000, or 0 for what the limit of open files allows", f.ConnectionsMax)
	}
	if limit, ok := fileLimit(); ok && f.ConnectionsMax > limit {
		return usagef("--connections-max: is %d, and this process may have %d files open; want at most %d, or a higher limit (ulimit -n)", f.ConnectionsMax, limit, connectionsOf(limit))
	}
	if _, err := f.proxies(); err != nil {
		return err
	}
	for _, o := range f.Origin {
		if o != "*" && !strings.HasPrefix(o, "http://") && !strings.HasPrefix(o, "https://") {
			return usagef("--origin: is %q; want * or a URL such as https://play.example", o)
		}
	}
	return nil
}

// proxies returns the networks, or addresses, of --proxy.
func (f edgeFlags) proxies() (server.Proxies, error) {
	var out server.Proxies
	for _, s := range f.Proxy {
		p, err := netip.ParsePrefix(s)
		if a, e := netip.ParseAddr(s); e == nil {
			p, err = netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen()), nil
		}
		if err != nil {
			return nil, usagef("--proxy: is %q; want an address or a network, such as 10.0.0.1 or 10.0.0.0/8", s)
		}
		out = append(out, p.Masked())
	}
	return out, nil
}

func (f edgeFlags) limits() server.Limits {
	proxies, _ := f.proxies() // which check has taken
	return server.Limits{PlayerClaims: server.Rate{PerSecond: f.ClaimRate, Burst: f.ClaimBurst}, Proxies: proxies}
}

// admission is what a gateway takes on.
func (f edgeFlags) admission() server.Admission {
	a := server.Admission{Connect: server.Rate{PerSecond: f.ConnectRate, Burst: f.ConnectBurst}, ConnectionsMax: f.ConnectionsMax}
	if limit, ok := fileLimit(); ok && a.ConnectionsMax == 0 {
		a.ConnectionsMax = connectionsOf(limit)
	}
	return a
}

// connectionsOf returns how many sockets a process with a limit of open files
// should have: the logs, the ledger, calls over HTTP and a core's worth of
// surprises want some too.
func connectionsOf(limit int) int { return max(limit/2, limit-limit/100-512) }

// listen opens the public listeners.
func (f edgeFlags) listen(ctx context.Context) ([]net.Listener, error) {
	var lns []net.Listener
	err := listening("--listen", f.Listen, func() (err error) {
		lns, err = server.Listen(ctx, f.Listen, server.ListenOptions{Shared: f.ReusePort})
		return err
	})
	return lns, err
}

func closeAll(lns []net.Listener) {
	for _, ln := range lns {
		ln.Close()
	}
}

// serveEdge serves the listeners of an edge until p ends and all in flight is
// answered.
func serveEdge(p *parts, public []net.Listener, admin net.Listener, s *server.Server) *stage {
	edge := p.stage()
	serve := func(lns []net.Listener, h http.Handler, lingerFor time.Duration) func(context.Context) error {
		opts := server.ServeOptions{DrainWithin: drainWithin, LingerFor: lingerFor, OnDrain: s.Drain, Log: p.log}
		return func(context.Context) error { return server.Serve(p.ctx, lns, h, opts) }
	}
	fronts := make([]net.Listener, len(public))
	for i, ln := range public {
		fronts[i] = s.Front(ln)
	}
	edge.start("public listener", serve(fronts, s.Public(), drainWithin/10))
	edge.start("operator's listener", serve([]net.Listener{admin}, s.Admin(), 0))
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

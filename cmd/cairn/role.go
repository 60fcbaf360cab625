package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/control"
	"github.com/veltrix/cairn/internal/eventlog"
	"github.com/veltrix/cairn/internal/eventlog/redislog"
	"github.com/veltrix/cairn/internal/fleet"
	"github.com/veltrix/cairn/internal/fleet/redisreg"
	"github.com/veltrix/cairn/internal/server"
)

// roleFlags are what every role's command takes.
type roleFlags struct {
	logFlag
	Name       string `help:"This process's name: unique in its role, and best the same after a restart. Without it: the machine's and a port." placeholder:"NAME"`
	Admin      string `help:"Operators' address: metrics, health, pprof." default:"127.0.0.1:0"`
	AdminToken string `help:"Bearer token for operators; required when --admin is not on loopback." placeholder:"TOKEN"`
	Fleet      string `help:"How many processes of each role there are to be, such as claims=3,gateway=8: their Redis connections are counted against maxclients." placeholder:"ROLE=N,…"`
}

// A keysFlag is --keys of the roles that have secrets.
type keysFlag struct {
	Keys string `help:"File of the secrets that all processes share; cairn log init --keys FILE makes it." required:"" placeholder:"FILE"`
}

// A peerFlag is --peer of the roles that others call.
type peerFlag struct {
	Peer      string `help:"Address for other processes of the fleet: HTTP/2 without TLS, for a private network." default:"127.0.0.1:0"`
	Advertise string `help:"HOST:PORT at which others reach --peer, if it is not what that listens on." placeholder:"HOST:PORT"`
}

// A role is one process of a fleet: its logs, its place among the others and
// its operators' listener. What it does is its command's.
type role struct {
	what    string // such as "claims"
	name    string
	flags   roleFlags
	log     *slog.Logger
	store   *redislog.Store
	reg     *redisreg.Registry
	shards  int // provisioned
	metrics *prometheus.Registry
	traces  *traces
	admin   net.Listener
	peer    net.Listener // nil if it has none
	addr    string       // at which others reach peer
}

// follows are how often the roles look for news in the logs, where nobody waits
// for them as for a board: a map is emitted 400 ms before it opens, deltas go
// out with a sweep of 50 ms, and money can wait. All but the claims processes,
// whose appends are what they are there for, have quiet logs ring.
var follows = map[string]redislog.Options{
	fleet.RoleGenerator:   {PollEvery: 20 * time.Millisecond, Bell: true},
	fleet.RoleClaims:      {PollEvery: 10 * time.Millisecond},
	fleet.RoleGateway:     {PollEvery: 20 * time.Millisecond, Bell: true},
	fleet.RoleLeaderboard: {Bell: true},
	fleet.RoleRewards:     {PollEvery: 25 * time.Millisecond, Bell: true},
}

// open connects a role, and says what is wrong with what it was given.
func (f roleFlags) open(p *program, what string, peer *peerFlag) (_ *role, err error) {
	r := &role{what: what, flags: f, metrics: prometheus.NewRegistry()}
	defer func() {
		if err != nil {
			r.close()
		}
	}()
	declared, err := parseFleet(f.Fleet)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(f.required(), checkAdmin(f.Admin, f.AdminToken)); err != nil {
		return nil, err
	}
	if r.admin, err = listen("--admin", f.Admin); err != nil {
		return nil, err
	}
	if peer != nil {
		if err := r.listenPeer(peer); err != nil {
			return nil, err
		}
	}
	if r.name, err = f.name(r); err != nil {
		return nil, err
	}
	r.log = p.log.With("process", r.name)
	r.metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if r.store, err = f.awaitRedis(p.ctx, r); err != nil {
		return nil, err
	}
	names, err := r.store.Logs(p.ctx)
	if err == nil {
		r.shards, err = provisioned(names)
	}
	if err != nil {
		return nil, fmt.Errorf("--log: %w", err)
	}
	if err := budget(p.ctx, r, declared); err != nil {
		return nil, err
	}
	cfg, err := f.tls()
	if err != nil {
		return nil, err
	}
	if r.reg, err = redisreg.Open(f.URL, redisreg.Options{TLS: cfg}); err != nil {
		return nil, fmt.Errorf("--log: %w", err)
	}
	return r, nil
}

// connectWithin is how long a role waits for a Redis that is not there: a node
// that is down is replaced within that time, or the role ends and says so.
const connectWithin = 10 * time.Second

// awaitRedis opens the logs. A node that does not answer is waited for; what is
// wrong with one that does is an error at once.
func (f roleFlags) awaitRedis(ctx context.Context, r *role) (*redislog.Store, error) {
	for until := time.Now().Add(connectWithin); ; {
		s, err := f.logFlag.open(ctx, r.log, r.metrics, follows[r.what])
		away := errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, context.DeadlineExceeded)
		if !away || ctx.Err() != nil || time.Now().After(until) {
			return s, err
		}
		r.log.Warn("Redis is away; trying again", "err", err)
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(reviveMax / 2):
		}
	}
}

// listenPeer opens the listener for others of the fleet.
func (r *role) listenPeer(f *peerFlag) (err error) {
	if r.peer, err = listen("--peer", f.Peer); err != nil {
		return err
	}
	a := r.peer.Addr().(*net.TCPAddr)
	r.addr = cmp.Or(f.Advertise, a.String())
	if f.Advertise == "" && a.IP.IsUnspecified() {
		return usagef("--advertise: is missing; want the HOST:PORT at which others reach --peer %s", f.Peer)
	}
	if _, _, err := net.SplitHostPort(r.addr); err != nil {
		return usagef("--advertise: is %q; want HOST:PORT", f.Advertise)
	}
	return nil
}

// name returns the process's name among those of its role.
func (f roleFlags) name(r *role) (string, error) {
	name := f.Name
	if name == "" {
		host, err := os.Hostname()
		if err != nil {
			return "", usagef("--name: is missing, and the machine has none: %w", err)
		}
		ln := r.admin
		if r.peer != nil {
			ln = r.peer
		}
		name = fmt.Sprintf("%s-%d", host, ln.Addr().(*net.TCPAddr).Port)
	}
	if err := fleet.ValidName(name); err != nil {
		return "", usagef("--name: %w", err)
	}
	return name, nil
}

// trace begins to trace, if f says so. It ends with close.
func (r *role) trace(ctx context.Context, f tracesFlag) (err error) {
	r.traces, err = f.begin(ctx, r.what, r.name, r.log, r.metrics)
	return err
}

// close ends what open began. Whoever served a listener has closed it.
func (r *role) close() {
	r.traces.close()
	if r.reg != nil {
		r.reg.Close()
	}
	if r.store != nil {
		if err := r.store.Close(); err != nil {
			r.log.Error("closing the log", "err", err)
		}
	}
	for _, ln := range []net.Listener{r.admin, r.peer} {
		if ln != nil {
			ln.Close()
		}
	}
}

// member is the process's place in its role.
func (r *role) member(ready func() error) fleet.MemberOptions {
	return fleet.MemberOptions{Name: r.name, Addr: r.addr, Ready: ready, Log: r.log, Metrics: r.metrics}
}

// keyed reads the secrets, and holds them against those that the system runs
// on; the first process of all makes its own those.
func (r *role) keyed(ctx context.Context, f keysFlag) (*keys, *control.Control, error) {
	k, err := readKeys(f.Keys)
	if err != nil {
		return nil, nil, usagef("--keys: %w", err)
	}
	c, err := control.Open(ctx, r.store, control.Options{CheckHunt: checkHunt, Log: r.log, Metrics: r.metrics})
	if err != nil {
		return nil, nil, err
	}
	if err := claimKeys(ctx, c, k, "cairn "+r.what, f.Keys); err != nil {
		return nil, nil, err
	}
	return k, c, nil
}

// serveOps serves the operators' listener until p ends and the stage stops.
func (r *role) serveOps(p *parts, checks ...server.Check) *stage {
	ops := server.NewOps(server.Options{AdminToken: r.flags.AdminToken, Ready: checks, Gatherer: r.metrics, Metrics: r.metrics, Log: r.log})
	context.AfterFunc(p.ctx, ops.Drain)
	st := p.stage()
	st.start("operator's listener", func(ctx context.Context) error {
		return server.Serve(ctx, []net.Listener{r.admin}, ops.Handler(), server.ServeOptions{DrainWithin: time.Second, Log: r.log})
	})
	return st
}

// servePeer serves the listener for the fleet.
func (r *role) servePeer(st *stage, h http.Handler) {
	st.start("peer listener", func(ctx context.Context) error {
		srv := fleet.Server(h)
		srv.ErrorLog = slog.NewLogLogger(r.log.Handler(), slog.LevelDebug)
		stop := context.AfterFunc(ctx, func() { srv.Close() })
		defer stop()
		if err := srv.Serve(r.peer); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
}

// greet says on stdout where the process can be reached: one line, for whoever
// started it.
func (r *role) greet(p *program, public net.Listener) {
	line := []string{r.what, r.name}
	add := func(what string, ln net.Listener) {
		if ln != nil {
			line = append(line, what+"="+reachable(ln))
		}
	}
	add("listen", public)
	add("peer", r.peer)
	add("admin", r.admin)
	fmt.Fprintln(p.stdout, strings.Join(line, " "))
}

// The pauses between two lives of what a log has failed.
const (
	reviveMin = 50 * time.Millisecond
	reviveMax = time.Second
)

// revive calls f again when it failed for a reason that may pass, as a log that
// fails over. It returns ctx's error, or one that an operator must look at.
func revive(ctx context.Context, log *slog.Logger, what string, f func(context.Context) error) error {
	for pause := reviveMin; ; pause = min(2*pause, reviveMax) {
		began := time.Now()
		err := f(ctx)
		if err == nil || ctx.Err() != nil {
			return err
		}
		for _, final := range []error{eventlog.ErrFenced, eventlog.ErrMissing, eventlog.ErrDamaged, eventlog.ErrClosed} {
			if errors.Is(err, final) {
				return err
			}
		}
		if time.Since(began) > 10*reviveMax {
			pause = reviveMin
		}
		log.Warn(what+" begins anew", "err", err, "in", pause)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

// claimKeys holds keys against those that the system runs on, and in a new
// system makes them its keys.
func claimKeys(ctx context.Context, c *control.Control, k *keys, who, where string) error {
	mine := k.fingerprint()
	if c.Key() == mine {
		return nil
	}
	_, err := c.Do(ctx, cairn.Change{Who: who, Key: mine})
	if errors.Is(err, control.ErrKey) {
		return fmt.Errorf("the keys in %s are %s, but this system runs on %s: put its keys.json back, or start anew with other data", where, mine, c.Key())
	}
	return err
}

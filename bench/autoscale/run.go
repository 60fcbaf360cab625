//go:build unix

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/veltrix/cairn/bench/autoscale/balance"
	"github.com/veltrix/cairn/bench/autoscale/monitor"
	"github.com/veltrix/cairn/bench/chaos/play"
	"github.com/veltrix/cairn/bench/program"
	"github.com/veltrix/cairn/internal/lab"
	"github.com/veltrix/cairn/internal/load/crowd"
)

const (
	huntName = "surge"
	tick     = time.Second
	lifetime = 10 * time.Second
	players  = 200

	// What the surge is to lead to.
	gatewaysWanted = 3
	claimsWanted   = 2

	// preStop is how long a gateway serves on once the balancer has been told:
	// five seconds in Kubernetes, where all nodes must hear of it.
	preStop = time.Second
	// arriveWithin is how long the surge's clients may take to be in, from the
	// end of its hold on.
	arriveWithin = time.Minute
	// shrinkWithin bounds how long the fleet may take to be small again, beyond
	// what its rules make of it.
	shrinkWithin = 90 * time.Second
	// settleWithin is how long clients may take to know the same, and the
	// ledger to have everything, once nobody plays.
	settleWithin = time.Minute
)

// A run is one fleet, what scales it, and its clients.
type run struct {
	o        options
	lab      *lab.Lab
	fleet    *lab.Fleet
	monitor  *monitor.Monitor
	balancer *balance.Balancer
	roles    []*scaler
	play     *play.Play
	stay     []*crowd.Crowd // who watch to the end: some from the beginning on, some come with the surge
	pace     atomic.Bool    // whether it is the surge

	unanswered *os.File // which tries of players got no answer, and why

	began, surge, fall, small, end time.Time

	sampling sync.Mutex // guards what follows, while the sampler runs
	phase    string
	many     *crowd.Crowd // who come with the surge and go with it; nil before and after
	clients  int          // that there should be
	watch    *crowd.Stats // all of both crowds
	phases   map[string]*crowd.Stats
	samples  []Sample
}

// execute plays the surge and says what came of it. All that it started has
// ended when it returns.
func execute(ctx context.Context, o options) (res *Result, err error) {
	gateways, err := o.policy("gateway", o.gatewaysMost)
	if err != nil {
		return nil, err
	}
	claims, err := o.policy("claims", o.claimsMost)
	if err != nil {
		return nil, err
	}
	l, err := lab.New(lab.Options{Bin: o.bin, Keep: o.keep})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	if o.keep {
		program.Say("all is in %s", l.Dir)
	}
	r := &run{o: o, lab: l, phase: phaseBefore, watch: crowd.NewStats(), phases: map[string]*crowd.Stats{}}
	defer func() {
		if ctx.Err() != nil && r.fleet != nil { // Ctrl-C: in good order all the same
			within, cancel := context.WithTimeout(context.WithoutCancel(ctx), endWithin)
			defer cancel()
			err = errors.Join(err, r.fleet.Drain(within))
		}
	}()
	if err := r.start(ctx, gateways, claims); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.balancer.Close()) }()
	return r.scaled(ctx, gateways, claims)
}

// start starts the fleet, Prometheus and the balancer.
func (r *run) start(ctx context.Context, gateways, claims *Policy) (err error) {
	program.Say("a small fleet, Prometheus and a balancer start")
	r.fleet, err = r.lab.StartFleet(ctx, lab.Spec{
		Generators: 1, Claims: 1, Gateways: 1, Leaderboards: 1, Rewards: 1,
		Most:  map[string]int{"gateway": gateways.Most, "claims": claims.Most},
		Redis: lab.ClusterOptions{Primaries: 3}, Ack: "primary", ShardsMax: r.o.shards, Hunts: []string{r.hunt()},
		Args: map[string][]string{"gateway": {"--connections-max", fmt.Sprint(r.o.connectionsMax), "--claim-rate", "1000000", "--claim-burst", "1000000"}},
	})
	if err != nil {
		return err
	}
	if err := r.setSweep(ctx); err != nil {
		return err
	}
	opts := monitor.Options{Rules: r.o.rules, Every: time.Second, Window: r.o.window()}
	if r.monitor, err = monitor.Start(ctx, r.lab, opts, lab.Roles); err != nil {
		return err
	}
	for _, x := range r.fleet.Roles("") {
		if err := r.monitor.Targets(x.Role, map[string]string{x.Name: x.Admin}); err != nil {
			return err
		}
	}
	r.balancer, err = balance.Listen("127.0.0.1:0")
	return err
}

// hunt has a third more tiles than the surge wants.
func (r *run) hunt() string {
	tiles := int(r.o.rate*r.o.times*4/3) + 50
	return fmt.Sprintf("name: %s\nregion: {geohash: u4}\nmask: none\ntiles_per_map: %d\ntick: %v\nlifetime: %v\nshards: %d\npuzzles: {tap: 1}\nreward: {min: 1, max: 1000, budget: 1000000000000000}\n",
		huntName, tiles, tick, lifetime, r.o.shards)
}

// setSweep sets the knob.
func (r *run) setSweep(ctx context.Context) error {
	body, err := json.Marshal(map[string]string{"sweep": r.o.sweep.String()})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPatch, "http://"+r.fleet.Roles("gateway")[0].Admin+"/admin/v1/knobs", bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("setting the sweep to %v: HTTP %d; want 200", r.o.sweep, resp.StatusCode)
	}
	return nil
}

// scaled has the autoscaler at work, and players play, and finishes.
func (r *run) scaled(ctx context.Context, gateways, claims *Policy) (*Result, error) {
	scaling, broke := context.WithCancelCause(ctx)
	var loops sync.WaitGroup
	stop := func() {
		broke(nil)
		loops.Wait()
		for _, s := range r.roles {
			s.pods.wg.Wait()
		}
	}
	defer stop()
	for _, p := range []*Policy{gateways, claims} {
		ps := &pods{role: p.Role, fleet: r.fleet, monitor: r.monitor, fail: broke}
		if p.Role == "gateway" {
			ps.balancer, ps.preStop = r.balancer, preStop
		}
		ps.adopt(scaling, r.fleet.Roles(p.Role)[0])
		if err := ps.await(scaling, 1); err != nil {
			return nil, err
		}
		r.roles = append(r.roles, newScaler(p, ps, r.monitor))
	}
	defer r.clientsEnd()
	if err := r.clientsCome(scaling); err != nil {
		return nil, err
	}
	for _, s := range r.roles {
		loops.Go(func() { s.run(scaling) })
	}
	err := r.underLoad(scaling)
	if err == nil {
		err = r.settle(scaling)
	}
	if cause := context.Cause(scaling); cause != nil && ctx.Err() == nil {
		err = cause // a pod failed: all else follows from that
	}
	if err != nil {
		return nil, err
	}
	res, err := r.observed(scaling)
	if err != nil {
		return nil, err
	}
	stop()
	return res, r.verify(ctx, res)
}

// clientsCome signs players in, and connects those who watch all the while.
func (r *run) clientsCome(ctx context.Context) (err error) {
	base := "http://" + r.balancer.Addr()
	unanswered, err := os.Create(filepath.Join(r.lab.Dir, "unanswered.log"))
	if err != nil {
		return err
	}
	r.unanswered = unanswered
	r.play, err = play.New(ctx, play.Options{
		Hunt: huntName, Tick: tick, Lifetime: lifetime, Gateways: func() []string { return []string{base} },
		Log:     slog.New(slog.NewTextHandler(unanswered, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Players: players, Rate: r.o.rate, Crowd: r.o.crowd, Batch: 1, Again: 0.1, Seed: r.o.seed,
		Pace: func() float64 {
			if r.pace.Load() {
				return r.o.times
			}
			return 1
		},
	})
	if err != nil {
		return err
	}
	if err := r.play.AwaitMap(ctx); err != nil {
		return err
	}
	r.clients = r.o.few
	return r.stayers(ctx, r.o.connectRate)
}

// stayers connects clients who watch to the end: all tiles, and standings.
func (r *run) stayers(ctx context.Context, perSecond float64) error {
	c, err := r.watchers(ctx, true)
	if err != nil {
		return err
	}
	r.sampling.Lock()
	r.stay = append(r.stay, c)
	r.sampling.Unlock()
	return c.Grow(ctx, r.o.few, perSecond)
}

// inView is what clients look at who come with the surge and go with it: an
// eighth of the hunt, as a page on a phone does. Those who stay see all of it.
var inView = []string{"u4r", "u4w", "u4x", "u4z"}

// watchers opens a crowd of which nobody is there yet.
func (r *run) watchers(ctx context.Context, all bool) (*crowd.Crowd, error) {
	regions := inView
	if all {
		regions = []string{""}
	}
	dialect := crowd.JSON()
	if r.o.codec == "proto" {
		dialect = crowd.Proto()
	}
	return crowd.Open(ctx, crowd.Options{Targets: []string{r.balancer.Addr()}, Dialect: dialect, Hunt: huntName, Regions: regions, Standings: all})
}

// underLoad has players play: it is quiet, then it is not, then it is quiet
// again until the fleet is as small as before and a little longer.
func (r *run) underLoad(ctx context.Context) error {
	playing, stop := context.WithCancel(ctx)
	var all sync.WaitGroup
	defer all.Wait()
	defer stop()
	r.began = time.Now()
	all.Go(func() { r.play.Run(playing, ctx) })
	sampling, stopSampling := context.WithCancel(ctx)
	defer stopSampling()
	all.Go(func() { r.sample(sampling) })
	err := r.phasesPass(ctx)
	r.end = time.Now()
	return err
}

func (r *run) phasesPass(ctx context.Context) error {
	program.Say("%d clients watch, %.0f attempts/s", r.o.few, r.o.rate*float64(r.o.crowd))
	if program.Sleep(ctx, r.o.before) != nil {
		return context.Cause(ctx)
	}
	program.Say("the surge: %d clients, %.0f attempts/s", r.o.many, r.o.rate*r.o.times*float64(r.o.crowd))
	r.surge = time.Now()
	r.pace.Store(true)
	if err := r.crowdIn(ctx); err != nil {
		return err
	}
	program.Say("the surge is over: %d clients go, %.0f attempts/s", r.o.many-2*r.o.few, r.o.rate*float64(r.o.crowd))
	r.fall = time.Now()
	r.pace.Store(false)
	if err := r.crowdOut(); err != nil {
		return err
	}
	if err := r.shrunk(ctx); err != nil {
		return err
	}
	r.small = time.Now()
	program.Say("one gateway and one claims process are left")
	if program.Sleep(ctx, r.o.after) != nil {
		return context.Cause(ctx)
	}
	return nil
}

// crowdIn has the surge's clients come, and returns when it has lasted.
func (r *run) crowdIn(ctx context.Context) error {
	many, err := r.watchers(ctx, false)
	if err != nil {
		return err
	}
	r.sampling.Lock()
	r.many, r.clients, r.phase = many, r.o.many, phaseSurge
	r.sampling.Unlock()
	within, cancel := context.WithTimeout(ctx, r.o.hold+arriveWithin)
	defer cancel()
	// Those who stay are among the others, so that each gateway has some of them.
	n := r.o.many - 2*r.o.few
	part := float64(r.o.few) / float64(r.o.many-r.o.few)
	both, growing := errgroup.WithContext(within)
	both.Go(func() error { return many.Grow(growing, n, r.o.connectRate*(1-part)) })
	both.Go(func() error { return r.stayers(growing, r.o.connectRate*part) })
	if err := both.Wait(); err != nil {
		return errors.Join(fmt.Errorf("the surge's clients are not in: %w; %s", err, r.seen()), r.look(time.Now()))
	}
	program.Say("all are in")
	if program.Sleep(ctx, r.o.hold-time.Since(r.surge)) != nil {
		return context.Cause(ctx)
	}
	return nil
}

// seen says how it stands with those who watch.
func (r *run) seen() string {
	r.sampling.Lock()
	defer r.sampling.Unlock()
	connected := 0
	if n := len(r.samples); n > 0 {
		connected = r.samples[n-1].Connected
	}
	return fmt.Sprintf("%d of %d are connected, %d handshakes were put off, errors %v; %+v", connected, r.clients, r.watch.Refused, r.watch.Errors, r.balancer.Counts())
}

// crowdOut has the surge's clients leave, when what they saw is noted.
func (r *run) crowdOut() error {
	err := r.look(time.Now())
	r.sampling.Lock()
	many := r.many
	r.many, r.clients, r.phase = nil, 2*r.o.few, phaseAfter
	r.sampling.Unlock()
	return errors.Join(err, many.Close())
}

// crowds are those that there are now. r.sampling is held, or nobody samples.
func (r *run) crowds() []*crowd.Crowd {
	if r.many == nil {
		return r.stay
	}
	return append(slices.Clone(r.stay), r.many)
}

// clientsEnd ends what there still is of clients that watch.
func (r *run) clientsEnd() {
	for _, c := range r.crowds() {
		c.Close()
	}
	if r.unanswered != nil {
		r.unanswered.Close()
	}
}

// shrunk waits until the fleet is as small as it was.
func (r *run) shrunk(ctx context.Context) error {
	within := shrinkWithin
	for _, s := range r.roles {
		down := s.policy.Behavior.Down
		within = max(within, shrinkWithin+down.Window+time.Duration(s.policy.Most)*(down.Policies[0].Period+preStop))
	}
	ctx, cancel := context.WithTimeoutCause(ctx, within, fmt.Errorf("%v after the surge the fleet is not small again", within))
	defer cancel()
	for _, s := range r.roles {
		if err := s.pods.await(ctx, s.policy.Least); err != nil {
			wants := s.wants()
			return fmt.Errorf("%s: %+v, wanted %s: %w", s.policy.Role, s.pods.count(), why(wants), err)
		}
	}
	return nil
}

// settle waits, when nobody plays any more, until those who watched to the end
// and one who comes now know the same.
func (r *run) settle(ctx context.Context) error {
	within, cancel := context.WithTimeout(ctx, settleWithin)
	defer cancel()
	if err := r.stay[0].Grow(within, 1, 0); err != nil {
		return fmt.Errorf("one who comes last: %w", err)
	}
	for {
		now := crowd.NewStats()
		states := map[string]int{}
		for _, c := range r.stay {
			s, err := c.Window(within)
			if err != nil {
				return err
			}
			for k, n := range s.States {
				states[k] += n
			}
			now.Add(s)
		}
		r.watch.Add(now)
		maps.Copy(r.watch.States, states)
		if len(states) == 1 || program.Sleep(within, probeEvery) != nil {
			return ctx.Err() // that they do not is for judge to say
		}
	}
}

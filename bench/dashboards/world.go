//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"sync"
	"time"

	"github.com/veltrix/cairn/bench/prometheus"
	"github.com/veltrix/cairn/internal/lab"
	"github.com/veltrix/cairn/internal/load"
)

// hunt is what is played; %d are its tiles a map.
const hunt = `name: dashboards
region: {geohash: u4}
tiles_per_map: %d
lifetime: 20s
shards: 24
puzzles: {tap: 1}
reward: {min: 100, max: 5000, budget: 1000000000000}
`

// A world is a fleet of all roles, a `cairn up` beside it (which has its log on
// disk), and a Prometheus that scrapes all of them.
type world struct {
	fleet *lab.Fleet
	up    string // the players' address of cairn up
	prom  *prometheus.Server
	began time.Time
}

// scale says how large a world is, and how much is done in it.
type scale struct {
	spec        lab.Spec
	shards      int           // provisioned
	rate        float64       // claims a second
	connections int           // that watch
	every       time.Duration // between two scrapes
}

// build starts a world. What it started is ended by the lab's Close.
func build(ctx context.Context, l *lab.Lab, s scale) (*world, error) {
	w := &world{}
	s.spec.Hunts = []string{fmt.Sprintf(hunt, max(100, int(2*s.rate)))}
	s.spec.ShardsMax = s.shards
	var err error
	if w.fleet, err = l.StartFleet(ctx, s.spec); err != nil {
		return nil, err
	}
	admin, err := w.startUp(ctx, l)
	if err != nil {
		return nil, err
	}
	targets := []target{{"cairn-up", "up", admin}}
	for _, r := range w.fleet.Roles("") {
		targets = append(targets, target{"cairn-" + r.Role, r.Name, r.Admin})
	}
	w.began = time.Now()
	w.prom, err = startPrometheus(ctx, l, targets, s.every)
	return w, err
}

// startUp starts cairn up, with a few bots of its own.
func (w *world) startUp(ctx context.Context, l *lab.Lab) (admin string, err error) {
	bin, err := l.Build(ctx)
	if err != nil {
		return "", err
	}
	var ports [2]int
	for i := range ports {
		if ports[i], err = l.FreePort(); err != nil {
			return "", err
		}
	}
	w.up, admin = fmt.Sprintf("127.0.0.1:%d", ports[0]), fmt.Sprintf("127.0.0.1:%d", ports[1])
	_, err = l.StartProgram(ctx, lab.Program{
		Name: "up", Argv: []string{bin, "up", "--listen", w.up, "--admin", admin, "--bots", "4", "--data", filepath.Join(l.Dir, "up-data")},
		Ready: func(*lab.Process) (bool, error) { return lab.Answers(ctx, "http://"+admin+"/readyz"), nil },
	})
	return admin, err
}

// play has players claim and clients watch until ctx ends.
func (w *world) play(ctx context.Context, s scale, log *slog.Logger) error {
	var targets []string
	for _, g := range w.fleet.Roles("gateway") {
		targets = append(targets, "http://"+g.Listen)
	}
	run := func(to []string, rate float64, connections int) func() error {
		return func() error {
			_, err := load.Run(ctx, load.Options{Targets: to, Rate: rate, Connections: connections, ConnectRate: 500, Players: 50, For: 24 * time.Hour, Crowd: 2, Log: log})
			return err
		}
	}
	parts := []func() error{
		run(targets, s.rate, s.connections),
		run([]string{"http://" + w.up}, 10, 5),
		func() error { return w.read(ctx, targets) },
	}
	errs := make([]error, len(parts))
	var wg sync.WaitGroup
	for i, part := range parts {
		wg.Go(func() { errs[i] = part() })
	}
	wg.Wait()
	if ctx.Err() != nil {
		return nil // told to end: what the load says of its last moment is no news
	}
	return errors.Join(errs...)
}

// read asks for standings now and then, as pages do.
func (w *world) read(ctx context.Context, gateways []string) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, gateways[i%len(gateways)]+"/v1/hunts/dashboards/standings", nil)
		if err != nil {
			return err
		}
		if resp, err := http.DefaultClient.Do(req); err == nil {
			resp.Body.Close()
		}
	}
}

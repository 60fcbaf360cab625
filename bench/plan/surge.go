//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/bench/origin"
	"github.com/veltrix/cairn/bench/report"
	"github.com/veltrix/cairn/internal/capacity"
	"github.com/veltrix/cairn/internal/capacity/sim"
	"github.com/veltrix/cairn/internal/lab"
)

// The small surge: that many clients come to one gateway at once, which takes
// so many a second.
const (
	surgeClients = 4000
	surgeRate    = 200
	surgeBurst   = 400
	surgeFor     = 45 * time.Second
)

// A surgeRecord is a real surge, and the same simulated.
type surgeRecord struct {
	Machine string  `json:"machine"`
	Commit  string  `json:"commit"`
	Real    surge   `json:"real"`
	Sim     []surge `json:"simulated"` // with five seeds
}

// A surge is what became of those who came.
type surge struct {
	Half    float64 `json:"half_s"` // until half of them were in
	Most    float64 `json:"most_s"` // and 99%
	Refused float64 `json:"refused"`
}

// runSurge has clients come to a gateway, simulates the same, and writes both.
func runSurge(ctx context.Context, o options) error {
	rec := surgeRecord{Machine: origin.Machine(), Commit: origin.Commit()}
	var err error
	if rec.Real, err = realSurge(ctx, o); err != nil {
		return err
	}
	for seed := range uint64(5) {
		s, err := simulatedSurge(seed)
		if err != nil {
			return err
		}
		rec.Sim = append(rec.Sim, s)
	}
	if err := report.Write(filepath.Dir(o.out), "surge.json", &rec); err != nil {
		return err
	}
	return rec.write(os.Stdout)
}

func (r *surgeRecord) write(w io.Writer) error {
	fmt.Fprintf(w, "%s; commit %s; %d clients at once, %d a second taken, %d at once\n\n", r.Machine, r.Commit, surgeClients, surgeRate, surgeBurst)
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(tw, "\treal\tsimulated\terror\t")
	for _, f := range []struct {
		name string
		of   func(surge) float64
	}{
		{"half are in after, s", func(s surge) float64 { return s.Half }},
		{"99% are in after, s", func(s surge) float64 { return s.Most }},
		{"refused", func(s surge) float64 { return s.Refused }},
	} {
		mean := 0.0
		for _, s := range r.Sim {
			mean += f.of(s) / float64(len(r.Sim))
		}
		fmt.Fprintf(tw, "%s\t%.1f\t%.1f\t%+.0f%%\t\n", f.name, f.of(r.Real), mean, 100*(mean/f.of(r.Real)-1))
	}
	return tw.Flush()
}

func realSurge(ctx context.Context, o options) (s surge, err error) {
	l, err := lab.New(lab.Options{Bin: o.bin})
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	f, err := l.StartFleet(ctx, lab.Spec{
		Generators: 1, Claims: 1, Gateways: 1, Leaderboards: 1, Rewards: 1, Redis: lab.ClusterOptions{Primaries: 3}, Ack: "primary",
		Hunts: []string{"name: bench\nregion: {geohash: u4}\nmask: none\ntiles_per_map: 50\nlifetime: 5s\nreward: {min: 1, max: 1000, budget: 1000000000000}\n"},
		Args:  map[string][]string{"gateway": {"--connect-rate", strconv.Itoa(surgeRate), "--connect-burst", strconv.Itoa(surgeBurst)}},
	})
	if err != nil {
		return s, err
	}
	bin, err := l.Build(ctx)
	if err != nil {
		return s, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	gateway := f.Roles("gateway")[0]
	// Few claims: what is watched here is the door.
	load := exec.CommandContext(ctx, bin, "load", "--target", "http://"+gateway.Listen, "--connections", strconv.Itoa(surgeClients+1), "--rate", "5", "--players", "10", "--for", "5s", "--json")
	load.Stderr = os.Stderr
	if err := load.Start(); err != nil {
		return s, err
	}
	s, err = watch(ctx, gateway)
	cancel()
	_ = load.Wait() // it was ended before its time: that is its error
	return s, err
}

// watch follows how many are in, from the first moment on that anybody was
// refused or let in, until all are.
func watch(ctx context.Context, gateway *lab.Role) (s surge, err error) {
	var began time.Time
	for tick := time.NewTicker(100 * time.Millisecond); ; {
		select {
		case <-ctx.Done():
			return s, ctx.Err()
		case <-tick.C:
		}
		m, err := gateway.Metrics(ctx)
		if err != nil {
			return s, err
		}
		r := reading{of: map[string]map[string]*family{"": m}}
		in := r.one("", "cairn_broadcast_connections")
		if s.Refused = r.one("", "cairn_edge_handshakes_refused_total", "reason", "rate"); began.IsZero() && in+s.Refused > surgeBurst/4 {
			began = time.Now()
		}
		if s.Half == 0 && in >= surgeClients/2 {
			s.Half = time.Since(began).Seconds()
		}
		if in >= surgeClients*0.99 {
			s.Most = time.Since(began).Seconds()
			return s, nil
		}
		if !began.IsZero() && time.Since(began) > 2*surgeFor {
			return s, fmt.Errorf("after %v %.0f of %d clients are in", 2*surgeFor, in, surgeClients)
		}
	}
}

// simulatedSurge is the same: one gateway, and nothing to scale.
func simulatedSurge(seed uint64) (s surge, err error) {
	c, err := capacity.Measured()
	if err != nil {
		return s, err
	}
	load := capacity.DefaultLoad()
	config := sim.Cairn(&load, c, capacity.Rules{Clients: func(int, int) int { return 0 }, Sockets: func(files int) int { return files }})
	config.Seed = seed
	config.Policy.Least, config.Policy.Most = 1, 1
	config.Pod.ConnectRate, config.Pod.ConnectBurst = surgeRate, surgeBurst
	config.Patience = cairn.Duration(time.Hour)
	const before = time.Minute
	config.Traffic = []sim.Point{{}, {At: before}, {At: before, Connections: surgeClients}, {At: before + 5*time.Minute, Connections: surgeClients}}
	r, err := sim.Run(config)
	if err != nil {
		return s, err
	}
	s.Refused = float64(r.Refusals)
	s.Half, s.Most = r.InAfter(before, surgeClients/2), r.InAfter(before, surgeClients*0.99)
	return s, nil
}

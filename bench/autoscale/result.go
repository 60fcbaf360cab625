//go:build unix

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"github.com/veltrix/cairn/bench/autoscale/balance"
	"github.com/veltrix/cairn/bench/chaos/history"
	"github.com/veltrix/cairn/bench/chaos/play"
	"github.com/veltrix/cairn/bench/origin"
	"github.com/veltrix/cairn/bench/program"
	"github.com/veltrix/cairn/bench/report"
)

// A Result is what came of a run.
type Result struct {
	Machine string    `json:"machine"`
	Commit  string    `json:"commit"`
	Command string    `json:"command"`
	Began   time.Time `json:"began"`

	Hurry          float64   `json:"hurry"`
	Size           float64   `json:"size"`
	ConnectionsMax int       `json:"connections_max"`
	Sweep          float64   `json:"sweep_s"`
	Window         float64   `json:"window_s"` // that the autoscaler's rules look back
	Policies       []*Policy `json:"policies"`

	Claims   play.Counts      `json:"claims"` // tries and attempts
	Waited   float64          `json:"waited_max_ms"`
	History  history.Findings `json:"history"`
	Watching Watching         `json:"watching"`
	Balancer balance.Counts   `json:"balancer"`
	Phases   []Phase          `json:"phases"`

	GatewaysMost int         `json:"gateways_most"` // ready at once
	ClaimsMost   int         `json:"claims_most"`   // ready at once
	SmallAfter   float64     `json:"small_after_s"` // from the surge's end
	StartS       []float64   `json:"start_s"`       // of each process that was started, until it was ready
	EndS         []float64   `json:"end_s"`         // of each that was ended, from SIGTERM on
	Alerts       []string    `json:"alerts"`        // that fired
	Simulated    []Simulated `json:"simulated"`
	Samples      []Sample    `json:"samples"`

	Verified struct {
		OK      bool  `json:"ok"`
		Claims  int64 `json:"claims"`
		Rewards int64 `json:"rewards"`
		Total   int64 `json:"violations_total"`
		Ledger  struct {
			Entries int64 `json:"entries"`
			Behind  int64 `json:"behind"`
		} `json:"ledger"`
	} `json:"verified"`

	Missed []string `json:"missed"` // what was not met
}

// Watching is what all clients that watched saw.
type Watching struct {
	Opened     int64            `json:"opened"`
	Refused    int64            `json:"refused"` // by admission: 503 with Retry-After, came again
	Errors     map[string]int64 `json:"errors"`  // connections that were refused or broke, by kind
	Lost       int64            `json:"lost"`    // connections that ended by themselves
	Drains     int64            `json:"drains"`  // asked to go elsewhere
	Reconnects int64            `json:"reconnects"`
	Resumed    int64            `json:"resumed"`
	Restarted  int64            `json:"restarted"`
	Deliveries int64            `json:"deliveries"`
	Gaps       int64            `json:"gaps"`
	Skips      int64            `json:"skips"`
	Wrong      map[string]int64 `json:"wrong"`
	Closes     map[int]int64    `json:"closes"`
	States     int              `json:"states"` // that clients know in the end, one that came last among them
	Behind     int              `json:"behind"`
}

// A Phase is a part of the run.
type Phase struct {
	Name     string  `json:"name"`
	Seconds  float64 `json:"seconds"`
	Attempts float64 `json:"attempts_per_s"` // that were decided
	Claim    Waits   `json:"claim"`          // from when an attempt was due until it was decided, retries included
	Delivery Waits   `json:"delivery"`       // from the first claim in a delta until a client had it
}

// Waits are milliseconds.
type Waits struct {
	P50 float64 `json:"p50_ms"`
	P99 float64 `json:"p99_ms"`
	Max float64 `json:"max_ms"`
}

// measure runs everything and writes the result, also one that shows that
// something was not met, which is an error.
func measure(ctx context.Context, o options) error {
	res, err := execute(ctx, o)
	if err != nil {
		return err
	}
	if err := report.Write(filepath.Dir(o.out), filepath.Base(o.out), res); err != nil {
		return err
	}
	fmt.Println()
	fmt.Println(res.tables())
	if o.docs != "" && len(res.Missed) == 0 {
		if err := res.document(o.docs); err != nil {
			return err
		}
	}
	return res.verdict()
}

// observed gathers what is known once clients know the same, and before the
// fleet ends.
func (r *run) observed(ctx context.Context) (*Result, error) {
	r.answers()
	o := r.o
	res := &Result{
		Machine: origin.Machine(), Commit: origin.Commit(), Command: o.command, Began: r.began.UTC().Truncate(time.Second),
		Hurry: o.hurry, Size: o.size, ConnectionsMax: o.connectionsMax, Sweep: o.sweep.Seconds(), Window: o.window().Seconds(),
		History: r.play.History.Findings(), Balancer: r.balancer.Counts(), SmallAfter: r.small.Sub(r.fall).Seconds(), Samples: r.samples, Missed: []string{},
	}
	w := r.watch
	res.Watching = Watching{
		Opened: w.Opened, Refused: w.Refused, Errors: w.Errors, Lost: w.Lost, Drains: w.Drains, Reconnects: w.Reconnects, Resumed: w.Resumed, Restarted: w.Restarted,
		Deliveries: w.Deliveries, Gaps: w.Gaps, Skips: w.Skips, Wrong: w.Wrong, Closes: w.Closes, States: len(w.States), Behind: w.Behind(),
	}
	var waits play.Waits
	res.Claims, waits = r.play.Touching(r.began, time.Now())
	res.Waited = milliseconds(waits.Max())
	bounds := []time.Time{r.began, r.surge, r.fall, r.end}
	for i, name := range phaseNames {
		res.Phases = append(res.Phases, r.phaseResult(name, bounds[i], bounds[i+1]))
	}
	for _, s := range r.roles {
		res.Policies = append(res.Policies, s.policy)
		starts, ends := s.pods.times()
		for _, d := range starts[1:] { // but for the one that ran already
			res.StartS = append(res.StartS, d.Seconds())
		}
		for _, d := range ends {
			res.EndS = append(res.EndS, d.Seconds())
		}
		simulated, err := r.simulate(s, starts[1:], ends)
		if err != nil {
			return nil, err
		}
		res.Simulated = append(res.Simulated, *simulated)
	}
	for _, s := range r.samples {
		res.GatewaysMost, res.ClaimsMost = max(res.GatewaysMost, s.Ready), max(res.ClaimsMost, s.Claims)
	}
	fired, err := r.monitor.Query(ctx, fmt.Sprintf(`count by (alertname) (max_over_time(ALERTS{alertstate="firing"}[%ds]))`, int(time.Since(r.began).Seconds())+1))
	if err != nil {
		return nil, err
	}
	for _, f := range fired {
		res.Alerts = append(res.Alerts, f.Metric["alertname"])
	}
	slices.Sort(res.Alerts)
	return res, nil
}

func (r *run) phaseResult(name string, from, to time.Time) Phase {
	c, w, seconds := r.play.Within(from, to)
	p := Phase{
		Name: name, Seconds: to.Sub(from).Seconds(), Attempts: float64(c.Won+c.Gone+c.Closed+c.Unknown+c.Again) / float64(max(1, seconds)),
		Claim: Waits{milliseconds(w.Quantile(0.5)), milliseconds(w.Quantile(0.99)), milliseconds(w.Max())},
	}
	if seen := r.phases[name]; seen != nil {
		p.Delivery = Waits{milliseconds(seen.Latency.Quantile(0.5)), milliseconds(seen.Latency.Quantile(0.99)), milliseconds(seen.Latency.Max())}
	}
	return p
}

// verify ends the roles in good order, once the ledger has everything, has
// cairn verify look at logs and ledger, and notes what was not met.
func (r *run) verify(ctx context.Context, res *Result) error {
	for end := time.Now().Add(settleWithin); ; {
		out, err := r.fleet.Verify(ctx)
		if json.Unmarshal(out, &res.Verified) != nil {
			return fmt.Errorf("cairn verify printed no report: %w", err)
		}
		if res.Verified.Ledger.Behind == 0 || time.Now().After(end) {
			break
		}
		if program.Sleep(ctx, time.Second) != nil {
			return ctx.Err()
		}
	}
	if err := r.fleet.Drain(ctx); err != nil {
		return err
	}
	out, err := r.fleet.Verify(ctx)
	if json.Unmarshal(out, &res.Verified) != nil {
		return fmt.Errorf("cairn verify printed no report: %w", err)
	}
	v := &res.Verified
	program.Say("verify: ok=%v, %d claims, %d entries in the ledger", v.OK, v.Claims, v.Ledger.Entries)
	res.judge()
	return nil
}

// judge notes what was not met.
func (r *Result) judge() {
	must := func(ok bool, format string, args ...any) {
		if !ok {
			r.Missed = append(r.Missed, fmt.Sprintf(format, args...))
		}
	}
	c, w := &r.Claims, &r.Watching
	must(c.GivenUp == 0, "%d attempts were never decided", c.GivenUp)
	must(!r.History.Broken(), "players were told what can't be: %+v", r.History)
	must(c.Shed == 0, "%d attempts were not sent, for too many waited", c.Shed)
	must(c.Starved*100 <= c.Won, "%d tiles were due and not there, %d won: too few maps came", c.Starved, c.Won)
	must(r.Balancer.Refused == 0, "%d connections found no gateway that takes them", r.Balancer.Refused)
	must(len(w.Errors) == 0, "connections of clients that watch were refused or broke: %v", w.Errors)
	must(w.Lost == 0, "%d connections of clients that watch were lost", w.Lost)
	must(w.Gaps == 0 && len(w.Wrong) == 0, "%d gaps, faults %v", w.Gaps, w.Wrong)
	must(w.Behind == 0, "in the end clients know %d different things", w.States)
	must(r.GatewaysMost >= gatewaysWanted, "%d gateways at most; want %d or more", r.GatewaysMost, gatewaysWanted)
	must(r.ClaimsMost >= claimsWanted, "%d claims processes at most; want %d or more", r.ClaimsMost, claimsWanted)
	must(r.Verified.OK && r.Verified.Ledger.Behind == 0, "cairn verify: %d violations, %d claims not in the ledger", r.Verified.Total, r.Verified.Ledger.Behind)
}

// verdict is an error if something was not met.
func (r *Result) verdict() error {
	var errs []error
	for _, m := range r.Missed {
		errs = append(errs, errors.New(m))
	}
	return errors.Join(errs...)
}

// kinds says how often what happened.
func kinds(m map[string]int64) (n int64) {
	for _, k := range slices.Collect(maps.Keys(m)) {
		n += m[k]
	}
	return n
}

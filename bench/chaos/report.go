//go:build unix

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/veltrix/cairn/bench/chaos/gap"
	"github.com/veltrix/cairn/bench/chaos/history"
	"github.com/veltrix/cairn/bench/chaos/play"
	"github.com/veltrix/cairn/bench/origin"
	"github.com/veltrix/cairn/bench/report"
)

// A record is one fault, and what players saw of it from its beginning until
// all that they follow went on. Gaps are milliseconds without service; 0 says
// that there was none of 50 ms or more.
type record struct {
	Kind      string      `json:"kind"`
	Hit       string      `json:"hit"`
	At        float64     `json:"at_s"`
	Broken    float64     `json:"broken_ms"`        // until all that was broken was there again
	Window    float64     `json:"window_ms"`        // until all went on
	Claims    float64     `json:"claims_ms"`        // longest gap of any shard
	Median    float64     `json:"claims_median_ms"` // longest gap of half the shards
	Shards    int         `json:"shards_hit"`       // with a gap over 1 s
	Maps      float64     `json:"maps_ms"`          // latest map, against when it should have opened
	Standings float64     `json:"standings_ms"`     // longest time without newer standings
	Rewards   float64     `json:"rewards_ms"`       // longest time without newer rewards
	WaitP99   float64     `json:"wait_p99_ms"`      // an attempt, from when it was due to its decision
	WaitMax   float64     `json:"wait_max_ms"`
	Counts    play.Counts `json:"counts"`
	Lost      int64       `json:"lost"`             // claims acknowledged by then that the ledger does not have
	Silent    []string    `json:"silent,omitempty"` // what had not gone on after a minute

	from, to time.Time
}

func (f *record) String() string {
	s := fmt.Sprintf("%-16s %-20s claims %s (median shard %s, %d over 1s), maps %s, standings %s, rewards %s; tries refused or reset %d, pending %d, unavailable %d; longest wait %s",
		f.Kind, f.Hit, secs(f.Claims), secs(f.Median), f.Shards, secs(f.Maps), secs(f.Standings), secs(f.Rewards), f.Counts.Failed, f.Counts.Pending, f.Counts.Unavailable, secs(f.WaitMax))
	if f.Counts.GivenUp > 0 {
		s += fmt.Sprintf(", never decided %d", f.Counts.GivenUp)
	}
	if f.Counts.Starved > 0 {
		s += fmt.Sprintf(", tiles missing %d", f.Counts.Starved)
	}
	if len(f.Silent) > 0 {
		s += ", STILL SILENT: " + strings.Join(f.Silent, " ")
	}
	return s
}

func secs(ms float64) string { return fmt.Sprintf("%.2fs", ms/1000) }

// A result is what a run found.
type result struct {
	Machine  string           `json:"machine"`
	Commit   string           `json:"commit"`
	Command  string           `json:"command"`
	Seed     uint64           `json:"seed"`
	Ack      string           `json:"ack"`
	Took     float64          `json:"took_s"`
	Rate     rates            `json:"rate"`
	Faults   []*record        `json:"faults"`
	Between  []*record        `json:"between"` // the same, of the times between faults
	History  history.Findings `json:"history"`
	Ledger   comparison       `json:"ledger"`
	Verified []verified       `json:"verified"`
	Broken   []string         `json:"broken"` // invariants, and why the run does not count
}

// rates is how much was done. Quiet is the time outside faults: each from a
// second after one fault's window to the next fault's begin, in whole seconds.
type rates struct {
	Asked        float64     `json:"tiles_per_s"`   // tiles that players were to race for
	Least        float64     `json:"least_per_s"`   // claims a second below which a run does not count
	QuietSeconds int         `json:"quiet_s"`       //
	QuietWon     float64     `json:"quiet_won"`     // claims a second, won and acknowledged
	QuietDecided float64     `json:"quiet_decided"` // attempts a second, holders' retries included
	QuietP50     float64     `json:"quiet_p50_ms"`  // of an attempt, from when it was due
	QuietP99     float64     `json:"quiet_p99_ms"`  //
	AllSeconds   int         `json:"all_s"`         // with faults
	AllWon       float64     `json:"all_won"`       //
	AllDecided   float64     `json:"all_decided"`   //
	Total        play.Counts `json:"total"`
}

// result sums the run up.
func (r *run) result(paid comparison) *result {
	res := &result{
		Machine: origin.Machine(), Commit: origin.Commit(), Command: "go run ./bench/chaos " + strings.Join(os.Args[1:], " "), Seed: r.o.seed, Ack: r.o.ack,
		Took: time.Since(r.began).Seconds(), Faults: r.faults, History: r.play.History.Findings(), Ledger: paid, Verified: r.verified,
	}
	res.Rate = r.rates(res)
	res.Broken = r.broken(res)
	return res
}

func (r *run) rates(res *result) rates {
	all, _, seconds := r.play.Within(r.from, r.to)
	out := rates{Asked: r.o.rate, Least: r.o.least, AllSeconds: seconds, Total: all}
	var quiet play.Counts
	var waits play.Waits
	from := r.from
	for _, f := range append(slices.Clone(r.faults), &record{from: r.to, to: r.to}) {
		c, w, n := r.play.Within(from, f.from)
		quiet.Add(c)
		waits.Add(&w)
		out.QuietSeconds += n
		if n > 0 {
			// What the next fault cuts off began before it.
			b := &record{Kind: "between faults", from: from, to: f.from.Add(-time.Second)}
			r.measured(b, b.to)
			res.Between = append(res.Between, b)
		}
		from = f.to.Add(time.Second)
	}
	per := func(n int64, seconds int) float64 { return float64(n) / float64(max(1, seconds)) }
	decided := func(c play.Counts) int64 { return c.Won + c.Gone + c.Closed + c.Unknown + c.Again }
	out.QuietWon, out.QuietDecided = per(quiet.Won, out.QuietSeconds), per(decided(quiet), out.QuietSeconds)
	out.AllWon, out.AllDecided = per(all.Won, seconds), per(decided(all), seconds)
	out.QuietP50, out.QuietP99 = ms(waits.Quantile(0.5)), ms(waits.Quantile(0.99))
	return out
}

// broken names each invariant that does not hold, and why the run does not
// count. With ack primary acknowledged claims may be lost: that is what the run
// is to show, and only the logs and the ledger must agree.
func (r *run) broken(res *result) (why []string) {
	bad := func(n int64, format string) {
		if n > 0 {
			why = append(why, fmt.Sprintf(format, n))
		}
	}
	if r.o.ack != "primary" {
		bad(res.Ledger.Lost, "%d acknowledged claims are lost")
		bad(res.Ledger.Moved, "%d claims stand elsewhere than their holders were told")
		bad(res.History.TwoWinners, "%d tiles have two winners")
		bad(res.History.Impossible, "%d histories have no legal order")
		bad(res.History.Other, "%d retries of holders were answered otherwise")
	}
	for _, v := range res.Verified {
		if !v.Report.OK {
			why = append(why, fmt.Sprintf("verify %s found %d violations", v.When, v.Report.Total))
		}
	}
	last := res.Verified[len(res.Verified)-1].Report
	if last.Rewards != last.Ledger.Rewards || last.Claims < last.Ledger.Entries || last.Ledger.Behind != 0 {
		why = append(why, fmt.Sprintf("Σ log is %d, Σ ledger %d, and %d claims are not settled", last.Rewards, last.Ledger.Rewards, last.Ledger.Behind))
	}
	for _, f := range res.Faults {
		if len(f.Silent) > 0 {
			why = append(why, fmt.Sprintf("%s of %s: a minute after it %s had not gone on", f.Kind, f.Hit, strings.Join(f.Silent, " ")))
		}
		if n := f.Counts.Undecided(); f.Kind == "roll-claims" && n > 0 {
			why = append(why, fmt.Sprintf("%d tries failed while %s was rolled, which is planned", n, f.Hit))
		}
	}
	if res.Rate.QuietWon < r.o.least {
		why = append(why, fmt.Sprintf("%.0f claims/s outside faults, below %.0f: the run does not count", res.Rate.QuietWon, r.o.least))
	}
	return why
}

// verdict is an error that names what is broken, or nil.
func (res *result) verdict() error {
	if len(res.Broken) == 0 {
		return nil
	}
	return errors.New(strings.Join(res.Broken, "\nchaos: "))
}

func (res *result) write(path string) error {
	return report.Write(filepath.Dir(path), filepath.Base(path), res)
}

// print writes the tables, as Markdown.
func (res *result) print(w io.Writer) {
	r := res.Rate
	fmt.Fprintf(w, "\n%s; commit %s; ack %s; seed %d; %.0f s\n\n", res.Machine, res.Commit, res.Ack, res.Seed, res.Took)
	fmt.Fprintf(w, "Outside faults, %d s: %.0f claims/s won and acknowledged, %.0f attempts/s decided, p50 %.1f ms, p99 %.1f ms. With faults, %d s: %.0f and %.0f.\n\n",
		r.QuietSeconds, r.QuietWon, r.QuietDecided, r.QuietP50, r.QuietP99, r.AllSeconds, r.AllWon, r.AllDecided)
	fmt.Fprintln(w, "| fault | n | no claims p50 | max | median shard p50 | max | no map p50 | max | no standings p50 | max | no rewards p50 | max | longest wait p50 | max | tries failed | pending | unavailable | never decided | lost |")
	fmt.Fprintln(w, "| --- | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: |")
	for _, k := range append(kindNames(), "") {
		some := res.Between
		if k != "" {
			some = slices.DeleteFunc(slices.Clone(res.Faults), func(f *record) bool { return f.Kind != k })
		}
		if len(some) > 0 {
			fmt.Fprintln(w, row(some))
		}
	}
	h, l := res.History, res.Ledger
	fmt.Fprintf(w, "\nporcupine: %d tiles (%d contested), %d tries (%d undecided): %d impossible; two winners: %d; holders' retries: %d, answered the same %d, otherwise %d\n",
		h.Tiles, h.Contested, h.Ops, h.Undecided, h.Impossible, h.TwoWinners, h.Asked, h.Same, h.Other)
	fmt.Fprintf(w, "ledger: %d entries; %d claims acknowledged, %d lost, %d elsewhere than told; %d entries of which nobody was told\n", l.Entries, l.Told, l.Lost, l.Moved, l.NotTold)
	for _, v := range res.Verified {
		fmt.Fprintf(w, "verify %s: %s\n", v.When, v)
	}
	for _, s := range slices.Concat(h.Samples, l.Samples) {
		fmt.Fprintln(w, "  ", s)
	}
}

// row is a line of the table: some faults of one kind.
func row(some []*record) string {
	cols := []string{some[0].Kind, fmt.Sprint(len(some))}
	for _, of := range []func(*record) float64{
		func(f *record) float64 { return f.Claims }, func(f *record) float64 { return f.Median }, func(f *record) float64 { return f.Maps },
		func(f *record) float64 { return f.Standings }, func(f *record) float64 { return f.Rewards },
		func(f *record) float64 { return f.WaitMax },
	} {
		var ds []time.Duration
		for _, f := range some {
			ds = append(ds, time.Duration(of(f)*1e6))
		}
		cols = append(cols, secs(ms(gap.Median(ds))), secs(ms(slices.Max(ds))))
	}
	var c play.Counts
	var lost int64
	for _, f := range some {
		c.Add(f.Counts)
		lost += f.Lost
	}
	for _, n := range []int64{c.Failed, c.Pending, c.Unavailable, c.GivenUp, lost} {
		cols = append(cols, fmt.Sprint(n))
	}
	return "| " + strings.Join(cols, " | ") + " |"
}

package capacity

import (
	"fmt"
	"io"
	"math"
	"text/tabwriter"
	"time"
)

// A Record is what `make bench-plan` measured of a small fleet.
type Record struct {
	Machine string    `json:"machine"`
	Commit  string    `json:"commit"`
	Command string    `json:"command"`
	Began   time.Time `json:"began"`
	Runs    []Run     `json:"runs"`
}

// A Run is one load on it: the load as a plan takes it, and what was used.
type Run struct {
	Name        string    `json:"name"`
	Seconds     float64   `json:"seconds"`
	Load        Load      `json:"load"`
	Processes   Processes `json:"processes"`
	Shards      int       `json:"shards"`
	IdleGateway float64   `json:"idle_gateway_cores"` // of a gateway that serves nobody
	Usage       Usage     `json:"usage"`
}

// The runs of a record. Coefficients are taken from all but the check.
const (
	RunIdle    = "idle"
	RunWins    = "wins"    // every attempt wins
	RunCrowd   = "crowd"   // one in eight does
	RunSockets = "sockets" // many watch
	RunLosing  = "losing"  // attempts on WebSockets for few tiles
	RunWinning = "winning" // as many for many tiles
	RunCheck   = "check"   // of all a part
)

// A Comparison is one figure, as it was measured and as it is predicted.
type Comparison struct {
	Run       string  `json:"run"`
	What      string  `json:"what"`
	Measured  float64 `json:"measured"`
	Predicted float64 `json:"predicted"`
}

// Error returns how far the prediction is off, as a share of what was measured.
func (c Comparison) Error() float64 {
	if c.Measured == 0 {
		return math.Inf(1)
	}
	return c.Predicted/c.Measured - 1
}

// Compare holds the predictions against what was measured, run by run. What was
// not measured, and is 0, is left out.
func Compare(c *Coefficients, rec *Record) []Comparison {
	var all []Comparison
	for i := range rec.Runs {
		r := &rec.Runs[i]
		p, m := c.Predict(&r.Load, r.Processes, r.Shards), &r.Usage
		for _, f := range []struct {
			what      string
			got, want float64
		}{
			{"gateways, cores", m.GatewayCores, p.GatewayCores},
			{"claims, cores", m.ClaimsCores, p.ClaimsCores},
			{"leaderboard, cores", m.LeaderboardCores, p.LeaderboardCores},
			{"rewards, cores", m.RewardsCores, p.RewardsCores},
			{"Redis, cores", m.RedisCores, p.RedisCores},
			{"deliveries a second", m.Deliveries, p.Deliveries},
			{"bytes to clients a second", m.DeliveredBytes, p.DeliveredBytes},
			{"bytes into logs a second", m.LogBytes, p.LogBytes},
			{"appends a second", m.Appends, p.Appends},
		} {
			if f.got > 0 {
				all = append(all, Comparison{r.Name, f.what, f.got, f.want})
			}
		}
	}
	return all
}

// WriteComparison writes [Compare]'s table.
func WriteComparison(w io.Writer, c *Coefficients, rec *Record) error {
	fmt.Fprintf(w, "%s; commit %s; %s\n\n", rec.Machine, rec.Commit, rec.Command)
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(tw, "run\tfigure\tmeasured\tpredicted\terror\t")
	for _, x := range Compare(c, rec) {
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%+.0f%%\t\n", x.Run, x.What, Short(x.Measured), Short(x.Predicted), 100*x.Error())
	}
	return tw.Flush()
}

// Short prints a number with three digits that count, and k, M or G.
func Short(x float64) string {
	for _, u := range []struct {
		at   float64
		name string
	}{{1e12, "T"}, {1e9, "G"}, {1e6, "M"}, {1e4, "k"}} {
		if math.Abs(x) >= u.at {
			if u.name == "k" {
				u.at = 1e3
			}
			return fmt.Sprintf("%.3g %s", x/u.at, u.name)
		}
	}
	if math.Abs(x) >= 100 {
		return fmt.Sprintf("%.0f", x)
	}
	return fmt.Sprintf("%.3g", x)
}

package sim

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/veltrix/cairn/internal/capacity/svg"
)

// rowsShown is about how many moments the table has.
const rowsShown = 16

// WriteText writes the result as a table for people.
func (r *Result) WriteText(w io.Writer) error {
	p := &r.Config.Policy
	fmt.Fprintf(w, "%.0f minutes, seed %d; scaled by %s, %d to %d pods, a look every %v, a pod serves after %v\n\n",
		r.Minutes, r.Config.Seed, p.Trigger, p.Least, p.Most, time.Duration(p.Poll), time.Duration(p.Start))
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(what, format string, args ...any) {
		fmt.Fprintf(tw, "%s\t%s\n", what, fmt.Sprintf(format, args...))
	}
	row("out of SLO", "%.1f minutes (events late %.1f, clients locked out %.1f)", r.OutOfSLO, r.Lagging, r.LockedOut)
	row("the autoscaler at its limit", "%.1f minutes", r.AtLimit)
	row("Redis without a client left", "%.1f minutes", r.RedisFull)
	row("clients", "%d came, %d left, %d gave up, %d watch and %d wait in the end", r.Came, r.Left, r.GaveUp, r.Watching, r.Waiting)
	row("connections refused", "%d; longest wait of one let in %.0f s", r.Refusals, r.WaitMost)
	row("longest lag", "%.2f s", r.LagMost)
	row("pods", "%d at most, %.2f hours of them, %s %.2f; a month like this %s %.0f", r.PodsMost, r.PodHours, r.Config.Prices.Currency, r.Cost, r.Config.Prices.Currency, r.CostMonth)
	if err := tw.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(w)
	tw = tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(tw, "minute\tclients wanted\tconnected\twaiting\tpods\tserving\twanted\tlag\tused\tRedis clients\t")
	step := max(1, len(r.Timeline)/rowsShown)
	for i := 0; i < len(r.Timeline); i += step {
		x := &r.Timeline[i]
		fmt.Fprintf(tw, "%.0f\t%.0f\t%d\t%d\t%d\t%d\t%d\t%.2f s\t%.0f%%\t%.0f\t\n", x.Minute, x.Wanted, x.Connected, x.Waiting, x.Pods, x.Serving, x.PodsWanted, x.Lag, 100*x.Used, x.RedisClients)
	}
	return tw.Flush()
}

// WriteSVG draws the timelines of results over the same traffic, one beside the
// other.
func WriteSVG(w io.Writer, names []string, results ...*Result) error {
	lines := func(title, unit string, mark float64, step bool, of func(*Sample) float64) svg.Lines {
		l := svg.Lines{Title: title, X: "minutes", Y: unit, Mark: mark}
		for i, r := range results {
			s := svg.Series{Name: names[i], Step: step}
			for j := range r.Timeline {
				if i == 0 {
					l.At = append(l.At, r.Timeline[j].Minute)
				}
				s.Values = append(s.Values, of(&r.Timeline[j]))
			}
			l.Series = append(l.Series, s)
		}
		return l
	}
	clients := lines("clients that watch", "", 0, false, func(s *Sample) float64 { return float64(s.Connected) })
	wanted := svg.Series{Name: "wanted"}
	for _, x := range results[0].Timeline {
		wanted.Values = append(wanted.Values, x.Wanted)
	}
	clients.Series = append(clients.Series, wanted)
	return svg.Write(w, "a surge, and who is there for it", clients,
		lines("pods", "", 0, true, func(s *Sample) float64 { return float64(s.Pods) }),
		lines("lag", "s", 0, false, func(s *Sample) float64 { return s.Lag }),
		lines("clients that wait to be let in", "", 0, false, func(s *Sample) float64 { return float64(s.Waiting) }),
	)
}

package capacity

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/veltrix/cairn/internal/capacity/svg"
)

// limitsShown are how many of the limits the table has.
const limitsShown = 8

// WriteText writes the plan as a table for people.
func (p *Plan) WriteText(w io.Writer) error {
	l := &p.Load
	fmt.Fprintf(w, "%d players, %d connections, %s attempts/s of which %s win, %d hunts of %d tiles every %v\n\n",
		l.Players, l.Connections, Short(l.Attempts), Short(l.WinsPerS()), l.Hunts, l.Tiles, time.Duration(l.Tick))
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(what, format string, args ...any) {
		fmt.Fprintf(tw, "%s\t%s\n", what, fmt.Sprintf(format, args...))
	}
	n := p.Processes
	row("shards", "%d", p.Shards)
	row("Redis", "%d primaries × %d, %.2f GB of logs for %v (%.2f of them maps)", p.Primaries, 1+l.Replicas, p.RedisGB, time.Duration(l.Retention), p.RedisMapsGB)
	row("Redis, clients of a node", "%d at most, of maxclients %d", p.RedisClients, l.Machine.RedisClients)
	row("claims", "%d × %g cores (%.2f used)", n.Claims, l.Machine.ClaimsCores, p.Usage.ClaimsCores)
	row("gateways", "%d × %g cores (%.2f used), %.1f GB used of %g each", n.Gateways, l.Machine.GatewayCores, p.Usage.GatewayCores, p.SocketGB, l.Machine.GatewayMemory)
	row("generators, leaderboards, rewards", "%d, %d, %d", n.Generators, n.Leaderboards, n.Rewards)
	row("to the players", "%s frames/s, %sbit/s", Short(p.Usage.Deliveries), Short(p.Egress))
	row("all cut at once are back after", "%.0f s", p.Comeback)
	row("ledger", "%s rows/s, %.1f GB after %v", Short(p.LedgerRows), p.LedgerGB, days(time.Duration(l.LedgerKeeps)))
	if err := tw.Flush(); err != nil {
		return err
	}
	p.writeCost(w)
	fmt.Fprintf(w, "\n%-40s %5s  %-26s %s\n", "limit", "used", "of", "the load can grow")
	for _, x := range p.Limits[:min(limitsShown, len(p.Limits))] {
		fmt.Fprintf(w, "%-40s %4.0f%%  %-26s ×%.2f\n", x.Name, 100*x.Share(), Short(x.Of)+" "+x.Unit, x.Grows())
	}
	first := p.Limits[0]
	fmt.Fprintf(w, "\nfirst to break: %s, at %.2f times this load. Raising it takes %s.\n", first.Name, first.Grows(), first.Raise)
	for _, x := range p.Unmet {
		if x.Share() > 1 {
			fmt.Fprintf(w, "DOES NOT FIT: %s: %s %s of %s. It takes %s.\n", x.Name, Short(x.Used), x.Unit, Short(x.Of), x.Raise)
		} else {
			fmt.Fprintf(w, "less than %.0f%% free: %s: %s of %s %s. It takes %s.\n", 100*l.Headroom, x.Name, Short(x.Used), Short(x.Of), x.Unit, x.Raise)
		}
	}
	for _, note := range p.Notes {
		fmt.Fprintln(w, "note:", note)
	}
	return nil
}

func (p *Plan) writeCost(w io.Writer) {
	fmt.Fprintf(w, "\na month, at %.0f%% of this load on average (prices are %s)\n", 100*p.Load.Mean, p.Prices.Origin)
	for _, x := range p.costs() {
		fmt.Fprintf(w, "  %-12s %s %10.0f\n", x.name, p.Prices.Currency, x.cost)
	}
	fmt.Fprintf(w, "  %-12s %s %10.0f\n", "in all", p.Prices.Currency, p.Cost.Sum())
}

type costOf struct {
	name string
	cost float64
}

func (p *Plan) costs() []costOf {
	c := p.Cost
	return []costOf{{"claims", c.Claims}, {"fan-out", c.FanOut}, {"  egress", c.Egress}, {"leaderboard", c.Leaderboard}, {"ledger", c.Ledger}, {"maps", c.Maps}}
}

func days(d time.Duration) string { return fmt.Sprintf("%.0f days", d.Hours()/24) }

// WriteBeside writes the original's fleet at the plan's load, and the plan's
// beside it. Only the fan-out's cost of theirs is published.
func (p *Plan) WriteBeside(w io.Writer, o Original) error {
	ofFanOut := p.Cost.FanOut / (p.Prices.Hours * (p.Load.Machine.GatewayCores*p.Prices.CoreHour + p.Load.Machine.GatewayMemory*p.Prices.MemoryHour))
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(tw, "at %s sockets and %s attempts/s\tthe original\tours\n", Short(o.Sockets), Short(o.Events))
	fmt.Fprintf(tw, "pods, gateways\t%d–%d\t%.1f for the fan-out, %.1f for the attempts\n", o.PodsLeast, o.PodsMost, ofFanOut, float64(p.Processes.Gateways)-ofFanOut)
	fmt.Fprintf(tw, "sockets a pod, for the fan-out\t%.0f\t%.0f\n", o.SocketsPerPod(), o.Sockets/ofFanOut)
	fmt.Fprintf(tw, "shards\t%d\t%d, on %d primaries\n", o.Shards, p.Shards, p.Primaries)
	fmt.Fprintf(tw, "events of a shard a second\t%.0f\t%.0f attempts, of which Redis sees %.0f wins\n", o.EventsPerShard(), p.Load.Attempts/float64(p.Shards), p.Load.WinsPerS()/float64(p.Shards))
	fmt.Fprintf(tw, "GB a shard\t%.1f\t%.1f, for %v of everything\n", o.ShardGB, p.RedisGB/float64(p.Shards), time.Duration(p.Load.Retention))
	fmt.Fprintf(tw, "fan-out a month, machines\t$%.0f (%.0f planned)\t%s%.0f\n", o.CostMonth, o.PlannedCost, p.Prices.Currency, p.Cost.FanOut)
	fmt.Fprintf(tw, "fan-out a month, bytes out\tnot published\t%s%.0f\n", p.Prices.Currency, p.Cost.Egress)
	fmt.Fprintf(tw, "all else a month\tnot published\t%s%.0f\n", p.Prices.Currency, p.Cost.Machines()-p.Cost.FanOut)
	if err := tw.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\nTheirs is a model with as many parameters as published figures: %.0f sockets and $%.0f a month a pod. At that, $%.0f pays for %.0f sockets.\n",
		o.SocketsPerPod(), o.PodMonth(), o.PlannedCost, o.Affords())
	return err
}

// WriteSVG draws where the money goes, and how near each limit is.
func (p *Plan) WriteSVG(w io.Writer) error {
	money := svg.Bars{Title: fmt.Sprintf("a month: %s %.0f (%s)", p.Prices.Currency, p.Cost.Sum(), p.Prices.Origin)}
	for i, x := range p.costs() {
		money.Rows = append(money.Rows, svg.Bar{Name: x.name, Value: x.cost, Text: fmt.Sprintf("%.0f", x.cost), Color: i})
	}
	limits := svg.Bars{Title: "how much of each limit is used", Most: 1, Mark: 1 - p.Load.Headroom}
	for _, x := range p.Limits {
		bar := svg.Bar{Name: x.Name, Value: x.Share(), Text: fmt.Sprintf("%.0f%% of %s %s", 100*x.Share(), Short(x.Of), x.Unit)}
		if x.Share() > 1-p.Load.Headroom+1e-9 {
			bar.Color = 1
		}
		limits.Rows = append(limits.Rows, bar)
	}
	title := fmt.Sprintf("%d connections, %s attempts/s: %d gateways, %d claims, %d shards on %d Redis primaries",
		p.Load.Connections, Short(p.Load.Attempts), p.Processes.Gateways, p.Processes.Claims, p.Shards, p.Primaries)
	return svg.Write(w, title, money, limits)
}

package capacity

import (
	"math"
	"time"

	"github.com/veltrix/cairn"
)

// An Original is the fleet that this system's first makers ran: its published
// figures, as a model to move along. It has as many parameters as there are
// figures, so it reproduces them by construction and explains none.
type Original struct {
	Sockets     float64 `json:"sockets"` // at the peak
	Events      float64 `json:"events_per_s"`
	Shards      int     `json:"shards"`
	ShardGB     float64 `json:"shard_gb"`
	PodsLeast   int     `json:"pods_least"`
	PodsMost    int     `json:"pods_most"`
	CostMonth   float64 `json:"cost_month"`   // of the fan-out, in dollars
	PlannedCost float64 `json:"cost_planned"` // what had been meant
}

// Published returns their figures.
func Published() Original {
	return Original{Sockets: 300_000, Events: 2e6, Shards: 48, ShardGB: 3.2, PodsLeast: 6, PodsMost: 14, CostMonth: 2100, PlannedCost: 800}
}

// SocketsPerPod returns how many sockets a pod had at the peak.
func (o Original) SocketsPerPod() float64 { return o.Sockets / float64(o.PodsMost) }

// EventsPerShard returns how many events a second a shard took.
func (o Original) EventsPerShard() float64 { return o.Events / float64(o.Shards) }

// PodMonth returns what a pod cost a month, were the mean of pods half way
// between the least and the most.
func (o Original) PodMonth() float64 { return o.CostMonth / (float64(o.PodsLeast+o.PodsMost) / 2) }

// At returns that fleet at another load, in proportion: its pods, shards,
// memory and cost.
func (o Original) At(sockets, events float64) Original {
	least := float64(o.PodsLeast) / float64(o.PodsMost)
	n := math.Ceil(sockets / o.SocketsPerPod())
	to := o
	to.Sockets, to.Events = sockets, events
	to.PodsMost, to.PodsLeast = int(n), int(math.Ceil(n*least-1e-9))
	to.Shards = int(math.Ceil(events/o.EventsPerShard() - 1e-9))
	to.CostMonth = o.PodMonth() * float64(to.PodsLeast+to.PodsMost) / 2
	return to
}

// Affords returns how many sockets the planned cost pays for.
func (o Original) Affords() float64 {
	return o.PlannedCost / o.PodMonth() * o.SocketsPerPod()
}

// OriginalLoad is theirs as a plan of ours takes it. Sockets and events are
// published; the rest is not, and assumed: ten hunts, one attempt in two
// hundred wins, a player watches one of 256 regions and asks for standings over
// HTTP, deltas within the 200 ms that they promised.
func OriginalLoad() Load {
	o := Published()
	l := DefaultLoad()
	l.Players, l.Connections, l.Attempts, l.Wins = int(o.Sockets), int(o.Sockets), o.Events, 0.005
	l.Hunts, l.Tiles, l.Regions, l.InView = 10, 1000, 256, 1
	l.Standings, l.Boards = false, 2
	l.Sweep, l.Codec = cairn.Duration(100*time.Millisecond), "proto"
	l.Machine.LedgerDisk = 10_000
	l.Mean = float64(o.PodsLeast+o.PodsMost) / 2 / float64(o.PodsMost)
	return l
}

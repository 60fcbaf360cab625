// Package sim plays traffic against an autoscaler: discrete events, a seed, no
// clock. What it plays is a pool of equal pods that take connections and events,
// the admission of handshakes as a gateway of ours has it, the connections that
// pods have to Redis, and a loop that starts and ends pods.
package sim

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/capacity"
	"github.com/veltrix/cairn/internal/capacity/hpa"
)

// What an autoscaler may go by.
const (
	TriggerCPU = "cpu"
	TriggerLag = "lag"
)

// A Policy is an autoscaler's.
type Policy struct {
	// Trigger is cpu: pods × (used ÷ TargetCPU), as Kubernetes' autoscaler
	// reckons; what is used is never more than all. Or lag: what the events
	// that wait and those that come take to be done within TargetLag, and what
	// the connections take at TargetCPU's share of their bound.
	Trigger   string         `json:"trigger"`
	TargetCPU float64        `json:"target_cpu"` // 0 to 1
	TargetLag cairn.Duration `json:"target_lag"`

	Least int `json:"least"`
	Most  int `json:"most"`

	Poll      cairn.Duration `json:"poll"`
	Window    cairn.Duration `json:"window"`    // over which the processors' use is a mean
	Stabilise cairn.Duration `json:"stabilise"` // pods are ended only if none were wanted for so long
	Start     cairn.Duration `json:"start"`     // from the decision until a pod serves
	Drain     cairn.Duration `json:"drain"`

	// Behavior, if there is one, is how Kubernetes has pods come and go, instead
	// of as many as are wanted at once, and Stabilise. Within a tenth of its
	// target nothing is done then, whatever the trigger.
	Behavior *hpa.Behavior `json:"behavior,omitempty"`

	// Mended is what an operator raises Most to once it has been too few for
	// MendAfter; 0 means nobody does.
	Mended    int            `json:"mended"`
	MendAfter cairn.Duration `json:"mend_after"`
}

// A Pod is what one of them can do.
type Pod struct {
	Events       float64 `json:"events_per_s"`  // with no connection
	Socket       float64 `json:"socket"`        // part of the pod that a connection takes by watching
	Sockets      int     `json:"sockets"`       // at most
	ConnectRate  float64 `json:"connect_rate"`  // handshakes taken a second; 0 is no bound
	ConnectBurst float64 `json:"connect_burst"` // and at once
	Cores        float64 `json:"cores"`         // paid for
	Memory       float64 `json:"gb"`            //
}

// Redis is whose connections may run out.
type Redis struct {
	Max       int            `json:"max"`        // maxclients
	PerPod    float64        `json:"per_pod"`    // connections of a pod
	PerSocket float64        `json:"per_socket"` // and of each of its clients
	Mended    int            `json:"mended"`     // what an operator raises Max to
	MendAfter cairn.Duration `json:"mend_after"` // after so long in which it was reached
}

// A Config is one simulation.
type Config struct {
	Seed     uint64          `json:"seed"`
	Traffic  []Point         `json:"-"`
	Policy   Policy          `json:"policy"`
	Pod      Pod             `json:"pod"`
	Redis    Redis           `json:"redis"`
	Lag      cairn.Duration  `json:"slo_lag"`     // the promise: events wait no longer,
	Waiting  float64         `json:"slo_waiting"` // and no more than this share of the clients waits to be let in
	Patience cairn.Duration  `json:"patience"`    // for so long a client tries to be let in
	Prices   capacity.Prices `json:"-"`
}

// Cairn returns our gateways as measured: c's coefficients, admission by
// default, what l's clients watch and how their attempts come.
func Cairn(l *capacity.Load, c *capacity.Coefficients, rules capacity.Rules) Config {
	m := &l.Machine
	return Config{
		Traffic: February(),
		Policy: Policy{
			Trigger: TriggerLag, TargetCPU: 0.6, TargetLag: cairn.Duration(50 * time.Millisecond), Least: 2, Most: 40,
			Poll: cairn.Duration(5 * time.Second), Window: cairn.Duration(15 * time.Second), Stabilise: cairn.Duration(5 * time.Minute),
			Start: cairn.Duration(10 * time.Second), Drain: cairn.Duration(10 * time.Second),
		},
		Pod: Pod{
			Events: m.GatewayCores / c.AttemptCores(l), Socket: c.SocketCores(l) / m.GatewayCores,
			Sockets: rules.Sockets(m.GatewayFiles), ConnectRate: 2000, ConnectBurst: 4000, Cores: m.GatewayCores, Memory: m.GatewayMemory,
		},
		Redis: Redis{Max: m.RedisClients, PerPod: float64(rules.Clients(1, 0) - rules.Clients(0, 0))},
		Lag:   cairn.Duration(200 * time.Millisecond), Waiting: 0.01, Patience: cairn.Duration(10 * time.Minute),
		Prices: capacity.DefaultPrices(),
	}
}

// Original returns the original's pods in that February. Published: 14 pods at
// most for 300,000 sockets and 2 million events, four minutes in which the
// autoscaler stood at its limit, 22 in which Redis had no client left. How that
// came about is assumed: a limit of 2 pods that was meant for 500 players, 64
// connections of a pod, and one of each socket that watches.
func Original() Config {
	o := capacity.Published()
	podMonth := o.PodMonth()
	prices := capacity.DefaultPrices()
	return Config{
		Traffic: February(),
		Policy: Policy{
			Trigger: TriggerCPU, TargetCPU: 0.7, TargetLag: cairn.Duration(200 * time.Millisecond), Least: 1, Most: 2,
			Poll: cairn.Duration(15 * time.Second), Window: cairn.Duration(time.Minute), Stabilise: cairn.Duration(5 * time.Minute),
			Start: cairn.Duration(40 * time.Second), Drain: cairn.Duration(30 * time.Second),
			Mended: o.PodsMost, MendAfter: cairn.Duration(4 * time.Minute),
		},
		Pod:   Pod{Events: o.Events / float64(o.PodsMost) / 6, Sockets: int(o.SocketsPerPod()), Cores: podMonth / prices.Hours / prices.CoreHour},
		Redis: Redis{Max: 10_000, PerPod: 64, PerSocket: 1, Mended: 65_000, MendAfter: cairn.Duration(22 * time.Minute)},
		Lag:   cairn.Duration(200 * time.Millisecond), Waiting: 0.01, Patience: cairn.Duration(10 * time.Minute),
		Prices: prices,
	}
}

// Unbound returns the same without the limits that an operator would have
// raised.
func (c Config) Unbound() Config {
	c.Policy.Most = max(c.Policy.Most, c.Policy.Mended)
	c.Redis.Max = max(c.Redis.Max, c.Redis.Mended)
	return c
}

// Validate returns a [cairn.FieldError] for each field that can't be.
func (c *Config) Validate() error {
	var errs []error
	number := func(field string, x, least, most float64) {
		if math.IsNaN(x) || x < least || x > most {
			errs = append(errs, &cairn.FieldError{Field: field, Msg: fmt.Sprintf("is %g; want %g to %g", x, least, most)})
		}
	}
	span := func(field string, d cairn.Duration, least, most time.Duration) {
		if d := time.Duration(d); d < least || d > most {
			errs = append(errs, &cairn.FieldError{Field: field, Msg: fmt.Sprintf("is %v; want %v to %v", d, least, most)})
		}
	}
	p := &c.Policy
	if p.Trigger != TriggerCPU && p.Trigger != TriggerLag {
		errs = append(errs, &cairn.FieldError{Field: "trigger", Msg: fmt.Sprintf("is %q; want cpu or lag", p.Trigger)})
	}
	number("target_cpu", p.TargetCPU, 0.05, 1)
	span("target_lag", p.TargetLag, time.Millisecond, time.Hour)
	number("least", float64(p.Least), 1, 10_000)
	number("most", float64(p.Most), float64(p.Least), 10_000)
	span("poll", p.Poll, time.Second, time.Hour)
	span("window", p.Window, time.Second, time.Hour)
	span("stabilise", p.Stabilise, 0, 24*time.Hour)
	span("start", p.Start, 0, time.Hour)
	span("drain", p.Drain, 0, time.Hour)
	number("mended", float64(p.Mended), 0, 10_000)
	span("mend_after", p.MendAfter, 0, 24*time.Hour)
	number("pod.events_per_s", c.Pod.Events, 1, 1e9)
	number("pod.socket", c.Pod.Socket, 0, 1)
	number("pod.sockets", float64(c.Pod.Sockets), 1, 1e7)
	number("pod.connect_rate", c.Pod.ConnectRate, 0, 1e7)
	number("pod.connect_burst", c.Pod.ConnectBurst, 0, 1e7)
	number("redis.max", float64(c.Redis.Max), 1, 1<<24)
	number("redis.per_pod", c.Redis.PerPod, 0, 1e6)
	number("redis.per_socket", c.Redis.PerSocket, 0, 100)
	number("redis.mended", float64(c.Redis.Mended), 0, 1<<24)
	span("redis.mend_after", c.Redis.MendAfter, 0, 24*time.Hour)
	span("slo_lag", c.Lag, time.Millisecond, time.Hour)
	number("slo_waiting", c.Waiting, 0, 1)
	span("patience", c.Patience, time.Second, 24*time.Hour)
	if err := c.Prices.Validate(); err != nil {
		errs = append(errs, err)
	}
	if err := check(c.Traffic); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

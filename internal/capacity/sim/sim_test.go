package sim_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/capacity"
	"github.com/veltrix/cairn/internal/capacity/hpa"
	"github.com/veltrix/cairn/internal/capacity/sim"
)

func ours(t interface{ Fatal(...any) }) sim.Config {
	c, err := capacity.Measured()
	if err != nil {
		t.Fatal(err)
	}
	l := capacity.DefaultLoad()
	return sim.Cairn(&l, c, capacity.Rules{Clients: func(n, _ int) int { return 3 * n }, Sockets: func(files int) int { return files }})
}

func run(t interface{ Fatal(...any) }, c sim.Config) *sim.Result {
	r, err := sim.Run(c)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// configs are small simulations with all that can go wrong.
func configs() *rapid.Generator[sim.Config] {
	return rapid.Custom(func(t *rapid.T) sim.Config {
		c := ours(t)
		c.Seed = rapid.Uint64().Draw(t, "seed")
		c.Traffic = nil
		minute := 0.0
		for range rapid.IntRange(2, 5).Draw(t, "points") {
			c.Traffic = append(c.Traffic, sim.Point{
				At:          time.Duration(minute * float64(time.Minute)),
				Connections: float64(rapid.IntRange(0, 80).Draw(t, "connections")), Events: rapid.Float64Range(0, 5000).Draw(t, "events"),
			})
			minute += float64(rapid.IntRange(1, 2).Draw(t, "minutes"))
		}
		c.Policy.Trigger = rapid.SampledFrom([]string{sim.TriggerCPU, sim.TriggerLag}).Draw(t, "trigger")
		c.Policy.Least, c.Policy.Most = 1, rapid.IntRange(1, 8).Draw(t, "most")
		c.Policy.Stabilise = cairn.Duration(rapid.IntRange(0, 60).Draw(t, "stabilise")) * cairn.Duration(time.Second)
		c.Pod.Events = rapid.Float64Range(100, 3000).Draw(t, "pod events")
		c.Pod.Sockets = rapid.IntRange(3, 80).Draw(t, "sockets")
		c.Pod.ConnectRate, c.Pod.ConnectBurst = rapid.Float64Range(0, 50).Draw(t, "rate"), 5
		c.Redis.PerPod, c.Redis.PerSocket = 3, rapid.Float64Range(0, 1).Draw(t, "per socket")
		c.Redis.Max = rapid.IntRange(10, 150).Draw(t, "maxclients")
		c.Patience = cairn.Duration(rapid.IntRange(1, 120).Draw(t, "patience")) * cairn.Duration(time.Second)
		if rapid.Bool().Draw(t, "behavior") {
			b := hpa.DefaultBehavior().Hurried(rapid.Float64Range(1, 20).Draw(t, "hurry"))
			c.Policy.Behavior = &b
		}
		return c
	})
}

// TestConservation: nobody who came is lost, at any moment bounds hold, and a
// seed gives one result.
func TestConservation(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := configs().Draw(t, "config")
		r := run(t, c)
		if sum := r.Left + r.GaveUp + r.Watching + r.Waiting; r.Came != sum || min(r.Left, r.GaveUp, r.Watching, r.Waiting) < 0 {
			t.Fatalf("%d came; %d left + %d gave up + %d watch + %d wait = %d", r.Came, r.Left, r.GaveUp, r.Watching, r.Waiting, sum)
		}
		for _, s := range r.Timeline {
			if s.Serving > s.Pods || s.Connected > s.Pods*c.Pod.Sockets || s.Used < 0 || s.Used > 1+1e-9 || math.IsNaN(s.Lag) || s.RedisClients > float64(c.Redis.Max)+c.Redis.PerPod {
				t.Fatalf("at minute %g: %+v", s.Minute, s)
			}
		}
		if r.OutOfSLO > r.Lagging+r.LockedOut+1e-9 || r.OutOfSLO < max(r.Lagging, r.LockedOut)-1e-9 {
			t.Fatalf("out of SLO for %g minutes; late %g, locked out %g", r.OutOfSLO, r.Lagging, r.LockedOut)
		}
		if again := run(t, c); !reflect.DeepEqual(r, again) {
			t.Fatal("the same seed gives another result")
		}
	})
}

// TestMonotone: with a pool that can't grow, more events never wait less, and
// more pods never let them wait longer.
func TestMonotone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := configs().Draw(t, "config")
		c.Policy.Least = c.Policy.Most
		c.Redis.Max, c.Redis.PerSocket = 1<<20, 0
		c.Pod.Socket = 0
		less := run(t, c)
		more := c
		more.Traffic = nil
		for _, p := range c.Traffic {
			p.Events *= 1.5
			more.Traffic = append(more.Traffic, p)
		}
		const chance = 0.5 // seconds: what comes in one is by chance
		if r := run(t, more); r.LagMost < less.LagMost-chance {
			t.Fatalf("half as many events again wait %g s at most, and fewer %g s", r.LagMost, less.LagMost)
		}
		wide := c
		wide.Policy.Least, wide.Policy.Most = c.Policy.Most*2, c.Policy.Most*2
		if r := run(t, wide); r.LagMost > less.LagMost+chance {
			t.Fatalf("twice the pods let events wait %g s, and half %g s", r.LagMost, less.LagMost)
		}
	})
}

// TestBehavior: pods come and go as a HorizontalPodAutoscaler lets them.
func TestBehavior(t *testing.T) {
	c := ours(t)
	c.Policy.Least, c.Policy.Most, c.Policy.Poll = 1, 8, cairn.Duration(time.Second)
	c.Policy.Behavior = &hpa.Behavior{
		Up:   hpa.Rules{Policies: []hpa.Policy{{Type: hpa.Percent, Value: 100, Period: 15 * time.Second}}},
		Down: hpa.Rules{Window: 30 * time.Second, Policies: []hpa.Policy{{Type: hpa.Pods, Value: 1, Period: 20 * time.Second}}},
	}
	c.Policy.Start, c.Pod.Sockets = cairn.Duration(2*time.Second), 100
	full := 8 * 100 * c.Policy.TargetCPU
	c.Traffic = []sim.Point{{}, {At: time.Minute}, {At: time.Minute, Connections: full}, {At: 3 * time.Minute, Connections: full}, {At: 3 * time.Minute}, {At: 7 * time.Minute}}
	last := 1
	for _, s := range run(t, c).Timeline {
		switch {
		case s.Pods > 2*last || s.Pods < last-1:
			t.Errorf("at minute %.1f: %d pods, and %d ten seconds before; want at most twice as many, or one less", s.Minute, s.Pods, last)
		case s.Minute > 2 && s.Minute < 3.4 && s.Pods != 8:
			t.Errorf("at minute %.1f: %d pods, want 8", s.Minute, s.Pods)
		case s.Minute > 6.5 && s.Pods != 1:
			t.Errorf("at minute %.1f: %d pods, want 1", s.Minute, s.Pods)
		}
		last = s.Pods
	}
}

// TestFebruary: the original's surge shows what they told of, and ours does not.
func TestFebruary(t *testing.T) {
	theirs := run(t, sim.Original())
	if theirs.AtLimit < 4 || theirs.AtLimit > 8 || theirs.RedisFull < 21.9 || theirs.RedisFull > 22.5 {
		t.Errorf("the original: %.1f minutes at its limit, %.1f without a client of Redis; want 4 and a bit, 22", theirs.AtLimit, theirs.RedisFull)
	}
	our := run(t, ours(t))
	if our.RedisFull != 0 || our.GaveUp != 0 || our.OutOfSLO > theirs.OutOfSLO/5 {
		t.Errorf("ours: Redis full for %.1f minutes, %d gave up, %.1f minutes out of SLO", our.RedisFull, our.GaveUp, our.OutOfSLO)
	}
	var b bytes.Buffer
	if err := errors.Join(theirs.WriteText(&b), sim.WriteSVG(&b, []string{"theirs", "ours"}, theirs, our)); err != nil {
		t.Error(err)
	}
	if _, err := json.Marshal(theirs); err != nil {
		t.Error(err)
	}
}

// TestCSV: what traffic may look like, and that errors name line and field.
func TestCSV(t *testing.T) {
	got, err := sim.ReadCSV(strings.NewReader("# a day\nconnections,minute,events_per_s\n500,0,10\n\n10000, 1.5 ,20.5\n10000,1.5,0\n"))
	want := []sim.Point{{0, 500, 10}, {90 * time.Second, 10_000, 20.5}, {90 * time.Second, 10_000, 0}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, %v; want %v", got, err, want)
	}
	const head = "minute,connections,events_per_s\n"
	for text, wants := range map[string][]string{
		"":                             {"line 1", "minute,connections,events_per_s"},
		"minute,connections\n":         {"line 1", "events_per_s"},
		head[:len(head)-1] + ",x\n":    {"line 1", "x"},
		head[:len(head)-1] + ",minute": {"line 1", "4 columns"},
		head + "0,1\n":                 {"line 2"},
		head + "0,many,1\n":            {"line 2", "connections", "many"},
		head + "0,1,1\n1,-1,1\n":       {"line 3", "connections", "-1"},
		head + "0,1,1\n1,1,NaN\n":      {"line 3", "events_per_s", "NaN"},
		head + "5,1,1\n1,1,1\n":        {"line 3", "minute", "before"},
		head + "0,1,1\n":               {"two or more"},
		head + "1e9,1,1\n":             {"line 2", "minute", "1e9"},
		head + "0,\"1,1\n":             {"line 2"},
	} {
		_, err := sim.ReadCSV(strings.NewReader(text))
		for _, w := range wants {
			if err == nil || !strings.Contains(err.Error(), w) {
				t.Errorf("%q: got %v, want it to name %q", text, err, w)
			}
		}
	}
}

func FuzzCSV(f *testing.F) {
	f.Add("minute,connections,events_per_s\n0,1,2\n3,4,5\n")
	f.Fuzz(func(t *testing.T, text string) {
		points, err := sim.ReadCSV(strings.NewReader(text))
		for i, p := range points {
			if err == nil && (p.Connections < 0 || p.Events < 0 || i > 0 && p.At < points[i-1].At) {
				t.Errorf("took %v", points)
			}
		}
	})
}

// TestValidate gives fields wrong values: each is named, with what would be
// right.
func TestValidate(t *testing.T) {
	for field, spoil := range map[string]func(*sim.Config){
		"trigger":          func(c *sim.Config) { c.Policy.Trigger = "luck" },
		"target_cpu":       func(c *sim.Config) { c.Policy.TargetCPU = 0 },
		"target_lag":       func(c *sim.Config) { c.Policy.TargetLag = 0 },
		"least":            func(c *sim.Config) { c.Policy.Least = 0 },
		"most":             func(c *sim.Config) { c.Policy.Most = 1 },
		"poll":             func(c *sim.Config) { c.Policy.Poll = 0 },
		"window":           func(c *sim.Config) { c.Policy.Window = 0 },
		"stabilise":        func(c *sim.Config) { c.Policy.Stabilise = -1 },
		"start":            func(c *sim.Config) { c.Policy.Start = -1 },
		"drain":            func(c *sim.Config) { c.Policy.Drain = -1 },
		"pod.events_per_s": func(c *sim.Config) { c.Pod.Events = 0 },
		"pod.sockets":      func(c *sim.Config) { c.Pod.Sockets = 0 },
		"pod.connect_rate": func(c *sim.Config) { c.Pod.ConnectRate = -1 },
		"redis.max":        func(c *sim.Config) { c.Redis.Max = 0 },
		"redis.per_socket": func(c *sim.Config) { c.Redis.PerSocket = math.NaN() },
		"slo_lag":          func(c *sim.Config) { c.Lag = 0 },
		"patience":         func(c *sim.Config) { c.Patience = 0 },
	} {
		c := ours(t)
		spoil(&c)
		_, err := sim.Run(c)
		var at *cairn.FieldError
		if !errors.As(err, &at) || at.Field != field || !strings.Contains(err.Error(), "want") {
			t.Errorf("%s: got %v, want an error that names it and what would be right", field, err)
		}
	}
}

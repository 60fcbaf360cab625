package capacity_test

import (
	"encoding/json"
	"errors"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/capacity"
)

// rules are like the commands' own; cmd/cairn tests that those are used.
var rules = capacity.Rules{
	Clients: func(processes, shards int) int { return 3*processes + 2*shards }, ClientsFree: 0.1,
	Sockets: func(files int) int { return files - files/100 - 512 }, ShardsMax: 64,
}

func measured(t interface{ Fatal(...any) }) *capacity.Coefficients {
	c, err := capacity.Measured()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func plan(t interface{ Fatal(...any) }, l capacity.Load) *capacity.Plan {
	p, err := capacity.New(l, capacity.DefaultPrices(), measured(t), rules)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// loads are loads that can be.
func loads() *rapid.Generator[capacity.Load] {
	return rapid.Custom(func(t *rapid.T) capacity.Load {
		l := capacity.DefaultLoad()
		l.Players = rapid.IntRange(0, 1_000_000).Draw(t, "players")
		l.Connections = rapid.IntRange(0, 1_000_000).Draw(t, "connections")
		l.Attempts = rapid.Float64Range(0, 1e6).Draw(t, "attempts")
		l.Hunts = rapid.IntRange(1, 100).Draw(t, "hunts")
		l.Tiles = rapid.IntRange(1, cairn.TilesPerMapMax).Draw(t, "tiles")
		l.Wins = rapid.Float64Range(0, min(1, 0.9*float64(l.Hunts*l.Tiles)/max(1, l.Attempts))).Draw(t, "wins")
		l.Regions = rapid.IntRange(1, 4096).Draw(t, "regions")
		l.InView = rapid.IntRange(1, min(64, l.Regions)).Draw(t, "in view")
		l.Standings = rapid.Bool().Draw(t, "standings")
		l.Over = rapid.SampledFrom([]string{"socket", "http"}).Draw(t, "over")
		l.Codec = rapid.SampledFrom([]string{"json", "proto"}).Draw(t, "codec")
		l.Ack = rapid.SampledFrom([]string{"primary", "replicas", "fsync"}).Draw(t, "ack")
		l.Sweep = cairn.Duration(rapid.IntRange(10, 5000).Draw(t, "sweep")) * cairn.Duration(time.Millisecond)
		return l
	})
}

// TestMonotone: whatever there is more of, a plan never has less of anything.
func TestMonotone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := loads().Draw(t, "load")
		more := l
		by := rapid.Float64Range(1, 3).Draw(t, "by")
		switch rapid.SampledFrom([]string{"connections", "attempts", "players", "retention", "hunts"}).Draw(t, "of") {
		case "connections":
			more.Connections = int(float64(l.Connections) * by)
		case "attempts":
			more.Attempts, more.Hunts = l.Attempts*by, l.Hunts*3 // so that there are tiles to win
		case "players":
			more.Players = int(float64(l.Players) * by)
		case "retention":
			more.Retention = cairn.Duration(float64(l.Retention) * by)
		case "hunts":
			more.Hunts, more.Attempts = l.Hunts*2, l.Attempts*2
		}
		a, b := plan(t, l), plan(t, more)
		for _, x := range []struct {
			what         string
			less, no     float64
			whatIsAtMore bool
		}{
			{"gateways", float64(a.Processes.Gateways), float64(b.Processes.Gateways), more.Hunts == l.Hunts},
			{"claims", float64(a.Processes.Claims), float64(b.Processes.Claims), true},
			{"shards", float64(a.Shards), float64(b.Shards), true},
			{"Redis' memory", a.RedisGB, b.RedisGB, true},
			{"Redis' clients", float64(a.RedisClients), float64(b.RedisClients), more.Hunts == l.Hunts},
			{"ledger's rows", a.LedgerRows, b.LedgerRows, true},
		} {
			// A client watches one hunt: with more of them, each has fewer claims.
			if x.whatIsAtMore && x.less > x.no*(1+1e-9) {
				t.Fatalf("%s: %g for the smaller load, %g for the larger", x.what, x.less, x.no)
			}
		}
	})
}

// TestPlanFits: no part of a plan is over its limit, but for what it says does
// not fit; nothing is a number that is none; costs add up.
func TestPlanFits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := plan(t, loads().Draw(t, "load"))
		free := 1 - p.Load.Headroom
		unmet := map[string]bool{}
		for _, x := range p.Unmet {
			unmet[x.Name] = true
		}
		for i, x := range p.Limits {
			if math.IsNaN(x.Share()) || x.Of <= 0 || x.Raise == "" {
				t.Fatalf("limit %+v", x)
			}
			if x.Share() > free+1e-9 != unmet[x.Name] {
				t.Fatalf("%s is at %g of %g, and said to be unmet: %v", x.Name, x.Share(), free, unmet[x.Name])
			}
			if i > 0 && x.Share() > p.Limits[i-1].Share() {
				t.Fatalf("%s, at %g, comes after %g", x.Name, x.Share(), p.Limits[i-1].Share())
			}
		}
		c := p.Cost
		for _, x := range []float64{c.Claims, c.FanOut, c.Egress, c.Leaderboard, c.Ledger, c.Maps} {
			if math.IsNaN(x) || x < 0 {
				t.Fatalf("costs %+v", c)
			}
		}
		if _, err := json.Marshal(p); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(p.WriteText(&strings.Builder{}), p.WriteSVG(&strings.Builder{}), p.WriteBeside(&strings.Builder{}, capacity.Published())); err != nil {
			t.Fatal(err)
		}
	})
}

// TestValidate gives fields wrong values: each error names its field and what
// would be right.
func TestValidate(t *testing.T) {
	for _, c := range []struct {
		field string
		spoil func(*capacity.Load)
		want  string
	}{
		{"players", func(l *capacity.Load) { l.Players = -1 }, "0 to"},
		{"connections", func(l *capacity.Load) { l.Connections = -1 }, "0 to"},
		{"attempts_per_s", func(l *capacity.Load) { l.Attempts = math.NaN() }, "0 to"},
		{"wins", func(l *capacity.Load) { l.Wins = 1.5 }, "0 to 1"},
		{"wins", func(l *capacity.Load) { l.Attempts, l.Wins = 10_000, 0.5 }, "at most 0.1"},
		{"hunts", func(l *capacity.Load) { l.Hunts = 0 }, "1 to"},
		{"tiles_per_map", func(l *capacity.Load) { l.Tiles = 70_000 }, "65536"},
		{"tick", func(l *capacity.Load) { l.Tick = 0 }, "100ms"},
		{"lifetime", func(l *capacity.Load) { l.Lifetime = cairn.Duration(2 * time.Hour) }, "1h"},
		{"shards", func(l *capacity.Load) { l.Shards = 2000 }, "1024"},
		{"regions", func(l *capacity.Load) { l.Regions = 0 }, "1 to"},
		{"in_view", func(l *capacity.Load) { l.InView = 65 }, "1 to 64"},
		{"in_view", func(l *capacity.Load) { l.InView, l.Regions = 5, 4 }, "no more"},
		{"boards", func(l *capacity.Load) { l.Boards = -1 }, "0 to"},
		{"sweep", func(l *capacity.Load) { l.Sweep = 0 }, "5ms"},
		{"codec", func(l *capacity.Load) { l.Codec = "xml" }, "json or proto"},
		{"attempts_over", func(l *capacity.Load) { l.Over = "carrier" }, "socket or http"},
		{"mean", func(l *capacity.Load) { l.Mean = 0 }, "to 1"},
		{"names", func(l *capacity.Load) { l.Names = 1000 }, "288"},
		{"retention", func(l *capacity.Load) { l.Retention = 1 }, "1h"},
		{"ledger_keeps", func(l *capacity.Load) { l.LedgerKeeps = 1 }, "24h"},
		{"ack", func(l *capacity.Load) { l.Ack = "none" }, "primary, replicas or fsync"},
		{"replicas", func(l *capacity.Load) { l.Replicas = 0 }, "1 or more"},
		{"replicas", func(l *capacity.Load) { l.Replicas = 9 }, "0 to 5"},
		{"headroom", func(l *capacity.Load) { l.Headroom = 1 }, "0.95"},
		{"machine.gateway_cores", func(l *capacity.Load) { l.Machine.GatewayCores = 0 }, "0.1"},
		{"machine.gateway_files", func(l *capacity.Load) { l.Machine.GatewayFiles = 10 }, "1024"},
		{"machine.redis_gb", func(l *capacity.Load) { l.Machine.RedisMemory = 0 }, "0.1"},
		{"machine.redis_clients", func(l *capacity.Load) { l.Machine.RedisClients = 1 }, "100"},
	} {
		l := capacity.DefaultLoad()
		c.spoil(&l)
		_, err := capacity.New(l, capacity.DefaultPrices(), measured(t), rules)
		var field *cairn.FieldError
		if !errors.As(err, &field) || field.Field != c.field || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want an error that names it and %q", c.field, err, c.want)
		}
	}
	for field, spoil := range map[string]func(*capacity.Prices){
		"core_hour":   func(p *capacity.Prices) { p.CoreHour = -1 },
		"egress_gb":   func(p *capacity.Prices) { p.Egress = math.NaN() },
		"hours_month": func(p *capacity.Prices) { p.Hours = 0 },
		"currency":    func(p *capacity.Prices) { p.Currency = "" },
		"origin":      func(p *capacity.Prices) { p.Origin = "" },
	} {
		p := capacity.DefaultPrices()
		spoil(&p)
		if err := p.Validate(); err == nil || !strings.HasPrefix(err.Error(), field+": ") || !strings.Contains(err.Error(), "want") {
			t.Errorf("prices: got %v, want an error that names %s and what would be right", err, field)
		}
	}
}

// TestCoefficients: those that are shipped are whole, and a file that is not is
// refused by name.
func TestCoefficients(t *testing.T) {
	for _, o := range measured(t).Origins {
		if o.Commit == "TBD" {
			t.Errorf("%s has no origin", o.Name)
		}
	}
	for text, want := range map[string]string{
		`[`:                                     "coefficients",
		`[]`:                                    "gateway.delivery is missing",
		`[{"name":"x"}]`:                        `"x" is none`,
		`[{"name":"gateway.idle","unit":"mi"}]`: "gateway.idle: its unit",
		`[{"name":"gateway.idle","unit":"cores","value":-1}]`: "gateway.idle: is -1",
		`[{"name":"gateway.idle","unit":"cores","value":1}]`:  "gateway.idle: lacks its origin",
	} {
		if _, err := capacity.ParseCoefficients([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", text, err, want)
		}
	}
}

// TestMeasured holds predictions against the record that is kept beside this
// test, whose coefficients were taken from other loads than its check. A quarter
// is what is wanted.
func TestMeasured(t *testing.T) {
	data, err := os.ReadFile("testdata/plan.json")
	if err != nil {
		t.Fatal(err)
	}
	var rec capacity.Record
	if err := json.Unmarshal(data, &rec); err != nil {
		t.Fatal(err)
	}
	held := map[string]bool{"gateways, cores": true, "claims, cores": true, "bytes to clients a second": true, "bytes into logs a second": true}
	for _, c := range capacity.Compare(measured(t), &rec) {
		if c.Run != capacity.RunCheck {
			continue
		}
		if held[c.What] && math.Abs(c.Error()) > 0.25 {
			t.Errorf("%s: predicted %.4g, measured %.4g, %+.0f%%; want within 25%%", c.What, c.Predicted, c.Measured, 100*c.Error())
		}
		delete(held, c.What)
	}
	if len(held) > 0 {
		t.Errorf("the record's check lacks %v", held)
	}
}

// TestBroadcast300k predicts what gateways used in `make bench-300k`, which no
// coefficient is from: 17 of them, a delta to 300,000 every five seconds.
func TestBroadcast300k(t *testing.T) {
	const (
		connections, rate = 300_000, 0.2
		measuredCores     = 0.797 // at a sweep of 50 ms; commit 0a0da89, docs/performance.md
		idleCores         = 0.378 // of those gateways, without a delta
	)
	c := measured(t)
	// Its gateways had nothing to follow but one record each five seconds, so
	// that their own work is what they used idle.
	got := idleCores + connections*rate*c.Delivery
	if off := got/measuredCores - 1; math.Abs(off) > 0.25 {
		t.Errorf("predicted %.3f cores, measured %.3f: %+.0f%%; want within 25%%", got, measuredCores, 100*off)
	}
}

// TestOriginal: the model of theirs gives back what is published, and moves in
// proportion.
func TestOriginal(t *testing.T) {
	o := capacity.Published()
	same := o.At(300_000, 2e6)
	if same.PodsLeast != 6 || same.PodsMost != 14 || same.Shards != 48 || math.Abs(same.CostMonth-2100) > 1e-6 {
		t.Errorf("at its own load: %+v; want 6 to 14 pods, 48 shards, $2100", same)
	}
	if half := o.At(150_000, 1e6); half.PodsMost != 7 || half.PodsLeast != 3 || half.Shards != 24 || half.CostMonth != 1050 {
		t.Errorf("at half: %+v; want 3 to 7 pods, 24 shards, $1050", half)
	}
	p := plan(t, capacity.OriginalLoad())
	if p.Load.Connections != 300_000 || p.Load.Attempts != 2e6 {
		t.Errorf("the preset has %d connections and %g attempts/s", p.Load.Connections, p.Load.Attempts)
	}
}

// TestGame predicts what `make bench-game` sent to each of its sockets, which no
// coefficient is from.
func TestGame(t *testing.T) {
	const measuredBytes = 593187820.0 / 20 / 60 // commit 732e632, docs/performance.md
	l := capacity.DefaultLoad()
	l.Connections, l.Attempts, l.Wins, l.Over, l.Tiles, l.Regions = 1, 2000, 1, "http", 2500, 1
	got := measured(t).Predict(&l, capacity.Processes{Gateways: 1}, 24).DeliveredBytes
	if off := got/measuredBytes - 1; math.Abs(off) > 0.25 {
		t.Errorf("predicted %.0f bytes a second to a socket, measured %.0f: %+.0f%%; want within 25%%", got, measuredBytes, 100*off)
	}
}

// TestEachCoefficientCounts: one that changes no plan has no place.
func TestEachCoefficientCounts(t *testing.T) {
	plans := func(c *capacity.Coefficients) string {
		var all strings.Builder
		for _, codec := range []string{"json", "proto"} {
			for _, way := range [][2]string{{"socket", "primary"}, {"http", "fsync"}} {
				l := capacity.DefaultLoad()
				l.Codec, l.Over, l.Ack = codec, way[0], way[1]
				all.WriteString(planned(t, l, c))
			}
		}
		return all.String() + planned(t, capacity.DefaultLoad(), c)
	}
	usual := plans(measured(t))
	for _, o := range measured(t).Origins {
		var origins []capacity.Origin
		for _, x := range measured(t).Origins {
			if x.Name == o.Name {
				x.Value = 2*x.Value + 1
			}
			origins = append(origins, x)
		}
		b, err := json.Marshal(origins)
		if err != nil {
			t.Fatal(err)
		}
		c, err := capacity.ParseCoefficients(b)
		if err != nil {
			t.Fatal(err)
		}
		if plans(c) == usual {
			t.Errorf("%s: twice as much changes no plan", o.Name)
		}
	}
}

func planned(t *testing.T, l capacity.Load, c *capacity.Coefficients) string {
	p, err := capacity.New(l, capacity.DefaultPrices(), c, rules)
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/veltrix/cairn/internal/capacity"
	"github.com/veltrix/cairn/internal/capacity/sim"
)

// TestPlan: the table, the JSON and the picture of a plan, from flags and files.
func TestPlan(t *testing.T) {
	code, out, stderr := cairnCmd(t, "plan")
	if code != exitDone {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	for _, want := range []string{"shards ", "24", "gateways", "first to break:", "Raising it takes", "in all", "no provider's quote"} {
		if !strings.Contains(out, want) {
			t.Errorf("the table lacks %q:\n%s", want, out)
		}
	}
	picture := filepath.Join(t.TempDir(), "plan.svg")
	code, out, stderr = cairnCmd(t, "plan", "--connections", "20000", "--codec", "proto", "--json", "--plot", picture)
	var p capacity.Plan
	if err := json.Unmarshal([]byte(out), &p); err != nil || code != exitDone || p.Load.Connections != 20_000 || p.Load.Codec != "proto" || p.Processes.Gateways < 2 {
		t.Errorf("exit code %d, %v, %+v: %s", code, err, p.Load, stderr)
	}
	if b, err := os.ReadFile(picture); err != nil || !strings.HasPrefix(string(b), "<svg") {
		t.Errorf("the picture: %v", err)
	}
	// What is printed is what is read; prices change the cost and nothing else.
	_, load, _ := cairnCmd(t, "plan", "--players", "1234", "--write-load")
	_, prices, _ := cairnCmd(t, "plan", "--write-prices")
	path := write(t, "load.yaml", load)
	_, cheap, _ := cairnCmd(t, "plan", "--load", path, "--prices", write(t, "prices.yaml", prices+"\negress_gb: 0\n"), "--json")
	if strings.Contains(prices, "egress_gb") && cheap != "" {
		t.Error("a price that is there twice was taken")
	}
	_, cheap, stderr = cairnCmd(t, "plan", "--load", path, "--prices", write(t, "prices.yaml", "origin: mine\negress_gb: 0\n"), "--json")
	if err := json.Unmarshal([]byte(cheap), &p); err != nil || p.Load.Players != 1234 || p.Cost.Egress != 0 || p.Prices.Origin != "mine" || p.Prices.CoreHour != 0.04 {
		t.Errorf("%v, %+v, %+v: %s", err, p.Load, p.Prices, stderr)
	}
}

// TestPlanRules: a plan's connections to Redis and a gateway's sockets are what
// the processes themselves reckon.
func TestPlanRules(t *testing.T) {
	_, out, stderr := cairnCmd(t, "plan", "--connections", "300000", "--attempts", "20000", "--wins", "0.02", "--json")
	var p capacity.Plan
	if err := json.Unmarshal([]byte(out), &p); err != nil {
		t.Fatal(err, stderr)
	}
	if want := budgetOf(p.Processes.Sum(), p.Shards+otherWriters); p.RedisClients != want {
		t.Errorf("%d connections to a node of Redis; --fleet would say %d", p.RedisClients, want)
	}
	if got := planRules().Sockets(1_048_576); got != connectionsOf(1_048_576) {
		t.Errorf("%d sockets, want %d", got, connectionsOf(1_048_576))
	}
}

// TestPlanOriginal: the fleet of the original, and ours beside it.
func TestPlanOriginal(t *testing.T) {
	_, out, _ := cairnCmd(t, "plan", "--preset", "original")
	for _, want := range []string{"the original", "ours", "6–14", "48", "$2100 (800 planned)", "3.2"} {
		if !strings.Contains(out, want) {
			t.Errorf("the table lacks %q:\n%s", want, out)
		}
	}
	_, out, _ = cairnCmd(t, "plan", "--preset", "original", "--json")
	var got struct {
		Original capacity.Original
		Shards   int
	}
	if err := json.Unmarshal([]byte(out), &got); err != nil || got.Original != capacity.Published() || got.Shards == 0 {
		t.Errorf("%v, %+v", err, got)
	}
}

// TestPlanCoefficients: every figure is printed with its origin.
func TestPlanCoefficients(t *testing.T) {
	c, err := capacity.Measured()
	if err != nil {
		t.Fatal(err)
	}
	_, out, _ := cairnCmd(t, "plan", "--coefficients")
	for _, o := range c.Origins {
		if !strings.Contains(out, o.Name+" ") || !strings.Contains(out, o.Command) {
			t.Errorf("%s or its origin is not there", o.Name)
		}
	}
	var all []capacity.Origin
	if _, out, _ = cairnCmd(t, "plan", "--coefficients", "--json"); json.Unmarshal([]byte(out), &all) != nil || len(all) != len(c.Origins) {
		t.Errorf("%d origins as JSON, want %d", len(all), len(c.Origins))
	}
}

const surgeCSV = "minute,connections,events_per_s\n0,100,10\n5,100,10\n5,3000,200\n10,3000,200\n"

// TestSimulate: the table, the JSON and the picture; a seed gives one result.
func TestSimulate(t *testing.T) {
	picture := filepath.Join(t.TempDir(), "surge.svg")
	code, out, stderr := cairnCmd(t, "simulate", "--compare", "--plot", picture)
	if code != exitDone {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	for _, want := range []string{"== original", "== unbound, cpu", "== unbound, lag", "== cairn", "out of SLO", "connections refused"} {
		if !strings.Contains(out, want) {
			t.Errorf("the tables lack %q:\n%s", want, out)
		}
	}
	if b, err := os.ReadFile(picture); err != nil || !strings.HasPrefix(string(b), "<svg") {
		t.Errorf("the picture: %v", err)
	}
	args := []string{"simulate", "--traffic", write(t, "day.csv", surgeCSV), "--connect-rate", "50", "--burst", "100", "--most", "2", "--seed", "7", "--json"}
	_, first, stderr := cairnCmd(t, args...)
	var r sim.Result
	if err := json.Unmarshal([]byte(first), &r); err != nil || r.Came != 3000 || r.Refusals == 0 || r.Watching != 3000 || r.Config.Policy.Most != 2 {
		t.Errorf("%v, %d came, %d refusals, %d watch: %s", err, r.Came, r.Refusals, r.Watching, stderr)
	}
	if _, again, _ := cairnCmd(t, args...); again != first {
		t.Error("the same seed printed another result")
	}
}

// TestPlanUsage gives plan and simulate wrong values: exit code 2, and what is
// wrong is named with what would be right.
func TestPlanUsage(t *testing.T) {
	for _, c := range []struct {
		args []string
		want []string
	}{
		{[]string{"plan", "--preset", "mine"}, []string{"--preset", "original"}},
		{[]string{"plan", "--connections=-1"}, []string{"connections", "-1", "0 to"}},
		{[]string{"plan", "--wins", "2"}, []string{"wins", "0 to 1"}},
		{[]string{"plan", "--wins", "0.9"}, []string{"wins", "tiles", "want at most 0.2"}},
		{[]string{"plan", "--over", "carrier"}, []string{"attempts_over", "socket or http"}},
		{[]string{"plan", "--codec", "xml"}, []string{"codec", "json or proto"}},
		{[]string{"plan", "--ack", "none"}, []string{"ack", "primary"}},
		{[]string{"plan", "--replicas", "0"}, []string{"replicas", "1 or more"}},
		{[]string{"plan", "--sweep", "1ms"}, []string{"sweep", "5ms"}},
		{[]string{"plan", "--attempts", "lots"}, []string{"--attempts", "lots"}},
		{[]string{"plan", "--plot", "plan.png"}, []string{"--plot", "plan.png", ".svg"}},
		{[]string{"plan", "--plot", "/no/such/folder/plan.svg"}, []string{"--plot", "/no/such"}},
		{[]string{"plan", "--load", "/no/such/file"}, []string{"/no/such/file"}},
		{[]string{"plan", "--load", write(t, "load.yaml", "players: 3\nplayrs: 4\n")}, []string{"load.yaml", "line 2", "playrs", "no such field"}},
		{[]string{"plan", "--load", write(t, "load.yaml", "players: many\n")}, []string{"load.yaml", "line 1", "players"}},
		{[]string{"plan", "--load", write(t, "load.yaml", "machine: {gateway_cores: 0}\n")}, []string{"machine.gateway_cores", "0.1"}},
		{[]string{"plan", "--prices", write(t, "prices.yaml", "core_hour: -1\n")}, []string{"prices.yaml", "core_hour", "0 or more"}},
		{[]string{"plan", "--prices", write(t, "prices.yaml", "core_our: 1\n")}, []string{"prices.yaml", "line 1", "core_our"}},
		{[]string{"simulate", "--system", "mine"}, []string{"--system", "original"}},
		{[]string{"simulate", "--trigger", "luck"}, []string{"trigger", "cpu or lag"}},
		{[]string{"simulate", "--least", "5", "--most", "3"}, []string{"most", "3"}},
		{[]string{"simulate", "--poll", "1ms"}, []string{"poll", "1s"}},
		{[]string{"simulate", "--traffic", "/no/such/file"}, []string{"--traffic", "/no/such/file"}},
		{[]string{"simulate", "--traffic", write(t, "day.csv", "minute,connections,events_per_s\n0,x,1\n")}, []string{"day.csv", "line 2", "connections", "\"x\""}},
		{[]string{"simulate", "--plot", "x.png"}, []string{"--plot", ".svg"}},
	} {
		wantUsage(t, c.args, c.want...)
	}
}

// TestCapacityDoc runs every command of docs/capacity.md, one after the other in
// one folder, with the CSV that stands there.
func TestCapacityDoc(t *testing.T) {
	doc, err := os.ReadFile("../../docs/capacity.md")
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	var csv strings.Builder
	var commands []string
	for line := range strings.Lines(string(doc)) {
		switch text := strings.TrimSpace(line); {
		case strings.HasPrefix(line, "      ") && strings.Count(text, ",") == 2:
			csv.WriteString(text + "\n")
		case strings.HasPrefix(line, "    cairn "):
			text, _, _ = strings.Cut(text, "#")
			commands = append(commands, strings.TrimSpace(text))
		}
	}
	if err := os.WriteFile("day.csv", []byte(csv.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	if len(commands) < 8 {
		t.Errorf("%d commands; want those of the document", len(commands))
	}
	for _, c := range commands {
		c, into, _ := strings.Cut(c, " >")
		code, out, stderr := cairnCmd(t, strings.Fields(c)[1:]...)
		if code != exitDone || out == "" {
			t.Errorf("%s: exit code %d, %d bytes: %s", c, code, len(out), stderr)
		}
		if into != "" {
			if err := os.WriteFile(into, []byte(out), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, picture := range []string{"fleet.svg", "surge.svg"} {
		if _, err := os.Stat(picture); err != nil {
			t.Error(err)
		}
	}
}

// TestFebruaryDoc holds the table of docs/capacity.md that no coefficient is in.
func TestFebruaryDoc(t *testing.T) {
	doc, err := os.ReadFile("../../docs/capacity.md")
	if err != nil {
		t.Fatal(err)
	}
	_, out, stderr := cairnCmd(t, "simulate", "--compare", "--json")
	var all map[string]sim.Result
	if err := json.Unmarshal([]byte(out), &all); err != nil {
		t.Fatal(err, stderr)
	}
	for _, name := range []string{"original", "unbound, cpu", "unbound, lag"} {
		r := all[name]
		row := fmt.Sprintf("| %s | %.1f min | %.1f min | %.1f min | %.0f s | %d |\n", name, r.OutOfSLO, r.AtLimit, r.RedisFull, r.LagMost, r.PodsMost)
		if !strings.Contains(string(doc), row) {
			t.Errorf("docs/capacity.md lacks the row %s", row)
		}
	}
}

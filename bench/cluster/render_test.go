//go:build unix

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"charm.land/lipgloss/v2"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/proto"

	"github.com/veltrix/cairn/internal/lab"
)

// someStatus has one of everything.
func someStatus() *status {
	up := processRow{Name: "redis-1", Pid: 11, State: "up", Addr: "127.0.0.1:10001"}
	down := processRow{Name: "redis-2", State: "down", Addr: "127.0.0.1:10002"}
	return &status{
		Redis:  []redisRow{{processRow: up, Role: "primary", Slots: 16384, InStep: true, MemBytes: 3.7e6, Clients: 50, MaxClients: 10000}, {processRow: down, Role: "replica", Of: "redis-1"}},
		Ledger: postgresRow{processRow: processRow{Name: "postgres", Pid: 12, State: "up"}, LagRecords: 7},
		Roles: []roleRow{
			{processRow: processRow{Name: "claims-1", Pid: 13, State: "up"}, Role: "claims", Ready: true, Shards: 24, PerS: 2000, P50: 0.4, P99: 3, Conns: -1},
			{processRow: processRow{Name: "claims-2", Pid: 14, State: "paused"}, Role: "claims", Shards: 24, Conns: -1},
			{processRow: processRow{Name: "gateway-1", Pid: 15, State: "up"}, Role: "gateway", Why: "map: none is open", Shards: -1, P50: -1, P99: -1, Conns: 4, Play: "http://127.0.0.1:8080/"},
		},
		Hunts:      []huntRow{{"demo", "live", 400, 24}},
		ClaimsPerS: 2000,
	}
}

// TestRender: the screen says how each process does, marks the one that the keys
// act on, and stays within the terminal.
func TestRender(t *testing.T) {
	w := new(watcher)
	w.last.Store(someStatus())
	m := model{watcher: w, chosen: 4, width: 100, height: 30}
	text := m.render()
	for _, want := range []string{"50 / 10000", "replica of redis-1", "7 records", "paused", "map: none is", "http://127.0.0.1:8080/", "claims/s won", "demo live"} {
		if !strings.Contains(text, want) {
			t.Errorf("there is no %q in\n%s", want, text)
		}
	}
	for line := range strings.Lines(text) {
		if strings.Contains(line, "▸") != strings.Contains(line, "claims-2") {
			t.Errorf("the mark: %s", line)
		}
		if n := lipgloss.Width(strings.TrimSuffix(line, "\n")); n > 100 {
			t.Errorf("%d columns: %s", n, line)
		}
	}
	m.height = 5
	if n := strings.Count(m.render(), "\n"); n != 4 {
		t.Errorf("%d lines; want 5", n+1)
	}
	want := "redis 1/2 up, 1 primaries · postgres up, ledger lag 7 · roles 1/3 ready · 2000 claims/s, p99 3.0 ms, 4 connections"
	if line := someStatus().line(); !strings.HasSuffix(line, want) {
		t.Errorf("%s; want %s", line, want)
	}
}

// TestWindow: rates and quantiles are of the window, and a new life begins anew.
func TestWindow(t *testing.T) {
	at := func(s int, claims float64, below, all uint64) sample {
		histogram := &dto.Histogram{SampleCount: &all, Bucket: []*dto.Bucket{
			{UpperBound: proto.Float64(0.001), CumulativeCount: &below}, {UpperBound: proto.Float64(0.1), CumulativeCount: &all},
		}}
		return sample{time.Unix(int64(s), 0), map[string]*dto.MetricFamily{
			"claims": {Metric: []*dto.Metric{{Counter: &dto.Counter{Value: &claims}}}},
			"took":   {Metric: []*dto.Metric{{Histogram: histogram}}},
		}}
	}
	w := new(window)
	w.add(at(0, 1e6, 0, 1000), 1) // slow ones, long ago
	w.add(at(10, 1e6, 0, 1000), 1)
	w.add(at(12, 1e6+100, 99, 1100), 1)
	w.add(at(14, 1e6+200, 198, 1200), 1)
	w.add(at(16, 1e6+300, 297, 1300), 1)
	if got := w.rate("claims"); got != 50 {
		t.Errorf("%v/s; want 50", got)
	}
	if p50, p99 := w.quantile(0.5, "took"), w.quantile(0.999, "took"); p50 != 1 || p99 != 100 {
		t.Errorf("p50 %v ms, p99.9 %v ms; want 1 and 100", p50, p99)
	}
	w.add(at(18, 5, 0, 0), 2)
	if got := w.rate("claims"); got != 0 || w.quantile(0.5, "took") != -1 {
		t.Errorf("%v/s after a restart; want 0 and no quantile", got)
	}
}

// TestDown: a launcher that runs is told to end, and what it leaves is removed.
func TestDown(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cluster.json")
	d := downCmd{stateFlag{path}}
	if err := d.Run(); err != nil {
		t.Errorf("nothing to end: %v", err)
	}
	l, err := lab.New(lab.Options{Parent: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	launcher := exec.Command("sleep", "600")
	if err := launcher.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- launcher.Wait() }()
	if err := (state{Launcher: lab.Identify(launcher.Process.Pid), Dir: l.Dir}).write(path); err != nil {
		t.Fatal(err)
	}
	if err := d.Run(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "terminated") {
		t.Errorf("the launcher ended by %v; want SIGTERM", err)
	}
	for _, gone := range []string{path, l.Dir} {
		if _, err := os.Stat(gone); !os.IsNotExist(err) {
			t.Errorf("%s is still there: %v", gone, err)
		}
	}
}

//go:build linux

package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/veltrix/cairn/bench/broadcast/trial"
	"github.com/veltrix/cairn/bench/program"
	"github.com/veltrix/cairn/bench/report"
)

func sample() *record {
	load := func(rate, sweep, cpu, p99 float64, kept bool) *trial.Load {
		return &trial.Load{Rate: rate, SweepMS: sweep, Connections: 100, PerSecond: 100 * rate, CPUEach: cpu, CPUDelta: cpu, CPUNet: cpu, P50: p99 / 2, P99: p99, BytesLoaded: 9000, Kept: kept}
	}
	grown := func(bytes float64) *trial.Growth {
		return &trial.Growth{Connections: 100, BytesIdle: bytes, BytesKernel: 7000}
	}
	r := &record{Machine: "m", Commit: "c", Command: "cmd", Began: time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC), Rounds: 3}
	for i := range 3 {
		r.Runs = append(r.Runs,
			&entry{Name: nameFloor, Round: i, Growth: grown(4000), Loads: []*trial.Load{load(1, 0, float64(10+i), 50, true), load(2, 0, 10, 60, i > 0)}},
			&entry{Name: nameCentrifuge, Round: i, Growth: grown(14000), Loads: []*trial.Load{load(1, 0, 20, 100, true)}},
			&entry{Name: nameCentrifugeDelay, Round: i, Growth: grown(12000), Loads: []*trial.Load{load(1, 0, 18, 110, true)}},
			&entry{Name: nameRabbitMQ, Round: i, Growth: grown(26000), Loads: []*trial.Load{load(1, 0, 30, 200, true)}},
			&entry{Name: nameOurs, Round: i, Growth: grown(1500), Loads: []*trial.Load{load(1, 5, 8, 55, true), load(1, 50, 7, 99, true), load(2, 50, 6, 98, false)}},
		)
	}
	return r
}

// TestSummary: broadcast.json has its four names, medians, the better of both
// forms of centrifuge, and ours at the lowest sweep.
func TestSummary(t *testing.T) {
	got := sample().summary()
	want := []figure{
		{nameOurs, 100, 100, 8, 27.5, 55, 1500, 3},
		{nameCentrifuge, 100, 100, 18, 55, 110, 12000, 3},
		{nameRabbitMQ, 100, 100, 30, 100, 200, 26000, 3},
		{nameFloor, 100, 100, 11, 25, 50, 4000, 3},
	}
	if len(got) != len(want) {
		t.Fatalf("%d lines; want %d", len(got), len(want))
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("line %d: got %+v; want %+v", i, got[i], want[i])
		}
	}
}

func TestTables(t *testing.T) {
	var b strings.Builder
	fullTables(&b, sample())
	for _, want := range []string{
		"m; commit c; `cmd`; medians of 3",
		"| floor | 11.00 µs | 1.00× | 0.61× |",
		"| ours, sweep 5 ms | 8.00 µs | 0.73× | 0.44× |",
		"| 1.5 KB | 0.12× |",
		"| floor | 2/s | 50 ms, 11.00 µs | 60 ms, 10.00 µs |",
		"| ours | 1/s | 99 ms, 7.00 µs | (98 ms) |",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the tables lack %q:\n%s", want, b.String())
		}
	}
}

// TestReport: what was measured is read again, printed and drawn.
func TestReport(t *testing.T) {
	dir := t.TempDir()
	l := sample().Runs[0].Loads[0]
	huge := &hugeRecord{Growth: sample().Runs[0].Growth, Low: l, Default: l, Staleness: &trial.Staleness{}, Comeback: &trial.Comeback{States: 1}, Floor: l, FloorGrowth: sample().Runs[0].Growth}
	for name, v := range map[string]any{detailFile: sample(), fullFile: sample(), hugeFile: huge} {
		if err := report.Write(dir, name, v); err != nil {
			t.Fatal(err)
		}
	}
	if err := runReport(t.Context(), []string{"-out", dir, "-plots", dir}); err != nil {
		t.Fatal(err)
	}
	doc := filepath.Join(dir, "doc.md")
	marked := "# Doc\n"
	for _, name := range []string{"broadcast-detail", "broadcast-full", "broadcast-300k"} {
		marked += "<!-- " + name + " -->\nold\n<!-- /" + name + " -->\nbetween\n"
	}
	if err := os.WriteFile(doc, []byte(marked), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 { // what was put there is replaced
		if err := runReport(t.Context(), []string{"-out", dir, "-plots", dir, "-into", doc}); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(doc)
	if err != nil {
		t.Fatal(err)
	}
	if s := string(text); strings.Contains(s, "\nold\n") || strings.Count(s, "between\n") != 3 || strings.Count(s, "medians of 3") != 2 || strings.Count(s, "All 0 cut at once") != 1 {
		t.Errorf("the document is\n%s", s)
	}
	if err := os.WriteFile(doc, []byte("no marks"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := runReport(t.Context(), []string{"-out", dir, "-plots", dir, "-into", doc}); err == nil {
		t.Error("a document without marks is written")
	}
	for _, name := range []string{"broadcast-memory-100.png", "broadcast-cpu-100.png", "broadcast-rates-100.png", "broadcast-300k.png"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v; want a picture", name, err)
		}
	}
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{nil, {"fast"}, {"short", "-rounds", "0"}, {"short", "5"}, {"short", "-only", "nothing"}, {"full", "-connections", "many"}} {
		if err := run(context.Background(), args); !errors.Is(err, program.ErrUsage) {
			t.Errorf("%q: got error %v; want one of usage", args, err)
		}
	}
}

func TestTurn(t *testing.T) {
	first := map[string]bool{}
	for round := range contenders {
		some := turn(contenders, round)
		if len(some) != len(contenders) {
			t.Fatalf("round %d has %d; want %d", round, len(some), len(contenders))
		}
		first[some[0].name] = true
	}
	if len(first) != len(contenders) {
		t.Errorf("%d of %d come first in some round", len(first), len(contenders))
	}
}

func TestCommand(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{nil, "make short"},
		{[]string{"-bin", "/x/cairn", "-out=/y"}, "make short"},
		{[]string{"-rounds", "1", "-bin", "/x/cairn", "-keep"}, `make short ARGS="-rounds 1 -keep"`},
	} {
		if got := command("short", c.args); got != c.want {
			t.Errorf("%q: got %s; want %s", c.args, got, c.want)
		}
	}
}

//go:build unix

package main

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/veltrix/cairn/bench/claims/engine"
	"github.com/veltrix/cairn/bench/program"
	"github.com/veltrix/cairn/bench/report"
)

func TestUsage(t *testing.T) {
	for _, args := range [][]string{nil, {"fast"}, {"short", "5"}, {"short", "-rounds", "-1"}, {"full", "-only", "nothing"}, {"report", "-rounds", "1"}} {
		if err := run(t.Context(), args); !errors.Is(err, program.ErrUsage) {
			t.Errorf("%q: got error %v; want one of usage", args, err)
		}
	}
}

func TestCommand(t *testing.T) {
	if got, want := command(false, []string{"-out", "/x", "-rounds", "1", "-dir=/y"}), `make bench ARGS="-rounds 1"`; got != want {
		t.Errorf("got %s; want %s", got, want)
	}
	if got, want := command(true, nil), "make bench-full"; got != want {
		t.Errorf("got %s; want %s", got, want)
	}
}

// TestShow: what the full form wrote goes between the marks of a document, and
// into plots.
func TestShow(t *testing.T) {
	dir := t.TempDir()
	doc := filepath.Join(dir, "doc.md")
	args := []string{"-out", dir, "-plots", dir, "-into", doc}
	if err := show(args); err == nil || !strings.Contains(err.Error(), "make bench-full") {
		t.Errorf("without results: got %v; want how to get them", err)
	}
	part, err := json.Marshal(&engine.Report{
		Equal:   map[string]float64{engine.Hot: 80_000},
		Results: []*engine.Result{{Name: engine.Lua, Workload: engine.Hot, Attempts: 10, Wins: 1}},
	})
	if err != nil {
		t.Fatal(err)
	}
	r := &record{Machine: "a machine", Commit: "c0ffee", Command: "make bench-full", Seconds: map[string]float64{"engine": 7}, Parts: map[string]json.RawMessage{"engine": part}}
	if err := report.Write(dir, fullFile, r); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(doc, []byte("a\n<!-- claims-engine -->\nold\n<!-- /claims-engine -->\nb\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := show(args); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(doc)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"a machine; commit c0ffee; `make bench-full`; 7 s", "`lua`", "10% of attempts win"} {
		if !strings.Contains(string(b), want) {
			t.Errorf("got\n%s\nwant %q in it", b, want)
		}
	}
	if strings.Contains(string(b), "old") {
		t.Errorf("got\n%s\nwant what was there before replaced", b)
	}
	if _, err := os.Stat(filepath.Join(dir, "claims-rate.png")); err != nil {
		t.Errorf("%v; want a plot", err)
	}
}

package main

import (
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/veltrix/cairn"
)

// TestInterruptSettles ends the process with Ctrl-C directly behind the last
// of many claims: all of them are in the ledger.
func TestInterruptSettles(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	p := up(t, data, "--hunt", write(t, "race.yaml", raceHunt))
	_, token := p.signIn("ana")
	m := p.call("GET", "/v1/hunts/race/maps/current", "", "")
	var wg sync.WaitGroup
	for _, tile := range m.Tiles {
		wg.Go(func() {
			if a := p.call("POST", "/v1/hunts/race/claims", token, fmt.Sprintf(`{"map":%d,"tile":%d}`, m.Tick, tile.Index)); a.Status != http.StatusOK {
				t.Errorf("claim: got %+v, want 200", a)
			}
		})
	}
	wg.Wait()
	http.DefaultClient.CloseIdleConnections()
	p.interrupt()
	if code, out := verify(t, data); code != exitDone || !strings.Contains(out, fmt.Sprintf("%d entries", len(m.Tiles))) {
		t.Errorf("verify: exit code %d, want %d and %d entries:\n%s", code, exitDone, len(m.Tiles), out)
	}
}

// TestFirstStartCutShort starts on what a first start leaves that was killed
// between creating the demo and making it live.
func TestFirstStartCutShort(t *testing.T) {
	opts := gameOptions{dir: filepath.Join(t.TempDir(), "data"), shards: shardsMax, retention: time.Hour, log: slog.New(slog.DiscardHandler)}
	start := func(f func(*game) error) {
		t.Helper()
		g, err := openGame(t.Context(), opts)
		if err != nil {
			t.Fatal(err)
		}
		defer g.close()
		if err := f(g); err != nil {
			t.Fatal(err)
		}
	}
	start(func(g *game) error {
		h := demoHunt()
		_, err := g.control.Do(t.Context(), cairn.Change{Who: "cairn up", Hunt: h.Name, Create: h})
		return err
	})
	start(func(g *game) error {
		err := g.startHunt(t.Context(), nil)
		if h := g.control.Hunt(demoHunt().Name); h.State != cairn.Live {
			t.Errorf("the demo is %s, want live", h.State)
		}
		return err
	})
	// What an operator did is left alone.
	start(func(g *game) error {
		_, err := g.control.Do(t.Context(), cairn.Change{Who: "ana", Hunt: demoHunt().Name, State: cairn.Paused})
		return err
	})
	start(func(g *game) error {
		err := g.startHunt(t.Context(), nil)
		if h := g.control.Hunt(demoHunt().Name); h.State != cairn.Paused {
			t.Errorf("the demo is %s, want paused", h.State)
		}
		return err
	})
}

// TestReadyOnlyWithMap: whoever asks before anything was read does not make a
// start without maps look ready.
func TestReadyOnlyWithMap(t *testing.T) {
	g, err := openGame(t.Context(), gameOptions{dir: filepath.Join(t.TempDir(), "data"), shards: shardsMax, retention: time.Hour, log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer g.close()
	if err := mapOpen(g.hub, &g.mapSeen); err == nil || g.mapSeen.Load() {
		t.Errorf("before a log was read: %v, a map was seen: %v; want an error, and none", err, g.mapSeen.Load())
	}
}

// TestInterruptWhileStarting has the Ctrl-C come before anything is there.
func TestInterruptWhileStarting(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	if code, _, stderr := cairnCmd(t, "up", "--data", data, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"); code != exitDone {
		t.Errorf("exit code %d, said %q; want %d", code, stderr, exitDone)
	}
	up(t, data).interrupt()
}

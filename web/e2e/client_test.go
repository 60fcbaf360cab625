package e2e_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// The client library, in Node and against the real gateway, through a network
// that cuts, stalls, resets and refuses connections, and past a restart: what its
// views show in the end is what the server has, and nothing was missed on the way.
func TestClientLibrary(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	// Maps of the first hunt come and go, those of the second stay.
	g := startGame(t, "region: {geohash: u4}\ntiles_per_map: 12\ntick: 1s\nlifetime: 4s\npuzzles: {tap: 1}\nreward: {min: 1, max: 9, budget: 100000000}\n")
	operator := &game{t: t, public: g.admin}
	operator.call("POST", "/admin/v1/hunts", "", map[string]any{
		"name": "stay", "region": map[string]any{"geohash": "u"}, "tiles_per_map": 12, "tick": "1s", "lifetime": "30m",
		"puzzles": map[string]any{"tap": 1}, "reward": map[string]any{"min": 1, "max": 9, "budget": 100000000},
	}, http.StatusCreated, nil)
	operator.call("PATCH", "/admin/v1/hunts/stay", "", map[string]string{"state": "live"}, http.StatusOK, nil)

	px := newProxy(t, g.public, 4)
	px.be(true)
	// The test in Node says when it has seen enough.
	calm := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		px.be(false)
		fmt.Fprintln(w, px.met())
	}))
	defer calm.Close()

	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	defer cancel()
	needNodeModules(t)
	cmd := exec.CommandContext(ctx, "../scripts/with-node.sh", "npm", "run", "--silent", "test:gateway")
	cmd.Dir = ".."
	cmd.WaitDelay = 5 * time.Second
	cmd.Env = append(os.Environ(),
		"CAIRN_LIVE=ws://"+px.address()+"/v1/live",
		"CAIRN_API=http://"+g.public,
		"CAIRN_ADMIN=http://"+g.admin,
		"CAIRN_CALM="+calm.URL,
		"NO_COLOR=1")
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) } // which npm passes on
	var out safeBuffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	wait := sync.OnceValue(cmd.Wait)
	defer func() {
		cancel()
		wait()
		t.Logf("%s", &out)
	}()
	// In the midst of it the gateway dies as in a power cut, and begins another epoch.
	eventually(t, "connections are lost", func() bool { return px.met() >= 15 })
	g.kill()
	g.start()
	if err := wait(); err != nil {
		t.Fatalf("npm run test:gateway: %v", err)
	}
	if px.met() < 20 {
		t.Errorf("%d connections were lost, want enough to learn from: 20 or more", px.met())
	}
}

// needNodeModules installs what web/package-lock.json names, unless something is
// there: scripts/web-check.sh keeps it up to date.
func needNodeModules(t *testing.T) {
	t.Helper()
	if _, err := os.Stat(filepath.Join("..", "node_modules", ".bin", "vitest")); err == nil {
		return
	}
	cmd := exec.CommandContext(t.Context(), "../scripts/with-node.sh", "npm", "ci", "--no-audit", "--no-fund", "--loglevel=error")
	cmd.Dir = ".."
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("npm ci: %v (Node and npm are needed: apt-get install -y nodejs npm; make test does)\n%s", err, out)
	}
}

// The page is cut off amid frames while others claim. What it shows in the end
// is what there is.
func TestPageUnderCuts(t *testing.T) {
	g := startGame(t, "region: {geohash: u4}\ntiles_per_map: 6\ntick: 2s\nlifetime: 10m\npuzzles: {tap: 1}\nreward: {min: 1, max: 9, budget: 100000000}\n")
	px := newProxy(t, g.public, 5)
	behind := &game{t: t, public: px.address(), admin: g.admin}
	p := behind.open(chromium, desk, countSockets)
	p.showTiles()
	p.serverGone(true)
	bo := g.join("Bo")

	claimed := map[string]bool{}
	for round, bytes := range []int{0, 150, 700, 3000} {
		sockets := eval[int](p, `sockets()`)
		px.cutAfter(bytes)
		eventually(t, "the page has another connection", func() bool {
			x := g.newestFree(claimed)
			bo.claim(x)
			claimed[x.key] = true
			return eval[int](p, `sockets()`) > sockets
		})
		p.until(`$('pill').dataset.state === 'live'`)
		t.Logf("round %d: %d claimed", round, len(claimed))
	}
	g.set("paused")

	// A page that was never cut off shows as many open tiles, and lists the same.
	q := g.open(chromium, desk)
	q.showTiles()
	type shown struct {
		Open  int
		Tiles []string
	}
	look := func(p *tab) shown {
		return eval[shown](p, `({Open: Number($('open-count').innerText), Tiles: $$('tile').map((tile) => tile.dataset.key)})`)
	}
	var got, want shown
	eventually(t, "both pages show the same", func() bool {
		got, want = look(p), look(q)
		return want.Open > 0 && cmp.Equal(got, want)
	})
	for _, key := range got.Tiles {
		if claimed[key] {
			t.Errorf("tile %s is listed, though Bo has it", key)
		}
	}
}

// countSockets counts the WebSockets that the page makes.
const countSockets = `{
	let count = 0;
	window.WebSocket = class extends WebSocket { constructor(...a) { super(...a); count++; } };
	window.sockets = () => count;
}`

// newestFree waits for a tile of the newest map that is not claimed.
func (g *game) newestFree(claimed map[string]bool) tile {
	g.t.Helper()
	var x tile
	eventually(g.t, "there is a tile to claim", func() bool {
		var m struct {
			Tick  int64
			Tiles []struct{ Index int64 }
		}
		g.call("GET", "/v1/hunts/e2e/maps/current", "", nil, http.StatusOK, &m)
		for _, i := range m.Tiles {
			x = tile{fmt.Sprintf("%d/%d", m.Tick, i.Index), m.Tick, i.Index}
			if !claimed[x.key] {
				return true
			}
		}
		return false
	})
	return x
}

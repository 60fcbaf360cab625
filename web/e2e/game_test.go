package e2e_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/lab"
	"github.com/veltrix/cairn/internal/puzzle"
)

// patience is how long anything may take on a machine that does much else.
const patience = 60 * time.Second

// A game is a `cairn up` of its own: ports, data and hunt.
type game struct {
	t             testing.TB
	public, admin string // addresses
	args          []string
	cmd           *exec.Cmd
	log           *safeBuffer
	ended         chan struct{} // closed when the process has ended
}

// startGame starts a hunt. Its YAML has all but the name, which is "e2e".
func startGame(t testing.TB, hunt string) *game {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "hunt.yaml")
	if err := os.WriteFile(file, []byte("name: e2e\n"+hunt), 0o600); err != nil {
		t.Fatal(err)
	}
	g := &game{t: t, public: freeAddress(t), admin: freeAddress(t), log: &safeBuffer{}}
	g.args = []string{"up", "--listen", g.public, "--admin", g.admin, "--data", filepath.Join(dir, "data"), "--hunt", file, "--bots", "0"}
	t.Cleanup(func() {
		if g.cmd.Process != nil {
			g.kill()
		}
		if t.Failed() {
			t.Logf("cairn said:\n%s", g.log)
		}
	})
	g.start()
	return g
}

// start starts the server, on the ports and data that it had before, and
// waits until it is ready.
func (g *game) start() {
	g.t.Helper()
	g.cmd = exec.Command(cairnBinary, g.args...)
	g.cmd.Stdout, g.cmd.Stderr = g.log, g.log
	if err := g.cmd.Start(); err != nil {
		g.t.Fatal(err)
	}
	cmd, ended := g.cmd, make(chan struct{})
	g.ended = ended
	go func() {
		defer close(ended)
		cmd.Wait()
	}()
	eventually(g.t, "the server is ready", func() bool {
		select {
		case <-g.ended:
			g.t.Fatal("the server ended before it was ready")
		default:
		}
		resp, err := http.Get("http://" + g.admin + "/readyz")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
}

// kill ends the server as a power cut would.
func (g *game) kill() {
	g.cmd.Process.Kill()
	<-g.ended
}

func (g *game) url() string { return "http://" + g.public + "/" }

// freeAddress returns a loopback address that nobody listens on, and that no
// connection which a browser opens meanwhile will have.
func freeAddress(t testing.TB) string {
	t.Helper()
	addr, err := lab.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	return addr
}

// A player plays through the API, without a page.
type player struct {
	g         *game
	id, token string
}

// join signs a player in.
func (g *game) join(name string) player {
	g.t.Helper()
	var p struct{ Player, Token string }
	g.call("POST", "/v1/players", "", map[string]string{"name": name}, http.StatusCreated, &p)
	return player{g, p.Player, p.Token}
}

// A tile names a tile of the hunt, as the page's data-key does: "tick/index".
type tile struct {
	key         string
	tick, index int64
}

func parseTile(t testing.TB, key string) tile {
	t.Helper()
	x := tile{key: key}
	if _, err := fmt.Sscanf(key, "%d/%d", &x.tick, &x.index); err != nil {
		t.Fatalf("tile key %q: %v", key, err)
	}
	return x
}

func (x tile) path(what string) string {
	return fmt.Sprintf("/v1/hunts/e2e/maps/%d/tiles/%d/%s", x.tick, x.index, what)
}

// solve returns the answer to the player's puzzle on a tile, and its token.
func (p player) solve(x tile) (kind cairn.PuzzleKind, answer, token string) {
	p.g.t.Helper()
	var body struct {
		Kind   cairn.PuzzleKind
		Prompt json.RawMessage
		Token  string
	}
	p.g.call("GET", x.path("puzzle"), p.token, nil, http.StatusOK, &body)
	answer, err := puzzle.Solve(body.Kind, body.Prompt)
	if err != nil {
		p.g.t.Fatal(err)
	}
	return body.Kind, answer, body.Token
}

// claim claims a tile, which must be free.
func (p player) claim(x tile) {
	p.g.t.Helper()
	_, answer, token := p.solve(x)
	body := map[string]any{"map": x.tick, "tile": x.index, "answer": answer, "token": token}
	p.g.call("POST", "/v1/hunts/e2e/claims", p.token, body, http.StatusOK, nil)
}

// holds reports whether a tile is the player's, by the server's word.
func (p player) holds(x tile) bool {
	var body struct{ Outcome string }
	p.g.call("GET", x.path("claim"), p.token, nil, 0, &body)
	return body.Outcome == "won"
}

// call calls the API; want is the status that it must answer with, 0 any.
func (g *game) call(method, path, token string, body any, want int, into any) {
	g.t.Helper()
	b, err := json.Marshal(body)
	if err != nil {
		g.t.Fatal(err)
	}
	req, err := http.NewRequest(method, "http://"+g.public+path, bytes.NewReader(b))
	if err != nil {
		g.t.Fatal(err)
	}
	if body == nil {
		req.Body, req.ContentLength = nil, 0
	} else {
		req.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		g.t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		g.t.Fatal(err)
	}
	if want != 0 && resp.StatusCode != want {
		g.t.Fatalf("%s %s: %s, want %d: %s", method, path, resp.Status, want, answer)
	}
	if into != nil {
		if err := json.Unmarshal(answer, into); err != nil {
			g.t.Fatalf("%s %s: %v: %s", method, path, err, answer)
		}
	}
}

// eventually polls until a condition holds.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatalf("not after %v: %s", patience, what)
		}
		<-tick.C
	}
}

// A safeBuffer is a bytes.Buffer for a process and a test at once.
type safeBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

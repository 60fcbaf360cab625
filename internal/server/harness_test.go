package server

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/broadcast"
	"github.com/veltrix/cairn/internal/claim"
	"github.com/veltrix/cairn/internal/control"
	"github.com/veltrix/cairn/internal/eventlog"
	"github.com/veltrix/cairn/internal/eventlog/filelog"
	"github.com/veltrix/cairn/internal/leaderboard"
	"github.com/veltrix/cairn/internal/ledger"
	"github.com/veltrix/cairn/internal/mapgen"
	"github.com/veltrix/cairn/internal/puzzle"
	"github.com/veltrix/cairn/internal/wire"
)

var (
	testTokenKey  = []byte("a key of tests, which is not kept secret")
	testPuzzleKey = [32]byte{1, 2, 3}
)

const (
	testHunt   = cairn.HuntID("oslo")
	testShards = 2
)

// A game is the real rooms on a filelog in memory, with the edge before them.
type game struct {
	t      testing.TB
	store  *filelog.Store
	rooms  Rooms
	server *Server
	public *httptest.Server
	admin  *httptest.Server
	reg    *prometheus.Registry
	client *http.Client

	doc, adminDoc *apiDoc // every answer is held against these

	mu     sync.Mutex
	offset time.Duration // of the game's clock from the machine's
	prev   cairn.Digest
}

func (g *game) now() time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	return time.Now().Add(g.offset)
}

// later moves the game's clock.
func (g *game) later(d time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.offset += d
}

// newGame starts a game with the hunt oslo live and no map. tune may change
// the edge's options.
func newGame(t testing.TB, tune func(*Options)) *game {
	t.Helper()
	g := &game{t: t, reg: prometheus.NewRegistry(), client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 300}}}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	var err error
	g.store, err = filelog.Open("logs", filelog.Options{FS: vfs.NewMem()})
	must(err)
	specs := []eventlog.Spec{{Name: eventlog.Maps}, {Name: eventlog.Control}, {Name: eventlog.Standings, Volatile: true}}
	for i := range testShards {
		specs = append(specs, eventlog.Spec{Name: eventlog.Shard(i)})
	}
	must(g.store.Provision(ctx, specs...))
	ctl, err := control.Open(ctx, g.store, control.Options{Now: g.now, CheckHunt: func(h cairn.Hunt) error {
		_, err := mapgen.NewField(h)
		return err
	}})
	must(err)
	led, err := ledger.Open(ctx, "sqlite:"+t.TempDir()+"/ledger.db", ledger.Options{CommitEvery: time.Millisecond})
	must(err)
	keeper := puzzle.New(testPuzzleKey)
	claims := claim.New(g.store, keeper, claim.Options{Shards: testShards, Now: g.now})
	hub := broadcast.New(g.store, broadcast.Options{Sweep: 5 * time.Millisecond, PingEvery: 1000 * time.Hour, Now: g.now, Metrics: g.reg})
	boards := leaderboard.New(g.store, leaderboard.Options{Publish: time.Millisecond, Now: g.now})
	for name, run := range map[string]func(context.Context) error{
		"control": ctl.Run, "claims": claims.Run, "hub": hub.Run, "boards": boards.Run,
		"ledger": func(ctx context.Context) error { return led.Run(ctx, g.store) },
	} {
		wg.Go(func() {
			if err := run(ctx); err != nil && ctx.Err() == nil {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	g.rooms = Rooms{Control: ctl, Claims: claims, Hub: hub, Boards: boards, Rewards: led, Keeper: keeper}
	opts := Options{
		Guests: true, TokenKey: testTokenKey, Now: g.now, Metrics: g.reg, Gatherer: g.reg, Version: "test",
		Ready: []Check{
			{Name: "claims", Ready: claims.Ready}, {Name: "hub", Ready: hub.Ready}, {Name: "leaderboard", Ready: boards.Ready},
		},
		Page: fstest.MapFS{
			"index.html":       {Data: []byte("<!doctype html><title>page</title>")},
			"assets/app-1.js":  {Data: []byte(strings.Repeat("console.log('cairn');\n", 200))},
			"assets/app-2.css": {Data: []byte("body{}")},
		},
	}
	if tune != nil {
		tune(&opts)
	}
	g.server, err = New(ctx, g.rooms, opts)
	must(err)
	g.public, g.admin = httptest.NewServer(g.server.Public()), httptest.NewServer(g.server.Admin())
	g.doc, g.adminDoc = loadDoc(t, g.public.URL+"/v1/openapi.json"), loadDoc(t, g.admin.URL+"/admin/v1/openapi.json")
	t.Cleanup(func() {
		g.server.Drain()
		hub.Drain(0)
		g.client.CloseIdleConnections()
		g.public.Close()
		g.admin.Close()
		cancel()
		wg.Wait()
		if err := led.Close(); err != nil {
			t.Error(err)
		}
		if err := g.store.Close(); err != nil {
			t.Error(err)
		}
	})
	g.createHunt(testHunt)
	g.eventually("the rooms are ready", func() bool {
		return hub.Ready() == nil && claims.Ready() == nil && boards.Ready() == nil && hub.Hunt(testHunt) != nil && hub.Hunt(testHunt).State == cairn.Live
	})
	return g
}

func (g *game) createHunt(id cairn.HuntID) {
	g.t.Helper()
	oslo := cairn.CellOfBits(0, 0)
	h := cairn.Hunt{
		Name: id, Region: cairn.Region{Geohash: &oslo}, Mask: cairn.MaskNone, TilesPerMap: 10, Shards: testShards,
		Reward: cairn.Reward{Min: 1, Max: 10, Budget: 1000},
	}.WithDefaults()
	for _, c := range []cairn.Change{{Hunt: id, Create: &h}, {Hunt: id, State: cairn.Live}} {
		c.Who = "test"
		if _, err := g.rooms.Control.Do(context.Background(), c); err != nil {
			g.t.Fatal(err)
		}
	}
}

// eventually waits until cond holds.
func (g *game) eventually(what string, cond func() bool) {
	g.t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(20 * time.Second); !cond(); <-tick.C {
		if time.Now().After(deadline) {
			g.t.Fatalf("it did not come about that %s", what)
		}
	}
}

// openMap emits a map that opens after the given time from now and is open for
// 30 s, with tiles of the given kinds, and waits until it was folded.
func (g *game) openMap(after time.Duration, kinds ...cairn.PuzzleKind) *cairn.Map {
	g.t.Helper()
	opens := cairn.InstantOf(g.now().Add(after).Truncate(time.Second))
	m := &cairn.Map{MapHeader: cairn.MapHeader{
		Hunt: testHunt, Tick: cairn.Tick(int64(opens) / 1e6), Opens: opens, Closes: opens.Add(30 * time.Second),
		Shards: testShards, Tiles: len(kinds), Budget: 1000, Prev: g.prev,
	}}
	for i, k := range kinds {
		m.Tiles = append(m.Tiles, cairn.Tile{Cell: cairn.CellOfBits(uint64(0x1a2b3c+i), 6), Reward: cairn.Micro(10 + i), Puzzle: k})
		m.Offer += cairn.Micro(10 + i)
	}
	m.Digest = wire.MapDigest(m)
	g.prev = m.Digest
	w, err := g.store.Open(context.Background(), eventlog.Maps)
	if err != nil {
		g.t.Fatal(err)
	}
	defer w.Close()
	for _, body := range [][]byte{wire.AppendMapChunk(nil, m, 0), wire.AppendMapHeader(nil, &m.MapHeader)} {
		if _, err := w.Append(context.Background(), body, eventlog.Offset{}); err != nil {
			g.t.Fatal(err)
		}
	}
	g.eventually("the hub has the map", func() bool { _, ok := g.rooms.Hub.Map(testHunt, m.Tick); return ok })
	return m
}

// signIn signs a guest in through the API.
func (g *game) signIn(name string) (player, string) {
	g.t.Helper()
	a := g.post("", "/v1/players", fmt.Sprintf(`{"name":%q}`, name))
	if a.status != http.StatusCreated {
		g.t.Fatalf("sign-in: %v", a)
	}
	return player{cairn.PlayerID(a.text("player")), name}, a.text("token")
}

// An answer is what came back.
type answer struct {
	status int
	header http.Header
	body   []byte
	json   map[string]any // nil unless the body is an object
}

func (a answer) String() string { return fmt.Sprintf("%d %s", a.status, a.body) }

func (a answer) text(name string) string { s, _ := a.json[name].(string); return s }

func (a answer) number(name string) float64 {
	f, ok := a.json[name].(float64)
	if !ok {
		return -1 << 50
	}
	return f
}

func (g *game) get(token, path string) answer {
	g.t.Helper()
	return g.do(request(g.t, "GET", g.public.URL+path, token, ""))
}

func (g *game) post(token, path, body string) answer {
	g.t.Helper()
	return g.do(request(g.t, "POST", g.public.URL+path, token, body))
}

func request(t testing.TB, method, url, token, body string) *http.Request {
	t.Helper()
	var r io.Reader
	if body != "" {
		r = strings.NewReader(body)
	}
	req, err := http.NewRequest(method, url, r)
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	return req
}

func (g *game) do(req *http.Request) answer {
	g.t.Helper()
	res, err := g.client.Do(req)
	if err != nil {
		g.t.Fatalf("%s %s: %v", req.Method, req.URL, err)
	}
	defer res.Body.Close()
	a := answer{status: res.StatusCode, header: res.Header}
	if a.body, err = io.ReadAll(res.Body); err != nil {
		g.t.Fatalf("%s %s: %v", req.Method, req.URL, err)
	}
	doc := g.doc
	if req.URL.Host == strings.TrimPrefix(g.admin.URL, "http://") {
		doc = g.adminDoc
	}
	if err := doc.check(req.Method, req.URL.Path, a); err != nil {
		g.t.Errorf("%s %s: got %v, which is not as the OpenAPI document says: %v", req.Method, req.URL, a, err)
	}
	if bytes.HasPrefix(a.body, []byte("{")) {
		if err := json.Unmarshal(a.body, &a.json); err != nil {
			g.t.Fatalf("%s %s: %v in %s", req.Method, req.URL, err, a.body)
		}
	}
	return a
}

// isProblem checks that a is a whole problem of a status and code.
func isProblem(t testing.TB, a answer, status int, code string) {
	t.Helper()
	if a.status != status || a.text("code") != code || a.number("status") != float64(status) ||
		a.text("title") != http.StatusText(status) || a.text("detail") == "" ||
		a.header.Get("Content-Type") != "application/problem+json" || a.header.Get("X-Request-Id") == "" ||
		a.text("request_id") != a.header.Get("X-Request-Id") {
		t.Errorf("got %v (%s), want a whole problem %d %s", a, a.header.Get("Content-Type"), status, code)
	}
}

// names reports whether a problem names a field, in its errors and its detail.
func names(a answer, field string) bool {
	list, _ := a.json["errors"].([]any)
	for _, e := range list {
		if m, _ := e.(map[string]any); m["field"] == field && m["message"] != "" {
			return strings.Contains(a.text("detail"), field)
		}
	}
	return false
}

func claimsPath() string { return "/v1/hunts/" + string(testHunt) + "/claims" }

func tilePathOf(m *cairn.Map, tile int, what string) string {
	return fmt.Sprintf("/v1/hunts/%s/maps/%d/tiles/%d/%s", m.Hunt, m.Tick, tile, what)
}

// listen returns a listener on loopback.
func listen(t testing.TB) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

package server

import (
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/veltrix/cairn"
)

func TestHunts(t *testing.T) {
	g := newGame(t, nil)
	a := g.get("", "/v1/hunts")
	var got struct {
		Hunts []HuntBody `json:"hunts"`
		Now   time.Time  `json:"now"`
	}
	if err := json.Unmarshal(a.body, &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Hunts) != 1 || got.Now.IsZero() {
		t.Fatalf("got %v, want one hunt and the time", a)
	}
	h := got.Hunts[0]
	if h.ID != "oslo" || h.Name != "oslo" || h.State != cairn.Live || h.Tick != "1s" || h.TickMs != 1000 || h.LifetimeMs != 30000 ||
		h.Region.Geohash == nil || *h.Region.Geohash != "" || h.Puzzles["tap"] != 1 || h.Reward.Budget != 1000 {
		t.Errorf("got %+v", h)
	}
	one := g.get("", "/v1/hunts/oslo")
	if one.status != http.StatusOK || one.text("id") != "oslo" || one.text("state") != "live" {
		t.Errorf("got %v", one)
	}
	draft := cairn.Hunt{Name: "secret", Region: *huntRegion(), Mask: cairn.MaskNone, Shards: testShards}.WithDefaults()
	if _, err := g.rooms.Control.Do(t.Context(), cairn.Change{Who: "test", Hunt: "secret", Create: &draft}); err != nil {
		t.Fatal(err)
	}
	g.eventually("the hub has the draft", func() bool { return g.rooms.Hub.Hunt("secret") != nil })
	isProblem(t, g.get("", "/v1/hunts/secret"), http.StatusNotFound, "unknown_hunt")
	if a := g.get("", "/v1/hunts"); strings.Contains(string(a.body), "secret") {
		t.Errorf("players see a draft: %v", a)
	}
}

func huntRegion() *cairn.Region {
	world := cairn.Cell(0)
	return &cairn.Region{Geohash: &world}
}

func TestMaps(t *testing.T) {
	g := newGame(t, nil)
	isProblem(t, g.get("", "/v1/hunts/oslo/maps/current"), http.StatusNotFound, "unknown_map")
	m := g.openMap(0, cairn.Tap, cairn.Lights)
	byTick := fmt.Sprintf("/v1/hunts/oslo/maps/%d", m.Tick)
	a := g.get("", byTick)
	var got mapJSON
	if err := json.Unmarshal(a.body, &got); err != nil || a.status != http.StatusOK {
		t.Fatalf("got %v, %v", a, err)
	}
	if got.Hunt != "oslo" || got.Tick != int64(m.Tick) || got.Opens != m.Opens.String() || got.Closes != m.Closes.String() ||
		got.Shards != testShards || got.Digest != m.Digest.String() || got.Prev != m.Prev.String() || len(got.Tiles) != 2 {
		t.Errorf("got %v", a)
	}
	if want := (tileJSON{1, m.Tiles[1].Cell.String(), "lights", 11}); got.Tiles[1] != want {
		t.Errorf("got tile %+v, want %+v", got.Tiles[1], want)
	}
	etag := `"` + m.Digest.String() + `"`
	if a.header.Get("ETag") != etag || a.header.Get("Cache-Control") != "public, max-age=31536000, immutable" || a.header.Get("Vary") != "Accept-Encoding" {
		t.Errorf("got %v", a.header)
	}
	current := g.get("", "/v1/hunts/oslo/maps/current")
	if string(current.body) != string(a.body) || current.header.Get("ETag") != etag || current.header.Get("Cache-Control") != "public, max-age=1" {
		t.Errorf("current: got %v", current.header)
	}
	for _, path := range []string{byTick, "/v1/hunts/oslo/maps/current"} {
		req := request(t, "GET", g.public.URL+path, "", "")
		req.Header.Set("If-None-Match", `"other", `+etag)
		if a := g.do(req); a.status != http.StatusNotModified || len(a.body) > 0 || a.header.Get("ETag") != etag {
			t.Errorf("%s with its tag: got %v %v", path, a, a.header)
		}
		if a := g.do(request(t, "HEAD", g.public.URL+path, "", "")); a.status != http.StatusOK || len(a.body) > 0 {
			t.Errorf("HEAD %s: got %v", path, a)
		}
	}

	// A map that is yet to open is not there, by any path.
	next := g.openMap(5*time.Second, cairn.Cipher)
	_, ana := g.signIn("ana")
	isProblem(t, g.get("", fmt.Sprintf("/v1/hunts/oslo/maps/%d", next.Tick)), http.StatusNotFound, "unknown_map")
	isProblem(t, g.get(ana, tilePathOf(next, 0, "puzzle")), http.StatusNotFound, "unknown_map")
	if a := g.get("", "/v1/hunts/oslo/maps/current"); a.number("tick") != float64(m.Tick) {
		t.Errorf("current is %v before it opens", a)
	}
	g.later(6 * time.Second)
	if a := g.get("", "/v1/hunts/oslo/maps/current"); a.number("tick") != float64(next.Tick) {
		t.Errorf("current is %.80s after it opened", a)
	}
	if a := g.get("", fmt.Sprintf("/v1/hunts/oslo/maps/%d", next.Tick)); a.status != http.StatusOK {
		t.Errorf("by tick: %v", a)
	}
}

func TestPuzzle(t *testing.T) {
	g := newGame(t, nil)
	m := g.openMap(0, cairn.Tap, cairn.Echo)
	_, ana := g.signIn("ana")
	_, bo := g.signIn("bo")
	if a := g.get(ana, tilePathOf(m, 0, "puzzle")); strings.TrimSpace(string(a.body)) != `{"kind":"tap","prompt":{}}` {
		t.Errorf("tap: got %v", a)
	}
	mine, theirs := g.get(ana, tilePathOf(m, 1, "puzzle")), g.get(bo, tilePathOf(m, 1, "puzzle"))
	if mine.text("kind") != "echo" || mine.text("token") == "" || mine.json["prompt"] == nil || mine.header.Get("Cache-Control") != "no-store" {
		t.Errorf("got %v %v", mine, mine.header)
	}
	if mine.text("token") == theirs.text("token") {
		t.Errorf("two players have one token: %v", mine)
	}
	isProblem(t, g.get(ana, tilePathOf(m, 2, "puzzle")), http.StatusNotFound, "unknown_tile")
	g.later(31 * time.Second)
	isProblem(t, g.get(ana, tilePathOf(m, 1, "puzzle")), http.StatusGone, "closed")
}

// TestMapBodies asks for maps by many at once: each is encoded once, and what
// is kept is bounded.
func TestMapBodies(t *testing.T) {
	c := mapBodies{most: 1 << 20}
	tiles := make([]cairn.Tile, 1000)
	for i := range tiles {
		tiles[i] = cairn.Tile{Cell: cairn.CellOfBits(uint64(i), 8), Puzzle: cairn.Tap, Reward: cairn.Micro(i)}
	}
	for i := range 80 {
		m := &cairn.Map{MapHeader: cairn.MapHeader{Hunt: "oslo", Tick: cairn.Tick(i), Digest: cairn.Digest{byte(i), 1}}, Tiles: tiles}
		got := make([]*mapBody, 4)
		var wg sync.WaitGroup
		for j := range got {
			wg.Go(func() { got[j] = c.get(m) })
		}
		wg.Wait()
		for _, b := range got {
			if b != got[0] || len(b.json) == 0 {
				t.Fatalf("map %d was encoded twice", i)
			}
		}
	}
	if c.size > c.most || len(c.order) != len(c.of) || len(c.of) == 0 || len(c.of) == 80 {
		t.Errorf("%d bodies of %d bytes are kept, want at most %d bytes", len(c.of), c.size, c.most)
	}
}

func TestMapGzip(t *testing.T) {
	g := newGame(t, nil)
	m := g.openMap(0, cairn.Tap)
	req := request(t, "GET", fmt.Sprintf("%s/v1/hunts/oslo/maps/%d", g.public.URL, m.Tick), "", "")
	req.Header.Set("Accept-Encoding", "gzip") // set by hand, so that the client does not unpack it
	res, err := g.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.Header.Get("Content-Encoding") != "gzip" {
		t.Fatalf("got %v", res.Header)
	}
	zr, err := gzip.NewReader(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(zr); err != nil || string(b) != string(appendMap(nil, m)) {
		t.Errorf("got %s, %v", b, err)
	}
}

package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/wire"
)

// win lets players claim tiles of m: tile i goes to tokens[i].
func (g *game) win(m *cairn.Map, tokens ...string) {
	g.t.Helper()
	for i, token := range tokens {
		if a := g.post(token, claimsPath(), fmt.Sprintf(`{"map":%d,"tile":%d}`, m.Tick, i)); a.status != http.StatusOK {
			g.t.Fatalf("tile %d: %v", i, a)
		}
	}
}

func TestStandings(t *testing.T) {
	g := newGame(t, nil)
	m := g.openMap(0, cairn.Tap, cairn.Tap, cairn.Tap, cairn.Tap, cairn.Tap)
	ana, anaToken := g.signIn("ana")
	bo, boToken := g.signIn("bo")
	cy, cyToken := g.signIn("cy")
	g.win(m, anaToken, boToken, cyToken, cyToken, anaToken) // 10+14, 11, 12+13
	const path = "/v1/hunts/oslo/standings"
	rows := func(a answer) []any { r, _ := a.json["rows"].([]any); return r }
	var a answer
	g.eventually("five claims are in the standings", func() bool {
		a = g.get("", path)
		n := 0.0
		for _, r := range rows(a) {
			n += r.(map[string]any)["claims"].(float64)
		}
		return n == 5
	})
	for i, want := range []struct {
		id    cairn.PlayerID
		score float64
	}{{cy.id, 25}, {ana.id, 24}, {bo.id, 11}} {
		r := rows(a)[i].(map[string]any)
		if r["rank"] != float64(i+1) || r["player"] != string(want.id) || r["score"] != want.score || r["name"] == "" {
			t.Errorf("rank %d: got %v, want %+v", i+1, r, want)
		}
	}
	asOf, _ := a.json["as_of"].(map[string]any)
	if len(asOf) == 0 || a.number("lag_ms") < 0 || a.number("players") != 3 || a.text("window") != "hunt" {
		t.Errorf("got %v", a)
	}
	etag := a.header.Get("ETag")
	req := request(t, "GET", g.public.URL+path, "", "")
	req.Header.Set("If-None-Match", etag)
	if b := g.do(req); etag == "" || b.status != http.StatusNotModified || len(b.body) > 0 {
		t.Errorf("with its tag %q: got %v", etag, b)
	}
	if b := g.get("", path+"?limit=1&window=hour"); len(rows(b)) != 1 || b.text("window") != "hour" {
		t.Errorf("the hour's first: got %v", b)
	}
	around := g.get("", path+"/"+string(ana.id)+"?around=1")
	if r := rows(around); len(r) != 3 || r[1].(map[string]any)["rank"] != 2.0 {
		t.Errorf("around ana: got %v", around)
	}
	if r := rows(g.get("", path+"/"+string(bo.id)+"?around=0")); len(r) != 1 || r[0].(map[string]any)["player"] != string(bo.id) {
		t.Errorf("bo alone: got %v", r)
	}
	isProblem(t, g.get("", path+"/nobody"), http.StatusNotFound, "unknown_player")
	a = g.get("", path+"?region="+strings.Repeat("u", 12))
	isProblem(t, a, http.StatusBadRequest, "invalid")
	if !names(a, "region") {
		t.Errorf("a region that no board is kept of: %v", a)
	}
}

// awayBoards are boards that nobody can answer for now.
type awayBoards struct{}

func (awayBoards) Standings(context.Context, wire.BoardKey, int) (*wire.Board, time.Duration, error) {
	return nil, 0, errors.New("no leaderboard process is there")
}

func (awayBoards) Around(context.Context, wire.BoardKey, cairn.PlayerID, int) (*wire.Board, time.Duration, error) {
	return nil, 0, errors.New("no leaderboard process is there")
}

// TestStandingsAway: what can't be answered now is a 503 that says when to ask
// again, and tells nobody why.
func TestStandingsAway(t *testing.T) {
	g := newGame(t, nil)
	g.server.rooms.Boards = awayBoards{}
	for _, path := range []string{"/v1/hunts/oslo/standings", "/v1/hunts/oslo/standings/ana"} {
		a := g.get("", path)
		isProblem(t, a, http.StatusServiceUnavailable, "unavailable")
		if a.header.Get("Retry-After") != "1" || strings.Contains(string(a.body), "process") {
			t.Errorf("%s: got %v", path, a)
		}
	}
}

// TestStandingsTag pins the tag of a board: a client may ask one process after
// the other.
func TestStandingsTag(t *testing.T) {
	b := &wire.Board{BoardKey: wire.BoardKey{Hunt: "oslo"}, Players: 1, Rows: []wire.Row{{Rank: 1, Player: "p1", Name: "ana", Score: 7, Claims: 1}}}
	one, two := standingsAnswer(b, 0, ""), standingsAnswer(b, time.Second, "")
	if one.ETag != two.ETag {
		t.Errorf("tags: got %s and %s, want the same", one.ETag, two.ETag)
	}
	if want := `W/"zhjg1j216zga"`; one.ETag != want {
		t.Errorf("tag: got %s, want %s", one.ETag, want)
	}
}

func TestRewards(t *testing.T) {
	g := newGame(t, nil)
	m := g.openMap(0, cairn.Tap, cairn.Tap, cairn.Tap, cairn.Tap, cairn.Tap)
	_, ana := g.signIn("ana")
	_, bo := g.signIn("bo")
	if a := g.get(bo, "/v1/players/me/rewards"); strings.TrimSpace(string(a.body)) != `{"rewards":[],"balance":0}` {
		t.Errorf("who earned nothing: %v", a)
	}
	g.win(m, ana, ana, ana, ana, ana)
	g.eventually("all is settled", func() bool { return g.get(ana, "/v1/players/me/rewards").number("balance") == 60 })
	seen := map[float64]bool{}
	cursor, pages := "", 0
	for {
		a := g.get(ana, "/v1/players/me/rewards?limit=2"+cursor)
		list, _ := a.json["rewards"].([]any)
		for _, e := range list {
			e := e.(map[string]any)
			if e["hunt"] != "oslo" || e["map"] != float64(m.Tick) || e["state"] != "settled" || e["offset"] == "" || seen[e["tile"].(float64)] {
				t.Errorf("got %v", e)
			}
			seen[e["tile"].(float64)] = true
		}
		pages++
		if a.text("next") == "" {
			break
		}
		cursor = "&cursor=" + a.text("next")
	}
	if len(seen) != 5 || pages != 3 {
		t.Errorf("got %d entries on %d pages, want 5 on 3", len(seen), pages)
	}
	if a := g.get(bo, "/v1/players/me/rewards"); a.number("balance") != 0 {
		t.Errorf("bo has ana's money: %v", a)
	}
}

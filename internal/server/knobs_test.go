package server

import (
	"net/http"
	"testing"

	"github.com/veltrix/cairn"
)

// patch calls the operators' API.
func (g *game) patch(path, body string) answer {
	g.t.Helper()
	return g.do(request(g.t, "PATCH", g.admin.URL+"/admin/v1"+path, "", body))
}

func TestKnobs(t *testing.T) {
	g := newGame(t, nil)
	read := func() answer { return g.do(request(t, "GET", g.admin.URL+"/admin/v1/knobs", "", "")) }
	if a := read(); a.json["sweep"] != "" || a.number("precision") != 0 {
		t.Errorf("before anybody set one: got %v", a)
	}
	if a := g.patch("/knobs", `{"precision":5}`); a.status != http.StatusOK || a.number("precision") != 5 || a.json["sweep"] != "" {
		t.Errorf("one: got %v", a)
	}
	if a := g.patch("/knobs", `{"sweep":"20ms","precision":6}`); a.number("precision") != 6 || a.text("sweep") != "20ms" {
		t.Errorf("both: got %v", a)
	}
	for body, field := range map[string]string{
		`{}`:                            "sweep",
		`{"precision":0}`:               "precision",
		`{"precision":9}`:               "precision",
		`{"precision":"6"}`:             "precision",
		`{"sweep":"1ms","precision":3}`: "sweep",
		`{"sweep":""}`:                  "sweep",
	} {
		a := g.patch("/knobs", body)
		isProblem(t, a, http.StatusBadRequest, codeInvalid)
		if !names(a, field) && body != `{"precision":"6"}` {
			t.Errorf("%s: got %v, want %s named", body, a, field)
		}
	}
	if a := read(); a.number("precision") != 6 || a.text("sweep") != "20ms" {
		t.Errorf("after what was refused: got %v", a)
	}
	// The hub hears of it, and says so to who asks for more.
	g.eventually("the hub knows", func() bool {
		a := g.get("", "/v1/events?hunt=oslo&regions=u4xsu0d")
		return a.status == http.StatusBadRequest && names(a, "regions[0]")
	})
}

// TestChangeHunt changes all that can be changed at once, or nothing.
func TestChangeHunt(t *testing.T) {
	g := newGame(t, nil)
	a := g.patch("/hunts/oslo", `{"state":"paused","shards":1,"tiles_per_map":77}`)
	if a.status != http.StatusOK || a.text("state") != "paused" || a.number("shards") != 1 || a.number("tiles_per_map") != 77 || a.text("changed_by") != "operator@127.0.0.1" {
		t.Errorf("got %v", a)
	}
	for body, field := range map[string]string{
		`{}`:                                       "state",
		`{"tiles_per_map":0}`:                      "tiles_per_map",
		`{"tiles_per_map":65537}`:                  "tiles_per_map",
		`{"tiles_per_map":78,"shards":60}`:         "shards",
		`{"tiles_per_map":78,"state":"draft"}`:     "state",
		`{"shards":2,"tiles_per_map":78,"x":true}`: "x",
	} {
		a := g.patch("/hunts/oslo", body)
		if a.status != http.StatusBadRequest || !names(a, field) && field != "x" {
			t.Errorf("%s: got %v, want %s named", body, a, field)
		}
	}
	if h := g.rooms.Control.Hunt(testHunt); h.TilesPerMap != 77 || h.Shards != 1 || h.State != cairn.Paused {
		t.Errorf("after what was refused: got %d tiles, %d shards, %s", h.TilesPerMap, h.Shards, h.State)
	}
}

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// These tests hold docs/api.md against the real command: what a client keeps
// in its hands across a kill -9, a restart and a Ctrl-C.

// A frame is what these tests read of a frame of /v1/live, or of an event.
type frame struct {
	Type, Epoch, Region string
	ID                  string
	Outcome, Offset     string
	From, Seq           uint64
	Claimed             []claimed
	Maps                []struct{ Claimed []claimed }
	raw                 string
	event               string // its id as an event
}

type claimed struct {
	Map    int64
	Tile   int
	Player string
}

// holds reports whether f says that a player holds a tile.
func (f *frame) holds(want claimed) bool {
	all := f.Claimed
	for _, m := range f.Maps {
		all = append(all, m.Claimed...)
	}
	for _, c := range all {
		if c == want {
			return true
		}
	}
	return false
}

// A live is a WebSocket of a client that is not ours.
type live struct {
	t  *testing.T
	ws *websocket.Conn
}

func (p *process) live() *live {
	p.t.Helper()
	c, _, err := websocket.Dial(p.t.Context(), p.public+"/v1/live", &websocket.DialOptions{Subprotocols: []string{"cairn.v1.json"}})
	if err != nil {
		p.t.Fatal(err)
	}
	c.SetReadLimit(8 << 20)
	p.t.Cleanup(func() { c.CloseNow() })
	return &live{p.t, c}
}

func (l *live) send(format string, args ...any) {
	l.t.Helper()
	if err := l.ws.Write(l.t.Context(), websocket.MessageText, fmt.Appendf(nil, format, args...)); err != nil {
		l.t.Fatal(err)
	}
}

func (l *live) read() (*frame, error) {
	ctx, cancel := context.WithTimeout(l.t.Context(), 20*time.Second)
	defer cancel()
	_, b, err := l.ws.Read(ctx)
	if err != nil {
		return nil, err
	}
	f := &frame{raw: string(b)}
	return f, json.Unmarshal(b, f)
}

// until reads up to a frame that is wanted.
func (l *live) until(what string, want func(*frame) bool) *frame {
	l.t.Helper()
	for {
		f, err := l.read()
		if err != nil {
			l.t.Fatalf("waiting for %s: %v", what, err)
		}
		if f.Type == "error" {
			l.t.Fatalf("waiting for %s: %s", what, f.raw)
		}
		if want(f) {
			return f
		}
	}
}

func typed(kind string) func(*frame) bool { return func(f *frame) bool { return f.Type == kind } }

// An events is a stream of Server-Sent Events.
type events struct {
	t    *testing.T
	body io.ReadCloser
	sc   *bufio.Scanner
}

func (p *process) events(query, lastID string) *events {
	p.t.Helper()
	req, err := http.NewRequestWithContext(p.t.Context(), "GET", p.public+"/v1/events?"+query, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	req.Header.Set("Last-Event-ID", lastID)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { res.Body.Close() })
	if got := res.Header.Get("Content-Type"); res.StatusCode != http.StatusOK || got != "text/event-stream" {
		p.t.Fatalf("events: got %s of %q", res.Status, got)
	}
	e := &events{p.t, res.Body, bufio.NewScanner(res.Body)}
	e.sc.Buffer(nil, 8<<20)
	return e
}

// next returns the next event, or nil at the end of the stream.
func (e *events) next() *frame {
	e.t.Helper()
	f := &frame{}
	for e.sc.Scan() {
		name, value, _ := strings.Cut(e.sc.Text(), ": ")
		switch name {
		case "id":
			f.event = value
		case "data":
			f.raw = value
			if err := json.Unmarshal([]byte(value), f); err != nil {
				e.t.Fatalf("%v in %s", err, value)
			}
		case "":
			if f.raw != "" {
				return f
			}
		}
	}
	return nil
}

func (e *events) until(what string, want func(*frame) bool) *frame {
	e.t.Helper()
	for f := e.next(); f != nil; f = e.next() {
		if want(f) {
			return f
		}
	}
	e.t.Fatalf("the stream ended before %s: %v", what, e.sc.Err())
	return nil
}

// TestResume loses a connection, and then the server.
func TestResume(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	p := up(t, data, "--hunt", write(t, "race.yaml", raceHunt))
	player, token := p.signIn("ana")
	m := p.call("GET", "/v1/hunts/race/maps/current", "", "")
	const watch = `{"type":"watch","hunt":"race","regions":["u4"],"standings":true}`
	tile := func(n int) claimed { return claimed{m.Tick, n, player} }
	claim := func(n int) {
		t.Helper()
		if a := p.call("POST", "/v1/hunts/race/claims", token, fmt.Sprintf(`{"map":%d,"tile":%d}`, m.Tick, n)); a.Outcome != "won" {
			t.Fatalf("tile %d: got %+v, want it won", n, a)
		}
	}

	l, e := p.live(), p.events("hunt=race&regions=u4", "")
	l.send(`{"type":"hello","token":%q}`, token)
	welcome := l.until("a welcome", typed("welcome"))
	l.send(watch)
	l.until("a snapshot", typed("snapshot"))
	l.send(`{"type":"claim","id":"one","hunt":"race","map":%d,"tile":0,"claim_id":"c"}`, m.Tick)
	won, seen := (*frame)(nil), (*frame)(nil)
	for won == nil || seen == nil { // in either order
		f := l.until("the claim and its delta", func(f *frame) bool { return f.Type == "outcome" || f.holds(tile(0)) })
		if f.Type == "outcome" {
			won = f
		} else {
			seen = f
		}
	}
	if won.ID != "one" || won.Outcome != "won" {
		t.Fatalf("got %s, want the tile won", won.raw)
	}
	event := e.until("tile 0", func(f *frame) bool { return f.holds(tile(0)) })
	l.ws.CloseNow()
	e.body.Close()

	// Back soon: what was missed comes, as deltas that join on.
	claim(1)
	l = p.live()
	l.send(`{"type":"hello","epoch":%q,"seq":%d}`, welcome.Epoch, seen.Seq)
	if w := l.until("a welcome", typed("welcome")); w.Epoch != welcome.Epoch {
		t.Errorf("the epoch is %s, and was %s", w.Epoch, welcome.Epoch)
	}
	l.send(watch)
	at := seen.Seq
	for missed := false; !missed; {
		f := l.until("what was missed", func(f *frame) bool { return f.Type == "delta" || f.Type == "snapshot" })
		if f.Type == "snapshot" {
			t.Fatalf("got a snapshot after a moment away: %.200s", f.raw)
		}
		if f.From > at {
			t.Fatalf("a delta from %d, but %d is known", f.From, at)
		}
		at, missed = f.Seq, f.holds(tile(1))
	}
	e = p.events("hunt=race&regions=u4", event.event)
	if f := e.until("what was missed", func(f *frame) bool { return f.Type == "snapshot" || f.holds(tile(1)) }); f.Type != "delta" {
		t.Errorf("events: got a %s after a moment away, want a delta", f.Type)
	}

	// The server is killed: another epoch, and a snapshot that has it all.
	p.kill()
	var err error
	for err == nil { // what it still had to say
		_, err = l.read()
	}
	p = up(t, data)
	l = p.live()
	l.send(`{"type":"hello","token":%q,"epoch":%q,"seq":%d}`, token, welcome.Epoch, at)
	if w := l.until("a welcome", typed("welcome")); w.Epoch == welcome.Epoch || w.Epoch == "" {
		t.Errorf("the epoch after a kill is %q, and was %q", w.Epoch, welcome.Epoch)
	}
	l.send(watch)
	if f := l.until("a snapshot", func(f *frame) bool { return f.Type == "delta" || f.Type == "snapshot" }); f.Type != "snapshot" || !f.holds(tile(0)) || !f.holds(tile(1)) {
		t.Errorf("got %.300s, want a snapshot with both tiles", f.raw)
	}
	e = p.events("hunt=race&regions=u4", event.event)
	if f := e.next(); f == nil || f.Type != "snapshot" || !f.holds(tile(0)) || !f.holds(tile(1)) {
		t.Errorf("events: got %+v, want a snapshot with both tiles", f)
	}
	l.send(`{"type":"claim","id":"again","hunt":"race","map":%d,"tile":0}`, m.Tick)
	if f := l.until("an outcome", typed("outcome")); f.ID != "again" || f.Outcome != "won" || f.Offset != won.Offset {
		t.Errorf("the holder's retry over a socket: got %s, want won at %s", f.raw, won.Offset)
	}
}

// TestDrain has a Ctrl-C come while players claim, watch and stream: whoever
// was answered was answered for good, watchers are told, and nothing is lost.
func TestDrain(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	hunt := write(t, "race.yaml", strings.Replace(raceHunt, "tiles_per_map: 20", "tiles_per_map: 2000", 1))
	p := up(t, data, "--hunt", hunt, "--claim-rate", "100000", "--claim-burst", "100000")
	m := p.call("GET", "/v1/hunts/race/maps/current", "", "")
	l, e := p.live(), p.events("hunt=race&standings=true", "")
	l.send(`{"type":"hello"}`)
	l.until("a welcome", typed("welcome"))

	const players = 8
	var next, answered atomic.Int64
	offsets := make([]map[int]string, players)
	tokens := make([]string, players)
	var wg sync.WaitGroup
	for i := range players {
		offsets[i] = map[int]string{}
		_, tokens[i] = p.signIn(fmt.Sprint("player ", i))
	}
	for i := range players {
		wg.Go(func() {
			for { // until the server is gone: some are always in flight
				tile := int(next.Add(1)) % len(m.Tiles)
				status, a, err := claimOnce(p.public, tokens[i], m.Tick, tile)
				if err != nil {
					return // refused, or cut before it was answered: nothing was promised
				}
				switch before := offsets[i][tile]; {
				case status == http.StatusOK && a.Outcome == "won" && (before == "" || before == a.Offset):
					offsets[i][tile] = a.Offset
					answered.Add(1)
				case status == http.StatusConflict && before == "" && a.Code == "gone":
				case status == http.StatusServiceUnavailable || status == http.StatusAccepted:
				default:
					t.Errorf("tile %d, which was won at %q: got %d %+v", tile, before, status, a)
				}
			}
		})
	}
	p.until("some claims are won", func() bool { return answered.Load() > 50 })
	p.interrupt()
	wg.Wait()

	l.until("drain", typed("drain"))
	var err error
	for err == nil {
		_, err = l.read()
	}
	if code := websocket.CloseStatus(err); code != websocket.StatusGoingAway && code != websocket.StatusServiceRestart {
		t.Errorf("the socket ended with %v, want close code 1001 or 1012", err)
	}
	e.until("drain", typed("drain"))
	for f := e.next(); f != nil; f = e.next() {
		t.Errorf("after drain came %s", f.raw)
	}
	if err := e.sc.Err(); err != nil {
		t.Errorf("the stream was cut: %v", err)
	}

	p = up(t, data, "--hunt", hunt, "--claim-rate", "100000", "--claim-burst", "100000")
	for i, won := range offsets {
		for tile, offset := range won {
			if status, a, err := claimOnce(p.public, tokens[i], m.Tick, tile); err != nil || status != http.StatusOK || a.Offset != offset {
				t.Errorf("tile %d: the retry after the restart: got %d %+v, %v; want won at %s", tile, status, a, err, offset)
			}
		}
	}
	p.interrupt()
	if code, out := verify(t, data); code != exitDone {
		t.Errorf("verify: exit code %d:\n%s", code, out)
	}
}

// claimOnce claims a tile, and never retries.
func claimOnce(public, token string, tick int64, tile int) (status int, a answer, err error) {
	req, err := http.NewRequest("POST", public+"/v1/hunts/race/claims", strings.NewReader(fmt.Sprintf(`{"map":%d,"tile":%d}`, tick, tile)))
	if err != nil {
		return 0, a, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, a, err
	}
	defer res.Body.Close()
	return res.StatusCode, a, json.NewDecoder(res.Body).Decode(&a)
}

// TestReadyWithNewHunt has an operator add a hunt: its first map takes a
// moment, in which those who play elsewhere are not sent away.
func TestReadyWithNewHunt(t *testing.T) {
	p := up(t, filepath.Join(t.TempDir(), "data"))
	operate := func(method, path, body string) int {
		t.Helper()
		req, err := http.NewRequest(method, p.admin+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		return res.StatusCode
	}
	const hunt = `{"name":"late","region":{"geohash":"u4"},"tick":"2s","lifetime":"100ms","tiles_per_map":5,"reward":{"min":0,"max":0,"budget":0}}`
	if got := operate("POST", "/admin/v1/hunts", hunt); got != http.StatusCreated {
		t.Fatalf("create: got %d", got)
	}
	if got := operate("PATCH", "/admin/v1/hunts/late", `{"state":"live"}`); got != http.StatusOK {
		t.Fatalf("start: got %d", got)
	}
	opened := map[int64]bool{}
	p.until("two maps open", func() bool {
		if got := operate("GET", "/readyz", ""); got != http.StatusOK {
			t.Errorf("/readyz: got %d, want 200", got)
		}
		if a := p.call("GET", "/v1/hunts/late/maps/current", "", ""); a.Status == http.StatusOK {
			opened[a.Tick] = true
		}
		return len(opened) >= 2 || t.Failed()
	})
}

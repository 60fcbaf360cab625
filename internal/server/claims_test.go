package server

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/claim"
	"github.com/veltrix/cairn/internal/puzzle"
	"github.com/veltrix/cairn/internal/wire"
)

// TestRace lets 200 players race for one tile: one wins, all others hear who,
// and the winner's retry hears the same again.
func TestRace(t *testing.T) {
	g := newGame(t, nil)
	m := g.openMap(0, cairn.Tap)
	const n = 200
	tokens, players := make([]string, n), make([]player, n)
	for i := range n {
		var err error
		if players[i], tokens[i], err = g.server.tokens.signIn(fmt.Sprint("player ", i)); err != nil {
			t.Fatal(err)
		}
	}
	got := make([]answer, n)
	body := fmt.Sprintf(`{"map":%d,"tile":0,"claim_id":"c1"}`, m.Tick)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { got[i] = g.post(tokens[i], claimsPath(), body) })
	}
	wg.Wait()
	winner := -1
	for i, a := range got {
		switch {
		case a.status == http.StatusOK && winner < 0:
			winner = i
		case a.status == http.StatusOK:
			t.Errorf("%s and %s both won", players[winner].id, players[i].id)
		}
	}
	if winner < 0 {
		t.Fatalf("nobody won; the first heard %v", got[0])
	}
	won := got[winner]
	if won.text("outcome") != "won" || won.text("offset") == "" || won.number("reward") != 10 || won.text("claim_id") != "c1" ||
		won.number("map") != float64(m.Tick) || won.number("tile") != 0 || won.text("hunt") != string(testHunt) {
		t.Errorf("the winner heard %v", won)
	}
	if _, err := cairn.ParsePlace(won.text("offset")); err != nil {
		t.Error(err)
	}
	for i, a := range got {
		if i == winner {
			continue
		}
		isProblem(t, a, http.StatusConflict, "gone")
		if a.text("winner") != string(players[winner].id) || a.text("winner_name") != players[winner].name ||
			a.text("claim_id") != "c1" || a.number("margin_ms") < 0 || a.text("outcome") != "gone" {
			t.Errorf("player %d heard %v, want it gone to %s", i, a, players[winner].id)
		}
	}
	retry := g.post(tokens[winner], claimsPath(), body)
	if string(retry.body) != string(won.body) || retry.status != won.status {
		t.Errorf("the retry heard %v, want %v", retry, won)
	}
	look := g.get(tokens[winner], tilePathOf(m, 0, "claim"))
	if look.status != http.StatusOK || look.text("offset") != won.text("offset") {
		t.Errorf("the winner's look-up: %v", look)
	}
	isProblem(t, g.get(tokens[(winner+1)%n], tilePathOf(m, 0, "claim")), http.StatusConflict, "gone")
}

// TestOutcomes walks through every outcome that a real claim service gives.
func TestOutcomes(t *testing.T) {
	g := newGame(t, nil)
	m := g.openMap(0, cairn.Tap, cairn.Cipher, cairn.Tap)
	_, ana := g.signIn("ana")
	try := func(tick cairn.Tick, tile int, answer, token string) answerOf {
		return answerOf{g.post(ana, claimsPath(), fmt.Sprintf(`{"map":%d,"tile":%d,"answer":%q,"token":%q}`, tick, tile, answer, token))}
	}
	isProblem(t, try(m.Tick, 3, "", "").answer, http.StatusNotFound, "unknown_tile")
	isProblem(t, g.get(ana, tilePathOf(m, 1, "claim")), http.StatusNotFound, "unclaimed")

	p := g.get(ana, tilePathOf(m, 1, "puzzle"))
	if p.status != http.StatusOK || p.text("kind") != "cipher" || p.text("token") == "" {
		t.Fatalf("puzzle: %v", p)
	}
	for left := 2; left >= 0; left-- {
		a := try(m.Tick, 1, "surely not this", p.text("token"))
		isProblem(t, a.answer, http.StatusUnprocessableEntity, "wrong")
		if a.number("attempts_left") != float64(left) {
			t.Errorf("got %v, want %d attempts left", a, left)
		}
	}
	a := try(m.Tick, 1, "surely not this", p.text("token"))
	isProblem(t, a.answer, http.StatusUnprocessableEntity, "wrong")
	if a.number("attempts_left") != 0 {
		t.Errorf("a fourth try: got %v, want no attempts left", a)
	}

	_, bo := g.signIn("bo")
	p = g.get(bo, tilePathOf(m, 1, "puzzle"))
	raw, err := json.Marshal(p.json["prompt"])
	if err != nil {
		t.Fatal(err)
	}
	solved, err := puzzle.Solve(cairn.Cipher, raw)
	if err != nil {
		t.Fatal(err)
	}
	won := g.post(bo, claimsPath(), fmt.Sprintf(`{"map":%d,"tile":1,"answer":%q,"token":%q}`, m.Tick, solved, p.text("token")))
	if won.status != http.StatusOK || won.number("reward") != 11 {
		t.Errorf("a solved puzzle: %v", won)
	}
	if _, has := won.json["claim_id"]; has {
		t.Errorf("a claim id that was not sent came back: %v", won)
	}

	next := g.openMap(5*time.Second, cairn.Tap)
	isProblem(t, try(next.Tick, 0, "", "").answer, http.StatusGone, "closed")
	g.later(40 * time.Second)
	a = try(m.Tick, 2, "", "")
	isProblem(t, a.answer, http.StatusGone, "closed")
	if a.text("closes") != m.Closes.String() || a.text("opens") != m.Opens.String() {
		t.Errorf("got %v, want it open from %v to %v", a, m.Opens, m.Closes)
	}
	// Who holds a tile hears so after its close as well.
	if again := g.post(bo, claimsPath(), fmt.Sprintf(`{"map":%d,"tile":1}`, m.Tick)); string(again.body) != string(won.body) {
		t.Errorf("the holder's retry heard %v, want %v", again, won)
	}
	isProblem(t, g.post(ana, "/v1/hunts/nowhere/claims", `{"map":1,"tile":1}`), http.StatusNotFound, "unknown_tile")
	isProblem(t, g.post(ana, "/v1/hunts/NOT-A-HUNT/claims", `{"map":1,"tile":1}`), http.StatusNotFound, "unknown_tile")
	if a := g.post(ana, "/v1/hunts/NOT-A-HUNT/claims", `[{"map":1,"tile":1}]`); a.status != http.StatusOK || !strings.Contains(string(a.body), `"unknown_tile"`) {
		t.Errorf("an array for a hunt that can't be: got %v", a)
	}
	isProblem(t, g.get(ana, "/v1/hunts/NOT-A-HUNT/maps/1/tiles/1/claim"), http.StatusNotFound, "unknown_tile")
}

type answerOf struct{ answer }

// scripted is a claim service that answers what a test says: for the outcomes
// that a healthy one can't be made to give.
type scripted struct {
	verdict cairn.Verdict
	err     error
	calls   int
	mu      sync.Mutex
}

func (s *scripted) Claim(context.Context, *cairn.Attempt) (cairn.Verdict, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	return s.verdict, s.err
}

func (s *scripted) ClaimAll(ctx context.Context, as []cairn.Attempt, out []claim.Answer) {
	for i := range as {
		out[i].Verdict, out[i].Err = s.Claim(ctx, &as[i])
	}
}

func (s *scripted) Submit(ctx context.Context, as []cairn.Attempt, answered func(int, *claim.Answer)) {
	for i := range as {
		var a claim.Answer
		a.Verdict, a.Err = s.Claim(ctx, &as[i])
		answered(i, &a)
	}
}

func (*scripted) Knows(cairn.TileRef) bool { return true }

func (s *scripted) Lookup(ctx context.Context, _ cairn.TileRef, _ cairn.PlayerID) (cairn.Verdict, error) {
	return s.Claim(ctx, nil)
}

// withClaims puts another claim service behind the same edge.
func (g *game) withClaims(c Claims) { g.server.rooms.Claims = c }

func TestUndecided(t *testing.T) {
	g := newGame(t, nil)
	_, ana := g.signIn("ana")
	s := &scripted{}
	g.withClaims(s)
	post := func() answer { return g.post(ana, claimsPath(), `{"map":7,"tile":3,"claim_id":"x"}`) }
	look := func() answer { return g.get(ana, "/v1/hunts/oslo/maps/7/tiles/3/claim") }

	s.verdict = cairn.Verdict{Outcome: cairn.Pending, RetryAfter: 1500 * time.Millisecond}
	for _, a := range []answer{post(), look()} {
		if a.status != http.StatusAccepted || a.text("outcome") != "pending" || a.header.Get("Retry-After") != "2" || a.number("retry_after_ms") != 1500 {
			t.Errorf("pending: got %v %v", a, a.header)
		}
	}
	if at := post().header.Get("Location"); at != "/v1/hunts/oslo/maps/7/tiles/3/claim" {
		t.Errorf("pending: Location is %q", at)
	}
	s.verdict.RetryAfter = 10 * time.Microsecond
	if a := post(); a.number("retry_after_ms") != 1 || a.header.Get("Retry-After") != "1" {
		t.Errorf("a wait below a millisecond: got %v %v, want it rounded up", a, a.header)
	}
	for _, err := range []error{claim.ErrUnavailable, fmt.Errorf("shard 3: %w", claim.ErrUnavailable), context.DeadlineExceeded} {
		s.verdict, s.err = cairn.Verdict{}, err
		for _, a := range []answer{post(), look()} {
			isProblem(t, a, http.StatusServiceUnavailable, "unavailable")
			if a.header.Get("Retry-After") == "" || strings.Contains(a.text("detail"), "shard 3:") {
				t.Errorf("%v: got %v %v", err, a, a.header)
			}
		}
	}
	a := g.post(ana, claimsPath(), `[{"map":7,"tile":3}]`)
	if want := `[{"outcome":"unavailable","hunt":"oslo","map":7,"tile":3,`; a.status != http.StatusOK || !strings.HasPrefix(string(a.body), want) {
		t.Errorf("got %v, want %s…", a, want)
	}
}

func TestClaimArray(t *testing.T) {
	g := newGame(t, nil)
	m := g.openMap(0, cairn.Tap, cairn.Tap)
	_, ana := g.signIn("ana")
	_, bo := g.signIn("bo")
	g.post(bo, claimsPath(), fmt.Sprintf(`{"map":%d,"tile":1}`, m.Tick))
	a := g.post(ana, claimsPath(), fmt.Sprintf(`[{"map":%[1]d,"tile":0,"claim_id":"a"},{"map":%[1]d,"tile":1},{"map":%[1]d,"tile":2}]`, m.Tick))
	var got []map[string]any
	if err := json.Unmarshal(a.body, &got); err != nil || a.status != http.StatusOK || len(got) != 3 {
		t.Fatalf("got %v, %v", a, err)
	}
	for i, want := range []string{"won", "gone", "unknown_tile"} {
		if got[i]["outcome"] != want || got[i]["tile"] != float64(i) {
			t.Errorf("%d: got %v, want %s", i, got[i], want)
		}
	}
	if got[0]["claim_id"] != "a" || got[1]["winner_name"] != "bo" {
		t.Errorf("got %v", got)
	}
}

// TestClaimForm posts every fault of a body, and of what is around it.
func TestClaimForm(t *testing.T) {
	g := newGame(t, nil)
	_, ana := g.signIn("ana")
	s := &scripted{verdict: cairn.Verdict{Outcome: cairn.UnknownTile}}
	g.withClaims(s)
	for _, c := range claimFaults {
		req := request(t, "POST", g.public.URL+claimsPath(), ana, c.body)
		req.Header.Set("Content-Type", "application/json")
		a := g.do(req)
		isProblem(t, a, http.StatusBadRequest, "invalid")
		if !names(a, c.field) {
			t.Errorf("%s: got %v, want %q named", c.what, a, c.field)
		}
	}
	for _, ct := range []string{"", "text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin1", "application/jsonx", "json", ";"} {
		req := request(t, "POST", g.public.URL+claimsPath(), ana, goodClaim)
		req.Header.Del("Content-Type")
		if ct != "" {
			req.Header.Set("Content-Type", ct)
		}
		a := g.do(req)
		isProblem(t, a, http.StatusUnsupportedMediaType, "unsupported_media_type")
		if !names(a, "Content-Type") {
			t.Errorf("Content-Type %q: got %v", ct, a)
		}
	}
	for _, path := range []string{claimsPath(), "/v1/players"} {
		req := request(t, "POST", g.public.URL+path, ana, "\x1f\x8b")
		req.Header.Set("Content-Encoding", "gzip")
		a := g.do(req)
		isProblem(t, a, http.StatusUnsupportedMediaType, "unsupported_media_type")
		if !names(a, "Content-Encoding") {
			t.Errorf("%s of a packed body: got %v", path, a)
		}
	}
	large := `{"map":1,"tile":2,` + strings.Repeat(" ", claimBytesMax) + `"answer":""}`
	isProblem(t, g.post(ana, claimsPath(), large), http.StatusRequestEntityTooLarge, "too_large")
	isProblem(t, g.post(ana, claimsPath(), `[`+strings.Repeat(" ", claimsBytesMax)+`]`), http.StatusRequestEntityTooLarge, "too_large")
	a := g.post(ana, claimsPath()+"?fast=1", goodClaim)
	isProblem(t, a, http.StatusBadRequest, "invalid")
	if !names(a, "fast") {
		t.Errorf("an unknown query parameter: %v", a)
	}
	// The token is looked at first, whatever the form.
	isProblem(t, g.post("", claimsPath(), "{"), http.StatusUnauthorized, "unauthorized")
	bad := g.post("x.y.z", claimsPath(), "{")
	isProblem(t, bad, http.StatusUnauthorized, "unauthorized")
	if !strings.Contains(bad.header.Get("WWW-Authenticate"), "invalid_token") {
		t.Errorf("got WWW-Authenticate %q", bad.header.Get("WWW-Authenticate"))
	}
	req := request(t, "POST", g.public.URL+claimsPath(), "", goodClaim)
	req.Header.Set("Authorization", "Basic "+ana)
	isProblem(t, g.do(req), http.StatusUnauthorized, "unauthorized")
	if s.calls != 0 {
		t.Errorf("%d attempts reached the claim service", s.calls)
	}
	// The largest array of the fattest bodies is not too large.
	fat := fmt.Sprintf(`{"map":%d,"tile":65535,"claim_id":%q,"answer":%q,"token":%q}`, int64(wire.ClaimTickMax), strings.Repeat("c", 64), strings.Repeat("a", 128), strings.Repeat("t", 24))
	if a := g.post(ana, claimsPath(), "["+strings.Repeat(fat+",", 255)+fat+"]"); a.status != http.StatusOK {
		t.Errorf("256 fat bodies: %v", a)
	}
}

func TestClaimLimits(t *testing.T) {
	var mu sync.Mutex
	now := time.Now()
	g := newGame(t, nil)
	g.server.opts.Now = func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	g.server.tokens.now = g.server.opts.Now
	s := &scripted{verdict: cairn.Verdict{Outcome: cairn.UnknownTile}}
	g.withClaims(s)
	_, ana := g.signIn("ana")
	one := func(token string) int { return g.post(token, claimsPath(), `{"map":1,"tile":2}`).status }
	for i := range 50 {
		if got := one(ana); got != http.StatusNotFound {
			t.Fatalf("attempt %d of the burst: got %d", i, got)
		}
	}
	a := g.post(ana, claimsPath(), `{"map":1,"tile":2,"claim_id":"late"}`)
	isProblem(t, a, http.StatusTooManyRequests, "throttled")
	if a.header.Get("Retry-After") != "1" || a.text("outcome") != "throttled" || a.text("claim_id") != "late" || a.number("retry_after_ms") != 50 {
		t.Errorf("got %v %v, want a wait of 50 ms, in whole seconds 1", a, a.header)
	}
	if s.calls != 50 {
		t.Errorf("%d attempts reached the claim service, want 50", s.calls)
	}
	_, bo := g.signIn("bo")
	if got := one(bo); got != http.StatusNotFound {
		t.Errorf("another player is throttled too: %d", got)
	}
	mu.Lock()
	now = now.Add(time.Second)
	mu.Unlock()
	a = g.post(ana, claimsPath(), "["+strings.Repeat(`{"map":1,"tile":2},`, 29)+`{"map":1,"tile":2}]`)
	if n := strings.Count(string(a.body), `"unknown_tile"`); n != 20 || strings.Count(string(a.body), `"throttled"`) != 10 {
		t.Errorf("a second later, of 30: %d passed, want 20: %v", n, a)
	}
}

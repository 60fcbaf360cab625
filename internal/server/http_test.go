package server

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/veltrix/cairn"
)

func TestUnknownRoutes(t *testing.T) {
	g := newGame(t, nil)
	for _, c := range []struct {
		method, path string
		status       int
		code, allow  string
	}{
		{"GET", "/nowhere", 404, "not_found", ""},
		{"POST", "/nowhere", 404, "not_found", ""},
		{"GET", "/v1", 404, "not_found", ""},
		{"GET", "/v1/hunts/oslo/", 404, "not_found", ""},
		{"GET", "/assets/", 404, "not_found", ""},
		{"GET", "/v1/players", 405, "method_not_allowed", "POST"},
		{"DELETE", "/v1/hunts", 405, "method_not_allowed", "GET, HEAD"},
		{"PUT", claimsPath(), 405, "method_not_allowed", "POST"},
		{"POST", "/", 405, "method_not_allowed", "GET, HEAD"},
		{"GET", "/metrics", 404, "not_found", ""},
		{"GET", "/admin/v1/hunts", 404, "not_found", ""},
		{"GET", "/v1//hunts", 404, "not_found", ""},
		{"POST", "/v1//players", 404, "not_found", ""},
		{"GET", "/v1/./hunts", 404, "not_found", ""},
		{"GET", "/v1/hunts/..", 404, "not_found", ""},
		{"GET", "/v1/players/../hunts", 404, "not_found", ""},
		{"GET", "//", 404, "not_found", ""},
		{"GET", "/v1/hunts/%2e%2e", 404, "unknown_hunt", ""},
		{"OPTIONS", "/nowhere", 404, "not_found", ""},
		{"GET", "/v1/hunts/%FF", 400, "invalid", ""},
		{"GET", "/v1/hunts?%zz", 400, "invalid", ""},
		{"GET", "/v1/hunts?a=%ff", 400, "invalid", ""},
	} {
		a := g.do(request(t, c.method, g.public.URL+c.path, "", ""))
		isProblem(t, a, c.status, c.code)
		if got := a.header.Get("Allow"); got != c.allow {
			t.Errorf("%s %s: Allow is %q, want %q", c.method, c.path, got, c.allow)
		}
	}
}

// TestOptions asks what can be done to a path.
func TestOptions(t *testing.T) {
	g := newGame(t, nil)
	for path, allow := range map[string]string{
		"/": "GET, HEAD, OPTIONS", "/v1/hunts": "GET, HEAD, OPTIONS", "/v1/players": "POST, OPTIONS", claimsPath(): "POST, OPTIONS",
	} {
		req := request(t, "OPTIONS", g.public.URL+path, "", "")
		req.Header.Set("Origin", "https://evil.example")
		req.Header.Set("Access-Control-Request-Method", "POST")
		a := g.do(req)
		if a.status != http.StatusNoContent || a.header.Get("Allow") != allow || len(a.body) > 0 || a.header.Get("Content-Type") != "" {
			t.Errorf("%s: got %v %v, want 204 and Allow: %s", path, a, a.header, allow)
		}
		for name := range a.header {
			if strings.HasPrefix(name, "Access-Control-") {
				t.Errorf("%s: got %s for a page that may not call", path, name)
			}
		}
	}
}

// TestCORS has pages of other origins call.
func TestCORS(t *testing.T) {
	for name, c := range map[string]struct {
		origins      []string
		origin, want string
		vary         bool
	}{
		"listed":   {[]string{"https://play.example"}, "https://play.example", "https://play.example", true},
		"unlisted": {[]string{"https://play.example"}, "https://evil.example", "", true},
		"no page":  {[]string{"https://play.example"}, "", "", true},
		"any":      {[]string{"*"}, "https://evil.example", "*", false},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGame(t, func(o *Options) { o.Origins = c.origins })
			m := g.openMap(0, cairn.Tap)
			for _, path := range []string{"/v1/hunts", "/v1/hunts/oslo/maps/" + m.Tick.String(), "/v1/hunts/nowhere", claimsPath(), "/"} {
				req := request(t, "GET", g.public.URL+path, "", "")
				if path == claimsPath() {
					req.Method = "OPTIONS"
					req.Header.Set("Access-Control-Request-Method", "POST")
				}
				if c.origin != "" {
					req.Header.Set("Origin", c.origin)
				}
				a := g.do(req)
				h := a.header
				if got := h.Get("Access-Control-Allow-Origin"); got != c.want || slices.Contains(h.Values("Vary"), "Origin") != c.vary {
					t.Errorf("%s: got Access-Control-Allow-Origin %q, Vary %q; want %q, Origin %v", path, got, h.Values("Vary"), c.want, c.vary)
				}
				if req.Method == "OPTIONS" {
					if got := h.Get("Access-Control-Allow-Methods"); strings.Contains(got, "POST") != (c.want != "") ||
						strings.Contains(h.Get("Access-Control-Allow-Headers"), "Authorization") != (c.want != "") {
						t.Errorf("the preflight: got %v", h)
					}
				} else if strings.Contains(h.Get("Access-Control-Expose-Headers"), "Retry-After") != (c.want != "") {
					t.Errorf("%s: got %v", path, h)
				}
			}
			if a := g.get("", "/v1/hunts/oslo/maps/"+m.Tick.String()); !slices.Contains(a.header.Values("Vary"), "Accept-Encoding") {
				t.Errorf("a map does not vary by its coding: %v", a.header)
			}
		})
	}
}

// TestFormOfCalls sends what is wrong to every call that takes anything but
// claims (TestClaimForm), and wants the field named.
func TestFormOfCalls(t *testing.T) {
	g := newGame(t, nil)
	_, ana := g.signIn("ana")
	h := "/v1/hunts/oslo"
	for _, c := range []struct {
		what, method, path, body string
		status                   int
		field                    string
	}{
		{"sign-in, no body", "POST", "/v1/players", " ", 400, ""},
		{"sign-in, not JSON", "POST", "/v1/players", "name=ana", 400, ""},
		{"sign-in, an array", "POST", "/v1/players", "[]", 400, ""},
		{"sign-in, null", "POST", "/v1/players", "null", 400, ""},
		{"sign-in, cut short", "POST", "/v1/players", `{"name":"ana"`, 400, ""},
		{"sign-in, more behind", "POST", "/v1/players", `{"name":"ana"}{}`, 400, ""},
		{"name missing", "POST", "/v1/players", `{}`, 400, "name"},
		{"name null", "POST", "/v1/players", `{"name":null}`, 400, "name"},
		{"name a number", "POST", "/v1/players", `{"name":7}`, 400, "name"},
		{"name an object", "POST", "/v1/players", `{"name":{}}`, 400, "name"},
		{"name empty", "POST", "/v1/players", `{"name":""}`, 400, "name"},
		{"name spaces", "POST", "/v1/players", `{"name":" ana"}`, 400, "name"},
		{"name control", "POST", "/v1/players", `{"name":"a\u0007"}`, 400, "name"},
		{"name too long", "POST", "/v1/players", `{"name":"` + strings.Repeat("å", 41) + `"}`, 400, "name"},
		{"name not UTF-8", "POST", "/v1/players", "{\"name\":\"\xff\"}", 400, "name"},
		{"name twice", "POST", "/v1/players", `{"name":"a","name":"b"}`, 400, "name"},
		{"name in capitals", "POST", "/v1/players", `{"Name":"ana"}`, 400, "Name"},
		{"unknown field", "POST", "/v1/players", `{"name":"ana","age":7}`, 400, "age"},
		{"sign-in, too large", "POST", "/v1/players", `{"name":"` + strings.Repeat("a", 5000) + `"}`, 413, ""},
		{"sign-in, unknown query", "POST", "/v1/players?x=1", `{"name":"ana"}`, 400, "x"},
		{"hunts, unknown query", "GET", "/v1/hunts?page=1", "", 400, "page"},
		{"hunt, unknown", "GET", "/v1/hunts/nowhere", "", 404, ""},
		{"hunt, no name", "GET", "/v1/hunts/No%20Hunt", "", 404, ""},
		{"hunt, unknown query", "GET", h + "?x", "", 400, "x"},
		{"current, unknown hunt", "GET", "/v1/hunts/nowhere/maps/current", "", 404, ""},
		{"map, not a number", "GET", h + "/maps/now", "", 400, "tick"},
		{"map, negative", "GET", h + "/maps/-1", "", 400, "tick"},
		{"map, a fraction", "GET", h + "/maps/1.5", "", 400, "tick"},
		{"map, over int64", "GET", h + "/maps/99999999999999999999", "", 400, "tick"},
		{"map, none", "GET", h + "/maps/1", "", 404, ""},
		{"puzzle, tick", "GET", h + "/maps/x/tiles/0/puzzle", "", 400, "tick"},
		{"puzzle, index", "GET", h + "/maps/1/tiles/x/puzzle", "", 400, "index"},
		{"puzzle, index negative", "GET", h + "/maps/1/tiles/-1/puzzle", "", 400, "index"},
		{"puzzle, index too large", "GET", h + "/maps/1/tiles/65536/puzzle", "", 400, "index"},
		{"puzzle, unknown query", "GET", h + "/maps/1/tiles/0/puzzle?x=1", "", 400, "x"},
		{"claim, tick", "GET", h + "/maps/x/tiles/0/claim", "", 400, "tick"},
		{"claim, index", "GET", h + "/maps/1/tiles/65536/claim", "", 400, "index"},
		{"standings, window", "GET", h + "/standings?window=day", "", 400, "window"},
		{"standings, region", "GET", h + "/standings?region=A", "", 400, "region"},
		{"standings, region too long", "GET", h + "/standings?region=u4pruydqqvj8z", "", 400, "region"},
		{"standings, limit 0", "GET", h + "/standings?limit=0", "", 400, "limit"},
		{"standings, limit too large", "GET", h + "/standings?limit=1001", "", 400, "limit"},
		{"standings, limit a word", "GET", h + "/standings?limit=all", "", 400, "limit"},
		{"standings, limit twice", "GET", h + "/standings?limit=1&limit=2", "", 400, "limit"},
		{"standings, unknown query", "GET", h + "/standings?offset=1", "", 400, "offset"},
		{"standings, unknown hunt", "GET", "/v1/hunts/nowhere/standings", "", 404, ""},
		{"around, negative", "GET", h + "/standings/ana?around=-1", "", 400, "around"},
		{"around, too large", "GET", h + "/standings/ana?around=101", "", 400, "around"},
		{"around, player too long", "GET", h + "/standings/" + strings.Repeat("a", 65), "", 400, "player"},
		{"around, nobody", "GET", h + "/standings/nobody", "", 404, ""},
		{"rewards, limit 0", "GET", "/v1/players/me/rewards?limit=0", "", 400, "limit"},
		{"rewards, limit too large", "GET", "/v1/players/me/rewards?limit=501", "", 400, "limit"},
		{"rewards, cursor", "GET", "/v1/players/me/rewards?cursor=abc", "", 400, "cursor"},
		{"rewards, cursor too long", "GET", "/v1/players/me/rewards?cursor=" + strings.Repeat("a", 201), "", 400, "cursor"},
		{"rewards, unknown query", "GET", "/v1/players/me/rewards?after=1", "", 400, "after"},
		{"events, no hunt", "GET", "/v1/events", "", 400, "hunt"},
		{"events, unknown hunt", "GET", "/v1/events?hunt=nowhere", "", 404, ""},
		{"events, region", "GET", "/v1/events?hunt=oslo&regions=u4,A", "", 400, "regions"},
		{"events, too many regions", "GET", "/v1/events?hunt=oslo&regions=" + strings.Repeat("u,", 64) + "u", "", 400, "regions"},
		{"events, standings", "GET", "/v1/events?hunt=oslo&standings=1", "", 400, "standings"},
		{"events, unknown query", "GET", "/v1/events?hunt=oslo&region=u", "", 400, "region"},
		{"live, not a socket", "GET", "/v1/live", "", 426, ""},
	} {
		a := g.do(request(t, c.method, g.public.URL+c.path, ana, c.body))
		if a.status != c.status || a.header.Get("Content-Type") != "application/problem+json" || a.text("code") == "" {
			t.Errorf("%s: got %v, want %d", c.what, a, c.status)
		}
		if c.status == 400 && !names(a, c.field) && !strings.Contains(string(a.body), `"message":"`+c.field+`:`) {
			t.Errorf("%s: got %v, want %q named", c.what, a, c.field)
		}
	}
	if a := g.post("", "/v1/players", strings.Repeat(" ", 5000)); a.text("detail") != "body: the body is over 4096 bytes" && a.text("detail") != "the body is over 4096 bytes" {
		t.Errorf("too large a sign-in: got %v, want the limit named", a)
	}
	for _, path := range []string{"/v1/players/me/rewards", h + "/maps/1/tiles/0/puzzle", h + "/maps/1/tiles/0/claim"} {
		isProblem(t, g.get("", path), http.StatusUnauthorized, "unauthorized")
		isProblem(t, g.get("no.good.token", path), http.StatusUnauthorized, "unauthorized")
	}
	req := request(t, "POST", g.public.URL+"/v1/players", "", `{"name":"ana"}`)
	req.Header.Set("Content-Type", "text/plain")
	isProblem(t, g.do(req), http.StatusUnsupportedMediaType, "unsupported_media_type")
}

func TestGuestsOff(t *testing.T) {
	g := newGame(t, func(o *Options) { o.Guests, o.TokenKey = false, nil })
	isProblem(t, g.post("", "/v1/players", `{"name":"ana"}`), http.StatusForbidden, "forbidden")
}

func TestRequestID(t *testing.T) {
	g := newGame(t, nil)
	for sent, kept := range map[string]bool{"abc-1.2_X": true, strings.Repeat("a", 65): false, "a b": false, "": false, "é": false} {
		req := request(t, "GET", g.public.URL+"/v1/hunts", "", "")
		req.Header.Set("X-Request-Id", sent)
		got := g.do(req).header.Get("X-Request-Id")
		if got == "" || (got == sent) != kept {
			t.Errorf("sent %q, got %q back, want it kept: %v", sent, got, kept)
		}
	}
}

func TestPanic(t *testing.T) {
	g := newGame(t, nil)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /boom", func(http.ResponseWriter, *http.Request) { panic("secret") })
	mux.HandleFunc("GET /half", func(w http.ResponseWriter, _ *http.Request) {
		w.Write([]byte("half"))
		http.NewResponseController(w).Flush()
		panic("secret")
	})
	srv := httptest.NewServer(g.server.around(mux, nil))
	defer srv.Close()
	a := g.do(request(t, "GET", srv.URL+"/boom", "", ""))
	isProblem(t, a, http.StatusInternalServerError, "internal")
	if strings.Contains(string(a.body), "secret") || !strings.Contains(a.text("detail"), a.header.Get("X-Request-Id")) {
		t.Errorf("got %v", a)
	}
	res, err := g.client.Get(srv.URL + "/half")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if err := json.NewDecoder(res.Body).Decode(new(any)); err == nil {
		t.Error("half an answer was passed off as a whole one")
	}
}

// TestDocuments holds the OpenAPI documents against the routes: 3.1, every
// operation answers something, every reference leads somewhere, and every
// path that the document has is there.
func TestDocuments(t *testing.T) {
	g := newGame(t, nil)
	for url, paths := range map[string][]string{
		g.public.URL + "/v1/openapi.json": {
			"post /v1/players", "get /v1/players/me/rewards", "get /v1/hunts", "get /v1/hunts/{hunt}", "get /v1/hunts/{hunt}/maps/current",
			"get /v1/hunts/{hunt}/maps/{tick}", "get /v1/hunts/{hunt}/maps/{tick}/tiles/{index}/puzzle", "post /v1/hunts/{hunt}/claims",
			"get /v1/hunts/{hunt}/maps/{tick}/tiles/{index}/claim", "get /v1/hunts/{hunt}/standings", "get /v1/hunts/{hunt}/standings/{player}",
			"get /v1/live", "get /v1/events",
		},
		g.admin.URL + "/admin/v1/openapi.json": {
			"post /admin/v1/hunts", "get /admin/v1/hunts", "get /admin/v1/hunts/{hunt}", "patch /admin/v1/hunts/{hunt}",
			"get /admin/v1/knobs", "patch /admin/v1/knobs",
		},
	} {
		a := g.do(request(t, "GET", url, "", ""))
		if a.status != http.StatusOK || !strings.HasPrefix(a.text("openapi"), "3.1.") {
			t.Fatalf("%s: %.200s", url, a.body)
		}
		var doc struct {
			Paths map[string]map[string]struct {
				OperationID string         `json:"operationId"`
				Responses   map[string]any `json:"responses"`
				Parameters  []struct{ Name, In string }
			} `json:"paths"`
			Components struct {
				Schemas map[string]any `json:"schemas"`
			} `json:"components"`
		}
		if err := json.Unmarshal(a.body, &doc); err != nil {
			t.Fatal(err)
		}
		var got []string
		ids := map[string]bool{}
		for path, methods := range doc.Paths {
			for method, op := range methods {
				got = append(got, method+" "+path)
				if op.OperationID == "" || ids[op.OperationID] {
					t.Errorf("%s %s: operationId is %q", method, path, op.OperationID)
				}
				ids[op.OperationID] = true
				success := slices.ContainsFunc([]string{"101", "200", "201"}, func(s string) bool { _, ok := op.Responses[s]; return ok })
				if !success || len(op.Responses) < 2 {
					t.Errorf("%s %s: answers only %v", method, path, op.Responses)
				}
				for _, p := range strings.Split(path, "/") {
					name, isParam := strings.CutPrefix(p, "{")
					if isParam && !slices.ContainsFunc(op.Parameters, func(p struct{ Name, In string }) bool {
						return p.Name == strings.TrimSuffix(name, "}") && p.In == "path"
					}) {
						t.Errorf("%s %s: %s is not described", method, path, p)
					}
				}
			}
		}
		slices.Sort(got)
		slices.Sort(paths)
		if !slices.Equal(got, paths) {
			t.Errorf("%s: got %q, want %q", url, got, paths)
		}
		var refs func(v any)
		refs = func(v any) {
			switch v := v.(type) {
			case map[string]any:
				if ref, ok := v["$ref"].(string); ok {
					if _, known := doc.Components.Schemas[strings.TrimPrefix(ref, "#/components/schemas/")]; !known {
						t.Errorf("%s: %s leads nowhere", url, ref)
					}
				}
				for _, e := range v {
					refs(e)
				}
			case []any:
				for _, e := range v {
					refs(e)
				}
			}
		}
		refs(a.json)
	}
}

package server

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"mime"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/claim"
)

type object = map[string]any

// An apiDoc is an OpenAPI document as a client reads it: served, and decoded
// as plain JSON. It holds real answers against what the document says of them,
// and notes what of the document it has seen.
type apiDoc struct {
	paths, schemas object

	mu   sync.Mutex
	seen map[string]bool // "Schema.property" and "operation status"
}

func loadDoc(t testing.TB, url string) *apiDoc {
	t.Helper()
	res, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var doc struct {
		Paths      object
		Components struct{ Schemas object }
	}
	if err := json.NewDecoder(res.Body).Decode(&doc); err != nil || len(doc.Paths) == 0 {
		t.Fatalf("%s: %s, %v: no document", url, res.Status, err)
	}
	return &apiDoc{paths: doc.Paths, schemas: doc.Components.Schemas, seen: map[string]bool{}}
}

// operation returns what the document says of a call. A path without
// parameters counts before one with.
func (d *apiDoc) operation(method, path string) object {
	if method == http.MethodHead {
		method = http.MethodGet
	}
	templates := slices.SortedFunc(maps.Keys(d.paths), func(a, b string) int { return strings.Count(a, "{") - strings.Count(b, "{") })
	for _, template := range templates {
		re := regexp.MustCompile(`^` + regexp.MustCompile(`\\\{[a-z]+\\\}`).ReplaceAllString(regexp.QuoteMeta(template), `[^/]+`) + `$`)
		if re.MatchString(path) {
			op, _ := d.paths[template].(object)[strings.ToLower(method)].(object)
			return op
		}
	}
	return nil
}

// check returns what of an answer is not as the document says.
func (d *apiDoc) check(method, path string, a answer) error {
	op := d.operation(method, path)
	if op == nil {
		return nil // a call that is not in the document
	}
	status := strconv.Itoa(a.status)
	r, ok := op["responses"].(object)[status].(object)
	if !ok {
		return fmt.Errorf("%v: status %s is not documented", op["operationId"], status)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.seen[fmt.Sprint(op["operationId"], " ", status)] = true
	headers, _ := r["headers"].(object)
	for name, h := range headers {
		if h.(object)["required"] == true && a.header.Get(name) == "" {
			return fmt.Errorf("%s: %s has no %s", op["operationId"], status, name)
		}
	}
	content, _ := r["content"].(object)
	if method == http.MethodHead || len(content) == 0 && len(a.body) == 0 {
		return nil
	}
	media, _, _ := mime.ParseMediaType(a.header.Get("Content-Type"))
	m, ok := content[media].(object)
	if !ok {
		return fmt.Errorf("%s: %s of type %q is not documented", op["operationId"], status, media)
	}
	if media == "text/event-stream" {
		return nil
	}
	var v any
	if err := json.Unmarshal(a.body, &v); err != nil {
		return err
	}
	return d.value("body", m["schema"].(object), v)
}

// value holds v against a schema, as far as these documents go in JSON Schema.
func (d *apiDoc) value(at string, schema object, v any) error {
	if ref, ok := schema["$ref"].(string); ok {
		name := strings.TrimPrefix(ref, "#/components/schemas/")
		target, ok := d.schemas[name].(object)
		if !ok {
			return fmt.Errorf("%s: %s leads nowhere", at, ref)
		}
		if err := d.value(at, target, v); err != nil {
			return err
		}
		if members, ok := v.(object); ok {
			for member := range members {
				d.seen[name+"."+member] = true
			}
		}
		return nil
	}
	if one, ok := schema["oneOf"].([]any); ok {
		var errs []error
		for _, s := range one {
			if err := d.value(at, s.(object), v); err != nil {
				errs = append(errs, err)
			}
		}
		if len(errs) != len(one)-1 {
			return fmt.Errorf("%s: %v fits %d of %d schemas: %v", at, v, len(one)-len(errs), len(one), errs)
		}
		return nil
	}
	if e, ok := schema["enum"].([]any); ok && !slices.Contains(e, v) {
		return fmt.Errorf("%s: is %v, want one of %v", at, v, e)
	}
	kind, _ := schema["type"].(string)
	if got := kindOf(v); kind != "" && got != kind && (kind != "number" || got != "integer") {
		return fmt.Errorf("%s: is %v, a %s, want a %s", at, v, got, schema["type"])
	}
	switch v := v.(type) {
	case float64:
		if lo, ok := schema["minimum"].(float64); ok && v < lo {
			return fmt.Errorf("%s: is %v, want at least %v", at, v, lo)
		}
		if hi, ok := schema["maximum"].(float64); ok && v > hi {
			return fmt.Errorf("%s: is %v, want at most %v", at, v, hi)
		}
	case string:
		return checkText(at, schema, v)
	case []any:
		items, ok := schema["items"].(object)
		if !ok {
			return nil
		}
		for i, item := range v {
			if err := d.value(fmt.Sprintf("%s[%d]", at, i), items, item); err != nil {
				return err
			}
		}
	case object:
		return d.members(at, schema, v)
	}
	return nil
}

func kindOf(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case bool:
		return "boolean"
	case string:
		return "string"
	case float64:
		if v == math.Trunc(v) {
			return "integer"
		}
		return "number"
	case []any:
		return "array"
	}
	return "object"
}

// instant is how the API writes times: RFC 3339 with milliseconds, in UTC.
var instant = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$`)

func checkText(at string, schema object, v string) error {
	n := float64(utf8.RuneCountInString(v))
	if most, ok := schema["maxLength"].(float64); ok && n > most {
		return fmt.Errorf("%s: has %v characters, want at most %v", at, n, most)
	}
	if p, ok := schema["pattern"].(string); ok && !regexp.MustCompile(p).MatchString(v) {
		return fmt.Errorf("%s: is %q, want %s", at, v, p)
	}
	isTime := schema["format"] == "date-time"
	if instant.MatchString(v) != isTime {
		return fmt.Errorf("%s: is %q, and documented as a time: %v", at, v, isTime)
	}
	if _, err := time.Parse(time.RFC3339, v); isTime && err != nil {
		return fmt.Errorf("%s: %w", at, err)
	}
	return nil
}

func (d *apiDoc) members(at string, schema, v object) error {
	required, _ := schema["required"].([]any)
	for _, name := range required {
		if _, ok := v[name.(string)]; !ok {
			return fmt.Errorf("%s: has no %s", at, name)
		}
	}
	properties, _ := schema["properties"].(object)
	for name, x := range v {
		s, ok := properties[name].(object)
		if !ok {
			switch more := schema["additionalProperties"].(type) {
			case object:
				s = more
			case bool:
				return fmt.Errorf("%s: has %s, which is not documented", at, name)
			default:
				continue // anything goes
			}
		}
		if err := d.value(at+"."+name, s, x); err != nil {
			return err
		}
	}
	return nil
}

// TestOpenAPI makes every call that the documents have, and holds the answers
// against them both ways: [game.do] finds what is answered and not documented,
// and this test what is documented and never answered.
func TestOpenAPI(t *testing.T) {
	g := newGame(t, nil)
	m := g.openMap(0, cairn.Tap, cairn.Tap, cairn.Cipher)
	_, ana := g.signIn("ana")
	_, bo := g.signIn("bo")
	claimed := func(token, body string) answer { return g.post(token, claimsPath(), fmt.Sprintf(body, m.Tick)) }
	claimed(ana, `{"map":%d,"tile":0,"claim_id":"c"}`)
	claimed(ana, `{"map":%d,"tile":1}`)
	claimed(bo, `{"map":%d,"tile":0,"claim_id":"c"}`)
	claimed(bo, `[{"map":%[1]d,"tile":0},{"map":%[1]d,"tile":2}]`)
	claimed(bo, `{"map":%d,"tile":2,"answer":"no"}`)
	claimed(bo, `{"map":%d,"tile":9}`)
	claimed(bo, `{"map":1%d,"tile":true}`)
	claimed("", `{"map":%d,"tile":0}`)
	g.post(bo, claimsPath(), `{"map":1,"tile":0}`)
	for _, what := range []string{"claim", "puzzle"} {
		g.get(ana, tilePathOf(m, 0, what))
		g.get(bo, tilePathOf(m, 0, what))
		g.get(ana, tilePathOf(m, 2, what))
		g.get(ana, tilePathOf(m, 9, what))
		g.get("", tilePathOf(m, 0, what))
		g.get(ana, tilePathOf(m, 0, what)+"?x=1")
		g.get(ana, "/v1/hunts/oslo/maps/1/tiles/0/"+what)
	}
	g.eventually("both claims are paid and ranked", func() bool {
		r := g.get(ana, "/v1/players/me/rewards?limit=1")
		s := g.get("", "/v1/hunts/oslo/standings?window=hour")
		return r.json["next"] != nil && s.number("players") == 1
	})
	for _, path := range []string{
		"/v1/hunts", "/v1/hunts/oslo", "/v1/hunts/nowhere", "/v1/hunts?x=1", "/v1/hunts/oslo?x=1", "/v1/players/me/rewards", "/v1/players/me/rewards?x=1",
		"/v1/hunts/oslo/maps/current", "/v1/hunts/nowhere/maps/current", "/v1/hunts/oslo/maps/current?x=1",
		"/v1/hunts/oslo/maps/" + m.Tick.String(), "/v1/hunts/oslo/maps/1", "/v1/hunts/oslo/maps/x",
		"/v1/hunts/oslo/standings", "/v1/hunts/oslo/standings?x=1", "/v1/hunts/nowhere/standings",
		"/v1/hunts/oslo/standings/nobody", "/v1/hunts/oslo/standings/nobody?x=1", "/v1/live", "/v1/live?x=1", "/v1/events?hunt=nowhere", "/v1/events",
	} {
		a := g.get("", path)
		req := request(t, "GET", g.public.URL+path, ana, "")
		req.Header.Set("If-None-Match", a.header.Get("ETag"))
		g.do(req)
		g.do(request(t, "HEAD", g.public.URL+path, "", ""))
	}
	player := g.get("", "/v1/hunts/oslo/standings").json["rows"].([]any)[0].(object)["player"].(string)
	around := g.get("", "/v1/hunts/oslo/standings/"+player)
	req := request(t, "GET", g.public.URL+"/v1/hunts/oslo/standings/"+player, "", "")
	req.Header.Set("If-None-Match", around.header.Get("ETag"))
	g.do(req)
	g.post("", "/v1/players", `{"name":7}`)
	g.later(40 * time.Second)
	claimed(bo, `{"map":%d,"tile":2}`)
	claimed(bo, `[{"map":%d,"tile":2}]`)
	g.get(bo, tilePathOf(m, 2, "puzzle"))
	g.operate(t)
	g.unhealthy(t, ana)

	g.doc.allSeen(t, []string{
		// What can't be made to happen here, and what stands elsewhere.
		"sign-in 403", "sign-in 429", // TestGuestsOff, TestAddressLimits
		"sign-in 408", "claim 408", // TestSlowBody; a sign-in has 5 s
		"live 101", "live 403", "live 503", "events 200", "events 503", // the tests of streams
		"my-rewards 503", "standings 503", "standings-around 503", // TestStandingsAway
		"Region.bbox", "Region.geojson", // hunts of other regions
	})
	g.adminDoc.allSeen(t, []string{"create-hunt 503", "change-hunt 503", "change-knobs 503", "Region.bbox", "Region.geojson"})
}

// operate makes every call of the operators' document.
func (g *game) operate(t *testing.T) {
	call := func(method, path, body string, change ...string) answer {
		req := request(t, method, g.admin.URL+"/admin/v1"+path, "", body)
		for i := 0; i < len(change); i += 2 {
			req.Header.Set(change[i], change[i+1])
		}
		req.Host = req.Header.Get("Host")
		return g.do(req)
	}
	const hunt = `{"name":"bergen","region":{"geohash":"u4"},"shards":2,"reward":{"min":1,"max":2,"budget":3}}`
	if a := call("POST", "/hunts", hunt); a.status != http.StatusCreated || a.text("state") != "draft" || a.header.Get("Location") != "/admin/v1/hunts/bergen" {
		t.Errorf("a new hunt: got %v %v, want a draft", a, a.header)
	}
	call("POST", "/hunts", hunt)
	call("GET", "/hunts/bergen", "")
	call("PATCH", "/hunts/bergen", `{"state":"live","shards":2,"tiles_per_map":40}`)
	call("PATCH", "/hunts/nowhere", `{"state":"live"}`)
	call("GET", "/hunts/nowhere", "")
	call("GET", "/hunts", "")
	call("GET", "/hunts?x=1", "")
	call("GET", "/hunts/bergen?x=1", "")
	call("GET", "/knobs", "")
	call("GET", "/knobs?x=1", "")
	call("PATCH", "/knobs", `{"sweep":"20ms","precision":6}`)
	for _, c := range [][2]string{{"POST", "/hunts"}, {"PATCH", "/hunts/bergen"}, {"PATCH", "/knobs"}} {
		call(c[0], c[1], `{"x":1}`)
		call(c[0], c[1], `{}`, "Content-Type", "text/plain")
		call(c[0], c[1], strings.Repeat(" ", huntBytesMax)+"{}")
	}
	for _, c := range [][2]string{{"POST", "/hunts"}, {"GET", "/hunts"}, {"GET", "/hunts/bergen"}, {"PATCH", "/hunts/bergen"}, {"GET", "/knobs"}, {"PATCH", "/knobs"}} {
		call(c[0], c[1], "{}", "Host", "evil.example") // a name that its DNS leads here
		g.server.opts.AdminToken = "secret"
		call(c[0], c[1], "{}")
		g.server.opts.AdminToken = ""
	}
}

// unhealthy makes the calls whose answers need a room that is not well.
func (g *game) unhealthy(t *testing.T, token string) {
	s := &scripted{err: claim.ErrUnavailable}
	g.withClaims(s)
	one, look := `{"map":7,"tile":3,"claim_id":"x"}`, "/v1/hunts/oslo/maps/7/tiles/3/claim"
	g.post(token, claimsPath(), one)
	g.post(token, claimsPath(), "["+one+"]")
	g.get(token, look)
	s.err, s.verdict = nil, cairn.Verdict{Outcome: cairn.Pending}
	g.post(token, claimsPath(), one)
	g.get(token, look)
	g.post(token, claimsPath(), `{"map":1,"tile":2,`+strings.Repeat(" ", claimBytesMax)+`"answer":""}`)
	g.post("", "/v1/players", `{"name":"`+strings.Repeat("a", bodyBytesMax)+`"}`)
	for _, path := range []string{claimsPath(), "/v1/players"} {
		req := request(t, "POST", g.public.URL+path, token, "{}")
		req.Header.Set("Content-Type", "text/plain")
		g.do(req)
	}
	for range 60 {
		g.post(token, claimsPath(), one)
	}
}

// allSeen reports what the document says and nobody has seen.
func (d *apiDoc) allSeen(t *testing.T, except []string) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	want := map[string]bool{}
	var requests []string // schemas of what clients send
	for _, item := range d.paths {
		for _, op := range item.(object) {
			op := op.(object)
			for status := range op["responses"].(object) {
				if status != "500" { // a defect, or a disk that is lost
					want[fmt.Sprint(op["operationId"], " ", status)] = true
				}
			}
			if body, ok := op["requestBody"].(object); ok {
				text, _ := json.Marshal(body)
				for _, m := range regexp.MustCompile(`schemas/(\w+)`).FindAllStringSubmatch(string(text), -1) {
					requests = append(requests, m[1])
				}
			}
		}
	}
	for name, s := range d.schemas {
		properties, _ := s.(object)["properties"].(object)
		for p := range properties {
			if !slices.Contains(requests, name) {
				want[name+"."+p] = true
			}
		}
	}
	for _, what := range slices.Sorted(maps.Keys(want)) {
		if !d.seen[what] && !slices.Contains(except, what) {
			t.Errorf("%s is documented, and was never answered", what)
		}
	}
	for _, what := range except {
		if !want[what] {
			t.Errorf("%s is not documented any more", what)
		}
	}
}

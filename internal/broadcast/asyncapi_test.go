package broadcast

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/goccy/go-yaml"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/wire"
)

type object = map[string]any

// A schemas checks values against the schemas of AsyncAPI, as far as that
// document goes in JSON Schema, and holds that no member is undocumented.
type schemas struct {
	t   *testing.T
	all object
}

func loadSchemas(t *testing.T) schemas {
	var doc object
	if err := yaml.Unmarshal(AsyncAPI, &doc); err != nil {
		t.Fatal(err)
	}
	return schemas{t, doc["components"].(object)["schemas"].(object)}
}

func (s schemas) resolve(schema object) object {
	if ref, ok := schema["$ref"].(string); ok {
		return s.all[strings.TrimPrefix(ref, "#/components/schemas/")].(object)
	}
	return schema
}

// members returns the properties and the required members of an object's
// schema, those of allOf included.
func (s schemas) members(schema object) (properties object, required []any) {
	schema = s.resolve(schema)
	properties = object{}
	if p, ok := schema["properties"].(object); ok {
		maps.Copy(properties, p)
	}
	required, _ = schema["required"].([]any)
	parts, _ := schema["allOf"].([]any)
	for _, part := range parts {
		p, r := s.members(part.(object))
		maps.Copy(properties, p)
		required = append(slices.Clone(required), r...)
	}
	return properties, required
}

func (s schemas) check(path string, schema object, v any) error {
	schema = s.resolve(schema)
	if c, ok := schema["const"]; ok && c != v {
		return fmt.Errorf("%s is %v, want %v", path, v, c)
	}
	if e, ok := schema["enum"].([]any); ok && !slices.Contains(e, v) {
		return fmt.Errorf("%s is %v, want one of %v", path, v, e)
	}
	kinds := map[string]string{"string": "string", "integer": "float64", "boolean": "bool", "array": "[]interface {}", "object": "map[string]interface {}"}
	if want, ok := schema["type"].(string); ok && fmt.Sprintf("%T", v) != kinds[want] {
		return fmt.Errorf("%s is %v, want %s", path, v, want)
	}
	switch v := v.(type) {
	case string:
		if p, ok := schema["pattern"].(string); ok && !regexp.MustCompile(p).MatchString(v) {
			return fmt.Errorf("%s is %q, want %s", path, v, p)
		}
		n := float64(utf8.RuneCountInString(v))
		return between(path+"'s length", n, schema["minLength"], schema["maxLength"])
	case float64:
		if v != float64(int64(v)) {
			return fmt.Errorf("%s is %v, want an integer", path, v)
		}
		return between(path, v, schema["minimum"], schema["maximum"])
	case []any:
		for i, item := range v {
			if err := s.check(fmt.Sprintf("%s[%d]", path, i), schema["items"].(object), item); err != nil {
				return err
			}
		}
		return between(path+"'s length", float64(len(v)), nil, schema["maxItems"])
	case object:
		return s.checkObject(path, schema, v)
	}
	return nil
}

func (s schemas) checkObject(path string, schema, v object) error {
	properties, required := s.members(schema)
	for _, name := range required {
		if _, ok := v[name.(string)]; !ok {
			return fmt.Errorf("%s has no %v", path, name)
		}
	}
	for name, others := range asObject(schema["dependentRequired"]) {
		for _, other := range others.([]any) {
			if _, ok := v[name]; ok && v[other.(string)] == nil {
				return fmt.Errorf("%s has %s and no %v", path, name, other)
			}
		}
	}
	for name, x := range v {
		p, ok := properties[name].(object)
		if more, is := schema["additionalProperties"].(object); !ok && is {
			p, ok = more, true
		}
		if !ok {
			return fmt.Errorf("%s has the undocumented member %s", path, name)
		}
		if err := s.check(path+"."+name, p, x); err != nil {
			return err
		}
	}
	return nil
}

func asObject(v any) object { o, _ := v.(object); return o }

func between(path string, v float64, lo, hi any) error {
	number := func(x any) (f float64, ok bool) {
		_, err := fmt.Sscan(fmt.Sprint(x), &f)
		return f, err == nil
	}
	if l, ok := number(lo); ok && v < l {
		return fmt.Errorf("%s is %v, want at least %v", path, v, l)
	}
	if h, ok := number(hi); ok && v > h {
		return fmt.Errorf("%s is %v, want at most %v", path, v, h)
	}
	return nil
}

// frame checks one frame against the schema of its type.
func (s schemas) frame(raw string) error {
	var v object
	if err := json.Unmarshal([]byte(raw), &v); err != nil {
		return err
	}
	kind, _ := v["type"].(string)
	schema, ok := s.all[kind].(object)
	if !ok {
		return fmt.Errorf("no schema of type %q", kind)
	}
	return s.check(kind, schema, v)
}

// TestAsyncAPI holds what the hub really says against the document.
func TestAsyncAPI(t *testing.T) { eachCodec(t, testAsyncAPI) }

func testAsyncAPI(t *testing.T) {
	s := loadSchemas(t)
	r := newRig(t, Options{})
	m := r.open("u4xsu", "u4xsv")
	r.claim(r.claimOf(m, 0, "ana"))
	board := func(b *wire.Board) {
		b.Hunt, b.Newest, b.Published, b.Players = huntID, r.instant(), r.instant(), 1
		b.AsOf = []wire.ShardOffset{{Shard: 2}}
		b.Rows = []wire.Row{{Rank: 1, Player: "ana", Name: "Ana", Score: 100, Claims: 1}}
		r.append(r.standings, wire.AppendBoard(nil, b))
	}
	board(&wire.Board{})
	c := r.dial()
	seen := map[string]bool{}
	want := func(kind string) {
		t.Helper()
		for {
			got, err := c.read()
			if err != nil {
				t.Fatalf("waiting for %s: %v", kind, err)
			}
			seen[got.Type] = true
			if got.Type != "outcome" { // its members are the edge's
				if err := s.frame(got.raw); err != nil {
					t.Errorf("%s: %v", got.raw, err)
				}
			}
			if got.Type == kind {
				return
			}
		}
	}
	c.send(`{"type":"hello","token":"token-ana"}`)
	want("welcome")
	c.send(watchText(true, "u4"))
	want("snapshot")
	r.open("u4xsu")
	want("delta")
	r.claim(r.claimOf(m, 1, "bo"))
	want("delta")
	board(&wire.Board{BoardKey: wire.BoardKey{Window: wire.WindowHour, Hour: int64(r.instant()) / int64(time.Hour/time.Microsecond)}})
	want("standings")
	c.send(`{"type":"claim","id":"1","hunt":"oslo","map":1,"tile":1}`)
	want("outcome")
	c.send(`{"type":"ping"}`)
	want("pong")
	c.send(`{`)
	want("error")
	go r.hub.Drain(0)
	want("drain")
	for _, kind := range []string{"hello", "watch", "claim", "ping"} {
		seen[kind] = true // the next test's
	}
	var doc object
	if err := yaml.Unmarshal(AsyncAPI, &doc); err != nil {
		t.Fatal(err)
	}
	for kind := range doc["components"].(object)["messages"].(object) {
		if !seen[kind] {
			t.Errorf("%s is documented and was not seen", kind)
		}
	}
}

// TestAsyncAPIOfClients: the document and the decoder agree on what a client
// may say.
func TestAsyncAPIOfClients(t *testing.T) {
	s := loadSchemas(t)
	for _, raw := range []string{
		`{"type":"hello"}`, `{"type":"hello","epoch":"e"}`, `{"type":"hello","seq":1}`, `{"type":"hello","epoch":"e","seq":1}`,
		`{"type":"hello","token":1}`, `{"type":"hello","epoch":"e","seq":-1}`, `{"type":"hello","x":1}`,
		`{"type":"watch","hunt":"oslo","regions":[]}`, `{"type":"watch","hunt":"oslo","regions":["","u4"],"standings":true}`,
		`{"type":"watch","hunt":"oslo"}`, `{"type":"watch","hunt":"-","regions":[]}`, `{"type":"watch","hunt":"oslo","regions":["a"]}`,
		`{"type":"watch","hunt":"oslo","regions":["il"]}`, `{"type":"watch","hunt":"oslo","regions":[],"standings":1}`,
		`{"type":"claim","id":"1","hunt":"oslo","map":1,"tile":1}`, `{"type":"claim","id":"","hunt":"oslo","map":1,"tile":1}`,
		`{"type":"claim","id":"1","hunt":"oslo","map":1,"tile":65536}`, `{"type":"claim","id":"1","hunt":"oslo","map":1,"tile":65535}`, `{"type":"claim","id":"1","hunt":"oslo","tile":1}`,
		`{"type":"claim","id":"1","hunt":"oslo","map":1,"tile":1,"claim_id":"c","answer":"a","token":"t"}`,
		`{"type":"ping"}`, `{"type":"ping","x":1}`,
	} {
		_, decoder := wire.DecodeFrame([]byte(raw))
		if document := s.frame(raw); (decoder == nil) != (document == nil) {
			t.Errorf("%s: the decoder says %v, the document %v", raw, decoder, document)
		}
	}
	for _, c := range "abcdefghijklmnopqrstuvwxyz0123456789" {
		_, parser := cairn.ParseCell(string(c))
		document := s.check("region", object{"$ref": "#/components/schemas/region"}, string(c))
		if (parser == nil) != (document == nil) {
			t.Errorf("region %q: the parser says %v, the document %v", string(c), parser, document)
		}
	}
}

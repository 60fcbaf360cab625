package server

import (
	"bytes"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/broadcast"
	"github.com/veltrix/cairn/internal/wire/livepb"
)

// TestAsyncAPI reads the live protocol's document as a client would.
func TestAsyncAPI(t *testing.T) {
	g := newGame(t, nil)
	a := g.get("", "/v1/asyncapi.yaml")
	if a.status != http.StatusOK || !bytes.Equal(a.body, broadcast.AsyncAPI) {
		t.Fatalf("got %.200s, want the document", a)
	}
	if got, want := a.header.Get("Content-Type"), "application/vnd.aai.asyncapi+yaml;version=3.0.0"; got != want {
		t.Errorf("Content-Type is %q, want %q", got, want)
	}
	var doc struct {
		AsyncAPI string
		Channels map[string]struct{ Address string }
	}
	if err := yaml.Unmarshal(a.body, &doc); err != nil {
		t.Fatal(err)
	}
	if doc.AsyncAPI != "3.0.0" || doc.Channels["live"].Address != "/v1/live" {
		t.Errorf("got %+v, want AsyncAPI 3.0.0 with /v1/live", doc)
	}
}

// TestLiveProtoSchema reads the schema of cairn.v1.proto as a client would.
func TestLiveProtoSchema(t *testing.T) {
	g := newGame(t, nil)
	a := g.get("", "/v1/live.proto")
	if a.status != http.StatusOK || !bytes.Equal(a.body, livepb.Schema) || !bytes.Contains(a.body, []byte("message ServerFrame {")) {
		t.Errorf("got %.200s, want the schema", a)
	}
}

// TestPublicContract holds docs/api.md against what is served: every call,
// every status and every code of a problem is in it.
func TestPublicContract(t *testing.T) {
	b, err := os.ReadFile("../../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	g := newGame(t, nil)
	want := []string{"/v1/openapi.json", "/v1/asyncapi.yaml", "/v1/live.proto", "/admin/v1/openapi.json", "/metrics", "/readyz", "/healthz"}
	for _, d := range []*apiDoc{g.doc, g.adminDoc} {
		for path, item := range d.paths {
			want = append(want, path)
			for _, op := range item.(object) {
				for status := range op.(object)["responses"].(object) {
					if status >= "400" {
						want = append(want, "| "+status+" |")
					}
				}
			}
		}
	}
	for _, code := range codeOfStatus {
		if code != codeConflict { // no call answers with it: each 409 has a code of its own
			want = append(want, "`"+code+"`")
		}
	}
	for _, code := range []string{codeHunt, codeMap, codeTile, codePlayer, codeUnclaimed, codeNotFound, codeHuntExists} {
		want = append(want, "`"+code+"`")
	}
	for o := cairn.Won; o <= cairn.Pending; o++ {
		want = append(want, "`"+o.String()+"`")
	}
	for _, w := range want {
		if !strings.Contains(text, w) {
			t.Errorf("docs/api.md does not mention %s", w)
		}
	}
}

// TestOutcomeOverLive holds the two documents of an outcome against each other.
func TestOutcomeOverLive(t *testing.T) {
	g := newGame(t, nil)
	var live struct {
		Components struct {
			Schemas map[string]struct{ Properties map[string]any }
		}
	}
	if err := yaml.Unmarshal(g.get("", "/v1/asyncapi.yaml").body, &live); err != nil {
		t.Fatal(err)
	}
	socket := slices.Sorted(maps.Keys(live.Components.Schemas["outcome"].Properties))
	http := append(slices.Collect(maps.Keys(g.doc.schemas["Outcome"].(object)["properties"].(object))), "type", "id")
	if slices.Sort(http); !slices.Equal(socket, http) {
		t.Errorf("an outcome has %q over a socket and %q over HTTP", socket, http)
	}
}

// TestDocumentsAreCached asks for the documents again with their tags.
func TestDocumentsAreCached(t *testing.T) {
	g := newGame(t, nil)
	for _, url := range []string{g.public.URL + "/v1/asyncapi.yaml", g.public.URL + "/v1/openapi.json", g.public.URL + "/v1/live.proto", g.admin.URL + "/admin/v1/openapi.json"} {
		req := request(t, "GET", url, "", "")
		etag := g.do(req).header.Get("ETag")
		req.Header.Set("If-None-Match", etag)
		if a := g.do(req); etag == "" || a.status != http.StatusNotModified || len(a.body) != 0 || a.header.Get("Cache-Control") != "no-cache" {
			t.Errorf("%s with its tag %s: got %.100s %v, want 304", url, etag, a, a.header)
		}
	}
}

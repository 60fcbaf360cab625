package server

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/veltrix/cairn"
)

// bearerAuth names the way to sign in, in the API's documents.
const bearerAuth = "bearer"

var needsPlayer = []map[string][]string{{bearerAuth: {}}}

// newAPI returns a huma API on mux that speaks the words of this package.
func (s *Server) newAPI(mux *http.ServeMux, title, text string) huma.API {
	version := s.opts.Version
	if version == "" {
		version = "0"
	}
	return humago.New(mux, huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info:    &huma.Info{Title: title, Version: version, Description: text},
			Components: &huma.Components{
				Schemas:         huma.NewMapRegistry("#/components/schemas/", schemaName),
				SecuritySchemes: map[string]*huma.SecurityScheme{bearerAuth: {Type: "http", Scheme: "bearer", BearerFormat: "JWT"}},
			},
		},
		Formats:                      map[string]huma.Format{"application/json": strictJSON, "json": strictJSON},
		DefaultFormat:                "application/json",
		Transformers:                 []huma.Transformer{identified},
		RejectUnknownQueryParameters: true,
	})
}

// schemaName names a schema by what it is, not by how its Go type is called:
// huntBody is Hunt, and what signInInput's Body makes is SignInRequest.
func schemaName(t reflect.Type, hint string) string {
	name := huma.DefaultSchemaNamer(t, hint)
	for _, end := range []struct{ is, becomes string }{{"InputBody", "Request"}, {"OutputBody", "Answer"}, {"Body", ""}, {"JSON", ""}} {
		if stem, ok := strings.CutSuffix(name, end.is); ok {
			return stem + end.becomes
		}
	}
	return name
}

// serveOpenAPI serves the API's document. It is encoded once, when all
// operations are known.
func serveOpenAPI(mux *http.ServeMux, path string, api huma.API) {
	finishOpenAPI(api)
	doc, err := json.MarshalIndent(api.OpenAPI(), "", " ")
	if err != nil {
		panic(fmt.Sprintf("server: OpenAPI document: %v", err)) // of our own types: a defect
	}
	serveDocument(mux, path, "application/openapi+json", doc)
}

// finishOpenAPI makes the document say what is true of all operations, and
// takes out what huma adds and this server never answers.
func finishOpenAPI(api huma.API) {
	for _, item := range api.OpenAPI().Paths {
		for _, op := range []*huma.Operation{item.Get, item.Post, item.Patch} {
			if op == nil {
				continue
			}
			// A form that is wrong is a 400 here; a 422 that somebody
			// described is an answer to a puzzle.
			if r := op.Responses["422"]; r != nil && r.Description == http.StatusText(http.StatusUnprocessableEntity) {
				delete(op.Responses, "422")
			}
			if op.Responses["500"] == nil {
				addProblems(api, op.Responses, http.StatusInternalServerError)
			}
			if op.RequestBody != nil {
				delete(op.RequestBody.Content, "application/octet-stream") // huma's word for a RawBody
			}
			for status, r := range op.Responses {
				sends(r, headerRequestID, "The request's id: its own, if it was sent with one that is well formed.")
				switch status {
				case "202", "429", "503":
					sends(r, "Retry-After", "Seconds to wait before the next try.")
				case "401":
					sends(r, "WWW-Authenticate", "Bearer, and why the token was refused.")
				}
			}
		}
	}
}

// sends notes a header that an answer always has.
func sends(r *huma.Response, name, what string) {
	if r.Headers == nil {
		r.Headers = map[string]*huma.Param{}
	}
	r.Headers[name] = &huma.Header{Description: what, Required: true, Schema: &huma.Schema{Type: huma.TypeString}}
}

// serveDocument serves a document that stays the same while the process runs.
func serveDocument(mux *http.ServeMux, path, contentType string, doc []byte) {
	sum := sha256.Sum256(doc)
	etag := `"` + hex.EncodeToString(sum[:12]) + `"`
	mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-cache")
		h.Set("ETag", etag)
		if matches(r.Header.Get("If-None-Match"), etag) {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		h.Set("Content-Type", contentType)
		h.Set("Content-Length", strconv.Itoa(len(doc)))
		w.Write(doc)
	})
}

// answers describes an operation's answers: a success of type T, and problems.
func answers[T any](api huma.API, status int, what string, problems ...int) map[string]*huma.Response {
	reg := api.OpenAPI().Components.Schemas
	rs := map[string]*huma.Response{strconv.Itoa(status): {
		Description: what,
		Content:     map[string]*huma.MediaType{"application/json": {Schema: reg.Schema(reflect.TypeFor[T](), true, "")}},
	}}
	addProblems(api, rs, problems...)
	return rs
}

func addProblems(api huma.API, rs map[string]*huma.Response, problems ...int) {
	schema := api.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[Problem](), true, "")
	for _, status := range problems {
		rs[strconv.Itoa(status)] = problemResponse(http.StatusText(status), schema)
	}
}

func problemResponse(what string, schema *huma.Schema) *huma.Response {
	return &huma.Response{Description: what, Content: map[string]*huma.MediaType{"application/problem+json": {Schema: schema}}}
}

// A claimProblem documents the problem that an outcome is: problemOf and
// undecided write it.
type claimProblem struct {
	Type         string       `json:"type" enum:"about:blank" doc:"The status says what kind of problem it is, and code which."`
	Title        string       `json:"title" doc:"The status' phrase."`
	Status       int          `json:"status" doc:"The HTTP status."`
	Code         string       `json:"code" enum:"gone,wrong,closed,unknown_tile,throttled,unavailable" doc:"The outcome."`
	Detail       string       `json:"detail" doc:"What happened, for a human."`
	Outcome      string       `json:"outcome" enum:"gone,wrong,closed,unknown_tile,throttled,unavailable" doc:"How the attempt ended; unavailable: it was not decided."`
	Hunt         cairn.HuntID `json:"hunt"`
	Map          int64        `json:"map" doc:"The map's tick."`
	Tile         int64        `json:"tile" doc:"The tile's index."`
	ClaimID      string       `json:"claim_id,omitempty" doc:"As it was sent."`
	Winner       string       `json:"winner,omitempty" doc:"gone: whose it is."`
	WinnerName   string       `json:"winner_name,omitempty" doc:"gone: and their name."`
	MarginMs     *int64       `json:"margin_ms,omitempty" minimum:"0" doc:"gone: how much later this attempt came."`
	At           string       `json:"at,omitempty" format:"date-time" doc:"gone: when the tile was claimed."`
	AttemptsLeft *int64       `json:"attempts_left,omitempty" minimum:"0" doc:"wrong: tries left on this tile."`
	Opens        string       `json:"opens,omitempty" format:"date-time" doc:"closed: when the map opens or opened."`
	Closes       string       `json:"closes,omitempty" format:"date-time" doc:"closed: when it closes or closed."`
	RetryAfterMs *int64       `json:"retry_after_ms,omitempty" minimum:"1" doc:"throttled, unavailable: when to ask again."`
	RequestID    string       `json:"request_id,omitempty" doc:"The request's id, as X-Request-Id has it."`
}

// claimProblems describes the answers that are outcomes, by status.
func claimProblems(api huma.API, rs map[string]*huma.Response, what map[int]string) {
	schema := api.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[claimProblem](), true, "")
	for status, text := range what {
		rs[strconv.Itoa(status)] = problemResponse(text, schema)
	}
}

package server

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"strconv"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/veltrix/cairn/internal/broadcast"
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
				Schemas:         huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer),
				SecuritySchemes: map[string]*huma.SecurityScheme{bearerAuth: {Type: "http", Scheme: "bearer", BearerFormat: "JWT"}},
			},
		},
		Formats:                      map[string]huma.Format{"application/json": strictJSON, "json": strictJSON},
		DefaultFormat:                "application/json",
		RejectUnknownQueryParameters: true,
	})
}

// serveOpenAPI serves the API's document. It is encoded once, when all
// operations are known.
func serveOpenAPI(mux *http.ServeMux, path string, api huma.API) {
	doc, err := json.MarshalIndent(api.OpenAPI(), "", " ")
	if err != nil {
		panic(fmt.Sprintf("server: OpenAPI document: %v", err)) // of our own types: a defect
	}
	serveDocument(mux, path, "application/openapi+json", doc)
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
		rs[strconv.Itoa(status)] = &huma.Response{
			Description: http.StatusText(status),
			Content:     map[string]*huma.MediaType{"application/problem+json": {Schema: schema}},
		}
	}
}

// publicHandler builds the players' routes and their document.
func (s *Server) publicHandler() http.Handler {
	mux := http.NewServeMux()
	api := s.newAPI(mux, "Cairn", "The players' API of a Cairn treasure hunt. Times are RFC 3339 with milliseconds, money is int64 micro-units, "+
		"errors are RFC 9457 problems with a stable code.")
	s.routePlayers(api)
	s.routeHunts(api)
	s.routeStandings(api)
	s.routeClaims(mux, api)
	s.routeStreams(mux, api)
	serveOpenAPI(mux, "/v1/openapi.json", api)
	serveDocument(mux, "/v1/asyncapi.yaml", "application/vnd.aai.asyncapi+yaml;version=3.0.0", broadcast.AsyncAPI)
	s.page.register(mux)
	return s.around(mux, nil)
}

func (s *Server) routePlayers(api huma.API) {
	huma.Register(api, huma.Operation{
		OperationID: "sign-in", Method: http.MethodPost, Path: "/v1/players", Tags: []string{"players"},
		Summary: "Sign in as a guest", DefaultStatus: http.StatusCreated, MaxBodyBytes: bodyBytesMax,
		Middlewares: huma.Middlewares{s.guestLimit, jsonBody}, Errors: []int{400, 403, 413, 415, 429},
	}, s.postPlayer)
	huma.Register(api, huma.Operation{
		OperationID: "my-rewards", Method: http.MethodGet, Path: "/v1/players/me/rewards", Tags: []string{"players"},
		Summary: "What I earned", Security: needsPlayer,
		Middlewares: huma.Middlewares{s.signedIn}, Errors: []int{400, 401},
	}, s.getRewards)
}

func (s *Server) routeHunts(api huma.API) {
	huma.Register(api, huma.Operation{
		OperationID: "hunts", Method: http.MethodGet, Path: "/v1/hunts", Tags: []string{"hunts"},
		Summary: "The hunts that players may see", Errors: []int{400},
	}, s.getHunts)
	huma.Register(api, huma.Operation{
		OperationID: "hunt", Method: http.MethodGet, Path: "/v1/hunts/{hunt}", Tags: []string{"hunts"},
		Summary: "One hunt", Errors: []int{400, 404},
	}, s.getHunt)
	mapAnswers := func() map[string]*huma.Response {
		rs := answers[mapJSON](api, http.StatusOK, "The map.", 400, 404)
		rs["304"] = &huma.Response{Description: "The client has it."}
		return rs
	}
	huma.Register(api, huma.Operation{
		OperationID: "current-map", Method: http.MethodGet, Path: "/v1/hunts/{hunt}/maps/current", Tags: []string{"maps"},
		Summary: "The newest map with opens ≤ now", Responses: mapAnswers(),
	}, s.getCurrent)
	huma.Register(api, huma.Operation{
		OperationID: "map", Method: http.MethodGet, Path: "/v1/hunts/{hunt}/maps/{tick}", Tags: []string{"maps"},
		Summary: "One map, immutable", Responses: mapAnswers(),
		Description: "A map is there from when it opens until 10 minutes after it closed.",
	}, s.getMap)
	huma.Register(api, huma.Operation{
		OperationID: "puzzle", Method: http.MethodGet, Path: "/v1/hunts/{hunt}/maps/{tick}/tiles/{index}/puzzle", Tags: []string{"maps"},
		Summary: "My own clue for a tile", Security: needsPlayer,
		Middlewares: huma.Middlewares{s.signedIn}, Errors: []int{400, 401, 404, 410},
	}, s.getPuzzle)
}

func (s *Server) routeStandings(api huma.API) {
	boardAnswers := func() map[string]*huma.Response {
		rs := answers[standingsBody](api, http.StatusOK, "The rows.", 400, 404)
		rs["304"] = &huma.Response{Description: "Nothing changed."}
		return rs
	}
	huma.Register(api, huma.Operation{
		OperationID: "standings", Method: http.MethodGet, Path: "/v1/hunts/{hunt}/standings", Tags: []string{"standings"},
		Summary: "The top of a leaderboard", Responses: boardAnswers(),
	}, s.getStandings)
	huma.Register(api, huma.Operation{
		OperationID: "standings-around", Method: http.MethodGet, Path: "/v1/hunts/{hunt}/standings/{player}", Tags: []string{"standings"},
		Summary: "A player's row and the rows around it", Responses: boardAnswers(),
	}, s.getAround)
}

// routeClaims adds the claims. The POST is written by hand ([Server.postClaims]
// says why), and so is its document.
func (s *Server) routeClaims(mux *http.ServeMux, api huma.API) {
	reg := api.OpenAPI().Components.Schemas
	outcome := reg.Schema(reflect.TypeFor[outcomeBody](), true, "")
	body := reg.Schema(reflect.TypeFor[claimJSON](), true, "")
	few, many := 1, claimsMax
	won := answers[outcomeBody](api, http.StatusOK, "Won; or, for an array, an outcome each.")
	won["200"].Content["application/json"].Schema = &huma.Schema{OneOf: []*huma.Schema{outcome, {Type: huma.TypeArray, Items: outcome}}}
	pending := answers[outcomeBody](api, http.StatusAccepted, "Pending: ask how it ended at Location.")
	won["202"] = pending["202"]
	addProblems(api, won, 400, 401, 404, 408, 409, 410, 413, 415, 422, 429, 503)
	won["409"].Description = "gone: winner, winner_name and margin_ms say to whom, and by how much."
	won["422"].Description = "wrong: attempts_left says how many tries are left."
	won["410"].Description = "closed: the tile's map is not open."
	won["404"].Description = "unknown_tile, or unknown_hunt."
	mux.HandleFunc("POST /v1/hunts/{hunt}/claims", s.postClaims)
	api.OpenAPI().AddOperation(&huma.Operation{
		OperationID: "claim", Method: http.MethodPost, Path: "/v1/hunts/{hunt}/claims", Tags: []string{"claims"},
		Summary:     "Claim a tile, or up to 256",
		Description: "Checked in this order: token, form, limits, the holder's retry, gone, closed, the puzzle. Whoever holds a tile and asks again hears the same answer.",
		Security:    needsPlayer, Parameters: []*huma.Param{huntParam},
		RequestBody: &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{"application/json": {
			Schema: &huma.Schema{OneOf: []*huma.Schema{body, {Type: huma.TypeArray, Items: body, MinItems: &few, MaxItems: &many}}},
		}}},
		Responses: won,
	})
	settled := answers[outcomeBody](api, http.StatusOK, "Won.")
	settled["202"] = pending["202"]
	addProblems(api, settled, 400, 401, 404, 409, 503)
	huma.Register(api, huma.Operation{
		OperationID: "my-claim", Method: http.MethodGet, Path: "/v1/hunts/{hunt}/maps/{tick}/tiles/{index}/claim", Tags: []string{"claims"},
		Summary: "How my claim of a tile ended", Security: needsPlayer, Responses: settled,
		Middlewares: huma.Middlewares{s.signedIn},
	}, s.lookup)
}

var huntParam = &huma.Param{Name: "hunt", In: "path", Required: true, Description: "The hunt's id.", Schema: &huma.Schema{Type: huma.TypeString}}

// A claimJSON documents what a claimDecoder takes.
type claimJSON struct {
	Map     int64  `json:"map" minimum:"0" doc:"The map's tick."`
	Tile    int64  `json:"tile" minimum:"0" maximum:"65535" doc:"The tile's index."`
	ClaimID string `json:"claim_id,omitempty" maxLength:"64" doc:"Yours, at most 64 bytes; comes back with the outcome."`
	Answer  string `json:"answer,omitempty" maxLength:"256" doc:"To the puzzle; none for tap."`
	Token   string `json:"token,omitempty" maxLength:"256" doc:"The puzzle's; none for tap."`
}

// routeStreams adds the socket and the event stream.
func (s *Server) routeStreams(mux *http.ServeMux, api huma.API) {
	mux.HandleFunc("GET /v1/live", s.getLive)
	live := map[string]*huma.Response{"101": {Description: "A WebSocket that speaks cairn.v1.json."}}
	addProblems(api, live, 400, 403, 426, 503)
	api.OpenAPI().AddOperation(&huma.Operation{
		OperationID: "live", Method: http.MethodGet, Path: "/v1/live", Tags: []string{"streams"},
		Summary: "What happens, as a WebSocket", Responses: live,
		Description: "Subprotocol cairn.v1.json: one JSON object a text frame, type first.",
	})
	mux.HandleFunc("GET /v1/events", s.getEvents)
	events := map[string]*huma.Response{"200": {
		Description: "The stream.",
		Content:     map[string]*huma.MediaType{"text/event-stream": {Schema: &huma.Schema{Type: huma.TypeString}}},
	}}
	addProblems(api, events, 400, 404, 503)
	str := &huma.Schema{Type: huma.TypeString}
	api.OpenAPI().AddOperation(&huma.Operation{
		OperationID: "events", Method: http.MethodGet, Path: "/v1/events", Tags: []string{"streams"},
		Summary: "What happens, as Server-Sent Events", Responses: events,
		Parameters: []*huma.Param{
			{Name: "hunt", In: "query", Required: true, Description: "The hunt's id.", Schema: str},
			{Name: "regions", In: "query", Description: "Geohash prefixes, with commas between them; everything if neither this nor standings is there.", Schema: str},
			{Name: "standings", In: "query", Schema: &huma.Schema{Type: huma.TypeBoolean}},
			{Name: "Last-Event-ID", In: "header", Description: "The last event's id, to go on behind it.", Schema: str},
		},
	})
}

package server

import (
	"net/http"
	"reflect"

	"github.com/danielgtaylor/huma/v2"

	"github.com/veltrix/cairn/internal/broadcast"
	"github.com/veltrix/cairn/internal/wire/livepb"
)

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
	serveDocument(mux, "/v1/live.proto", "text/plain; charset=utf-8", livepb.Schema)
	s.page.register(mux)
	return s.around(mux, func(w http.ResponseWriter, r *http.Request) *Problem {
		s.cors(w, r)
		return nil
	})
}

func (s *Server) routePlayers(api huma.API) {
	huma.Register(api, huma.Operation{
		OperationID: "sign-in", Method: http.MethodPost, Path: "/v1/players", Tags: []string{"players"},
		Summary: "Sign in as a guest", DefaultStatus: http.StatusCreated, MaxBodyBytes: bodyBytesMax,
		Middlewares: huma.Middlewares{s.guestLimit, jsonBody}, Errors: []int{400, 403, 408, 413, 415, 429},
	}, s.postPlayer)
	huma.Register(api, huma.Operation{
		OperationID: "my-rewards", Method: http.MethodGet, Path: "/v1/players/me/rewards", Tags: []string{"players"},
		Summary: "What I earned", Security: needsPlayer,
		Middlewares: huma.Middlewares{s.signedIn}, Errors: []int{400, 401, 503},
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
		cached(rs, "Vary")
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

// cached notes the headers of answers that a client may keep.
func cached(rs map[string]*huma.Response, more ...string) {
	for _, status := range []string{"200", "304"} {
		for _, name := range append([]string{"ETag", "Cache-Control"}, more...) {
			sends(rs[status], name, "See RFC 9110 and RFC 9111.")
		}
	}
}

func (s *Server) routeStandings(api huma.API) {
	boardAnswers := func() map[string]*huma.Response {
		rs := answers[standingsBody](api, http.StatusOK, "The rows.", 400, 404, 503)
		rs["304"] = &huma.Response{Description: "Nothing changed."}
		cached(rs)
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
	won := answers[outcomeBody](api, http.StatusOK, "Won; or, for an array, an outcome each.", 400, 401, 408, 413, 415)
	won["200"].Content["application/json"].Schema = &huma.Schema{OneOf: []*huma.Schema{outcome, {Type: huma.TypeArray, Items: outcome}}}
	pending := answers[outcomeBody](api, http.StatusAccepted, "Pending: ask how it ended at Location.")["202"]
	sends(pending, "Location", "Where the claim's end is told.")
	won["202"] = pending
	claimProblems(api, won, map[int]string{
		404: "unknown_tile: no such hunt, map or tile.",
		409: "gone: winner, winner_name and margin_ms say to whom, and by how much.",
		410: "closed: the tile's map is not open.",
		422: "wrong: attempts_left says how many tries are left.",
		429: "throttled: too many tries.",
		503: "unavailable: nothing was decided. Try again.",
	})
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
	settled := answers[outcomeBody](api, http.StatusOK, "Won.", 400, 401, 404)
	settled["202"] = answers[outcomeBody](api, http.StatusAccepted, "Pending: ask again.")["202"]
	plain := settled["404"].Content["application/problem+json"].Schema
	claimProblems(api, settled, map[int]string{
		404: "unclaimed: nobody holds the tile; or unknown_tile.",
		409: "gone: another holds the tile.",
		410: "closed: the map closed too long ago for this to be known; what was won is in the rewards.",
		503: "unavailable: it can't be told now. Try again.",
	})
	either := settled["404"].Content["application/problem+json"]
	either.Schema = &huma.Schema{OneOf: []*huma.Schema{plain, either.Schema}}
	huma.Register(api, huma.Operation{
		OperationID: "my-claim", Method: http.MethodGet, Path: "/v1/hunts/{hunt}/maps/{tick}/tiles/{index}/claim", Tags: []string{"claims"},
		Summary: "How my claim of a tile ended", Security: needsPlayer, Responses: settled,
		Middlewares: huma.Middlewares{s.signedIn},
	}, s.lookup)
}

var huntParam = &huma.Param{Name: "hunt", In: "path", Required: true, Description: "The hunt's id.", Schema: &huma.Schema{Type: huma.TypeString}}

// A claimJSON documents what a claimDecoder takes.
type claimJSON struct {
	Map     int64  `json:"map" minimum:"0" maximum:"9007199254740991" doc:"The map's tick."`
	Tile    int64  `json:"tile" minimum:"0" maximum:"65535" doc:"The tile's index."`
	ClaimID string `json:"claim_id,omitempty" maxLength:"64" doc:"Yours, at most 64 bytes; comes back with the outcome."`
	Answer  string `json:"answer,omitempty" maxLength:"256" doc:"To the puzzle; none for tap."`
	Token   string `json:"token,omitempty" maxLength:"256" doc:"The puzzle's; none for tap."`
}

// routeStreams adds the socket and the event stream.
func (s *Server) routeStreams(mux *http.ServeMux, api huma.API) {
	mux.HandleFunc(liveRoute, s.getLive)
	live := map[string]*huma.Response{"101": {Description: "A WebSocket that speaks the subprotocol."}}
	addProblems(api, live, 400, 403, 426, 503)
	live["503"].Description = "Not now: more connect than are taken a second, there is no room, or this gateway starts or ends. " +
		"Retry-After is this client's own place in line, 1 to 60 seconds; the connection is closed."
	api.OpenAPI().AddOperation(&huma.Operation{
		OperationID: "live", Method: http.MethodGet, Path: "/v1/live", Tags: []string{"streams"},
		Summary: "What happens, as a WebSocket", Responses: live,
		Description: "Subprotocol cairn.v1.json, which is that of a client that offers none: one JSON object a text message, type first (/v1/asyncapi.yaml). " +
			"Subprotocol cairn.v1.proto: one protobuf message a binary message (/v1/live.proto).",
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

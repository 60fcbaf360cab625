package server

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/eventlog"
)

// adminHandler builds the operators' routes and their document.
func (s *Server) adminHandler() http.Handler {
	mux := http.NewServeMux()
	api := s.newAPI(mux, "Cairn, for operators", "Hunts and knobs. Every change is recorded with who and when.")
	s.routeAdmin(api)
	serveOpenAPI(mux, "/admin/v1/openapi.json", api)
	return s.operated(mux)
}

// operated adds to mux what operators see of every process, and lets nobody
// else in.
func (s *Server) operated(mux *http.ServeMux) http.Handler {
	mux.HandleFunc("GET /healthz", s.getHealth)
	mux.HandleFunc("GET /readyz", s.getReady)
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.opts.Gatherer, promhttp.HandlerOpts{EnableOpenMetrics: true}))
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return s.around(mux, func(_ http.ResponseWriter, r *http.Request) *Problem { return s.mayOperate(r) })
}

// An Ops is the operators' listener of a process without an edge: health,
// metrics and pprof, behind the same door as [Server.Admin].
type Ops struct{ s *Server }

// NewOps returns an Ops. Of opts it uses AdminToken, Ready, Gatherer, Log and
// Metrics.
func NewOps(opts Options) *Ops {
	opts = opts.withDefaults()
	s := &Server{opts: opts, metrics: newMetrics(opts.Metrics)}
	s.drainCtx, s.drain = context.WithCancel(context.Background())
	s.exportReady()
	s.admin = s.operated(http.NewServeMux())
	return &Ops{s}
}

// Handler returns the operators' handler.
func (o *Ops) Handler() http.Handler { return o.s.admin }

// Drain makes /readyz say no from now on.
func (o *Ops) Drain() { o.s.drain() }

func (s *Server) routeAdmin(api huma.API) {
	reg := api.OpenAPI().Components.Schemas
	created := answers[adminHunt](api, http.StatusCreated, "The hunt, a draft.", 400, 401, 403, 409, 413, 415, 503)
	huma.Register(api, huma.Operation{
		OperationID: "create-hunt", Method: http.MethodPost, Path: "/admin/v1/hunts", Tags: []string{"hunts"}, Security: needsPlayer,
		Summary: "Create a hunt", DefaultStatus: http.StatusCreated, MaxBodyBytes: huntBytesMax, SkipValidateBody: true,
		RequestBody: &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{
			"application/json": {Schema: reg.Schema(reflect.TypeFor[newHunt](), true, "")},
		}},
		Responses: created, Middlewares: huma.Middlewares{jsonBody, operator},
	}, s.createHunt)
	huma.Register(api, huma.Operation{
		OperationID: "list-hunts", Method: http.MethodGet, Path: "/admin/v1/hunts", Tags: []string{"hunts"}, Security: needsPlayer,
		Summary: "All hunts, drafts too", Errors: []int{400, 401, 403},
	}, s.listHunts)
	huma.Register(api, huma.Operation{
		OperationID: "get-hunt", Method: http.MethodGet, Path: "/admin/v1/hunts/{hunt}", Tags: []string{"hunts"}, Security: needsPlayer,
		Summary: "One hunt", Errors: []int{400, 401, 403, 404},
	}, s.readHunt)
	huma.Register(api, huma.Operation{
		OperationID: "change-hunt", Method: http.MethodPatch, Path: "/admin/v1/hunts/{hunt}", Tags: []string{"hunts"}, Security: needsPlayer,
		Summary: "Change a hunt's state, shards or tiles a map", MaxBodyBytes: bodyBytesMax, Errors: []int{400, 401, 403, 404, 413, 415, 503},
		Middlewares: huma.Middlewares{jsonBody, operator},
	}, s.changeHunt)
	huma.Register(api, huma.Operation{
		OperationID: "knobs", Method: http.MethodGet, Path: "/admin/v1/knobs", Tags: []string{"knobs"}, Security: needsPlayer,
		Summary: "The live settings; empty is a process's own default", Errors: []int{400, 401, 403},
	}, s.readKnobs)
	huma.Register(api, huma.Operation{
		OperationID: "change-knobs", Method: http.MethodPatch, Path: "/admin/v1/knobs", Tags: []string{"knobs"}, Security: needsPlayer,
		Summary: "Change live settings", MaxBodyBytes: bodyBytesMax, Errors: []int{400, 401, 403, 413, 415, 503},
		Middlewares: huma.Middlewares{jsonBody, operator},
	}, s.changeKnobs)
}

var crossOrigin = http.NewCrossOriginProtection()

// mayOperate returns why a request may not reach the operators' routes. With a
// token set, it is wanted; without one only this machine's own programs are
// let in: whoever listens, or asks, from elsewhere is not one, and neither is
// a page of another site in a browser here, by whatever name it came.
func (s *Server) mayOperate(r *http.Request) *Problem {
	if r.URL.Path == "/healthz" || r.URL.Path == "/readyz" {
		return nil // probes have no token, and these say nothing that is secret
	}
	if err := crossOrigin.Check(r); err != nil {
		s.metrics.refused.WithLabelValues(refusedOrigin).Inc()
		return problem(http.StatusForbidden, "", "pages of other sites may not operate here")
	}
	if s.opts.AdminToken != "" {
		got, want := sha256.Sum256([]byte(bearer(r))), sha256.Sum256([]byte(s.opts.AdminToken))
		if subtle.ConstantTimeCompare(got[:], want[:]) == 1 {
			return nil
		}
		s.metrics.refused.WithLabelValues(refusedToken).Inc()
		return problem(http.StatusUnauthorized, "", "the operators' bearer token is wanted").with("WWW-Authenticate", `Bearer realm="cairn-admin"`)
	}
	local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	if local == nil || !isLoopback(local) || err != nil || !from.Addr().Unmap().IsLoopback() {
		return problem(http.StatusForbidden, "", "without an operators' token only loopback is served: set one to listen elsewhere")
	}
	if !localHost(r.Host) {
		return problem(http.StatusForbidden, "", "Host: is %.60q; want localhost or a loopback address", r.Host)
	}
	return nil
}

func isLoopback(a net.Addr) bool {
	ap, err := netip.ParseAddrPort(a.String())
	return err == nil && ap.Addr().Unmap().IsLoopback()
}

// localHost reports whether a Host header names this machine: a name that a
// foreign DNS server resolved to 127.0.0.1 does not.
func localHost(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.Trim(host, "[]")
	if a, err := netip.ParseAddr(host); err == nil {
		return a.Unmap().IsLoopback()
	}
	return strings.EqualFold(host, "localhost")
}

// operatorKey is where the one who asks stands in a call's context.
type operatorKey struct{}

// operator notes who asks: the token is shared, so it is the address that
// tells operators apart.
func operator(ctx huma.Context, next func(huma.Context)) {
	r, _ := humago.Unwrap(ctx)
	who := "operator"
	if ap, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		who += "@" + ap.Addr().Unmap().String()
	}
	next(huma.WithValue(ctx, operatorKey{}, who))
}

// An adminHunt is a hunt as operators see it.
type adminHunt struct {
	HuntBody
	State     cairn.State `json:"state" enum:"draft,live,paused,ended"`
	Changed   string      `json:"changed" format:"date-time"`
	ChangedBy string      `json:"changed_by"`
}

func adminHuntOf(h *cairn.HuntStatus) adminHunt {
	return adminHunt{huntBodyOf(h), h.State, h.Changed.String(), h.By}
}

// A newHunt documents the body that creates a hunt, which is decoded into a
// cairn.Hunt.
type newHunt struct {
	Name        string         `json:"name" pattern:"^[a-z0-9][a-z0-9-]{0,62}$" example:"oslo-winter"`
	Region      regionBody     `json:"region" doc:"Exactly one of geohash, bbox [w, s, e, n] and geojson."`
	Mask        string         `json:"mask,omitempty" enum:"land,none" default:"land"`
	TilesPerMap int            `json:"tiles_per_map,omitempty" minimum:"1" maximum:"65536" default:"1000"`
	Tick        string         `json:"tick,omitempty" default:"1s"`
	Lifetime    string         `json:"lifetime,omitempty" default:"30s"`
	Shards      int            `json:"shards,omitempty" minimum:"1" maximum:"1024" default:"24"`
	Puzzles     map[string]int `json:"puzzles,omitempty" doc:"Weights of tap, cipher, lights, echo and odd; {\"tap\": 1} if there is none."`
	Reward      cairn.Reward   `json:"reward" doc:"Micro-units."`
}

type createInput struct {
	RawBody []byte
}

type adminHuntOutput struct{ Body adminHunt }

type createdOutput struct {
	Location string `header:"Location"`
	Body     adminHunt
}

func (s *Server) createHunt(ctx context.Context, in *createInput) (*createdOutput, error) {
	var h cairn.Hunt
	if p := decodeBody(in.RawBody, &h); p != nil {
		return nil, p
	}
	h = h.WithDefaults()
	st, p := s.record(ctx, cairn.Change{Hunt: h.Name, Create: &h})
	if p != nil {
		return nil, p
	}
	return &createdOutput{Location: "/admin/v1/hunts/" + string(h.Name), Body: adminHuntOf(&st)}, nil
}

// record makes a change and returns its hunt, or the problem.
func (s *Server) record(ctx context.Context, c cairn.Change) (cairn.HuntStatus, *Problem) {
	c.Who, _ = ctx.Value(operatorKey{}).(string)
	st, err := s.rooms.Control.Do(ctx, c)
	return st, s.refused(ctx, c, err)
}

// refused returns the problem that the error of a change is, or nil.
func (s *Server) refused(ctx context.Context, c cairn.Change, err error) *Problem {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, cairn.ErrHuntExists):
		return problem(http.StatusConflict, codeHuntExists, "%s", err.Error())
	case errors.Is(err, cairn.ErrHuntUnknown):
		return unknownHunt(c.Hunt)
	}
	if fields := fieldsOf("body", err); len(fields) > 0 {
		return badFields(fields...)
	}
	if errors.Is(err, eventlog.ErrUnknown) || errors.Is(err, eventlog.ErrPushback) {
		return problem(http.StatusServiceUnavailable, "", "it is not known whether the change was recorded: look, and try again").with("Retry-After", "1")
	}
	return s.failed(ctx, "change", err)
}

type adminHuntsOutput struct {
	Body struct {
		Hunts []adminHunt `json:"hunts"`
	}
}

func (s *Server) listHunts(context.Context, *struct{}) (*adminHuntsOutput, error) {
	out := &adminHuntsOutput{}
	out.Body.Hunts = []adminHunt{}
	for _, h := range s.rooms.Control.Hunts() {
		out.Body.Hunts = append(out.Body.Hunts, adminHuntOf(h))
	}
	return out, nil
}

func (s *Server) readHunt(_ context.Context, in *huntPath) (*adminHuntOutput, error) {
	h := s.rooms.Control.Hunt(in.Hunt)
	if h == nil {
		return nil, unknownHunt(in.Hunt)
	}
	return &adminHuntOutput{Body: adminHuntOf(h)}, nil
}

type changeInput struct {
	Hunt cairn.HuntID `path:"hunt" doc:"The hunt's id."`
	Body struct {
		State       cairn.State `json:"state,omitempty" enum:"live,paused,ended"`
		Shards      *int        `json:"shards,omitempty" minimum:"1" maximum:"1024" doc:"Of the maps from the next one on."`
		TilesPerMap *int        `json:"tiles_per_map,omitempty" minimum:"1" maximum:"65536" doc:"Of the maps from the next one on."`
	}
}

// changeHunt records a change each of what is to change. Nothing is recorded
// if one of them can be seen to fail.
func (s *Server) changeHunt(ctx context.Context, in *changeInput) (*adminHuntOutput, error) {
	h := s.rooms.Control.Hunt(in.Hunt)
	if h == nil {
		return nil, unknownHunt(in.Hunt)
	}
	var changes []cairn.Change
	if in.Body.Shards != nil {
		changes = append(changes, cairn.Change{Hunt: in.Hunt, Shards: *in.Body.Shards})
	}
	if in.Body.TilesPerMap != nil {
		changes = append(changes, cairn.Change{Hunt: in.Hunt, TilesPerMap: *in.Body.TilesPerMap})
	}
	if in.Body.State != "" {
		changes = append(changes, cairn.Change{Hunt: in.Hunt, State: in.Body.State})
	}
	if len(changes) == 0 {
		return nil, badFields(Field{In: "body", Field: "state", Message: "is missing; want at least one of state, shards and tiles_per_map"})
	}
	for _, c := range changes {
		if p := s.refused(ctx, c, s.rooms.Control.Check(ctx, c)); p != nil {
			return nil, p
		}
	}
	out := *h
	for _, c := range changes {
		var p *Problem
		if out, p = s.record(ctx, c); p != nil {
			return nil, p
		}
	}
	return &adminHuntOutput{Body: adminHuntOf(&out)}, nil
}

type knobsOutput struct {
	Body knobs
}

// knobs are the live settings, by name.
type knobs struct {
	Sweep     string `json:"sweep" doc:"From one sweep of the Broadcast Layer to the next, 10ms to 5s; empty is a process's own default." example:"50ms"`
	Precision int    `json:"precision" minimum:"0" maximum:"8" doc:"The longest geohash of a region that clients may watch, 1 to 8; 0 is a process's own default. Who watches a finer one goes on." example:"6"`
}

type knobsInput struct {
	Body struct {
		Sweep     *string `json:"sweep,omitempty" doc:"From one sweep of the Broadcast Layer to the next, 10ms to 5s." example:"50ms"`
		Precision *int    `json:"precision,omitempty" minimum:"1" maximum:"8" doc:"The longest geohash of a region that clients may watch." example:"6"`
	}
}

// Bounds of the knob "sweep".
const (
	sweepMin = 10 * time.Millisecond
	sweepMax = 5 * time.Second
)

func (s *Server) readKnobs(context.Context, *struct{}) (*knobsOutput, error) {
	k := knobs{Sweep: s.rooms.Control.Knob("sweep")}
	k.Precision, _ = strconv.Atoi(s.rooms.Control.Knob("precision")) // "" while nobody set it
	return &knobsOutput{k}, nil
}

func (s *Server) changeKnobs(ctx context.Context, in *knobsInput) (*knobsOutput, error) {
	var changes []cairn.Change
	if text := in.Body.Sweep; text != nil {
		d, err := time.ParseDuration(*text)
		if err != nil || d < sweepMin || d > sweepMax {
			return nil, badFields(Field{In: "body", Field: "sweep", Message: fmt.Sprintf("is %q; want a duration, %v to %v", cut(*text, 40), sweepMin, sweepMax)})
		}
		changes = append(changes, cairn.Change{Knob: "sweep", Value: d.String()})
	}
	if n := in.Body.Precision; n != nil {
		changes = append(changes, cairn.Change{Knob: "precision", Value: strconv.Itoa(*n)})
	}
	if len(changes) == 0 {
		return nil, badFields(Field{In: "body", Field: "sweep", Message: "is missing; want at least one of sweep and precision"})
	}
	for _, c := range changes {
		if _, p := s.record(ctx, c); p != nil {
			return nil, p
		}
	}
	return s.readKnobs(ctx, nil)
}

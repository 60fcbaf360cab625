package server

import (
	"crypto/rand"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/veltrix/cairn/internal/trail"
)

// Header values that never change, shared by all answers.
var (
	headerNoSniff = []string{"nosniff"}
	headerNoStore = []string{"no-store"}
	headerJSON    = []string{"application/json"}
)

// around wraps a mux with what every request gets: an id, metrics, an access
// log, answers to panics, and problems where the mux would write plain text.
// first, if it is not nil, may set headers, and refuse a request.
func (s *Server) around(mux *http.ServeMux, first func(http.ResponseWriter, *http.Request) *Problem) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now() // a duration, not a time of day: not the clock of Options
		s.metrics.inFlight.Inc()
		resp := &response{ResponseWriter: w, id: requestID(r)}
		ctx := trail.With(r.Context(), resp)
		var span trace.Span
		if s.opts.Traces.Tracer != nil && traceable(r) {
			ctx, span = s.opts.Traces.Begin(ctx, r)
		}
		r = r.WithContext(ctx)
		resp.r = r
		h := w.Header()
		h["X-Content-Type-Options"] = headerNoSniff
		h["Cache-Control"] = headerNoStore // until a handler knows better
		h[headerRequestID] = []string{resp.id}
		defer func() {
			if span != nil {
				defer endRequest(span, resp) // whatever comes of a panic
			}
			s.recovered(recover(), resp)
			took := time.Since(start)
			s.metrics.inFlight.Dec()
			s.metrics.answered(r.Pattern, resp.status, took)
			if s.opts.Log.Enabled(ctx, slog.LevelDebug) {
				s.opts.Log.LogAttrs(ctx, slog.LevelDebug, "http", slog.String("method", r.Method),
					slog.String("path", r.URL.Path), slog.Int("status", resp.status), slog.Int64("bytes", resp.bytes),
					slog.Duration("took", took), slog.String("from", r.RemoteAddr))
			}
		}()
		p := saneURL(r)
		if p == nil && first != nil {
			p = first(w, r)
		}
		if p != nil {
			p.write(resp)
			return
		}
		mux.ServeHTTP(resp, r)
	})
}

// recovered turns a panic into a 500, if it is not too late for one.
func (s *Server) recovered(v any, resp *response) {
	if v == nil {
		return
	}
	if v == http.ErrAbortHandler {
		panic(v) // the server's own way to cut a connection
	}
	s.metrics.panics.Inc()
	s.opts.Log.ErrorContext(resp.r.Context(), "http: panic", "method", resp.r.Method, "path", resp.r.URL.Path, "panic", v, "stack", string(debug.Stack()))
	if resp.status != 0 {
		panic(http.ErrAbortHandler) // half an answer is out: cut it, so that it isn't taken for a whole one
	}
	problem(http.StatusInternalServerError, "", "the server failed; its log has request %s", resp.id).write(resp)
}

// saneURL refuses URLs that could be read in two ways.
func saneURL(r *http.Request) *Problem {
	if !utf8.ValidString(r.URL.Path) {
		return badFields(Field{In: "path", Message: "the path is not UTF-8"})
	}
	// The mux would redirect to the path that it takes this for.
	if p := r.URL.EscapedPath(); strings.Contains(p, "//") || strings.Contains(p, "/./") || strings.Contains(p, "/../") ||
		strings.HasSuffix(p, "/.") || strings.HasSuffix(p, "/..") {
		return nothingAt(r)
	}
	if r.URL.RawQuery == "" {
		return nil
	}
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return badFields(Field{In: "query", Message: "the query is malformed: " + cut(err.Error(), 80)})
	}
	for _, name := range slices.Sorted(maps.Keys(q)) {
		values := q[name]
		switch {
		case !utf8.ValidString(name):
			return badFields(Field{In: "query", Message: "the query has a name that is not UTF-8"})
		case len(values) > 1:
			return badFields(Field{In: "query", Field: cut(name, 64), Message: "is there " + strconv.Itoa(len(values)) + " times; want it once"})
		case !utf8.ValidString(values[0]):
			return badFields(Field{In: "query", Field: cut(name, 64), Message: "is not UTF-8"})
		}
	}
	return nil
}

// traceable reports whether a request is one that ends, and of the API.
func traceable(r *http.Request) bool {
	switch path := r.URL.Path; path {
	case "/v1/live", "/v1/events":
		return false
	default:
		return strings.HasPrefix(path, "/v1/") || strings.HasPrefix(path, "/admin/v1/")
	}
}

// endRequest ends the span of a request that was answered.
func endRequest(span trace.Span, resp *response) {
	if route := resp.r.Pattern; route != "" {
		span.SetName(route)
		_, path, _ := strings.Cut(route, " ")
		span.SetAttributes(attribute.String("http.route", path))
	}
	span.SetAttributes(attribute.Int("http.response.status_code", resp.status))
	if resp.status == 0 || resp.status >= http.StatusInternalServerError {
		span.SetStatus(codes.Error, http.StatusText(resp.status))
	}
	span.End()
}

// headerRequestID is where requests and answers have their id.
const headerRequestID = "X-Request-Id"

// Request ids of this process are its random prefix and a count.
var (
	requestPrefix = rand.Text()[:8] + "-"
	requestCount  atomic.Uint64
)

// requestID returns the id that the client or a proxy gave, or a new one.
func requestID(r *http.Request) string {
	if id := givenID(r); id != "" {
		return id
	}
	return numbered(requestCount.Add(1))
}

// givenID returns the id that the client or a proxy gave a request, or "": one
// of 1 to 64 characters that nobody has to quote.
func givenID(r *http.Request) string {
	if id := r.Header.Get(headerRequestID); id != "" && len(id) <= 64 {
		for i := range len(id) {
			c := id[i]
			if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '.') {
				return ""
			}
		}
		return id
	}
	return ""
}

// numbered returns the n-th id of this process.
func numbered(n uint64) string { return requestPrefix + strconv.FormatUint(n, 36) }

// A connID is the id of a connection that outlives its handshake: the
// handshake's own, put together when somebody asks.
type connID struct {
	n     uint64 // 0: it was given
	given string
}

// connIDOf returns the id of the connection that r opens.
func connIDOf(r *http.Request) connID {
	if id := givenID(r); id != "" {
		return connID{given: strings.Clone(id)} // it may be a part of all that r has
	}
	return connID{n: requestCount.Add(1)}
}

// String implements fmt.Stringer.
func (id connID) String() string {
	if id.n == 0 {
		return id.given
	}
	return numbered(id.n)
}

// A response notes what was answered, and turns the mux's own plain-text 404
// and 405 into problems: those are the answers to a request without a pattern.
type response struct {
	http.ResponseWriter
	id      string
	r       *http.Request
	status  int // 0 until the header is written
	bytes   int64
	swallow bool
}

// String returns the request's id.
func (w *response) String() string { return w.id }

// Unwrap lets http.ResponseController reach what is beneath.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *response) WriteHeader(status int) {
	if w.status == 0 && w.r.Pattern == "" && (status == http.StatusNotFound || status == http.StatusMethodNotAllowed) {
		w.swallow = true
		w.refuse(status)
		return
	}
	if w.status == 0 && (status >= 200 || status == http.StatusSwitchingProtocols) {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func nothingAt(r *http.Request) *Problem {
	return problem(http.StatusNotFound, codeNotFound, "there is nothing at %s", cut(r.URL.Path, 120))
}

// refuse answers for the mux.
func (w *response) refuse(status int) {
	p := nothingAt(w.r)
	if status == http.StatusMethodNotAllowed {
		if w.r.Method == http.MethodOptions {
			w.options(w.Header().Get("Allow"))
			return
		}
		p = problem(status, codeMethod, "%s can't be done to %s; want %s", cut(w.r.Method, 20), cut(w.r.URL.Path, 120), w.Header().Get("Allow"))
	}
	// The mux may have set headers for its own body.
	w.status = status
	p.write(w.ResponseWriter)
}

func (w *response) Write(b []byte) (int, error) {
	if w.swallow {
		return len(b), nil
	}
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(b)
	w.bytes += int64(n)
	return n, err
}

package server

import (
	"net/http"
	"slices"
	"strings"
)

// What pages of other origins may send, and read beyond what any page may.
const (
	corsSend   = "Authorization, Content-Type, If-None-Match, Last-Event-ID, X-Request-Id"
	corsRead   = "ETag, Location, Retry-After, X-Request-Id"
	corsMaxAge = "600" // seconds that a browser may remember a preflight's answer
)

// listed reports whether an origin is one of Options.Origins.
func (s *Server) listed(origin string) bool {
	return slices.ContainsFunc(s.opts.Origins, func(o string) bool { return o == "*" || strings.EqualFold(o, origin) })
}

// cors lets the pages of Options.Origins read answers (Fetch, section 3.2).
// There are no cookies, so whoever may read brings a token of its own.
func (s *Server) cors(w http.ResponseWriter, r *http.Request) {
	if len(s.opts.Origins) == 0 {
		return
	}
	h := w.Header()
	anyone := slices.Contains(s.opts.Origins, "*")
	if !anyone {
		h.Set("Vary", "Origin")
	}
	origin := r.Header.Get("Origin")
	if origin == "" || !s.listed(origin) {
		return
	}
	if anyone {
		origin = "*"
	}
	h.Set("Access-Control-Allow-Origin", origin)
	h.Set("Access-Control-Expose-Headers", corsRead)
}

// options answers OPTIONS for a path that takes the methods of allow, and a
// browser's preflight with it.
func (w *response) options(allow string) {
	h := w.Header()
	h.Del("Content-Type") // the mux's, for a body of its own
	allow += ", OPTIONS"
	h.Set("Allow", allow)
	if h.Get("Access-Control-Allow-Origin") != "" && w.r.Header.Get("Access-Control-Request-Method") != "" {
		h.Set("Access-Control-Allow-Methods", allow)
		h.Set("Access-Control-Allow-Headers", corsSend)
		h.Set("Access-Control-Max-Age", corsMaxAge)
	}
	w.status = http.StatusNoContent
	w.ResponseWriter.WriteHeader(w.status)
}

package server

import (
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/gobwas/ws"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/broadcast"
)

// liveRoute is the mux's pattern of /v1/live.
const liveRoute = "GET /v1/live"

// upgrader finishes a handshake that getLive has found good. Of the
// subprotocols that a client offers, in the order of its liking, the first
// that there is counts.
var upgrader = ws.HTTPUpgrader{
	Protocol: func(p string) bool { _, ok := broadcast.CodecOf(p); return ok },
	Timeout:  5 * time.Second,
}

// getLive upgrades to a WebSocket and hands it to the hub: what [Server.Front]
// does for most, for all others.
func (s *Server) getLive(w http.ResponseWriter, r *http.Request) {
	if p := s.mayUpgrade(r); p != nil {
		reason := shakeForm
		if p.Status == http.StatusForbidden {
			s.metrics.refused.WithLabelValues(refusedOrigin).Inc()
			reason = shakeOrigin
		}
		s.metrics.shakesRefused[reason].Inc()
		p.write(w)
		return
	}
	if reason, after := s.admitSocket(time.Now()); reason != "" {
		s.metrics.shakesRefused[reason].Inc()
		refusal(reason, after).write(w)
		return
	}
	id := w.Header().Get(headerRequestID) // the connection's from here
	up := upgrader
	up.Header = http.Header{headerRequestID: {id}}
	conn, rw, hs, err := up.Upgrade(r, w)
	if err != nil {
		s.metrics.shakesRefused[shakeLost].Inc()
		if conn != nil {
			conn.Close()
		}
		return // the handshake failed on the wire: nobody is left to tell
	}
	s.metrics.shakes[pathHTTP].Inc()
	conn, early := splitEarly(conn, rw.Reader) // it may speak before it hears the handshake's end
	if c, ok := conn.(interface{ SetWriteBuffer(bytes int) error }); ok {
		_ = c.SetWriteBuffer(sendBufferBytes) // one that fails is one that ends
	}
	addr, counted := s.address(r)
	e := &edge{s: s, addr: addr, counted: counted, id: connID{given: id}}
	codec, _ := broadcast.CodecOf(hs.Protocol) // none was asked for: JSON, the zero value
	// The hub owns the connection from here, and ends it when it drains: it
	// outlives this call, and what net/http keeps for it is given back.
	s.rooms.Hub.Serve(conn, early, codec, e, func(err error) {
		if err != nil {
			s.opts.Log.Debug("live: connection ended", "request_id", id, "from", addr, "err", err)
		}
	})
}

// connections returns how many clients watch.
func (s *Server) connections() int { return s.rooms.Hub.Connections() }

// mayUpgrade returns why a request can't become a WebSocket, before its
// connection is taken from net/http: after that no problem could be told.
func (s *Server) mayUpgrade(r *http.Request) *Problem {
	h := r.Header
	bad := func(name, format string, args ...any) *Problem {
		p := problem(http.StatusBadRequest, "", format, args...)
		p.Errors = []Field{{In: "header", Field: name, Message: p.Detail}}
		p.Detail = name + ": " + p.Detail
		return p
	}
	switch {
	case r.URL.RawQuery != "":
		return unknownQuery(r)
	case r.ProtoMajor != 1:
		// HTTP/2 has no Upgrade header: a client drops an answer that has one.
		return problem(http.StatusUpgradeRequired, "", "WebSockets are served over HTTP/1.1 here")
	case !hasToken(h, "Connection", "upgrade") || !hasToken(h, "Upgrade", "websocket"):
		return problem(http.StatusUpgradeRequired, "", "this is a WebSocket: connect with one").with("Upgrade", "websocket")
	case h.Get("Sec-WebSocket-Version") != "13":
		return problem(http.StatusUpgradeRequired, "", "Sec-WebSocket-Version: is %.20q; want 13", h.Get("Sec-WebSocket-Version")).
			with("Upgrade", "websocket").with("Sec-WebSocket-Version", "13")
	case len(h.Get("Sec-WebSocket-Key")) != 24:
		return bad("Sec-WebSocket-Key", "has %d characters; want 24", len(h.Get("Sec-WebSocket-Key")))
	case !offersCodec(h.Values("Sec-WebSocket-Protocol")):
		return bad("Sec-WebSocket-Protocol", "is %.60q; want %v or %v", h.Get("Sec-WebSocket-Protocol"), broadcast.JSON, broadcast.Proto)
	case !s.originAllowed(r):
		return problem(http.StatusForbidden, "", "Origin: is %.80q, whose pages may not connect here", h.Get("Origin"))
	}
	return nil
}

// offersCodec reports whether a client offers a subprotocol that there is, or
// leaves it to the server, which then speaks JSON.
func offersCodec(offers []string) bool {
	for _, v := range offers {
		for name := range strings.SplitSeq(v, ",") {
			if _, ok := broadcast.CodecOf(strings.TrimSpace(name)); ok {
				return true
			}
		}
	}
	return len(offers) == 0
}

// originAllowed reports whether the page that opens a socket may: one of this
// host's own, or of Options.Origins. No browser, no Origin.
func (s *Server) originAllowed(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if origin == "" {
		return true
	}
	if s.listed(origin) {
		return true
	}
	u, err := url.Parse(origin)
	return err == nil && u.Host != "" && strings.EqualFold(u.Host, r.Host)
}

// hasToken reports whether a header lists a token.
func hasToken(h http.Header, name, token string) bool {
	for _, v := range h.Values(name) {
		for t := range strings.SplitSeq(v, ",") {
			if strings.EqualFold(strings.TrimSpace(t), token) {
				return true
			}
		}
	}
	return false
}

// An edge is what the hub asks of the server for one connection. There are as
// many as there are connections.
type edge struct {
	s       *Server
	addr    netip.Addr
	counted bool
	id      connID
}

var _ broadcast.Edge = (*edge)(nil)

// Hello implements broadcast.Edge.
func (e *edge) Hello(token string) (cairn.PlayerID, string, error) {
	p, err := e.s.tokens.verify(token)
	if err != nil {
		e.s.metrics.refused.WithLabelValues(refusedToken).Inc()
		return "", "", err
	}
	return p.id, p.name, nil
}

package server

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/broadcast"
	"github.com/veltrix/cairn/internal/wire"
)

// eventWriteWithin is how long one write of an event stream may take: a reader
// that takes nothing for so long is cut.
const eventWriteWithin = 10 * time.Second

// drainGrace is how long streams stay open once the server drains, for the hub
// to tell their clients to go elsewhere.
const drainGrace = 3 * time.Second

// getEvents streams what a WebSocket would show, as Server-Sent Events.
func (s *Server) getEvents(w http.ResponseWriter, r *http.Request) {
	in, p := s.interest(r)
	if p != nil {
		p.write(w)
		return
	}
	sub, err := s.rooms.Hub.Subscribe(in, broadcast.ParseResume(r.Header.Get("Last-Event-ID")))
	if err != nil {
		s.subscribeProblem(r.Context(), in.Hunt, err).write(w)
		return
	}
	defer sub.Close()
	s.metrics.streams.Inc()
	defer s.metrics.streams.Dec()

	// A stream has no end to wait for: only each write has a deadline.
	rc := http.NewResponseController(w)
	rc.SetReadDeadline(time.Time{})
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // nginx would hold events back
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodHead {
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	// The hub says goodbye when it drains; a stream does not wait for that for
	// ever, or it would hold the listener open.
	defer context.AfterFunc(s.drainCtx, func() { time.AfterFunc(drainGrace, cancel) })()
	flush := func() error {
		rc.SetWriteDeadline(time.Now().Add(eventWriteWithin))
		return rc.Flush()
	}
	if flush() != nil {
		return
	}
	for {
		frames, err := sub.Next(ctx)
		if err != nil {
			return // the client went, or the hub drains: either way it is over
		}
		rc.SetWriteDeadline(time.Now().Add(eventWriteWithin))
		for _, f := range frames {
			if _, err := w.Write(f); err != nil {
				return
			}
		}
		if flush() != nil {
			return
		}
	}
}

// interest reads what a stream is to show from its query.
func (s *Server) interest(r *http.Request) (broadcast.Interest, *Problem) {
	in := broadcast.Interest{}
	if p := unknownQuery(r, "hunt", "regions", "standings"); p != nil {
		return in, p
	}
	q := r.URL.Query()
	bad := func(name, msg string) (broadcast.Interest, *Problem) {
		return in, badFields(Field{In: "query", Field: name, Message: msg})
	}
	if !q.Has("hunt") {
		return bad("hunt", "is missing; want a hunt's id")
	}
	in.Hunt = cairn.HuntID(q.Get("hunt"))
	if _, p := s.hunt(in.Hunt); p != nil {
		return in, p
	}
	switch v := q.Get("standings"); v {
	case "", "false":
	case "true":
		in.Standings = true
	default:
		return bad("standings", "is "+strconv.Quote(cut(v, 20))+"; want true or false")
	}
	if !q.Has("regions") {
		if !in.Standings {
			in.Regions = []cairn.Cell{0} // who names nothing sees everything
		}
		return in, nil
	}
	for text := range strings.SplitSeq(q.Get("regions"), ",") {
		c, err := cairn.ParseCell(text)
		if err != nil {
			return bad("regions", err.Error())
		}
		if in.Regions = append(in.Regions, c); len(in.Regions) > wire.WatchRegionsMax {
			return bad("regions", "has more than "+strconv.Itoa(wire.WatchRegionsMax)+" geohashes")
		}
	}
	return in, nil
}

func (s *Server) subscribeProblem(ctx context.Context, hunt cairn.HuntID, err error) *Problem {
	switch {
	case errors.Is(err, broadcast.ErrHuntUnknown):
		return unknownHunt(hunt)
	case errors.Is(err, broadcast.ErrNotReady), errors.Is(err, broadcast.ErrDraining):
		return problem(http.StatusServiceUnavailable, "", "this gateway takes nobody new now; try again").with("Retry-After", "1")
	}
	if fields := fieldsOf("query", err); len(fields) > 0 {
		return badFields(fields...)
	}
	return s.failed(ctx, "events", err)
}

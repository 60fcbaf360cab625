package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/claim"
	"github.com/veltrix/cairn/internal/trail"
)

// postClaims is the hot path, so it is a handler of its own beside huma, which
// decodes a body twice, once to validate it and once into its type: 13 µs and
// 90 allocations a claim where this takes under 3 µs (BenchmarkClaim,
// BenchmarkClaimDecode). The order of the checks is part of the contract:
// token, form, limits, and then what the claim service looks at.
func (s *Server) postClaims(w http.ResponseWriter, r *http.Request) {
	who, p := s.tokens.who(bearer(r))
	if p != nil {
		s.metrics.refused.WithLabelValues(refusedToken).Inc()
		p.write(w)
		return
	}
	d := claimDecoders.Get().(*claimDecoder)
	defer d.release()
	array, p := d.read(w, r)
	if p != nil {
		s.metrics.refused.WithLabelValues(refusedForm).Inc()
		p.write(w)
		return
	}
	hunt := cairn.HuntID(r.PathValue("hunt"))
	claims := s.rooms.Claims
	if cairn.ValidHuntID(hunt) != nil {
		claims = nowhere{} // a name that no hunt can have needs no looking up
	}
	addr, counted := s.address(r)
	ctx, cancel := context.WithTimeout(r.Context(), s.opts.ClaimWithin)
	defer cancel()
	if array {
		s.claimArray(ctx, w, claims, hunt, who, addr, counted, d.bodies)
		return
	}
	a := attemptOf(hunt, who, &d.bodies[0])
	s.traceAttempts(ctx, &a, 1)
	var wait [1]time.Duration
	if s.admitAll(who.id, addr, counted, wait[:]); wait[0] > 0 {
		writeVerdict(w, &cairn.Verdict{Outcome: cairn.Throttled, RetryAfter: wait[0]}, &a, nil)
		return
	}
	v, err := claims.Claim(ctx, &a)
	s.logUndecided(ctx, &a, &v, err)
	writeVerdict(w, &v, &a, err)
}

// nowhere stands for the claim service of a hunt that can't be: it has no tile.
type nowhere struct{}

func (nowhere) Claim(context.Context, *cairn.Attempt) (cairn.Verdict, error) {
	return cairn.Verdict{Outcome: cairn.UnknownTile}, nil
}

func (nowhere) ClaimAll(_ context.Context, _ []cairn.Attempt, out []claim.Answer) {
	for i := range out {
		out[i].Verdict.Outcome = cairn.UnknownTile
	}
}

func (nowhere) Submit(_ context.Context, as []cairn.Attempt, answered func(int, *claim.Answer)) {
	for i := range as {
		answered(i, &claim.Answer{Verdict: cairn.Verdict{Outcome: cairn.UnknownTile}})
	}
}

func (nowhere) Knows(cairn.TileRef) bool { return true }

func (nowhere) Lookup(context.Context, cairn.TileRef, cairn.PlayerID) (cairn.Verdict, error) {
	return cairn.Verdict{Outcome: cairn.UnknownTile}, nil
}

func attemptOf(hunt cairn.HuntID, who player, c *claimBody) cairn.Attempt {
	return cairn.Attempt{
		TileRef: cairn.TileRef{Hunt: hunt, Tick: c.tick, Tile: c.tile},
		Player:  who.id, Name: who.name, ClaimID: c.claimID, Answer: c.answer, Token: c.token,
	}
}

// admitAll counts attempts against the limits of their player and address, and
// sets how long to wait of those for which there is nothing left.
func (s *Server) admitAll(id cairn.PlayerID, addr netip.Addr, counted bool, waits []time.Duration) {
	now := s.opts.Now()
	if n := s.byPlayer.takeAll(id, now, waits); n > 0 {
		s.metrics.refused.WithLabelValues(refusedPlayer).Add(float64(n))
	}
	if !counted {
		return
	}
	if n := s.byAddress.takeAll(addr, now, waits); n > 0 {
		s.metrics.refused.WithLabelValues(refusedAddress).Add(float64(n))
	}
}

// claimArray answers an array: each attempt on its own, limits included, in
// the order that they came in.
func (s *Server) claimArray(ctx context.Context, w http.ResponseWriter, claims Claims, hunt cairn.HuntID, who player, addr netip.Addr, counted bool, bodies []claimBody) {
	attempts := make([]cairn.Attempt, 0, len(bodies))
	answers := make([]claim.Answer, len(bodies))
	throttled := make([]time.Duration, len(bodies))
	s.admitAll(who.id, addr, counted, throttled)
	for i := range bodies {
		if throttled[i] == 0 {
			attempts = append(attempts, attemptOf(hunt, who, &bodies[i]))
		}
	}
	answers = answers[:len(attempts)]
	if len(attempts) > 0 {
		s.traceAttempts(ctx, &attempts[0], len(attempts))
	}
	claims.ClaimAll(ctx, attempts, answers)

	b := append(make([]byte, 0, 256*len(bodies)), '[')
	next := 0 // the first answer that is not written yet
	for i := range bodies {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, '{')
		if wait := throttled[i]; wait > 0 {
			a := attemptOf(hunt, who, &bodies[i])
			b = appendOutcome(b, &cairn.Verdict{Outcome: cairn.Throttled, RetryAfter: wait}, &a)
		} else {
			s.logUndecided(ctx, &attempts[next], &answers[next].Verdict, answers[next].Err)
			if err := answers[next].Err; err != nil {
				b = appendUndecided(b, &attempts[next])
			} else {
				b = appendOutcome(b, &answers[next].Verdict, &attempts[next])
			}
			next++
		}
		b = append(b, '}')
	}
	b = append(b, ']')
	h := w.Header()
	h["Content-Type"] = headerJSON
	h.Set("Content-Length", strconv.Itoa(len(b)))
	w.WriteHeader(http.StatusOK)
	w.Write(b)
}

// logUndecided logs that an attempt was not decided, if it was not: the owner's
// own line of it has the same request_id.
func (s *Server) logUndecided(ctx context.Context, a *cairn.Attempt, v *cairn.Verdict, err error) {
	if err == nil && v.Outcome != cairn.Pending {
		return
	}
	if err == nil {
		err = errPending
	}
	s.undecided.Warn(ctx, s.opts.Log, "a claim was not decided", slog.String("hunt", cut(string(a.Hunt), 64)), slog.Int64("map", int64(a.Tick)),
		slog.Uint64("tile", uint64(a.Tile)), slog.Any("err", err))
}

var errPending = errors.New("it may be yet: the client was told so")

// traceAttempts notes on a request's span, if it has one, what it claims: n
// tiles, the first of them a's.
func (s *Server) traceAttempts(ctx context.Context, a *cairn.Attempt, n int) {
	if s.opts.Traces.Tracer == nil {
		return
	}
	if span := trace.SpanFromContext(ctx); span.IsRecording() {
		span.SetAttributes(trail.KeyHunt.String(string(a.Hunt)), trail.KeyMap.Int64(int64(a.Tick)), trail.KeyBatch.Int(n))
	}
}

// read reads and decodes the body of a request.
func (d *claimDecoder) read(w http.ResponseWriter, r *http.Request) (array bool, p *Problem) {
	if r.URL.RawQuery != "" {
		return false, unknownQuery(r)
	}
	if p := jsonOnly(r); p != nil {
		return false, p
	}
	d.buf.Reset()
	if _, err := d.buf.ReadFrom(http.MaxBytesReader(w, r.Body, claimsBytesMax)); err != nil {
		return false, unreadable(err)
	}
	size := d.buf.Len()
	array = d.decode()
	switch {
	case !array && size > claimBytesMax:
		return array, tooLarge(claimBytesMax)
	case len(d.fields) > 0:
		return array, badFields(append([]Field(nil), d.fields...)...)
	}
	return array, nil
}

// unreadable says why a body could not be read to its end.
func unreadable(err error) *Problem {
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		return tooLarge(large.Limit)
	}
	return problem(http.StatusRequestTimeout, "", "the body did not come whole in time")
}

func tooLarge(most int64) *Problem {
	p := problem(http.StatusRequestEntityTooLarge, "", "the body is over %d bytes", most)
	p.Errors = []Field{{In: "body", Message: p.Detail}}
	return p
}

// unknownQuery names the first query parameter of a call that has some it does
// not know.
func unknownQuery(r *http.Request, known ...string) *Problem {
	var fields []Field
	for name := range r.URL.Query() {
		if !slices.Contains(known, name) && len(fields) < fieldsShown {
			fields = append(fields, Field{In: "query", Field: cut(name, 64), Message: "is unknown"})
		}
	}
	if len(fields) == 0 {
		return nil
	}
	return badFields(fields...)
}

// A tilePath is the path of one tile.
type tilePath struct {
	Hunt cairn.HuntID `path:"hunt" doc:"The hunt's id." example:"oslo-winter"`
	Tick int64        `path:"tick" minimum:"0" doc:"The map's number." example:"1767322800"`
	Tile int64        `path:"index" minimum:"0" maximum:"65535" doc:"The tile's index in its map." example:"17"`
}

func (p *tilePath) ref() cairn.TileRef {
	return cairn.TileRef{Hunt: p.Hunt, Tick: cairn.Tick(p.Tick), Tile: uint32(p.Tile)}
}

// An outcomeBody documents what appendOutcome writes.
type outcomeBody struct {
	Outcome      string       `json:"outcome" enum:"won,gone,wrong,closed,unknown_tile,throttled,pending,unavailable" doc:"How the attempt ended; unavailable stands for an attempt that was not decided."`
	Hunt         cairn.HuntID `json:"hunt"`
	Map          int64        `json:"map" doc:"The map's tick."`
	Tile         int64        `json:"tile" doc:"The tile's index."`
	ClaimID      string       `json:"claim_id,omitempty" doc:"As it was sent."`
	Offset       string       `json:"offset,omitempty" doc:"won: the claim's place in the log, opaque."`
	Reward       *cairn.Micro `json:"reward,omitempty" doc:"won: micro-units."`
	At           string       `json:"at,omitempty" format:"date-time" doc:"won, gone: when the tile was claimed."`
	Winner       string       `json:"winner,omitempty" doc:"gone: whose it is."`
	WinnerName   string       `json:"winner_name,omitempty" doc:"gone: and their name."`
	MarginMs     *int64       `json:"margin_ms,omitempty" minimum:"0" doc:"gone: how much later this attempt came."`
	AttemptsLeft *int64       `json:"attempts_left,omitempty" minimum:"0" doc:"wrong: tries left on this tile."`
	Opens        string       `json:"opens,omitempty" format:"date-time" doc:"closed: when the map opens or opened."`
	Closes       string       `json:"closes,omitempty" format:"date-time" doc:"closed: when it closes or closed."`
	RetryAfterMs *int64       `json:"retry_after_ms,omitempty" minimum:"1" doc:"throttled, pending, unavailable: when to ask again."`
}

// rawAnswer is an answer that was written by hand: huma sends it as it is.
type rawAnswer struct {
	Status      int
	ContentType string `header:"Content-Type"`
	RetryAfter  string `header:"Retry-After"`
	Body        []byte
}

// lookup tells how a player's claim of a tile ended.
func (s *Server) lookup(ctx context.Context, in *tilePath) (*rawAnswer, error) {
	who := playerOf(ctx)
	ctx, cancel := context.WithTimeout(ctx, s.opts.ClaimWithin)
	defer cancel()
	a := cairn.Attempt{TileRef: in.ref(), Player: who.id}
	claims := s.rooms.Claims
	if cairn.ValidHuntID(in.Hunt) != nil {
		claims = nowhere{}
	}
	v, err := claims.Lookup(ctx, a.TileRef, who.id)
	switch {
	case err != nil:
		s.logUndecided(ctx, &a, &v, err)
		return nil, undecided(err, &a)
	case v.Outcome == 0:
		return nil, problem(http.StatusNotFound, codeUnclaimed, "nobody has claimed that tile")
	case v.Outcome != cairn.Won && v.Outcome != cairn.Pending:
		return nil, problemOf(&v, &a)
	}
	out := &rawAnswer{Status: http.StatusOK, ContentType: "application/json"}
	if v.Outcome == cairn.Pending {
		out.Status, out.RetryAfter = http.StatusAccepted, retryAfter(waitOf(v.RetryAfter))
	}
	out.Body = append(appendOutcome([]byte{'{'}, &v, &a), '}')
	return out, nil
}

func unknownHunt(id cairn.HuntID) *Problem {
	return problem(http.StatusNotFound, codeHunt, "hunt: is %s; there is no such hunt", strconv.Quote(cut(string(id), 70)))
}

func unknownMap(hunt cairn.HuntID, tick int64) *Problem {
	return problem(http.StatusNotFound, codeMap, "%s", fmt.Sprintf("tick: is %d; %s has no such map now", tick, hunt))
}

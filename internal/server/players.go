package server

import (
	"context"
	"errors"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/ledger"
)

// playerKey is where a call's player stands in its context.
type playerKey struct{}

func playerOf(ctx context.Context) player {
	p, _ := ctx.Value(playerKey{}).(player)
	return p
}

// signedIn lets only requests with a good token through, and notes whose it is.
func (s *Server) signedIn(ctx huma.Context, next func(huma.Context)) {
	r, w := humago.Unwrap(ctx)
	p, pr := s.tokens.who(bearer(r))
	if pr != nil {
		s.metrics.refused.WithLabelValues(refusedToken).Inc()
		pr.write(w)
		return
	}
	next(huma.WithValue(ctx, playerKey{}, p))
}

// jsonBody lets only requests with a JSON body through.
func jsonBody(ctx huma.Context, next func(huma.Context)) {
	r, w := humago.Unwrap(ctx)
	if p := jsonOnly(r); p != nil {
		p.write(w)
		return
	}
	next(ctx)
}

// guestLimit counts sign-ins by address. It comes before the body is read.
func (s *Server) guestLimit(ctx huma.Context, next func(huma.Context)) {
	r, w := humago.Unwrap(ctx)
	if !s.opts.Guests {
		problem(http.StatusForbidden, "", "guests can't sign in here: bring a token of the operator's").write(w)
		return
	}
	if addr, counted := s.address(r); counted {
		if wait := s.guests.take(addr, s.opts.Now()); wait > 0 {
			s.metrics.refused.WithLabelValues(refusedGuests).Inc()
			problem(http.StatusTooManyRequests, "", "too many guests from your address").with("Retry-After", retryAfter(wait)).write(w)
			return
		}
	}
	next(ctx)
}

type signInInput struct {
	Body struct {
		Name string `json:"name" minLength:"1" maxLength:"40" doc:"What others see. UTF-8 without control characters." example:"ana"`
	}
}

type signInOutput struct {
	Body struct {
		Player cairn.PlayerID `json:"player" doc:"The new player's id."`
		Name   string         `json:"name"`
		Token  string         `json:"token" doc:"For the Authorization header, or a socket's hello."`
	}
}

// postPlayer signs a guest in.
func (s *Server) postPlayer(ctx context.Context, in *signInInput) (*signInOutput, error) {
	if err := cairn.ValidPlayerName(in.Body.Name); err != nil {
		return nil, badFields(Field{In: "body", Field: "name", Message: err.Error()})
	}
	p, token, err := s.tokens.signIn(in.Body.Name)
	if err != nil {
		return nil, s.failed(ctx, "sign-in", err)
	}
	out := &signInOutput{}
	out.Body.Player, out.Body.Name, out.Body.Token = p.id, p.name, token
	return out, nil
}

// failed logs an error of a room and returns what the client is told: nothing
// of it.
func (s *Server) failed(ctx context.Context, what string, err error) *Problem {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return problem(http.StatusServiceUnavailable, "", "the answer took too long; try again").with("Retry-After", "1")
	}
	s.opts.Log.ErrorContext(ctx, "http: "+what+" failed", "err", err)
	return problem(http.StatusInternalServerError, "", "the server failed")
}

type rewardsInput struct {
	Cursor string `query:"cursor" maxLength:"200" doc:"The next of the page before."`
	Limit  int    `query:"limit" minimum:"1" maximum:"500" default:"50" doc:"Entries in a page."`
}

type rewardsOutput struct {
	Body struct {
		Rewards []rewardEntry `json:"rewards" doc:"Newest first."`
		Next    string        `json:"next,omitempty" doc:"The cursor of the next page; absent on the last."`
		Balance cairn.Micro   `json:"balance" doc:"The sum of all entries, in micro-units."`
	}
}

// A rewardEntry is a ledger.Entry in the API's words.
type rewardEntry struct {
	Hunt    cairn.HuntID `json:"hunt"`
	Map     cairn.Tick   `json:"map" doc:"The map's tick."`
	Tile    uint32       `json:"tile" doc:"The tile's index."`
	Geohash string       `json:"geohash"`
	Reward  cairn.Micro  `json:"reward" doc:"Micro-units."`
	At      string       `json:"at" format:"date-time" doc:"When the tile was claimed."`
	Offset  string       `json:"offset" doc:"The claim's place in the log, as the claim's answer had it."`
	State   ledger.State `json:"state" enum:"settled,paid" doc:"settled: it counts in the balance; paid: and was paid out."`
}

// getRewards pages through what the player earned.
func (s *Server) getRewards(ctx context.Context, in *rewardsInput) (*rewardsOutput, error) {
	who := playerOf(ctx)
	entries, next, err := s.rooms.Rewards.Rewards(ctx, who.id, in.Cursor, in.Limit)
	if errors.Is(err, ledger.ErrBadCursor) {
		return nil, badFields(Field{In: "query", Field: "cursor", Message: "is none that this server handed out"})
	}
	var balance cairn.Micro
	if err == nil {
		balance, err = s.rooms.Rewards.Balance(ctx, who.id)
	}
	if ledger.IsAway(err) {
		s.opts.Log.WarnContext(ctx, "no rewards", "err", err)
		return nil, problem(http.StatusServiceUnavailable, "", "rewards can't be read now").with("Retry-After", "1")
	}
	if err != nil {
		return nil, s.failed(ctx, "rewards", err)
	}
	out := &rewardsOutput{}
	out.Body.Rewards, out.Body.Next, out.Body.Balance = make([]rewardEntry, 0, len(entries)), next, balance
	for _, e := range entries {
		out.Body.Rewards = append(out.Body.Rewards, rewardEntry{e.Hunt, e.Map, e.Tile, e.Geohash, e.Reward, e.At.String(), e.Offset, e.State})
	}
	return out, nil
}

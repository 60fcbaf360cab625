package server

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/eventlog"
	"github.com/veltrix/cairn/internal/wire"
)

// A BoardInput is what names a board. huma looks into embedded structs only if
// they are exported.
type BoardInput struct {
	Hunt   cairn.HuntID `path:"hunt" doc:"The hunt's id." example:"oslo-winter"`
	Window string       `query:"window" enum:"hunt,hour" default:"hunt" doc:"The whole hunt, or this UTC hour."`
	Region string       `query:"region" maxLength:"12" doc:"A geohash prefix; empty is everywhere." example:"u4pr"`
}

// key returns which board is asked for, or the 400 or 404.
func (s *Server) boardKey(in *BoardInput) (wire.BoardKey, *Problem) {
	if _, p := s.hunt(in.Hunt); p != nil {
		return wire.BoardKey{}, p
	}
	key := wire.BoardKey{Hunt: in.Hunt}
	var err error
	if key.Window, err = wire.ParseWindow(in.Window); err != nil {
		return key, badFields(Field{In: "query", Field: "window", Message: err.Error()})
	}
	if key.Region, err = cairn.ParseCell(in.Region); err != nil {
		return key, badFields(Field{In: "query", Field: "region", Message: err.Error()})
	}
	if key.Window == wire.WindowHour {
		key.Hour = int64(s.now()) / hourMicros
	}
	return key, nil
}

// boardsRetryAfter is when to ask again, in seconds, if nobody could answer.
const boardsRetryAfter = "1"

// boardsFailed returns why there is no board: the key, or that nobody can
// answer now.
func (s *Server) boardsFailed(ctx context.Context, err error) *Problem {
	if fields := fieldsOf("query", err); len(fields) > 0 {
		return badFields(fields...)
	}
	s.opts.Log.WarnContext(ctx, "no standings", "err", err)
	return problem(http.StatusServiceUnavailable, "", "standings can't be read now").with("Retry-After", boardsRetryAfter)
}

const hourMicros = 3600 * 1_000_000

type standingsInput struct {
	BoardInput
	Limit       int    `query:"limit" minimum:"1" maximum:"1000" default:"100" doc:"Rows from the top."`
	IfNoneMatch string `header:"If-None-Match" doc:"ETags that the client has."`
}

type aroundInput struct {
	BoardInput
	Player      cairn.PlayerID `path:"player" maxLength:"64" doc:"The player's id."`
	Around      int            `query:"around" minimum:"0" maximum:"100" default:"5" doc:"Rows on each side of the player's."`
	IfNoneMatch string         `header:"If-None-Match" doc:"ETags that the client has."`
}

type standingsOutput struct {
	Status       int
	ContentType  string `header:"Content-Type"`
	ETag         string `header:"ETag"`
	CacheControl string `header:"Cache-Control"`
	Body         []byte
}

// A standingsBody documents what appendStandings writes.
type standingsBody struct {
	Hunt    cairn.HuntID      `json:"hunt"`
	Window  string            `json:"window" enum:"hunt,hour"`
	Hour    string            `json:"hour,omitempty" format:"date-time" doc:"hour: when it began."`
	Region  string            `json:"region"`
	AsOf    map[string]string `json:"as_of" doc:"By shard's log (s03 is shard 3), the record up to which these standings are a fold."`
	LagMs   int64             `json:"lag_ms" doc:"How old the standings are; 0 when nothing is missing."`
	Players int               `json:"players" doc:"How many have a rank."`
	Rows    []rowBody         `json:"rows"`
}

type rowBody struct {
	Rank   int            `json:"rank"`
	Player cairn.PlayerID `json:"player"`
	Name   string         `json:"name"`
	Score  int64          `json:"score" doc:"Micro-units."`
	Claims int            `json:"claims"`
}

func (s *Server) getStandings(ctx context.Context, in *standingsInput) (*standingsOutput, error) {
	key, p := s.boardKey(&in.BoardInput)
	if p != nil {
		return nil, p
	}
	b, lag, err := s.rooms.Boards.Standings(ctx, key, in.Limit)
	if err != nil {
		return nil, s.boardsFailed(ctx, err)
	}
	return standingsAnswer(b, lag, in.IfNoneMatch), nil
}

func (s *Server) getAround(ctx context.Context, in *aroundInput) (*standingsOutput, error) {
	key, p := s.boardKey(&in.BoardInput)
	if p != nil {
		return nil, p
	}
	b, lag, err := s.rooms.Boards.Around(ctx, key, in.Player, in.Around)
	if err != nil {
		return nil, s.boardsFailed(ctx, err)
	}
	if b == nil {
		return nil, problem(http.StatusNotFound, codePlayer, "%s has no claim on that board", strconv.Quote(cut(string(in.Player), 64)))
	}
	return standingsAnswer(b, lag, in.IfNoneMatch), nil
}

// standingsAnswer writes a board. Its tag is of the rows and of what they
// reflect, not of their age, and the same whichever process answers; it is
// weak, since the age is in the body.
func standingsAnswer(b *wire.Board, lag time.Duration, ifNoneMatch string) *standingsOutput {
	rows := appendRows(make([]byte, 0, 128+120*len(b.Rows)), b)
	out := &standingsOutput{
		Status: http.StatusOK, CacheControl: "no-cache",
		ETag: `W/"` + strconv.FormatUint(xxhash.Sum64(rows), 36) + `"`,
	}
	if matches(ifNoneMatch, out.ETag) {
		out.Status = http.StatusNotModified
		return out
	}
	out.ContentType = "application/json"
	out.Body = strconv.AppendInt([]byte(`{"lag_ms":`), lag.Milliseconds(), 10)
	out.Body = append(append(out.Body, ','), rows...)
	return out
}

// appendRows appends all of a board but its age, and the closing brace.
func appendRows(b []byte, x *wire.Board) []byte {
	b = appendText(append(b, `"hunt":`...), x.Hunt)
	b = appendText(append(b, `,"window":`...), x.Window.String())
	if x.Window == wire.WindowHour {
		b = appendTime(append(b, `,"hour":`...), cairn.Instant(x.Hour*hourMicros))
	}
	b = appendText(append(b, `,"region":`...), x.Region.String())
	b = append(b, `,"as_of":{`...)
	for i, o := range x.AsOf {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendText(b, eventlog.Shard(o.Shard)), ':')
		b = appendText(b, o.Offset.String())
	}
	b = strconv.AppendInt(append(b, `},"players":`...), int64(x.Players), 10)
	b = append(b, `,"rows":[`...)
	for i := range x.Rows {
		row := &x.Rows[i]
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(append(b, `{"rank":`...), int64(row.Rank), 10)
		b = appendText(append(b, `,"player":`...), row.Player)
		b = appendText(append(b, `,"name":`...), row.Name)
		b = strconv.AppendInt(append(b, `,"score":`...), int64(row.Score), 10)
		b = strconv.AppendInt(append(b, `,"claims":`...), int64(row.Claims), 10)
		b = append(b, '}')
	}
	return append(b, "]}"...)
}

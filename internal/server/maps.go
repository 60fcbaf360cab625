package server

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/veltrix/cairn"
)

type huntPath struct {
	Hunt cairn.HuntID `path:"hunt" doc:"The hunt's id." example:"oslo-winter"`
}

// A HuntBody is a hunt as players see it.
type HuntBody struct {
	ID          cairn.HuntID   `json:"id" doc:"Its name, unique for ever."`
	Name        cairn.HuntID   `json:"name"`
	State       cairn.State    `json:"state" enum:"live,paused,ended"`
	Region      regionBody     `json:"region"`
	Mask        cairn.Mask     `json:"mask" enum:"land,none"`
	TilesPerMap int            `json:"tiles_per_map"`
	Tick        string         `json:"tick" doc:"From one map to the next, such as 1s." example:"1s"`
	TickMs      int64          `json:"tick_ms"`
	Lifetime    string         `json:"lifetime" doc:"How long a map is open." example:"30s"`
	LifetimeMs  int64          `json:"lifetime_ms"`
	Shards      int            `json:"shards"`
	Puzzles     map[string]int `json:"puzzles" doc:"Weights by kind."`
	Reward      cairn.Reward   `json:"reward" doc:"Micro-units."`
	Created     string         `json:"created" format:"date-time"`
}

type regionBody struct {
	Geohash *string         `json:"geohash,omitempty"`
	BBox    []float64       `json:"bbox,omitempty"`
	GeoJSON json.RawMessage `json:"geojson,omitempty"`
}

func huntBodyOf(h *cairn.HuntStatus) HuntBody {
	b := HuntBody{
		ID: h.Name, Name: h.Name, State: h.State, Mask: h.Mask, TilesPerMap: h.TilesPerMap,
		Region: regionBody{BBox: h.Region.BBox, GeoJSON: h.Region.GeoJSON},
		Tick:   time.Duration(h.Tick).String(), TickMs: time.Duration(h.Tick).Milliseconds(), Lifetime: time.Duration(h.Lifetime).String(), LifetimeMs: time.Duration(h.Lifetime).Milliseconds(),
		Shards: h.Shards, Puzzles: map[string]int{}, Reward: h.Reward, Created: h.Created.String(),
	}
	if h.Region.Geohash != nil {
		g := h.Region.Geohash.String()
		b.Region.Geohash = &g
	}
	for k, w := range h.Puzzles {
		b.Puzzles[k.String()] = w
	}
	return b
}

type huntsOutput struct {
	Body struct {
		Hunts []HuntBody `json:"hunts"`
		Now   string     `json:"now" format:"date-time" doc:"The server's time."`
	}
}

// getHunts lists the hunts that a player may see: all but drafts.
func (s *Server) getHunts(context.Context, *struct{}) (*huntsOutput, error) {
	out := &huntsOutput{}
	out.Body.Hunts = []HuntBody{}
	for _, h := range s.rooms.Hub.Hunts() {
		if h.State != cairn.Draft {
			out.Body.Hunts = append(out.Body.Hunts, huntBodyOf(h))
		}
	}
	out.Body.Now = s.now().String()
	return out, nil
}

type huntOutput struct{ Body HuntBody }

func (s *Server) getHunt(_ context.Context, in *huntPath) (*huntOutput, error) {
	h, p := s.hunt(in.Hunt)
	if p != nil {
		return nil, p
	}
	return &huntOutput{huntBodyOf(h)}, nil
}

// hunt returns a hunt that players may see, or the 404.
func (s *Server) hunt(id cairn.HuntID) (*cairn.HuntStatus, *Problem) {
	if h := s.rooms.Hub.Hunt(id); h != nil && h.State != cairn.Draft {
		return h, nil
	}
	return nil, unknownHunt(id)
}

// A mapJSON documents what appendMap writes.
type mapJSON struct {
	Hunt   cairn.HuntID `json:"hunt"`
	Tick   int64        `json:"tick"`
	Opens  string       `json:"opens" format:"date-time"`
	Closes string       `json:"closes" format:"date-time"`
	Shards int          `json:"shards"`
	Digest string       `json:"digest"`
	Prev   string       `json:"prev" doc:"Digest of the map emitted before it."`
	Tiles  []tileJSON   `json:"tiles"`
}

type tileJSON struct {
	Index   int    `json:"index"`
	Geohash string `json:"geohash"`
	Puzzle  string `json:"puzzle" enum:"tap,cipher,lights,echo,odd"`
	Reward  int64  `json:"reward" doc:"Micro-units."`
}

func appendMap(b []byte, m *cairn.Map) []byte {
	b = appendText(append(b, `{"hunt":`...), m.Hunt)
	b = strconv.AppendInt(append(b, `,"tick":`...), int64(m.Tick), 10)
	b = appendTime(append(b, `,"opens":`...), m.Opens)
	b = appendTime(append(b, `,"closes":`...), m.Closes)
	b = strconv.AppendInt(append(b, `,"shards":`...), int64(m.Shards), 10)
	b = append(append(b, `,"digest":"`...), m.Digest.String()...)
	b = append(append(b, `","prev":"`...), m.Prev.String()...)
	b = append(b, `","tiles":[`...)
	for i := range m.Tiles {
		t := &m.Tiles[i]
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(append(b, `{"index":`...), int64(i), 10)
		b, _ = t.Cell.AppendText(append(b, `,"geohash":"`...)) // never fails
		b = append(append(b, `","puzzle":"`...), t.Puzzle.String()...)
		b = strconv.AppendInt(append(b, `","reward":`...), int64(t.Reward), 10)
		b = append(b, '}')
	}
	return append(b, "]}"...)
}

// A mapBody is a map's body, encoded once for everyone who asks.
type mapBody struct {
	etag string

	// Written by make, and read only behind it.
	make sync.Once
	json []byte
	zip  []byte // the same, gzipped

	size int // bytes, once made; guarded by the lock of mapBodies
}

// mapBodiesBytes bounds what is kept of maps' bodies.
const mapBodiesBytes = 64 << 20

// mapBodies keeps the bodies of maps that were asked for lately.
type mapBodies struct {
	most int // bytes kept, the newest body aside; static

	mu    sync.Mutex
	of    map[cairn.Digest]*mapBody
	order []cairn.Digest // oldest first
	size  int            // Σ of what is made
}

// get returns the body of m. Those who ask at once wait for one encoding.
func (c *mapBodies) get(m *cairn.Map) *mapBody {
	c.mu.Lock()
	b := c.of[m.Digest]
	if b == nil {
		if c.of == nil {
			c.of = map[cairn.Digest]*mapBody{}
		}
		b = &mapBody{etag: `"` + m.Digest.String() + `"`}
		c.of[m.Digest] = b
		c.order = append(c.order, m.Digest)
	}
	c.mu.Unlock()
	b.make.Do(func() {
		b.json = appendMap(make([]byte, 0, 256+80*len(m.Tiles)), m)
		var zip bytes.Buffer
		// Fastest: a map is read for seconds, and shrinks to a fifth anyway.
		zw, _ := gzip.NewWriterLevel(&zip, gzip.BestSpeed) // a level that exists
		_, _ = zw.Write(b.json)                            // to memory: can't fail
		zw.Close()
		b.zip = zip.Bytes()
		c.grew(b, len(b.json)+len(b.zip))
	})
	return b
}

// grew notes a body's size and forgets the oldest bodies until the rest fits.
func (c *mapBodies) grew(b *mapBody, size int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	b.size = size
	c.size += size
	for c.size > c.most && len(c.order) > 1 {
		old := c.of[c.order[0]]
		if old.size == 0 {
			return // still being made: whoever makes it looks again
		}
		c.size -= old.size
		delete(c.of, c.order[0])
		c.order = c.order[1:]
	}
}

type mapInput struct {
	Hunt cairn.HuntID `path:"hunt" doc:"The hunt's id." example:"oslo-winter"`
	Tick int64        `path:"tick" minimum:"0" doc:"The map's number." example:"1767322800"`
	MapHeaders
}

type currentInput struct {
	Hunt cairn.HuntID `path:"hunt" doc:"The hunt's id." example:"oslo-winter"`
	MapHeaders
}

// MapHeaders are what a map's caches send.
type MapHeaders struct {
	IfNoneMatch    string `header:"If-None-Match" doc:"ETags that the client has."`
	AcceptEncoding string `header:"Accept-Encoding"`
}

type mapOutput struct {
	Status          int
	ContentType     string   `header:"Content-Type"`
	ContentEncoding string   `header:"Content-Encoding"`
	ContentLength   string   `header:"Content-Length"`
	Vary            []string `header:"Vary"` // a list, so that huma adds to what is there
	ETag            string   `header:"ETag"`
	CacheControl    string   `header:"Cache-Control"`
	Body            []byte
}

// getCurrent returns the newest map that is open or was.
func (s *Server) getCurrent(_ context.Context, in *currentInput) (*mapOutput, error) {
	if _, p := s.hunt(in.Hunt); p != nil {
		return nil, p
	}
	m, ok := s.rooms.Hub.Current(in.Hunt, s.now())
	if !ok {
		return nil, problem(http.StatusNotFound, codeMap, "%s has no map yet", string(in.Hunt))
	}
	return s.mapAnswer(m, &in.MapHeaders, "public, max-age=1"), nil
}

// getMap returns the map of a tick. One that is yet to open does not exist for
// players: who knew its tiles beforehand would have won them.
func (s *Server) getMap(_ context.Context, in *mapInput) (*mapOutput, error) {
	if _, p := s.hunt(in.Hunt); p != nil {
		return nil, p
	}
	m, ok := s.rooms.Hub.Map(in.Hunt, cairn.Tick(in.Tick))
	if !ok || m.Opens > s.now() {
		return nil, unknownMap(in.Hunt, in.Tick)
	}
	return s.mapAnswer(m, &in.MapHeaders, "public, max-age=31536000, immutable"), nil
}

func (s *Server) mapAnswer(m *cairn.Map, h *MapHeaders, cache string) *mapOutput {
	b := s.bodies.get(m)
	out := &mapOutput{Status: http.StatusOK, ETag: b.etag, CacheControl: cache, Vary: []string{"Accept-Encoding"}}
	if matches(h.IfNoneMatch, b.etag) {
		out.Status = http.StatusNotModified
		return out
	}
	out.ContentType, out.Body = "application/json", b.json
	if accepts(h.AcceptEncoding, "gzip") {
		out.ContentEncoding, out.Body = "gzip", b.zip
	}
	out.ContentLength = strconv.Itoa(len(out.Body))
	return out
}

// matches reports whether an If-None-Match names the tag (RFC 9110, 13.1.2:
// weakly).
func matches(header, etag string) bool {
	for tag := range strings.SplitSeq(header, ",") {
		if tag = strings.TrimSpace(tag); tag == "*" || strings.TrimPrefix(tag, "W/") == strings.TrimPrefix(etag, "W/") {
			return true
		}
	}
	return false
}

// accepts reports whether an Accept-Encoding takes a coding (RFC 9110,
// section 12.5.3). What is named counts before "*".
func accepts(header, coding string) bool {
	others := false
	for part := range strings.SplitSeq(header, ",") {
		name, params, _ := strings.Cut(part, ";")
		name = strings.TrimSpace(name)
		if !strings.EqualFold(name, coding) && name != "*" {
			continue
		}
		q, found := strings.CutPrefix(strings.ReplaceAll(params, " ", ""), "q=")
		v, err := strconv.ParseFloat(q, 64)
		takes := !found || err == nil && v > 0
		if name != "*" {
			return takes
		}
		others = takes
	}
	return others
}

type puzzleOutput struct {
	Body puzzleBody
}

type puzzleBody struct {
	Kind   string          `json:"kind" enum:"tap,cipher,lights,echo,odd"`
	Prompt json.RawMessage `json:"prompt" doc:"What to solve, an object by kind (docs/puzzles.md); empty for tap."`
	Token  string          `json:"token,omitempty" doc:"Comes back with the answer; none for tap."`
}

// getPuzzle returns the player's own clue. It is computed, never stored.
func (s *Server) getPuzzle(ctx context.Context, in *tilePath) (*puzzleOutput, error) {
	if _, p := s.hunt(in.Hunt); p != nil {
		return nil, p
	}
	now := s.now()
	m, ok := s.rooms.Hub.Map(in.Hunt, cairn.Tick(in.Tick))
	if !ok || m.Opens > now {
		return nil, unknownMap(in.Hunt, in.Tick)
	}
	if in.Tile >= int64(len(m.Tiles)) {
		return nil, problem(http.StatusNotFound, codeTile, "index: is %d; the map has tiles 0 to %d", in.Tile, len(m.Tiles)-1)
	}
	if now >= m.Closes {
		return nil, problem(http.StatusGone, codeClosed, "the tile's map closed at %s", m.Closes)
	}
	kind := m.Tiles[in.Tile].Puzzle
	out := &puzzleOutput{puzzleBody{Kind: kind.String(), Prompt: json.RawMessage("{}")}}
	if kind != cairn.Tap {
		out.Body.Prompt, out.Body.Token = s.rooms.Keeper.Prompt(kind, in.ref(), playerOf(ctx).id, now)
	}
	return out, nil
}

package broadcast

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/eventlog"
	"github.com/veltrix/cairn/internal/wire"
	"github.com/veltrix/cairn/internal/wire/livepb"
)

// jsonOf translates a ServerFrame into the JSON that docs/live.md has for it,
// with the generated decoder, which knows nothing of how frames are made.
// boards says whether a snapshot is one for who watches the standings, which
// only JSON shows.
func jsonOf(b []byte, boards bool) ([]byte, error) {
	var f livepb.ServerFrame
	if err := (proto.UnmarshalOptions{}).Unmarshal(b, &f); err != nil {
		return nil, err
	}
	if len(f.ProtoReflect().GetUnknown()) > 0 {
		return nil, fmt.Errorf("%x has unknown fields", b)
	}
	var o object
	switch x := f.Frame.(type) {
	case *livepb.ServerFrame_Welcome:
		o = object{"type": "welcome", "epoch": x.Welcome.Epoch, "seq": x.Welcome.Seq, "now": cairn.Instant(x.Welcome.Now)}
		setUnless(o, "player", x.Welcome.Player, "")
	case *livepb.ServerFrame_Snapshot:
		s := x.Snapshot
		o = object{"type": "snapshot", "hunt": s.Hunt, "seq": s.Seq, "regions": list(s.Regions, identity[string])}
		o["maps"] = list(s.Maps, func(m *livepb.Map) any { return mapObject(s.Hunt, m, true) })
		if boards || len(s.Standings) > 0 {
			o["standings"] = list(s.Standings, func(x *livepb.Board) any { return boardObject(x) })
		}
	case *livepb.ServerFrame_Delta:
		d := x.Delta
		o = object{"type": "delta", "hunt": d.Hunt, "region": d.Region, "from": d.From, "seq": d.Seq}
		o["opened"] = list(d.Opened, func(m *livepb.Map) any { return mapObject(d.Hunt, m, false) })
		o["closed"] = list(d.Closed, identity[int64])
		o["claimed"] = list(d.Claimed, claimedObject)
	case *livepb.ServerFrame_Standings:
		o = boardObject(x.Standings.Board)
		o["type"], o["hunt"], o["seq"] = "standings", x.Standings.Hunt, x.Standings.Seq
	case *livepb.ServerFrame_Outcome:
		o = object{"type": "outcome", "id": x.Outcome.Id, "outcome": enumName(x.Outcome.Outcome, "VERDICT_"), "winner": x.Outcome.Winner, "winner_name": x.Outcome.WinnerName}
	case *livepb.ServerFrame_Drain:
		o = object{"type": "drain", "within_ms": x.Drain.WithinMs}
	case *livepb.ServerFrame_Error:
		o = object{"type": "error", "code": x.Error.Code, "detail": x.Error.Detail}
		setUnless(o, "id", x.Error.Id, "")
	case *livepb.ServerFrame_Pong:
		o = object{"type": "pong", "seq": x.Pong.Seq, "now": cairn.Instant(x.Pong.Now)}
	default:
		return nil, fmt.Errorf("%x is no frame", b)
	}
	return json.Marshal(o)
}

func identity[T any](v T) any { return v }

func list[T any](xs []T, of func(T) any) []any {
	out := make([]any, 0, len(xs))
	for _, x := range xs {
		out = append(out, of(x))
	}
	return out
}

func setUnless[T comparable](o object, name string, v, zero T) {
	if v != zero {
		o[name] = v
	}
}

func enumName(v fmt.Stringer, prefix string) string {
	return strings.ToLower(strings.TrimPrefix(v.String(), prefix))
}

func mapObject(hunt string, m *livepb.Map, holders bool) object {
	o := object{
		"hunt": hunt, "tick": m.Tick, "opens": cairn.Instant(m.Opens), "closes": cairn.Instant(m.Closes), "shards": m.Shards,
		"digest": hex.EncodeToString(m.Digest), "prev": hex.EncodeToString(m.Prev),
		"tiles": list(m.Tiles, func(t *livepb.Tile) any {
			return object{"index": t.Index, "geohash": t.Geohash, "puzzle": enumName(t.Puzzle, "PUZZLE_"), "reward": t.Reward}
		}),
	}
	if holders || len(m.Claimed) > 0 {
		o["claimed"] = list(m.Claimed, claimedObject)
	}
	return o
}

func claimedObject(c *livepb.Claimed) any {
	return object{"map": c.Map, "tile": c.Tile, "player": c.Player, "name": c.Name, "at": cairn.Instant(c.At)}
}

func boardObject(x *livepb.Board) object {
	o := object{
		"window": enumName(x.Window, "WINDOW_"), "region": x.Region, "as_of": x.AsOf, "lag_ms": x.LagMs, "players": x.Players,
		"rows": list(x.Rows, func(r *livepb.Row) any {
			return object{"rank": r.Rank, "player": r.Player, "name": r.Name, "score": r.Score, "claims": r.Claims}
		}),
	}
	if x.AsOf == nil {
		o["as_of"] = object{}
	}
	if x.Window == livepb.Window_WINDOW_HOUR {
		o["hour"] = cairn.Instant(x.Hour)
	}
	return o
}

// protoOf translates a client's frame from JSON into a ClientFrame.
func protoOf(text string) ([]byte, error) {
	f, err := wire.DecodeFrame([]byte(text))
	if err != nil {
		return nil, err
	}
	var pb livepb.ClientFrame
	switch f := f.(type) {
	case *wire.HelloFrame:
		pb.Frame = &livepb.ClientFrame_Hello{Hello: &livepb.Hello{Token: f.Token, Epoch: f.Epoch, Seq: f.Seq}}
	case *wire.WatchFrame:
		w := &livepb.Watch{Hunt: string(f.Hunt), Standings: f.Standings}
		for _, c := range f.Regions {
			w.Regions = append(w.Regions, c.String())
		}
		pb.Frame = &livepb.ClientFrame_Watch{Watch: w}
	case *wire.ClaimFrame:
		pb.Frame = &livepb.ClientFrame_Claim{Claim: &livepb.Claim{
			Id: f.ID, Hunt: string(f.Hunt), Map: int64(f.Map), Tile: f.Tile, ClaimId: f.ClaimID, Answer: f.Answer, Token: f.Token,
		}}
	case *wire.PingFrame:
		pb.Frame = &livepb.ClientFrame_Ping{Ping: &livepb.Ping{}}
	}
	return proto.Marshal(&pb)
}

// outcomeProto returns the frame of a claim that another was ahead of.
func outcomeProto(id string, winner cairn.PlayerID, name string) []byte {
	b, err := proto.Marshal(&livepb.ServerFrame{Frame: &livepb.ServerFrame_Outcome{Outcome: &livepb.Outcome{
		Id: id, Outcome: livepb.Verdict_VERDICT_GONE, Winner: string(winner), WinnerName: name,
	}}})
	if err != nil {
		panic(err)
	}
	return b
}

// sameFrame holds that a frame in both codecs says the same.
func sameFrame(t interface{ Fatalf(string, ...any) }, j, p []byte, boards bool) {
	translated, err := jsonOf(p, boards)
	if err != nil {
		t.Fatalf("%v", err)
	}
	var want, got any
	if err := json.Unmarshal(j, &want); err != nil {
		t.Fatalf("%s: %v", j, err)
	}
	if err := json.Unmarshal(translated, &got); err != nil {
		t.Fatalf("%s: %v", translated, err)
	}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Fatalf("got (-) of cairn.v1.proto, want (+) of cairn.v1.json:\n%s", diff)
	}
	// And it is the one encoding that protobuf calls minimal, so that none of
	// its bytes is there by mistake.
	var f livepb.ServerFrame
	if err := proto.Unmarshal(p, &f); err != nil {
		t.Fatalf("%v", err)
	}
	if n := proto.Size(&f); n != len(p) {
		t.Fatalf("takes %d bytes, want %d", len(p), n)
	}
}

// A drawn is something of any shape to encode.
type drawn struct {
	region *region
	view   *view
	open   []*mapState
	boards []*board
	seq    uint64
}

var (
	anyName   = rapid.OneOf(rapid.StringMatching(`[a-z]{1,12}`), rapid.StringOfN(rapid.Rune(), 1, 40, 160))
	anyCell   = rapid.Custom(func(t *rapid.T) cairn.Cell { return cellOf(t, rapid.IntRange(0, 6).Draw(t, "precision")) })
	anyMoment = rapid.Custom(func(t *rapid.T) cairn.Instant { return cairn.Instant(rapid.Int64Range(0, 1<<52).Draw(t, "instant")) })
)

func cellOf(t *rapid.T, precision int) cairn.Cell {
	return cairn.CellOfBits(rapid.Uint64Range(0, 1<<(5*precision)-1).Draw(t, "bits"), precision)
}

var anyMap = rapid.Custom(func(t *rapid.T) *mapState {
	m := &cairn.Map{MapHeader: cairn.MapHeader{
		Hunt: huntID, Tick: cairn.Tick(rapid.Int64Range(0, 1<<53-1).Draw(t, "tick")), Opens: anyMoment.Draw(t, "opens"), Closes: anyMoment.Draw(t, "closes"),
		Shards: rapid.IntRange(1, 1024).Draw(t, "shards"),
	}}
	for range rapid.IntRange(0, 40).Draw(t, "tiles") {
		m.Tiles = append(m.Tiles, cairn.Tile{
			Cell: cellOf(t, 6), Puzzle: rapid.SampledFrom(cairn.PuzzleKinds()).Draw(t, "puzzle"), Reward: cairn.Micro(rapid.Int64Range(0, 1<<53).Draw(t, "reward")),
		})
	}
	m.MapHeader.Tiles = len(m.Tiles)
	m.Digest = wire.MapDigest(m)
	ms := &mapState{Map: m, byCell: tilesByCell(m.Tiles)}
	if rapid.Bool().Draw(t, "claimed") {
		ms.holders = make([]holder, len(m.Tiles))
		for i := range ms.holders {
			if rapid.Bool().Draw(t, "held") {
				ms.holders[i] = anyHolder.Draw(t, "holder")
			}
		}
	}
	return ms
})

var anyHolder = rapid.Custom(func(t *rapid.T) holder {
	id, name := cairn.PlayerID(anyName.Draw(t, "player")), anyName.Draw(t, "name")
	return holder{newState().player(id, name), anyMoment.Draw(t, "at")}
})

var anyBoard = rapid.Custom(func(t *rapid.T) *board {
	b := &wire.Board{
		BoardKey:  wire.BoardKey{Hunt: huntID, Window: wire.Window(rapid.IntRange(0, 1).Draw(t, "window")), Region: anyCell.Draw(t, "region")},
		Published: anyMoment.Draw(t, "published"), Players: rapid.IntRange(0, 1<<20).Draw(t, "players"),
	}
	if b.Window == wire.WindowHour {
		b.Hour = rapid.Int64Range(0, 1<<20).Draw(t, "hour")
	}
	for i := range rapid.IntRange(0, 3).Draw(t, "shards") {
		b.AsOf = append(b.AsOf, wire.ShardOffset{Shard: i, Offset: eventlog.Offset{Epoch: rapid.Uint64().Draw(t, "epoch"), Seq: rapid.Uint64().Draw(t, "seq")}})
	}
	for i := range rapid.IntRange(0, 5).Draw(t, "rows") {
		h := anyHolder.Draw(t, "player")
		b.Rows = append(b.Rows, wire.Row{
			Rank: i + 1, Player: h.who.id, Name: h.who.name,
			Score: cairn.Micro(rapid.Int64Range(0, 1<<53).Draw(t, "score")), Claims: rapid.IntRange(0, 1<<20).Draw(t, "claims"),
		})
	}
	return &board{Board: b, seq: rapid.Uint64Range(1, 1<<53).Draw(t, "seq"), fresh: anyMoment.Draw(t, "fresh")}
})

var anything = rapid.Custom(func(t *rapid.T) drawn {
	d := drawn{seq: rapid.Uint64Range(1, 1<<53).Draw(t, "seq")}
	maps := rapid.SliceOfN(anyMap, 0, 3)
	d.region = &region{
		regionKey: regionKey{huntID, anyCell.Draw(t, "region")}, last: rapid.Uint64Range(0, d.seq-1).Draw(t, "from"),
		opened: maps.Draw(t, "opened"), closed: maps.Draw(t, "closed"),
	}
	for _, m := range maps.Draw(t, "claims") {
		if len(m.Tiles) > 0 {
			tile := uint32(rapid.IntRange(0, len(m.Tiles)-1).Draw(t, "tile"))
			d.region.claimed = append(d.region.claimed, won{m, tile, m.Tiles[tile].Cell, anyHolder.Draw(t, "winner"), false})
		}
	}
	asked, cells := normal(rapid.SliceOfN(anyCell, 0, 4).Draw(t, "regions"))
	d.view = &view{hunt: huntID, asked: asked, cells: cells, standings: rapid.Bool().Draw(t, "standings")}
	d.open = maps.Draw(t, "open")
	if d.view.standings {
		d.boards = rapid.SliceOfN(anyBoard, 0, 3).Draw(t, "boards")
	}
	return d
})

// TestCodecsSayTheSame: whatever there is to tell, both codecs tell it.
func TestCodecsSayTheSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := anything.Draw(t, "what")
		rows := rapid.IntRange(0, 6).Draw(t, "rows")
		say := func(codec Codec) (delta, snapshot []byte, standings [][]byte) {
			bodies := [][]byte(nil)
			if d.view.standings {
				bodies = [][]byte{}
			}
			for _, x := range d.boards {
				bodies = append(bodies, x.body(codec, rows))
				standings = append(standings, x.frame(codec, rows).payload)
			}
			e := codec.encoder()
			return e.appendDelta(nil, d.region, d.seq), e.appendSnapshot(nil, d.view, d.seq, d.open, bodies), standings
		}
		delta, snapshot, standings := say(JSON)
		deltaProto, snapshotProto, standingsProto := say(Proto)
		sameFrame(t, delta, deltaProto, false)
		sameFrame(t, snapshot, snapshotProto, d.view.standings)
		for i := range standings {
			sameFrame(t, standings[i], standingsProto[i], false)
		}
	})
}

// TestCodecsSayRareThings the same way too.
func TestCodecsSayRareThings(t *testing.T) {
	now := cairn.InstantOf(time.Date(2026, 1, 2, 3, 4, 5, 678_900_000, time.UTC))
	for _, v := range []rareFrame{
		welcomeFrame{Type: "welcome", Epoch: "e1", Seq: 7, Now: now},
		welcomeFrame{Type: "welcome", Epoch: "e1", Player: "Ünal <b>", Now: now},
		pongFrame{Type: "pong", Seq: 1 << 40, Now: now},
		drainFrame{Type: "drain", WithinMS: 4200},
		drainFrame{Type: "drain"},
		errorFrame{Type: "error", Code: codeBinary, Detail: strings.Repeat("détail ", 40)},
		errorFrame{Type: "error", Code: codeTooManyClaims, Detail: "x", ID: "7"},
	} {
		sameFrame(t, JSON.encoder().appendMessage(nil, v), Proto.encoder().appendMessage(nil, v), false)
		for codec := range codecs {
			whole := codec.message(v)
			if op := whole[0] & 15; op != byte(codec.opcode()) {
				t.Errorf("%v: got opcode %d, want %d", codec, op, codec.opcode())
			}
		}
	}
}

// TestClosesInProto does each thing that ends a connection of cairn.v1.proto,
// and some that only look as if they did.
func TestClosesInProto(t *testing.T) { eachHalf(t, testClosesInProto) }

func testClosesInProto(t *testing.T) {
	r := newRig(t, Options{})
	ping, err := protoOf(`{"type":"ping"}`)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		kind websocket.MessageType
		send []byte
		says string
		code websocket.StatusCode // 0: it stays open
	}{
		{"text", websocket.MessageText, []byte(`{"type":"ping"}`), codeBinary, 1003},
		{"text that is proto", websocket.MessageText, ping, codeBinary, 1003},
		{"too large", websocket.MessageBinary, make([]byte, wire.FrameBytesMax+1), codeTooLarge, 1009},
		{"JSON in a binary message", websocket.MessageBinary, []byte(`{"type":"ping"}`), wire.FrameMalformed, 0},
		{"nothing", websocket.MessageBinary, nil, wire.FrameMissingField, 0},
		{"not UTF-8", websocket.MessageBinary, []byte{1<<3 | 2, 3, 1<<3 | 2, 1, 0xff}, wire.FrameNotUTF8, 0}, // hello {token: "\xff"}
	} {
		c := r.dialIn(Proto, nil)
		c.hello("")
		if err := c.ws.Write(t.Context(), test.kind, test.send); err != nil {
			t.Fatal(err)
		}
		if got := c.want("error"); got.Code != test.says {
			t.Errorf("%s: got %s; want %s", test.name, got.raw, test.says)
		}
		if test.code == 0 {
			c.send(`{"type":"ping"}`)
			c.want("pong")
		} else if code, _ := c.closed(); code != test.code {
			t.Errorf("%s: got close code %d, want %d", test.name, code, test.code)
		}
	}
	c := r.dialIn(Proto, nil)
	c.hello("")
	for range faultsMax {
		c.send(`{`)
	}
	if code, said := c.closed(); code != 1008 || len(said) != faultsMax {
		t.Errorf("got close code %d after %d errors, want 1008 after %d", code, len(said), faultsMax)
	}
}

func TestCodecOf(t *testing.T) {
	for codec := range codecs {
		if got, ok := CodecOf(codec.String()); got != codec || !ok {
			t.Errorf("%v: got %v, %v", codec, got, ok)
		}
	}
	for _, bad := range []string{"", "cairn.v1", "CAIRN.V1.JSON", "cairn.v2.proto"} {
		if got, ok := CodecOf(bad); ok {
			t.Errorf("%q: got %v; want none", bad, got)
		}
	}
}

// TestEncodeWhatIsUsed: a codec that nobody has costs nothing, one that
// somebody had a moment ago is kept up, and one that is new is no gap.
func TestEncodeWhatIsUsed(t *testing.T) {
	x := newBenchHub(t, 1, 1000)
	made := func() (kinds [codecs]bool) {
		x.claim(1)
		x.sweep()
		r := x.index.regions[regionKey{huntID, 0}]
		for codec, f := range r.ring[len(r.ring)-1].frames {
			kinds[codec] = f != nil
		}
		return kinds
	}
	check := func(when string, got, want [codecs]bool) {
		t.Helper()
		if got != want {
			t.Errorf("%s: encoded in %v, want %v", when, got, want)
		}
	}
	watch := func(codec Codec) *view {
		v, err := x.acquire(Interest{Codec: codec, Hunt: huntID, Regions: []cairn.Cell{0}})
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	j := watch(JSON)
	check("one JSON view", made(), [codecs]bool{JSON: true})
	lost := x.seq
	p := watch(Proto)
	if j == p {
		t.Fatal("views of two codecs are one")
	}
	check("both", made(), [codecs]bool{true, true})
	if _, ok := p.since(lost-1, nil, 0); ok {
		t.Error("deltas of before the codec was in use are not missing")
	}
	if fs, ok := p.since(lost, nil, 0); !ok || len(fs) != 1 || fs[0].ws[0]&15 != 2 {
		t.Errorf("got %d frames, %v; want the one since then, binary", len(fs), ok)
	}
	if fs, ok := j.since(lost-1, nil, 0); !ok || len(fs) != 2 || fs[0].ws[0]&15 != 1 {
		t.Errorf("got %d frames, %v; want both, text", len(fs), ok)
	}
	x.release(p)
	check("the proto view left a moment ago", made(), [codecs]bool{true, true})
	for range x.opts.Ring {
		x.sweep()
	}
	check("the proto view left long ago", made(), [codecs]bool{JSON: true})
	x.release(j)
}

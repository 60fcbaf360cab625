package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/wire/livepb"
)

// generated encodes a frame as a client does that is generated of the schema.
func generated(t interface{ Fatal(...any) }, f ClientFrame) []byte {
	var pb livepb.ClientFrame
	switch f := f.(type) {
	case *HelloFrame:
		pb.Frame = &livepb.ClientFrame_Hello{Hello: &livepb.Hello{Token: f.Token, Epoch: f.Epoch, Seq: f.Seq}}
	case *WatchFrame:
		w := &livepb.Watch{Hunt: string(f.Hunt), Standings: f.Standings}
		for _, c := range f.Regions {
			w.Regions = append(w.Regions, c.String())
		}
		pb.Frame = &livepb.ClientFrame_Watch{Watch: w}
	case *ClaimFrame:
		pb.Frame = &livepb.ClientFrame_Claim{Claim: &livepb.Claim{
			Id: f.ID, Hunt: string(f.Hunt), Map: int64(f.Map), Tile: f.Tile, ClaimId: f.ClaimID, Answer: f.Answer, Token: f.Token,
		}}
	case *PingFrame:
		pb.Frame = &livepb.ClientFrame_Ping{Ping: &livepb.Ping{}}
	}
	b, err := proto.Marshal(&pb)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// jsonForm encodes a frame in the other codec.
func jsonForm(t interface{ Fatal(...any) }, f ClientFrame) []byte {
	var o map[string]any
	switch f := f.(type) {
	case *HelloFrame:
		o = map[string]any{"type": "hello", "token": f.Token}
		if f.Epoch != "" || f.Seq != 0 {
			o["epoch"], o["seq"] = f.Epoch, f.Seq
		}
	case *WatchFrame:
		o = map[string]any{"type": "watch", "hunt": f.Hunt, "regions": append([]cairn.Cell{}, f.Regions...), "standings": f.Standings}
	case *ClaimFrame:
		o = map[string]any{
			"type": "claim", "id": f.ID, "hunt": f.Hunt, "map": f.Map, "tile": f.Tile, "claim_id": f.ClaimID, "answer": f.Answer, "token": f.Token,
		}
	case *PingFrame:
		o = map[string]any{"type": "ping"}
	}
	b, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func textOf(n int) *rapid.Generator[string] {
	return rapid.OneOf(rapid.StringN(0, 8, -1), rapid.StringN(0, n+2, -1), rapid.Just(strings.Repeat("x", n)), rapid.Just(strings.Repeat("x", n+1)))
}

// anyFrame is a frame of which much is within bounds and some is not.
var anyFrame = rapid.Custom(func(t *rapid.T) ClientFrame {
	hunt := cairn.HuntID(rapid.OneOf(rapid.Just("oslo"), rapid.StringMatching(`[a-z0-9-]{0,70}`)).Draw(t, "hunt"))
	switch rapid.IntRange(0, 3).Draw(t, "kind") {
	case 0:
		f := &HelloFrame{Token: textOf(40).Draw(t, "token")}
		if rapid.Bool().Draw(t, "resume") {
			f.Epoch = "e" + textOf(63).Draw(t, "epoch")
			f.Seq = rapid.OneOf(rapid.Uint64Range(0, 1<<53+1), rapid.Uint64Range(0, 1<<63-1)).Draw(t, "seq")
		}
		return f
	case 1:
		f := &WatchFrame{Hunt: hunt, Standings: rapid.Bool().Draw(t, "standings")}
		for range rapid.IntRange(0, WatchRegionsMax+1).Draw(t, "regions") {
			p := rapid.IntRange(0, cairn.CellPrecisionMax).Draw(t, "precision")
			f.Regions = append(f.Regions, cairn.CellOfBits(rapid.Uint64Range(0, 1<<(5*p)-1).Draw(t, "bits"), p))
		}
		return f
	case 2:
		return &ClaimFrame{
			ID: textOf(FrameIDBytesMax).Draw(t, "id"), Hunt: hunt,
			Map:     cairn.Tick(rapid.OneOf(rapid.Int64Range(0, ClaimTickMax), rapid.Int64()).Draw(t, "map")),
			Tile:    rapid.OneOf(rapid.Uint32Range(0, cairn.TilesPerMapMax), rapid.Uint32()).Draw(t, "tile"),
			ClaimID: textOf(cairn.ClaimIDBytesMax).Draw(t, "claim_id"), Answer: textOf(ClaimAnswerBytesMax).Draw(t, "answer"),
			Token: textOf(ClaimTokenBytesMax).Draw(t, "token"),
		}
	default:
		return &PingFrame{}
	}
})

// TestDecodersAgree: both codecs take the same frames, understand the same, and
// refuse the others for the same reasons.
func TestDecodersAgree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := anyFrame.Draw(t, "frame")
		j, jerr := DecodeFrame(jsonForm(t, f))
		p, perr := DecodeFrameProto(generated(t, f))
		if (jerr == nil) != (perr == nil) {
			t.Fatalf("%+v: JSON says %v, proto %v", f, jerr, perr)
		}
		if jerr == nil {
			if diff := cmp.Diff(p, j); diff != "" {
				t.Fatalf("got (-) of proto, want (+) of JSON:\n%s", diff)
			}
			return
		}
		var je, pe *FrameError
		if !errors.As(jerr, &je) || !errors.As(perr, &pe) {
			t.Fatalf("%v and %v are no FrameErrors", jerr, perr)
		}
		// What is empty in JSON is not there in proto.
		if je.Msg == "is empty" {
			je.Code, je.Msg = FrameMissingField, "is missing"
		}
		if pe.Msg == "is missing" && je.Field == "hunt" {
			je.Code, je.Msg = pe.Code, pe.Msg
		}
		if diff := cmp.Diff(pe, je); diff != "" {
			t.Fatalf("%+v: got (-) of proto, want (+) of JSON:\n%s", f, diff)
		}
	})
}

// A message is put together field by field.
type message []byte

func (m message) uint(n protowire.Number, v uint64) message {
	return protowire.AppendVarint(protowire.AppendTag(m, n, protowire.VarintType), v)
}

func (m message) text(n protowire.Number, s string) message {
	return protowire.AppendString(protowire.AppendTag(m, n, protowire.BytesType), s)
}

func (m message) in(n protowire.Number) []byte { return message(nil).text(n, string(m)) }

func TestDecodeFrameProtoRefuses(t *testing.T) {
	claim := message(nil).text(1, "7").text(2, "oslo").uint(3, 5)
	watch := message(nil).text(1, "oslo")
	for name, test := range map[string]struct {
		in             []byte
		code, says, id string
	}{
		"nothing":             {nil, FrameMissingField, "frame: is missing; want one of hello (1)", ""},
		"text":                {[]byte(`{"type":"hello"}`), FrameMalformed, "not a message", ""},
		"cut short":           {claim.in(3)[:9], FrameMalformed, "not a message", ""},
		"inner cut short":     {claim[:4].in(3), FrameMalformed, "claim: is not a message", ""},
		"field 0":             {message(nil).in(0), FrameMalformed, "not a message", ""},
		"group":               {[]byte{1<<3 | 3}, FrameMalformed, "not a message", ""},
		"overlong varint":     {append([]byte{3 << 3}, bytes.Repeat([]byte{0xff}, 11)...), FrameMalformed, "not a message", ""},
		"unknown type":        {message(nil).in(9), FrameUnknownType, "frame: is field 9; want one of", ""},
		"huge number":         {message(nil).in(1<<29 - 1), FrameUnknownType, "frame: is field 536870911", ""},
		"two frames":          {append(message(nil).in(4), message(nil).in(4)...), FrameUnknownField, "frame: is there 2 times", ""},
		"two kinds":           {append(claim.in(3), message(nil).in(4)...), FrameUnknownField, "frame: is there 2 times", ""},
		"a number for a ping": {message(nil).uint(4, 1), FrameInvalidField, "ping: has wire type 0; want a message", ""},
		"unknown field":       {message(nil).uint(1, 1).in(4), FrameUnknownField, "field 1: is not a field of this frame", ""},
		"unknown claim field": {claim.uint(99, 1).in(3), FrameUnknownField, "field 99: is not a field", "7"},
		"twice":               {claim.uint(4, 1).uint(4, 1).in(3), FrameUnknownField, "tile: is there twice", "7"},
		"wrong wire type":     {claim.text(4, "1").in(3), FrameInvalidField, "tile: has wire type 2; want a whole number", "7"},
		"number for text":     {claim.uint(6, 1).in(3), FrameInvalidField, "answer: has wire type 0; want a string", "7"},
		"fixed for text":      {append(claim, 6<<3|5, 1, 2, 3, 4).in(3), FrameInvalidField, "answer: has wire type 5", "7"},
		"id not UTF-8":        {message(nil).text(1, "\xff").text(2, "oslo").in(3), FrameNotUTF8, "id: is not valid UTF-8", ""},
		"not UTF-8":           {claim.text(6, "\xff").in(3), FrameNotUTF8, "answer: is not valid UTF-8", "7"},
		"region not UTF-8":    {watch.text(2, "u4").text(2, "\xff").in(2), FrameNotUTF8, "regions[1]: is not valid UTF-8", ""},
		"region no text":      {watch.uint(2, 4).in(2), FrameInvalidField, "regions: has wire type 0", ""},
		"no region":           {watch.text(2, "u4").text(2, "ua").in(2), FrameInvalidField, "regions[1]: geohash", ""},
		"regions":             {append(watch, bytes.Repeat(message(nil).text(2, "u"), 65)...).in(2), FrameInvalidField, "regions: has 65 items; want at most 64", ""},
		"standings":           {watch.uint(3, 2).in(2), FrameInvalidField, "standings: is 2; want true (1) or false (0)", ""},
		"tile beyond 32 bits": {claim.uint(4, 1<<32).in(3), FrameInvalidField, "tile: is 4294967296; want a whole number, 0 to 65535", "7"},
		"negative map":        {message(nil).text(1, "7").text(2, "oslo").uint(3, 1<<64-1).in(3), FrameInvalidField, "map: is -1", "7"},
		"no hunt":             {message(nil).text(1, "7").in(3), FrameMissingField, "hunt: is missing", "7"},
		"no id":               {message(nil).text(2, "oslo").in(3), FrameMissingField, "id: is missing", ""},
		"seq alone":           {message(nil).uint(3, 7).in(1), FrameMissingField, "epoch: is missing", ""},
	} {
		got, err := DecodeFrameProto(test.in)
		var fe *FrameError
		if !errors.As(err, &fe) {
			t.Errorf("%s: got %v, %v; want a FrameError", name, got, err)
		} else if fe.Code != test.code || !strings.Contains(fe.Error(), test.says) || fe.ID != test.id {
			t.Errorf("%s: got %s %q of %q; want %s … %q … of %q", name, fe.Code, fe.Error(), fe.ID, test.code, test.says, test.id)
		}
	}
	// What protobuf leaves out is zero.
	got, err := DecodeFrameProto(message(nil).text(1, "7").text(2, "oslo").in(3))
	if diff := cmp.Diff(got, ClientFrame(&ClaimFrame{ID: "7", Hunt: "oslo"})); err != nil || diff != "" {
		t.Errorf("map and tile 0: %v, got (-) want (+):\n%s", err, diff)
	}
}

// FuzzDecodeFrameProto: the decoder takes only what the generated one reads in
// the same way and knows all of, and its errors can be shown.
func FuzzDecodeFrameProto(f *testing.F) {
	for _, frame := range []ClientFrame{
		&HelloFrame{"a.b.c", "e1", 7},
		&WatchFrame{"oslo", []cairn.Cell{0, cairn.CellOfBits(1, 2)}, true},
		&ClaimFrame{"1", "oslo", 5, 4, "c", "a\"é", "t"},
		&PingFrame{},
	} {
		f.Add(generated(f, frame))
	}
	f.Add(message(nil).text(1, "\xff").in(1))
	f.Add(append(message(nil).in(4), message(nil).in(4)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := DecodeFrameProto(b)
		if err != nil {
			var fe *FrameError
			if !errors.As(err, &fe) || fe.Code == "" || !utf8.ValidString(err.Error()+fe.ID) || len(err.Error()) > 500 {
				t.Fatalf("%x: error %q (%T) can't be shown", b, err, err)
			}
			return
		}
		var mine, theirs livepb.ClientFrame
		if err := proto.Unmarshal(b, &theirs); err != nil {
			t.Fatalf("%x: taken as %+v, but %v", b, got, err)
		}
		if h := theirs.GetHello(); h != nil && h.Epoch == "" {
			h.Seq = 0
		}
		if err := proto.Unmarshal(generated(t, got), &mine); err != nil {
			t.Fatal(err)
		}
		if !proto.Equal(&mine, &theirs) { // unknown fields count
			t.Fatalf("%x: taken as %v, but it is %v", b, &mine, &theirs)
		}
	})
}

func BenchmarkDecodeFrameProto(b *testing.B) {
	in := generated(b, &ClaimFrame{"17", "oslo-winter", 1767323045, 417, "c-17", "fjord", "0123456789abcdef"})
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := DecodeFrameProto(in); err != nil {
			b.Fatal(err)
		}
	}
}

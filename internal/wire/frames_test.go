package wire

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/veltrix/cairn"
)

func cell(t testing.TB, s string) cairn.Cell {
	c, err := cairn.ParseCell(s)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestDecodeFrame(t *testing.T) {
	for _, test := range []struct {
		in   string
		want ClientFrame
	}{
		{`{"type":"hello"}`, &HelloFrame{}},
		{`{"type":"hello","token":"a.b.c","epoch":"e1","seq":7}`, &HelloFrame{"a.b.c", "e1", 7}},
		{`{"type":"hello","token":"","epoch":"","seq":7}`, &HelloFrame{}},
		{` { "seq" : 0 , "epoch" : "e" , "type" : "hello" } `, &HelloFrame{Epoch: "e"}},
		{`{"type":"watch","hunt":"oslo","regions":[]}`, &WatchFrame{Hunt: "oslo"}},
		{
			`{"type":"watch","hunt":"oslo","regions":["u4","",  "9q8"],"standings":true}`,
			&WatchFrame{"oslo", []cairn.Cell{cell(t, "u4"), 0, cell(t, "9q8")}, true},
		},
		{`{"type":"claim","id":"1","hunt":"oslo","map":5,"tile":0}`, &ClaimFrame{ID: "1", Hunt: "oslo", Map: 5}},
		{
			`{"type":"claim","id":"1","hunt":"oslo","map":5,"tile":65535,"claim_id":"c","answer":"a\"\u00e9\ud83d\ude00","token":"t"}`,
			&ClaimFrame{"1", "oslo", 5, 65535, "c", "a\"é😀", "t"},
		},
		{`{"type":"p\u0069ng"}`, &PingFrame{}},
	} {
		got, err := DecodeFrame([]byte(test.in))
		if err != nil {
			t.Errorf("%s: %v", test.in, err)
		} else if diff := cmp.Diff(got, test.want); diff != "" {
			t.Errorf("%s: got (-) want (+):\n%s", test.in, diff)
		}
	}
}

func TestDecodeFrameRefuses(t *testing.T) {
	claim := `{"type":"claim","id":"1","hunt":"oslo","map":5,"tile":0`
	for _, test := range []struct{ in, code, says string }{
		{"", FrameMalformed, "JSON"},
		{"{", FrameMalformed, "JSON"},
		{"[]", FrameMalformed, "JSON object"},
		{"null", FrameMalformed, "JSON object"},
		{`"hello"`, FrameMalformed, "JSON object"},
		{`{"type":"hello"} {}`, FrameMalformed, "JSON"},
		{"{\"type\":\"\xff\"}", FrameNotUTF8, "UTF-8"},
		{`{}`, FrameMissingField, "type: is missing"},
		{`{"type":1}`, FrameInvalidField, "type: is 1; want a string"},
		{`{"type":""}`, FrameInvalidField, "type: is empty"},
		{`{"type":"HELLO"}`, FrameUnknownType, "want hello, watch, claim or ping"},
		{`{"Type":"hello"}`, FrameMissingField, "type: is missing"},
		{`{"type":"ping","type":"ping"}`, FrameUnknownField, "type: is there twice"},
		{`{"type":"ping","x":1}`, FrameUnknownField, "x: is not a field"},
		{`{"type":"hello","token":null}`, FrameInvalidField, "token: is null; want a string"},
		{`{"type":"hello","token":{"a":1}}`, FrameInvalidField, `token: is {"a":1}; want a string`},
		{`{"type":"hello","seq":1}`, FrameMissingField, "epoch: is missing"},
		{`{"type":"hello","epoch":"e"}`, FrameMissingField, "seq: is missing"},
		{`{"type":"hello","epoch":"e","seq":-1}`, FrameInvalidField, "seq: is -1"},
		{`{"type":"hello","epoch":"e","seq":1.5}`, FrameInvalidField, "seq: is 1.5"},
		{`{"type":"hello","epoch":"e","seq":1e3}`, FrameInvalidField, "seq: is 1e3"},
		{`{"type":"hello","epoch":"e","seq":"1"}`, FrameInvalidField, "seq: is \"1\""},
		{`{"type":"watch","hunt":"oslo"}`, FrameMissingField, "regions: is missing"},
		{`{"type":"watch","regions":[]}`, FrameMissingField, "hunt: is missing"},
		{`{"type":"watch","hunt":"Oslo!","regions":[]}`, FrameInvalidField, `hunt: is "Oslo!"; want 1 to 63`},
		{`{"type":"watch","hunt":"oslo","regions":"u4"}`, FrameInvalidField, "regions: is \"u4\"; want a list"},
		{`{"type":"watch","hunt":"oslo","regions":[1]}`, FrameInvalidField, "regions[0]: is 1; want a string"},
		{`{"type":"watch","hunt":"oslo","regions":["u4","ua"]}`, FrameInvalidField, "regions[1]: geohash \"ua\""},
		{`{"type":"watch","hunt":"oslo","regions":["0123456789bcd"]}`, FrameInvalidField, "at most 12"},
		{`{"type":"watch","hunt":"oslo","regions":[` + strings.Repeat(`"u",`, 64) + `"u"]}`, FrameInvalidField, "regions: has 65 items; want at most 64"},
		{`{"type":"watch","hunt":"oslo","regions":[],"standings":"yes"}`, FrameInvalidField, "standings: is \"yes\"; want true or false"},
		{claim + `,"claim_id":"` + strings.Repeat("x", 65) + `"}`, FrameInvalidField, "claim_id: has 65 bytes; want at most 64"},
		{claim + `,"answer":7}`, FrameInvalidField, "answer: is 7; want a string"},
		{claim + `,"reward":7}`, FrameUnknownField, "reward: is not a field"},
		{`{"type":"claim","hunt":"oslo","map":5,"tile":0}`, FrameMissingField, "id: is missing"},
		{`{"type":"claim","id":"","hunt":"oslo","map":5,"tile":0}`, FrameInvalidField, "id: is empty"},
		{`{"type":"claim","id":"1","hunt":"oslo","tile":0}`, FrameMissingField, "map: is missing"},
		{`{"type":"claim","id":"1","hunt":"oslo","map":5}`, FrameMissingField, "tile: is missing"},
		{`{"type":"claim","id":"1","hunt":"oslo","map":5,"tile":65536}`, FrameInvalidField, "tile: is 65536; want a whole number, 0 to 65535"},
		{`{"type":"claim","id":"1","hunt":"oslo","map":9007199254740992,"tile":0}`, FrameInvalidField, "map: is 9007199254740992; want a whole number, 0 to 9007199254740991"},
		{claim + `,"claim_id":"a\u0000"}`, FrameInvalidField, "claim_id: has a control character"},
		{claim + `,"answer":"` + strings.Repeat("x", 257) + `"}`, FrameInvalidField, "answer: has 257 bytes; want at most 256"},
		{claim + `,"token":"` + strings.Repeat("x", 257) + `"}`, FrameInvalidField, "token: has 257 bytes; want at most 256"},
		{`{"type":"claim","id":"1","hunt":"oslo","map":true,"tile":0}`, FrameInvalidField, "map: is true"},
		{`{"type":"claim","id":"1","hunt":"oslo","map":5,"tile":99999999999999999999}`, FrameInvalidField, "tile: is 99999999999999999999"},
	} {
		got, err := DecodeFrame([]byte(test.in))
		var fe *FrameError
		if !errors.As(err, &fe) {
			t.Errorf("%s: got %v, %v; want a FrameError", test.in, got, err)
		} else if fe.Code != test.code || !strings.Contains(fe.Error(), test.says) {
			t.Errorf("%s: got %s %q; want %s … %q …", test.in, fe.Code, fe.Error(), test.code, test.says)
		}
	}
}

// TestFrameErrorID: who sent several claims must know which one was refused.
func TestFrameErrorID(t *testing.T) {
	for in, want := range map[string]string{
		`{"type":"claim","id":"a","hunt":"oslo","map":-1,"tile":0}`:                              "a",
		`{"type":"claim","hunt":"oslo","map":1,"tile":0,"x":1,"id":"b"}`:                         "b",
		`{"type":"claim","hunt":"","map":1,"tile":0,"id":"c"}`:                                   "c",
		`{"type":"claim","id":1,"hunt":"oslo","map":1,"tile":0}`:                                 "",
		`{"type":"claim","hunt":"oslo","map":1,"tile":0}`:                                        "",
		`{"type":"claim","id":"` + strings.Repeat("x", 65) + `","hunt":"oslo","map":1,"tile":0}`: "",
		`{"type":"watch","id":"a","hunt":"oslo","regions":[]}`:                                   "",
	} {
		_, err := DecodeFrame([]byte(in))
		var fe *FrameError
		if !errors.As(err, &fe) || fe.ID != want {
			t.Errorf("%s: got %+v, want a FrameError with id %q", in, err, want)
		}
	}
}

// FuzzDecodeFrame: the decoder takes only JSON that the standard library reads
// in the same way, and its errors can be shown.
func FuzzDecodeFrame(f *testing.F) {
	for _, s := range []string{
		`{"type":"hello","token":"a.b.c","epoch":"e1","seq":7}`,
		`{"type":"watch","hunt":"oslo","regions":["u4",""],"standings":true}`,
		`{"type":"claim","id":"1","hunt":"oslo","map":5,"tile":4,"claim_id":"c","answer":"a\"\u00e9","token":"t"}`,
		`{"type":"ping"}`, `{"type":"ping","x":[{"y":"}\\\""}]}`, "{\"type\":\"\xff\"}", `{"a":1,"a":2}`, `{"type":`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := DecodeFrame(b)
		if err != nil {
			var fe *FrameError
			if !errors.As(err, &fe) || fe.Code == "" || !utf8.ValidString(err.Error()) || len(err.Error()) > 500 {
				t.Fatalf("%q: error %q (%T) can't be shown", b, err, err)
			}
			return
		}
		var v struct {
			Type, Token, Epoch, ID, Answer string
			Seq                            uint64
			Hunt                           cairn.HuntID
			Regions                        []cairn.Cell
			Standings                      bool
			Map                            cairn.Tick
			Tile                           uint32
			ClaimID                        string `json:"claim_id"`
		}
		if err := json.Unmarshal(b, &v); err != nil {
			t.Fatalf("%q: taken as %+v, but %v", b, got, err)
		}
		var want ClientFrame
		switch got.(type) {
		case *HelloFrame:
			if v.Epoch == "" {
				v.Seq = 0
			}
			want = &HelloFrame{v.Token, v.Epoch, v.Seq}
		case *WatchFrame:
			if len(v.Regions) == 0 {
				v.Regions = nil
			}
			want = &WatchFrame{v.Hunt, v.Regions, v.Standings}
		case *ClaimFrame:
			want = &ClaimFrame{v.ID, v.Hunt, v.Map, v.Tile, v.ClaimID, v.Answer, v.Token}
		case *PingFrame:
			want = &PingFrame{}
		}
		if diff := cmp.Diff(got, want); diff != "" {
			t.Fatalf("%q: got (-) want (+):\n%s", b, diff)
		}
	})
}

func BenchmarkDecodeFrame(b *testing.B) {
	in := []byte(`{"type":"claim","id":"17","hunt":"oslo-winter","map":1767323045,"tile":417,"claim_id":"c-17","answer":"fjord","token":"0123456789abcdef"}`)
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := DecodeFrame(in); err != nil {
			b.Fatal(err)
		}
	}
}

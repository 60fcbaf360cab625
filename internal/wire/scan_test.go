package wire

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/veltrix/cairn"
)

const scanned = `{"type":"claim","id":"17","hunt":"oslo-winter","map":1767323045,"tile":417,"claim_id":"c-17","answer":"fjord","token":"0123456789abcdef"}`

// scansAs compares what the scan takes with what the whole decoder says.
func scansAs(t interface{ Errorf(string, ...any) }, b []byte, text *Text) bool {
	var got ClaimFrame
	if !ScanClaimFrame(b, &got, text) {
		return false
	}
	want, err := DecodeFrame(b)
	if err != nil {
		t.Errorf("%q is scanned as %+v, but: %v", b, got, err)
	} else if diff := cmp.Diff(ClientFrame(&got), want); diff != "" {
		t.Errorf("%q: got (-) by the scan, want (+):\n%s", b, diff)
	}
	return true
}

func TestScanClaimFrame(t *testing.T) {
	var text Text
	for _, in := range []string{
		scanned,
		`{"type":"claim","id":"1","hunt":"oslo","map":0,"tile":0}`,
		" {\"tile\" : 65535 ,\n\t\"map\": 9007199254740991 , \"hunt\":\"o\", \"id\":\"~\", \"type\" :\"claim\",\"claim_id\":\"\"} \r\n",
	} {
		if !scansAs(t, []byte(in), &text) {
			t.Errorf("%s was left to the whole decoder", in)
		}
	}
	rest := scanned[1:]
	for _, in := range []string{
		"", "{", "{}", "[]", "null", scanned[:len(scanned)-1], scanned + "x", scanned + "{}", "{,}", `{"map":1,}`,
		`{"id":"2",` + rest, `{"x":1,` + rest, `{"type":"ping"}`,
		strings.Replace(scanned, "417", "65536", 1), strings.Replace(scanned, "417", "-1", 1), strings.Replace(scanned, "417", "041", 1),
		strings.Replace(scanned, "417", "4.0", 1), strings.Replace(scanned, "417", `"4"`, 1), strings.Replace(scanned, "417", "", 1),
		strings.Replace(scanned, "1767323045", "9007199254740992", 1), strings.Replace(scanned, "1767323045", strings.Repeat("9", 40), 1),
		strings.Replace(scanned, "oslo-winter", "Oslo", 1), strings.Replace(scanned, "oslo-winter", "", 1), strings.Replace(scanned, `"17"`, `""`, 1),
		strings.Replace(scanned, "fjord", "fj\\u00f8rd", 1), strings.Replace(scanned, "fjord", "fjørd", 1), strings.Replace(scanned, "fjord", "fj\nrd", 1),
		strings.Replace(scanned, "fjord", "fj\x7frd", 1), strings.Replace(scanned, "fjord", strings.Repeat("x", 257), 1),
		strings.Replace(scanned, `"17"`, `"`+strings.Repeat("x", 65)+`"`, 1),
	} {
		if scansAs(t, []byte(in), &text) {
			t.Errorf("%s was scanned; want it left to the whole decoder", in)
		}
	}
}

// TestScansLikeDecode: whatever the scan takes, the whole decoder takes alike.
func TestScansLikeDecode(t *testing.T) {
	var text Text
	rapid.Check(t, func(t *rapid.T) {
		b := jsonForm(t, anyFrame.Draw(t, "frame"))
		if rapid.Bool().Draw(t, "broken") {
			at := rapid.IntRange(0, len(b)-1).Draw(t, "at")
			b[at] = rapid.SampledFrom([]byte(`{}[]":, 0123456789x\`)).Draw(t, "byte")
		}
		scansAs(t, b, &text)
	})
}

// FuzzScanClaims: what is scanned is what the standard library reads.
func FuzzScanClaims(f *testing.F) {
	for _, s := range []string{`{"map":1,"tile":2}`, `[{"map":1,"tile":2},{"map":3,"tile":4,"claim_id":"a","answer":"b","token":"c"}]`, `[]`, scanned} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var text Text
		scansAs(t, b, &text)
		got, array, ok := ScanClaims(b, nil, &text, 3)
		if !ok {
			return
		}
		type body struct {
			Map     *cairn.Tick
			Tile    *uint32
			ClaimID string `json:"claim_id"`
			Answer  string
			Token   string
		}
		var bodies []body
		if !array {
			b = slices.Concat([]byte{'['}, b, []byte{']'})
		}
		if err := json.Unmarshal(b, &bodies); err != nil {
			t.Fatalf("%q is scanned as %+v, but %v", b, got, err)
		}
		if len(bodies) != len(got) {
			t.Fatalf("%q: %d bodies, want %d", b, len(got), len(bodies))
		}
		for i, w := range bodies {
			if w.Map == nil || w.Tile == nil {
				t.Fatalf("%q is scanned without a map or a tile", b)
			}
			if diff := cmp.Diff(got[i], ClaimFrame{Map: *w.Map, Tile: *w.Tile, ClaimID: w.ClaimID, Answer: w.Answer, Token: w.Token}); diff != "" {
				t.Fatalf("%q, body %d: got (-) want (+):\n%s", b, i, diff)
			}
		}
	})
}

// TestScanAllocates: a claim's strings share a piece of memory with others.
func TestScanAllocates(t *testing.T) {
	var text Text
	var f ClaimFrame
	in := []byte(scanned)
	const claims = 100
	if n := testing.AllocsPerRun(100, func() {
		for range claims {
			if !ScanClaimFrame(in, &f, &text) {
				t.Fatal("not scanned")
			}
		}
	}); n > 1 {
		t.Errorf("%d claims: %v allocations, want at most one", claims, n)
	}
	// What was handed out stays as it is.
	var fs []ClaimFrame
	for i := range 1000 {
		if !ScanClaimFrame(fmt.Appendf(nil, `{"type":"claim","id":"%d","hunt":"oslo","map":1,"tile":2,"answer":"a%d"}`, i, i), &f, &text) {
			t.Fatal("not scanned")
		}
		fs = append(fs, f)
	}
	for i, f := range fs {
		if f.ID != fmt.Sprint(i) || f.Answer != fmt.Sprintf("a%d", i) {
			t.Fatalf("frame %d became %+v", i, f)
		}
	}
}

func BenchmarkScanClaimFrame(b *testing.B) {
	in := []byte(scanned)
	var f ClaimFrame
	var text Text
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	for b.Loop() {
		if !ScanClaimFrame(in, &f, &text) {
			b.Fatal("not scanned")
		}
	}
}

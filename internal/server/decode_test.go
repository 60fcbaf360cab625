package server

import (
	"encoding/json"
	"strings"
	"testing"
)

const goodClaim = `{"map":1767322800,"tile":17,"claim_id":"0193b3c0-7f6e-7c1a-9b5e-2f1d3c4b5a69","answer":"cairn","token":"AAECAwQFBgcICQoLDA0ODxAR"}`

func decodeClaims(body string) ([]claimBody, []Field, bool) {
	d := new(claimDecoder)
	d.buf.WriteString(body)
	array := d.decode()
	return d.bodies, d.fields, array
}

func TestDecodeClaim(t *testing.T) {
	bodies, fields, array := decodeClaims(goodClaim)
	want := claimBody{1767322800, 17, "0193b3c0-7f6e-7c1a-9b5e-2f1d3c4b5a69", "cairn", "AAECAwQFBgcICQoLDA0ODxAR"}
	if len(fields) > 0 || array || len(bodies) != 1 || bodies[0] != want {
		t.Errorf("got %+v, %v, array %v, want %+v", bodies, fields, array, want)
	}
	bodies, fields, array = decodeClaims(" [ {\"tile\":0,\"map\":0} ,{\"map\":9007199254740991,\"tile\":65535,\"answer\":\"\\u00e5\\n\"}]\n")
	if len(fields) > 0 || !array || len(bodies) != 2 || bodies[0] != (claimBody{}) || bodies[1].answer != "å\n" || bodies[1].tile != 65535 {
		t.Errorf("got %+v, %v, array %v", bodies, fields, array)
	}
}

// claimFaults are a claim's body wrong in each way, and the field that must be
// named ("" is the body as a whole).
var claimFaults = []struct{ what, body, field string }{
	{"empty", "", ""},
	{"not JSON", "map=1", ""},
	{"null", "null", ""},
	{"a number", "7", ""},
	{"a string", `"map"`, ""},
	{"cut short", `{"map":1,"tile":`, "tile"},
	{"cut in a name", `{"map":1,"ti`, ""},
	{"more behind it", `{"map":1,"tile":2}{}`, ""},
	{"garbage behind it", `{"map":1,"tile":2} x`, ""},
	{"map missing", `{"tile":2}`, "map"},
	{"map null", `{"map":null,"tile":2}`, "map"},
	{"map a string", `{"map":"1","tile":2}`, "map"},
	{"map a boolean", `{"map":true,"tile":2}`, "map"},
	{"map an object", `{"map":{},"tile":2}`, "map"},
	{"map an array", `{"map":[1],"tile":2}`, "map"},
	{"map negative", `{"map":-1,"tile":2}`, "map"},
	{"map a fraction", `{"map":1.5,"tile":2}`, "map"},
	{"map with exponent", `{"map":1e3,"tile":2}`, "map"},
	{"map over 2^53", `{"map":9007199254740992,"tile":2}`, "map"},
	{"map over int64", `{"map":99999999999999999999,"tile":2}`, "map"},
	{"map twice", `{"map":1,"map":1,"tile":2}`, "map"},
	{"map in capitals", `{"Map":1,"tile":2}`, "Map"},
	{"tile missing", `{"map":1}`, "tile"},
	{"tile null", `{"map":1,"tile":null}`, "tile"},
	{"tile a string", `{"map":1,"tile":"2"}`, "tile"},
	{"tile negative", `{"map":1,"tile":-1}`, "tile"},
	{"tile too large", `{"map":1,"tile":65536}`, "tile"},
	{"tile a fraction", `{"map":1,"tile":0.5}`, "tile"},
	{"claim_id a number", `{"map":1,"tile":2,"claim_id":3}`, "claim_id"},
	{"claim_id null", `{"map":1,"tile":2,"claim_id":null}`, "claim_id"},
	{"claim_id too long", `{"map":1,"tile":2,"claim_id":"` + strings.Repeat("a", 65) + `"}`, "claim_id"},
	{"claim_id with a control character", `{"map":1,"tile":2,"claim_id":"a\u0000b"}`, "claim_id"},
	{"claim_id not UTF-8", "{\"map\":1,\"tile\":2,\"claim_id\":\"a\xffb\"}", "claim_id"},
	{"claim_id half a surrogate", `{"map":1,"tile":2,"claim_id":"\ud800"}`, "claim_id"},
	{"answer a number", `{"map":1,"tile":2,"answer":3}`, "answer"},
	{"answer too long", `{"map":1,"tile":2,"answer":"` + strings.Repeat("a", 257) + `"}`, "answer"},
	{"answer not UTF-8", "{\"map\":1,\"tile\":2,\"answer\":\"\xc3\"}", "answer"},
	{"token an array", `{"map":1,"tile":2,"token":["a"]}`, "token"},
	{"token too long", `{"map":1,"tile":2,"token":"` + strings.Repeat("a", 257) + `"}`, "token"},
	{"unknown field", `{"map":1,"tile":2,"hunt":"oslo"}`, "hunt"},
	{"unknown field, deep", `{"map":1,"tile":2,"x":{"y":[1,2,{"z":3}]}}`, "x"},
	{"name not UTF-8", "{\"map\":1,\"tile\":2,\"\xff\":3}", ""},
	{"empty array", `[]`, ""},
	{"array of a number", `[1]`, "[0]"},
	{"array with a fault", `[{"map":1,"tile":2},{"map":1,"tile":-2}]`, "[1].tile"},
	{"array with a hole", `[{"map":1,"tile":2},{"tile":2}]`, "[1].map"},
	{"array cut short", `[{"map":1,"tile":2}`, ""},
	{"array in an array", `[[{"map":1,"tile":2}]]`, "[0]"},
	{"array too long", "[" + strings.Repeat(`{"map":1,"tile":2},`, 256) + `{"map":1,"tile":2}]`, ""},
}

func TestDecodeClaimFaults(t *testing.T) {
	for _, c := range claimFaults {
		_, fields, _ := decodeClaims(c.body)
		found := false
		for _, f := range fields {
			found = found || f.Field == c.field && f.Message != "" && f.In == "body"
		}
		if !found {
			t.Errorf("%s: got %+v, want a fault of %q", c.what, fields, c.field)
		}
	}
	if bodies, fields, _ := decodeClaims("[" + strings.Repeat(`{"map":1,"tile":2},`, 255) + `{"map":1,"tile":2}]`); len(fields) > 0 || len(bodies) != 256 {
		t.Errorf("an array of 256: got %d bodies, %v", len(bodies), fields)
	}
}

// TestDecodeReused holds that nothing of one request is seen in the next.
func TestDecodeReused(t *testing.T) {
	d := new(claimDecoder)
	d.buf.WriteString(`[` + goodClaim + `,{"map":1,"tile":"x","answer":"secret"}]`)
	d.decode()
	clear(d.bodies)
	d.bodies, d.fields = d.bodies[:0], d.fields[:0]
	d.buf.Reset()
	d.buf.WriteString(`{"map":3,"tile":4}`)
	if d.decode(); len(d.fields) > 0 || len(d.bodies) != 1 || d.bodies[0] != (claimBody{tick: 3, tile: 4}) {
		t.Errorf("got %+v, %v", d.bodies, d.fields)
	}
}

// FuzzDecodeClaim holds the decoder against the standard library's: what it
// takes, the other reads as the same.
func FuzzDecodeClaim(f *testing.F) {
	f.Add(goodClaim)
	f.Add("[" + goodClaim + "]")
	for _, c := range claimFaults {
		f.Add(c.body)
	}
	f.Fuzz(func(t *testing.T, body string) {
		bodies, fields, array := decodeClaims(body)
		if len(fields) > 0 {
			for _, fd := range fields {
				if fd.Message == "" {
					t.Errorf("%q: a fault without a message: %+v", body, fd)
				}
			}
			return
		}
		type plain struct {
			Map     *int64  `json:"map"`
			Tile    *uint16 `json:"tile"`
			ClaimID string  `json:"claim_id"`
			Answer  string  `json:"answer"`
			Token   string  `json:"token"`
		}
		var want []plain
		if array {
			if err := json.Unmarshal([]byte(body), &want); err != nil {
				t.Fatalf("%q was taken: %v", body, err)
			}
		} else {
			want = make([]plain, 1)
			if err := json.Unmarshal([]byte(body), &want[0]); err != nil {
				t.Fatalf("%q was taken: %v", body, err)
			}
		}
		if len(want) != len(bodies) || len(bodies) == 0 || len(bodies) > claimsMax {
			t.Fatalf("%q: got %d bodies, want %d", body, len(bodies), len(want))
		}
		for i, b := range bodies {
			w := want[i]
			if w.Map == nil || w.Tile == nil || int64(b.tick) != *w.Map || b.tile != uint32(*w.Tile) ||
				b.claimID != w.ClaimID || b.answer != w.Answer || b.token != w.Token {
				t.Errorf("%q: got %+v, want %+v", body, b, w)
			}
		}
	})
}

func BenchmarkClaimDecode(b *testing.B) {
	d := new(claimDecoder)
	b.ReportAllocs()
	for b.Loop() {
		d.bodies = d.bodies[:0]
		d.buf.Reset()
		d.buf.WriteString(goodClaim)
		if d.decode(); len(d.fields) > 0 {
			b.Fatal(d.fields)
		}
	}
}

package eventlog

import (
	"cmp"
	"encoding/hex"
	"encoding/json"
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func offsets() *rapid.Generator[Offset] {
	return rapid.Custom(func(t *rapid.T) Offset {
		return Offset{rapid.Uint64().Draw(t, "epoch"), rapid.Uint64().Draw(t, "seq")}
	})
}

// near draws offsets that often share an epoch or are next to each other.
func near() *rapid.Generator[Offset] {
	return rapid.Custom(func(t *rapid.T) Offset {
		return Offset{rapid.Uint64Max(3).Draw(t, "epoch"), rapid.Uint64Max(3).Draw(t, "seq")}
	})
}

func TestOffsetText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := offsets().Draw(t, "offset")
		if back, err := ParseOffset(o.String()); err != nil || back != o {
			t.Fatalf("ParseOffset(%q) = %v, %v", o, back, err)
		}
		j, err := json.Marshal(map[Offset]Offset{o: o})
		if want := `{"` + o.String() + `":"` + o.String() + `"}`; err != nil || string(j) != want {
			t.Fatalf("JSON %s, %v, want %s", j, err, want)
		}
		var back map[Offset]Offset
		if err := json.Unmarshal(j, &back); err != nil || len(back) != 1 || back[o] != o {
			t.Fatalf("back from JSON: %v, %v", back, err)
		}
	})
}

func TestParseOffsetRefuses(t *testing.T) {
	for _, in := range []string{
		"", "-", "3", "3-", "-15", "3-15 ", " 3-15", "3-15-1", "03-15", "+3-15", "-3-15", "3--15", "3-15\n", "3 -15", "0x3-15",
		"18446744073709551616-0", "0-18446744073709551616", strings.Repeat("1", 1<<16),
	} {
		if o, err := ParseOffset(in); err == nil || len(err.Error()) > 150 || !o.IsZero() {
			t.Errorf("ParseOffset(%.30q) = %v, %.200v, want an error", in, o, err)
		}
	}
	o := Offset{3, 15}
	if err := o.UnmarshalText([]byte("x")); err == nil {
		t.Error("UnmarshalText(x): no error")
	}
}

// TestOffsetOrder: offsets are ordered as pairs, and what follows is behind.
func TestOffsetOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := near().Draw(t, "a"), near().Draw(t, "b")
		want := cmp.Or(cmp.Compare(a.Epoch, b.Epoch), cmp.Compare(a.Seq, b.Seq))
		if a.Compare(b) != want || b.Compare(a) != -want || a.Less(b) != (want < 0) {
			t.Fatalf("%v against %v: %d, want %d", a, b, a.Compare(b), want)
		}
		if b.Follows(a) && !a.Less(b) {
			t.Fatalf("%v follows %v but is not behind it", b, a)
		}
	})
}

func TestFollows(t *testing.T) {
	for _, tc := range []struct {
		o, prev Offset
		want    bool
	}{
		{GenesisOffset, Offset{}, true},
		{Offset{1, 0}, GenesisOffset, true},
		{Offset{1, 1}, Offset{1, 0}, true},
		{Offset{2, 0}, Offset{1, 0}, true},
		{Offset{2, 0}, Offset{1, 99}, true},
		{Offset{1, 1}, Offset{1, 1}, false},
		{Offset{1, 3}, Offset{1, 1}, false},
		{Offset{1, 1}, Offset{1, 2}, false},
		{Offset{3, 0}, Offset{1, 5}, false},
		{Offset{2, 1}, Offset{1, 0}, false},
		{Offset{1, 0}, Offset{1, math.MaxUint64}, false}, // seq must not wrap
		{Offset{0, 0}, Offset{math.MaxUint64, 7}, false}, // nor the epoch
	} {
		if got := tc.o.Follows(tc.prev); got != tc.want {
			t.Errorf("%v follows %v: %v, want %v", tc.o, tc.prev, got, tc.want)
		}
	}
}

// TestNextChainGolden pins the chain of a small log: it is stored with every
// record, so another value would call every log there is damaged.
func TestNextChainGolden(t *testing.T) {
	nonce := Nonce{1, 2, 3, 4, 5, 6, 7, 8}
	var prev Chain
	for _, tc := range []struct {
		r    Record
		want string
	}{
		{Record{Offset: GenesisOffset, Kind: Genesis, Body: []byte("0123456789abcdef")}, "fc15216fd6719d4a2a48b8ba69039fc8"},
		{Record{Offset: Offset{1, 0}, Kind: Fence, Nonce: nonce, Prev: GenesisOffset, Mark: GenesisOffset}, "fc0666646106ba98d18d444f80be7beb"},
		{Record{Offset: Offset{1, 1}, Kind: Data, Nonce: nonce, Prev: Offset{1, 0}, Mark: Offset{1, 0}, From: Offset{1, 1}, Body: []byte("claims")}, "b181b4cba0444e14eb93c90d701da8de"},
		{Record{Offset: Offset{1, 2}, Kind: Mark, Nonce: nonce, Prev: Offset{1, 1}, Mark: Offset{1, 1}, From: Offset{1, 1}}, "a07c513dfed2b057a122dcff4b258ab7"},
	} {
		prev = NextChain(prev, &tc.r)
		if got := hex.EncodeToString(prev[:]); got != tc.want {
			t.Errorf("chain at %v is %s, want %s", tc.r.Offset, got, tc.want)
		}
	}
}

// TestNextChainCovers: no field of a record can change unseen.
func TestNextChainCovers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		body := rapid.SliceOfN(rapid.Byte(), 0, 40)
		chain := rapid.Map(rapid.SliceOfN(rapid.Byte(), 16, 16), func(b []byte) Chain { return Chain(b) })
		prev := chain.Draw(t, "prev")
		r := Record{
			Offset: offsets().Draw(t, "offset"), Kind: Kind(rapid.Uint8().Draw(t, "kind")),
			Prev: offsets().Draw(t, "prev"), Mark: offsets().Draw(t, "mark"), From: offsets().Draw(t, "from"),
			Body: body.Draw(t, "body"),
		}
		want := NextChain(prev, &r)
		other, otherPrev := r, prev
		delta := rapid.Uint64Min(1).Draw(t, "delta")
		switch field := rapid.SampledFrom([]string{"prev chain", "offset", "kind", "nonce", "prev", "mark", "from", "body", "chain"}).Draw(t, "field"); field {
		case "prev chain":
			otherPrev[delta%16] ^= 1
		case "offset":
			other.Offset.Seq += delta
		case "kind":
			other.Kind ^= Kind(delta%255 + 1)
		case "nonce":
			other.Nonce[delta%8] ^= 1
		case "prev":
			other.Prev.Epoch += delta
		case "mark":
			other.Mark.Seq += delta
		case "from":
			other.From.Epoch += delta
		case "body":
			other.Body = append(append([]byte{}, r.Body...), byte(delta))
		case "chain": // the record's own chain is what is computed
			other.Chain[delta%16] ^= 1
			if NextChain(otherPrev, &other) != want {
				t.Fatal("the chain covers itself")
			}
			return
		}
		if NextChain(otherPrev, &other) == want {
			t.Fatalf("a changed record has the same chain: %+v, %+v", r, other)
		}
	})
}

func TestNames(t *testing.T) {
	for i, want := range map[int]Name{0: "s00", 7: "s07", 63: "s63", 100: "s100", 1023: "s1023"} {
		if got := Shard(i); got != want || ValidName(got) != nil {
			t.Errorf("Shard(%d) = %s, want %s; %v", i, got, want, ValidName(got))
		}
	}
	for _, ok := range []Name{Maps, Standings, Control, "a", "a-b_9", Name(strings.Repeat("a", 32))} {
		if err := ValidName(ok); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range []Name{"", "A", "a b", "a/b", "ä", "a\x00", "../x", Name(strings.Repeat("a", 33)), Name(strings.Repeat("a", 1<<16))} {
		if err := ValidName(bad); err == nil || len(err.Error()) > 200 {
			t.Errorf("ValidName(%.40q) = %.250v, want an error", bad, err)
		}
	}
}

func BenchmarkNextChain(b *testing.B) {
	r := Record{Offset: Offset{1, 1}, Kind: Data, Body: make([]byte, 4096)}
	b.ReportAllocs()
	b.SetBytes(int64(len(r.Body)))
	for b.Loop() {
		r.Chain = NextChain(r.Chain, &r)
	}
}

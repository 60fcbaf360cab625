package puzzle

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/veltrix/cairn"
	"pgregory.net/rapid"
)

// raceEnabled reports that the race detector is on: sync.Pool then drops
// things at random, so that allocations can't be counted.
var raceEnabled bool

var (
	testKey = [32]byte{1, 2, 3, 31: 0xff}
	testRef = cairn.TileRef{Hunt: "oslo-winter", Tick: 1_767_225_600, Tile: 417}
)

const (
	ana = cairn.PlayerID("ana")
	bo  = cairn.PlayerID("bo")
	now = cairn.Instant(1_767_225_601_234_567)
)

// asking is the kinds that ask something.
var asking = cairn.PuzzleKinds()[1:]

func mustSolve(t interface {
	Helper()
	Fatalf(string, ...any)
}, kind cairn.PuzzleKind, prompt json.RawMessage,
) string {
	t.Helper()
	answer, err := Solve(kind, prompt)
	if err != nil {
		t.Fatalf("Solve(%v, %s): %v", kind, prompt, err)
	}
	return answer
}

// TestGolden pins what a key makes: two processes of different versions must
// agree while a system is rolled.
func TestGolden(t *testing.T) {
	k := New(testKey)
	for _, tc := range []struct {
		kind                  cairn.PuzzleKind
		prompt, answer, token string
	}{
		{cairn.Tap, `{}`, "", ""},
		{cairn.Cipher, `{"letters":"ueldkr","first":"l"}`, "lurked", "AgGbdtqs0k_3OfUGXvQB2s3B"},
		{cairn.Lights, `{"board":"1010010100100010010000001"}`, "0000010100000100001000001", "AwGbdtqs0v4rnBB6oeRoNAV5"},
		{cairn.Echo, `{"pads":[6,7,2,7,0,3]}`, "672703", "BAGbdtqs0nmD308CSLiJHJXv"},
	} {
		prompt, token := k.Prompt(tc.kind, testRef, ana, now)
		if string(prompt) != tc.prompt || token != tc.token {
			t.Errorf("Prompt(%v) = %s, %q, want %s, %q", tc.kind, prompt, token, tc.prompt, tc.token)
		}
		if answer := mustSolve(t, tc.kind, prompt); answer != tc.answer {
			t.Errorf("Solve(%v) = %q, want %q", tc.kind, answer, tc.answer)
		}
	}
	prompt, token := k.Prompt(cairn.Odd, testRef, ana, now)
	if want := `{"rounds":[{"cells":["`; !strings.HasPrefix(string(prompt), want) {
		t.Errorf("Prompt(odd) = %.80s…, want %s…", prompt, want)
	}
	if answer, want := mustSolve(t, cairn.Odd, prompt), "15,25,13"; answer != want || token != "BQGbdtqs0j8xctysVG2M8aOE" {
		t.Errorf("odd: answer %q token %q, want %q", answer, token, want)
	}
}

// subjects draws whom a puzzle is for.
type aSubject struct {
	kind   cairn.PuzzleKind
	ref    cairn.TileRef
	player cairn.PlayerID
}

func subjects() *rapid.Generator[aSubject] {
	return rapid.Custom(func(t *rapid.T) aSubject {
		return aSubject{
			kind: rapid.SampledFrom(asking).Draw(t, "kind"),
			ref: cairn.TileRef{
				Hunt: cairn.HuntID(rapid.StringMatching(`[a-z0-9][a-z0-9-]{0,62}`).Draw(t, "hunt")),
				Tick: cairn.Tick(rapid.Int64().Draw(t, "tick")),
				Tile: rapid.Uint32Max(cairn.TilesPerMapMax-1).Draw(t, "tile"),
			},
			player: cairn.PlayerID(rapid.StringOfN(rapid.Rune(), 1, 16, cairn.PlayerBytesMax).Draw(t, "player")),
		}
	})
}

func keys() *rapid.Generator[[32]byte] {
	return rapid.Map(rapid.SliceOfN(rapid.Byte(), 32, 32), func(b []byte) [32]byte { return [32]byte(b) })
}

// TestSolvedPasses: what Solve makes of a prompt passes the check of any
// Keeper of the key, asking again changes nothing but the token, and the
// token says when it was asked.
func TestSolvedPasses(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		key, s := keys().Draw(t, "key"), subjects().Draw(t, "subject")
		at := cairn.Instant(rapid.Int64Range(0, 1<<57).Draw(t, "at"))
		k := New(key)
		prompt, token := k.Prompt(s.kind, s.ref, s.player, at)
		answer := mustSolve(t, s.kind, prompt)
		if len(answer) > AnswerBytesMax {
			t.Fatalf("answer %q has %d bytes, want at most %d", answer, len(answer), AnswerBytesMax)
		}
		if !New(key).Check(s.kind, s.ref, s.player, answer, token) {
			t.Fatalf("Check(%q) = false for prompt %s", answer, prompt)
		}
		again, later := k.Prompt(s.kind, s.ref, s.player, at+1_000_000)
		if string(again) != string(prompt) || later == token {
			t.Fatalf("asked again: %s, %q; before %s, %q", again, later, prompt, token)
		}
		if !k.Check(s.kind, s.ref, s.player, answer, later) {
			t.Fatal("the later token does not pass")
		}
		if got, ok := Issued(token); !ok || got != at/1000*1000 {
			t.Fatalf("Issued(%q) = %d, %v, want %d", token, got, ok, at/1000*1000)
		}
	})
}

// TestBound: the right answer and token of one subject pass for no other, and
// not under another key; nor does a right answer with another subject's token
// that is genuine.
func TestBound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		key, s := keys().Draw(t, "key"), subjects().Draw(t, "subject")
		k := New(key)
		prompt, token := k.Prompt(s.kind, s.ref, s.player, now)
		answer := mustSolve(t, s.kind, prompt)

		other := s
		switch rapid.SampledFrom([]string{"hunt", "tick", "tile", "player", "kind", "border"}).Draw(t, "differs") {
		case "hunt":
			other.ref.Hunt = cairn.HuntID(rapid.StringMatching(`[a-z0-9]{1,63}`).Draw(t, "other"))
		case "tick":
			other.ref.Tick += cairn.Tick(rapid.Int64Range(1, 1000).Draw(t, "other"))
		case "tile":
			other.ref.Tile ^= 1 << rapid.IntRange(0, 31).Draw(t, "bit")
		case "player":
			other.player = cairn.PlayerID(rapid.StringN(1, 16, cairn.PlayerBytesMax).Draw(t, "other"))
		case "kind":
			other.kind = rapid.SampledFrom(asking).Draw(t, "other")
		case "border": // hunt "ab", player "c" is not hunt "a", player "bc"
			n := len(other.ref.Hunt)
			other.player = cairn.PlayerID(other.ref.Hunt[n-1:]) + other.player
			other.ref.Hunt = other.ref.Hunt[:n-1]
		}
		if other == s {
			return
		}
		if k.Check(other.kind, other.ref, other.player, answer, token) {
			t.Fatalf("answer and token of %+v pass for %+v", s, other)
		}
		_, othersToken := k.Prompt(other.kind, other.ref, other.player, now)
		if k.Check(s.kind, s.ref, s.player, answer, othersToken) {
			t.Fatalf("token of %+v passes for %+v", other, s)
		}
		key[rapid.IntRange(0, 31).Draw(t, "byte")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		if New(key).Check(s.kind, s.ref, s.player, answer, token) {
			t.Fatal("passes under another key")
		}
	})
}

// TestWrongFails: one character changed anywhere makes a right answer wrong.
func TestWrongFails(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := subjects().Draw(t, "subject")
		k := New(testKey)
		prompt, token := k.Prompt(s.kind, s.ref, s.player, now)
		answer := mustSolve(t, s.kind, prompt)
		at := rapid.IntRange(0, len(answer)).Draw(t, "at")
		c := string(rapid.ByteRange(' ', '~').Draw(t, "c"))
		wrong := []string{"", answer + c, answer[:at] + c + answer[at:]}
		if at < len(answer) {
			wrong = append(wrong, answer[:at]+answer[at+1:])
			if s.kind != cairn.Cipher || !strings.EqualFold(c, answer[at:at+1]) {
				wrong = append(wrong, answer[:at]+c+answer[at+1:])
			}
		}
		for _, w := range wrong {
			if w != answer && k.Check(s.kind, s.ref, s.player, w, token) {
				t.Fatalf("%v: Check(%q) = true, the answer is %q", s.kind, w, answer)
			}
		}
	})
}

// TestForgedTokenFails: every bit of a token matters.
func TestForgedTokenFails(t *testing.T) {
	k := New(testKey)
	for _, kind := range asking {
		prompt, token := k.Prompt(kind, testRef, ana, now)
		answer := mustSolve(t, kind, prompt)
		for i := range token {
			for _, c := range "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_+/=\n\r é" {
				forged := token[:i] + string(c) + token[i+1:]
				if forged != token && k.Check(kind, testRef, ana, answer, forged) {
					t.Errorf("%v: token %q passes for %q", kind, forged, token)
				}
			}
		}
		for _, forged := range []string{"", token[1:], token + "A", token + "\n", token[:12] + "\n" + token[12:], strings.Repeat("A", tokenChars), strings.Repeat("A", 1<<20)} {
			if k.Check(kind, testRef, ana, answer, forged) {
				t.Errorf("%v: token %.40q passes", kind, forged)
			}
		}
	}
}

func TestTap(t *testing.T) {
	k := New(testKey)
	for _, answer := range []string{"", "x", strings.Repeat("x", 1000)} {
		if !k.Check(cairn.Tap, testRef, ana, answer, answer) {
			t.Errorf("Check(tap, %.10q) = false", answer)
		}
	}
	for _, kind := range []cairn.PuzzleKind{0, 6, 255} {
		if k.Check(kind, testRef, ana, "", "") {
			t.Errorf("Check(%v) = true", kind)
		}
		if _, err := Solve(kind, []byte("{}")); err == nil {
			t.Errorf("Solve(%v): no error", kind)
		}
	}
}

// TestOversized: a Keeper takes strings from anyone.
func TestOversized(t *testing.T) {
	k := New(testKey)
	long := strings.Repeat("7", 1<<20)
	for _, kind := range asking {
		prompt, token := k.Prompt(kind, testRef, cairn.PlayerID(long), now)
		answer := mustSolve(t, kind, prompt)
		if k.Check(kind, testRef, cairn.PlayerID(long), answer, token) {
			t.Errorf("%v: a player of 1 MiB passes", kind)
		}
		_, token = k.Prompt(kind, testRef, ana, now)
		if k.Check(kind, testRef, ana, long, token) || k.Check(kind, testRef, ana, long[:AnswerBytesMax], token) {
			t.Errorf("%v: an answer too long passes", kind)
		}
	}
}

// TestConcurrent shares one Keeper; the race detector watches.
func TestConcurrent(t *testing.T) {
	k := New(testKey)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			player := cairn.PlayerID(fmt.Sprint("player ", g))
			for i := range 200 {
				ref, kind := testRef, asking[i%len(asking)]
				ref.Tile = uint32(i)
				prompt, token := k.Prompt(kind, ref, player, now)
				answer, err := Solve(kind, prompt)
				if err != nil || !k.Check(kind, ref, player, answer, token) {
					t.Errorf("%v of %s: answer %q, %v: want it to pass", kind, player, answer, err)
				}
				if k.Check(kind, ref, "someone else", answer, token) {
					t.Errorf("%v of %s passes for someone else", kind, player)
				}
			}
		})
	}
	wg.Wait()
}

func TestCheckAllocates(t *testing.T) {
	if raceEnabled {
		t.Log("the race detector makes sync.Pool drop things: only the answers are checked")
	}
	k := New(testKey)
	for _, kind := range cairn.PuzzleKinds() {
		prompt, token := k.Prompt(kind, testRef, ana, now)
		answer := mustSolve(t, kind, prompt)
		ok := true
		n := testing.AllocsPerRun(1000, func() {
			ok = ok && k.Check(kind, testRef, ana, answer, token)
			ok = ok && (kind == cairn.Tap || !k.Check(kind, testRef, bo, answer, token))
		})
		if !ok {
			t.Errorf("%v: wrong verdict", kind)
		}
		if n != 0 && !raceEnabled {
			t.Errorf("Check(%v): %v allocations, want 0", kind, n)
		}
	}
}

func FuzzCheck(f *testing.F) {
	k := New(testKey)
	right := map[cairn.PuzzleKind]string{}
	for _, kind := range cairn.PuzzleKinds() {
		prompt, token := k.Prompt(kind, testRef, ana, now)
		right[kind] = mustSolve(f, kind, prompt)
		f.Add(uint8(kind), right[kind], token)
		f.Add(uint8(kind), "", "")
	}
	f.Fuzz(func(t *testing.T, kind uint8, answer, token string) {
		got := k.Check(cairn.PuzzleKind(kind), testRef, ana, answer, token)
		if at, ok := Issued(token); ok && at < 0 {
			t.Errorf("Issued(%q) = %d", token, at)
		}
		kd := cairn.PuzzleKind(kind)
		if !got || kd == cairn.Tap {
			return
		}
		if kd == cairn.Lights {
			presses, ok := parseLights(answer)
			if board, _ := parseLights(right[kd]); !ok || presses.after() != board.after() {
				t.Errorf("Check(lights, %q) = true", answer)
			}
		} else if !strings.EqualFold(answer, right[kd]) {
			t.Errorf("Check(%v, %q, %q) = true, the answer is %q", kd, answer, token, right[kd])
		}
	})
}

func FuzzSolve(f *testing.F) {
	k := New(testKey)
	for _, kind := range cairn.PuzzleKinds() {
		prompt, _ := k.Prompt(kind, testRef, ana, now)
		f.Add(uint8(kind), []byte(prompt))
		f.Add(uint8(kind), []byte(`{"rounds":[{"cells":["#"]}],"pads":[8],"board":"2","letters":""}`))
	}
	f.Fuzz(func(t *testing.T, kind uint8, prompt []byte) {
		answer, err := Solve(cairn.PuzzleKind(kind), prompt)
		if err == nil && len(answer) > AnswerBytesMax {
			t.Errorf("Solve(%d, %q) = %q: too long", kind, prompt, answer)
		}
	})
}

func BenchmarkCheck(b *testing.B) {
	k := New(testKey)
	for _, kind := range cairn.PuzzleKinds() {
		prompt, token := k.Prompt(kind, testRef, ana, now)
		answer, err := Solve(kind, prompt)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(kind.String(), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if !k.Check(kind, testRef, ana, answer, token) {
					b.Fatal("wrong")
				}
			}
		})
	}
}

func BenchmarkPrompt(b *testing.B) {
	k := New(testKey)
	for _, kind := range asking {
		b.Run(kind.String(), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				k.Prompt(kind, testRef, ana, now)
			}
		})
	}
}

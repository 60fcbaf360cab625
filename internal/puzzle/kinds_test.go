package puzzle

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"math/bits"
	"slices"
	"strings"
	"testing"

	"github.com/veltrix/cairn"
	"pgregory.net/rapid"
)

// TestCMAC checks the vectors of NIST SP 800-38B for AES-256, examples 9–12.
func TestCMAC(t *testing.T) {
	unhex := func(s string) []byte {
		b, err := hex.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	key := unhex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4")
	msg := unhex("6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51" +
		"30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710")
	p := newPRF([32]byte(key))
	for _, tc := range []struct {
		bytes int
		want  string
	}{
		{0, "028962f61b7bf89efc6b551f4667d983"},
		{16, "28a7023f452e8f82bd4bf28d8c37c35c"},
		{40, "aaf3d8f1de5640c232f5b169b9c911e6"},
		{64, "e1992190549f6ed5696a2c056c315410"},
	} {
		got := p.mac(new(scratch), msg[:tc.bytes])
		if hex.EncodeToString(got[:]) != tc.want {
			t.Errorf("CMAC of %d bytes = %x, want %s", tc.bytes, got, tc.want)
		}
	}
}

func seedOf(hi, lo uint64) (s seed) {
	binary.BigEndian.PutUint64(s[:8], hi)
	binary.BigEndian.PutUint64(s[8:], lo)
	return s
}

func seeds() *rapid.Generator[seed] {
	return rapid.Custom(func(t *rapid.T) seed {
		return seedOf(rapid.Uint64().Draw(t, "answer"), rapid.Uint64().Draw(t, "rest"))
	})
}

// TestAnswerSpace: every kind draws its answers from at least 4,096 and about
// evenly, so that no answer is worth a blind guess.
func TestAnswerSpace(t *testing.T) {
	k := New(testKey)
	const draws = 60_000
	for _, kind := range asking {
		count := map[string]int{}
		for i := range draws {
			ref := testRef
			ref.Tile = uint32(i)
			s := k.prf.seed(k.prf.subject(kind, ref, ana))
			count[answerOf(kind, s)]++
		}
		most := 0
		for _, n := range count {
			most = max(most, n)
		}
		// 60,000 draws of N show N(1-e^(-60000/N)) different ones; of 4,096 nearly
		// all, and the most frequent of those comes 60000/4096+5σ ≈ 34 times.
		if len(count) < 4096 || most > 34 {
			t.Errorf("%v: %d different answers in %d draws, one of them %d times; want at least 4096, and 34 times at most", kind, len(count), draws, most)
		}
	}
}

func answerOf(kind cairn.PuzzleKind, s seed) string {
	switch kind {
	case cairn.Cipher:
		return cipherWord(s)
	case cairn.Lights:
		return lightsOf(s).String()
	case cairn.Echo:
		pads := echoPads(s)
		return string(pads[:])
	default:
		return string(appendOddAnswer(nil, oddPlaces(s)))
	}
}

func TestWords(t *testing.T) {
	if len(words) < 4096 || !slices.IsSorted(words) {
		t.Fatalf("%d words, sorted %v: want at least 4096, sorted", len(words), slices.IsSorted(words))
	}
	byLetters := map[string]string{}
	for _, w := range words {
		if len(w) < 6 || len(w) > wordBytesMax || strings.Trim(w, "abcdefghijklmnopqrstuvwxyz") != "" {
			t.Errorf("word %q: want 6 to %d letters a-z", w, wordBytesMax)
		}
		l := sortedLetters(w)
		if other, ok := byLetters[l]; ok {
			t.Errorf("%q is an anagram of %q", w, other)
		}
		byLetters[l] = w
		if l[0] == l[len(l)-1] {
			t.Errorf("%q can't be scrambled", w)
		}
	}
}

func TestCipher(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := seeds().Draw(t, "seed")
		p, word := cipherPromptOf(s), cipherWord(s)
		if p.Letters == word || sortedLetters(p.Letters) != sortedLetters(word) || p.First != word[:1] {
			t.Fatalf("prompt %+v of %q", p, word)
		}
		for _, right := range []string{word, strings.ToUpper(word), strings.ToUpper(word[:1]) + word[1:]} {
			if !cipherAnswers(s, right) {
				t.Fatalf("answer %q of %q is wrong", right, word)
			}
		}
		for _, wrong := range []string{p.Letters, word + " ", " " + word, word + "s", word[1:], "ſ" + word[1:]} {
			if cipherAnswers(s, wrong) {
				t.Fatalf("answer %q of %q is right", wrong, word)
			}
		}
	})
}

// TestLightsEffect checks presses by hand: a corner, an edge, the middle.
func TestLightsEffect(t *testing.T) {
	for _, tc := range []struct {
		press int
		want  string
	}{
		{0, "11000" + "10000" + "00000" + "00000" + "00000"},
		{10, "00000" + "10000" + "11000" + "10000" + "00000"},
		{12, "00000" + "00100" + "01110" + "00100" + "00000"},
		{24, "00000" + "00000" + "00000" + "00001" + "00011"},
	} {
		if got := (lightsBoard(1) << tc.press).after().String(); got != tc.want {
			t.Errorf("press %d of a dark board lights %s, want %s", tc.press, got, tc.want)
		}
	}
}

// TestLightsDistinct: every set of five presses makes a board of its own, none
// dark. It is why the space of answers is C(25,5).
func TestLightsDistinct(t *testing.T) {
	seen := map[lightsBoard]bool{}
	for presses := lightsBoard(0); presses < 1<<lightsCells; presses++ {
		if bits.OnesCount32(uint32(presses)) == lightsPresses {
			seen[presses.after()] = true
		}
	}
	if len(seen) != 53_130 || seen[0] {
		t.Errorf("%d boards, dark among them: %v; want 53130 without", len(seen), seen[0])
	}
}

// TestLights: all four solutions of a board pass, a press more does not, and
// Solve finds one of the shortest.
func TestLights(t *testing.T) {
	// The press patterns that change nothing on 5×5.
	quiet := []lightsBoard{0}
	for p := lightsBoard(1); p < 1<<lightsCells && len(quiet) < 4; p++ {
		if p.after() == 0 {
			quiet = append(quiet, p)
		}
	}
	if len(quiet) != 4 {
		t.Fatalf("%d quiet patterns, want 4", len(quiet))
	}
	rapid.Check(t, func(t *rapid.T) {
		s := seeds().Draw(t, "seed")
		p := lightsPromptOf(s)
		answer, err := p.solve()
		if err != nil || strings.Count(answer, "1") != lightsPresses {
			t.Fatalf("board %s: solved by %q, %v: want %d presses", p.Board, answer, err, lightsPresses)
		}
		presses, _ := parseLights(answer)
		for _, q := range quiet {
			if a := (presses ^ q).String(); !lightsAnswers(s, a) {
				t.Fatalf("board %s: %s is wrong", p.Board, a)
			}
		}
		one := lightsBoard(1) << rapid.IntRange(0, 24).Draw(t, "press")
		if a := (presses ^ one).String(); lightsAnswers(s, a) {
			t.Fatalf("board %s: %s is right", p.Board, a)
		}
	})
}

func TestOdd(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := seeds().Draw(t, "seed")
		p := oddPromptOf(s)
		answer, err := p.solve()
		if want := string(appendOddAnswer(nil, oddPlaces(s))); err != nil || answer != want {
			t.Fatalf("solved %q, %v, want %q", answer, err, want)
		}
		// The odd hue stands out for an eye: it is more than twice as far from
		// every other as those are from each other.
		for i, round := range p.Rounds {
			var hues []float64
			for j, c := range round.Cells {
				h, err := hueOf(c)
				if err != nil {
					t.Fatal(err)
				}
				if j != oddPlaces(s)[i] {
					hues = append(hues, h)
				}
			}
			odd, _ := hueOf(round.Cells[oddPlaces(s)[i]])
			near, wide := 360.0, 0.0
			for _, h := range hues {
				near = min(near, turn(h, odd))
				wide = max(wide, turn(h, hues[0]))
			}
			if near < 2*wide {
				t.Fatalf("round %d: the odd hue is %.1f° from the next, which are %.1f° wide", i, near, wide)
			}
		}
	})
}

// turn returns the angle between two hues.
func turn(a, b float64) float64 {
	d := a - b
	if d < 0 {
		d = -d
	}
	return min(d, 360-d)
}

// TestColours checks the conversion against colours that CSS names.
func TestColours(t *testing.T) {
	for _, tc := range []struct {
		h, s, l float64
		want    string
	}{
		{0, 1, 0.5, "#ff0000"},
		{120, 1, 0.5, "#00ff00"},
		{240, 1, 0.5, "#0000ff"},
		{60, 1, 0.25, "#808000"},
		{-60, 1, 0.5, "#ff00ff"},
		{420, 1, 0.5, "#ffff00"},
		{0, 0, 1, "#ffffff"},
	} {
		got := hexColour(tc.h, tc.s, tc.l)
		if got != tc.want {
			t.Errorf("hsl(%v %v %v) = %s, want %s", tc.h, tc.s, tc.l, got, tc.want)
		}
		if h, err := hueOf(got); err != nil || tc.s > 0 && turn(h, tc.h+360) > 0.01 && turn(h, tc.h) > 0.01 && turn(h, tc.h-360) > 0.01 {
			t.Errorf("hueOf(%s) = %v, %v, want %v", got, h, err, tc.h)
		}
	}
}

func TestSolveMalformed(t *testing.T) {
	for _, tc := range []struct {
		kind         cairn.PuzzleKind
		prompt, want string
	}{
		{cairn.Cipher, ``, "unexpected end"},
		{cairn.Cipher, `{"letters":7}`, "cannot unmarshal"},
		{cairn.Cipher, `{"letters":"zzzzzzz"}`, "make no word"},
		{cairn.Cipher, `{}`, "make no word"},
		{cairn.Lights, `{"board":"01"}`, "want 25 of 0 and 1"},
		{cairn.Lights, `{"board":"` + strings.Repeat("2", 25) + `"}`, "want 25 of 0 and 1"},
		{cairn.Lights, `{"board":"1` + strings.Repeat("0", 24) + `"}`, "can't be darkened"},
		{cairn.Echo, `{"pads":[1,2,3]}`, "has 3 taps, want 6"},
		{cairn.Echo, `{"pads":[1,2,3,4,5,8]}`, "has pad 8, want 0 to 7"},
		{cairn.Echo, `{"pads":[1,2,3,4,5,-1]}`, "has pad -1"},
		{cairn.Odd, `{"rounds":[]}`, "has 0 rounds, want 3"},
		{cairn.Odd, `{"rounds":[{},{},{}]}`, "round 0 has 0 cells, want 64"},
		{cairn.Odd, oddJSON(t, "red"), `colour "red": want #rrggbb`},
		{cairn.Odd, oddJSON(t, ""), `colour "": want #rrggbb`},
		{cairn.Odd, oddJSON(t, "#12345"), `want #rrggbb`},
		{cairn.Odd, oddJSON(t, "x123456"), `want #rrggbb`},
	} {
		answer, err := Solve(tc.kind, json.RawMessage(tc.prompt))
		if err == nil || !strings.Contains(err.Error(), tc.want) || answer != "" {
			t.Errorf("Solve(%v, %.60s) = %q, %v, want an error with %q", tc.kind, tc.prompt, answer, err, tc.want)
		}
	}
}

func oddJSON(t *testing.T, colour string) string {
	t.Helper()
	round := oddRound{Cells: slices.Repeat([]string{colour}, oddCells)}
	b, err := json.Marshal(oddPrompt{Rounds: []oddRound{round, round, round}})
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestDice: draws stay in range and reach both ends.
func TestDice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := dice(rapid.Uint64().Draw(t, "bits"))
		n := rapid.IntRange(1, 1<<20).Draw(t, "n")
		for range 3 {
			if v := d.below(n); v < 0 || v >= n {
				t.Fatalf("below(%d) = %d", n, v)
			}
		}
	})
	lowest, highest := dice(0), dice(1<<64-1)
	if a, b := lowest.below(53), highest.below(53); a != 0 || b != 52 {
		t.Errorf("below(53) of no bits is %d and of all bits %d, want 0 and 52", a, b)
	}
}

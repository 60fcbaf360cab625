package puzzle

import (
	"crypto/subtle"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"strconv"

	"github.com/veltrix/cairn"
)

// A seed is what a puzzle is made from: its first half decides the answer, the
// second what surrounds it in the prompt.
type seed = [16]byte

// dice draws numbers out of 64 random bits. What it can draw before the bits
// run out is a product of ranges far below 2^64, so that the bias of a draw
// stays below 2^-32.
type dice uint64

// below returns a number of 0 to n-1.
func (d *dice) below(n int) int {
	hi, lo := bits.Mul64(uint64(*d), uint64(n))
	*d = dice(lo)
	return int(hi)
}

func answerDice(s seed) dice { return dice(binary.BigEndian.Uint64(s[:8])) }

// surroundings is the source of all in a prompt that has no part in checking
// the answer. It is no secret: whoever has the prompt has what it drew.
func surroundings(s seed) *rand.Rand {
	return rand.New(rand.NewPCG(binary.BigEndian.Uint64(s[8:]), 0))
}

// promptOf returns the prompt of a kind that asks something.
func promptOf(kind cairn.PuzzleKind, s seed) json.RawMessage {
	var v any
	switch kind {
	case cairn.Cipher:
		v = cipherPromptOf(s)
	case cairn.Lights:
		v = lightsPromptOf(s)
	case cairn.Echo:
		v = echoPromptOf(s)
	case cairn.Odd:
		v = oddPromptOf(s)
	default:
		panic(fmt.Sprintf("puzzle: no prompt for %v", kind))
	}
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // strings and numbers only
	}
	return b
}

// answers reports whether answer is right. Answers are compared in constant
// time: how long it takes tells nothing of how near a wrong one was.
func answers(kind cairn.PuzzleKind, s seed, answer string) bool {
	switch kind {
	case cairn.Cipher:
		return cipherAnswers(s, answer)
	case cairn.Lights:
		return lightsAnswers(s, answer)
	case cairn.Echo:
		pads := echoPads(s)
		return same(pads[:], answer)
	case cairn.Odd:
		var a [oddAnswerBytesMax]byte
		return same(appendOddAnswer(a[:0], oddPlaces(s)), answer)
	}
	return false
}

// same reports whether answer is want, looking at all of it.
func same(want []byte, answer string) bool {
	var a [AnswerBytesMax]byte
	n := copy(a[:], answer)
	return n == len(answer) && subtle.ConstantTimeCompare(want, a[:n]) == 1
}

// Solve answers a prompt the way a player's program would: it needs no key.
// It fails on a prompt that no Keeper made.
func Solve(kind cairn.PuzzleKind, prompt json.RawMessage) (answer string, err error) {
	switch kind {
	case cairn.Tap:
		return "", nil
	case cairn.Cipher:
		return solve(kind, prompt, (*cipherPrompt).solve)
	case cairn.Lights:
		return solve(kind, prompt, (*lightsPrompt).solve)
	case cairn.Echo:
		return solve(kind, prompt, (*echoPrompt).solve)
	case cairn.Odd:
		return solve(kind, prompt, (*oddPrompt).solve)
	}
	return "", fmt.Errorf("puzzle: %v: unknown kind", kind)
}

func solve[P any](kind cairn.PuzzleKind, prompt json.RawMessage, with func(*P) (string, error)) (string, error) {
	var p P
	if err := json.Unmarshal(prompt, &p); err != nil {
		return "", fmt.Errorf("puzzle: prompt of %v: %w", kind, err)
	}
	answer, err := with(&p)
	if err != nil {
		return "", fmt.Errorf("puzzle: prompt of %v: %w", kind, err)
	}
	return answer, nil
}

// Echo: repeat the taps. The answer is their digits in order.
const (
	echoTaps = 6
	echoPad  = 8 // how many pads there are
)

type echoPrompt struct {
	Pads []int `json:"pads"` // six taps, each on a pad of 0 to 7
}

func echoPads(s seed) (pads [echoTaps]byte) {
	d := answerDice(s)
	for i := range pads {
		pads[i] = '0' + byte(d.below(echoPad))
	}
	return pads
}

func echoPromptOf(s seed) echoPrompt {
	var p echoPrompt
	for _, c := range echoPads(s) {
		p.Pads = append(p.Pads, int(c-'0'))
	}
	return p
}

func (p *echoPrompt) solve() (string, error) {
	if len(p.Pads) != echoTaps {
		return "", fmt.Errorf("has %d taps, want %d", len(p.Pads), echoTaps)
	}
	var b []byte
	for _, pad := range p.Pads {
		if pad < 0 || pad >= echoPad {
			return "", fmt.Errorf("has pad %d, want 0 to %d", pad, echoPad-1)
		}
		b = strconv.AppendInt(b, int64(pad), 10)
	}
	return string(b), nil
}

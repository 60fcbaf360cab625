package puzzle

import (
	"fmt"
	"math/bits"
)

// Lights: Lights Out on 5×5. A press toggles a light and its neighbours above,
// below, left and right; all must go dark. The answer says which lights to
// press, 25 of '0' and '1' row by row; any that darkens the board is right.
const (
	lightsSide  = 5
	lightsCells = lightsSide * lightsSide

	// lightsPresses is how few presses suffice. Sets of five that leave the
	// same board would differ by a press pattern without effect, of at most
	// ten presses; the three that 5×5 has are of 12, 12 and 16 (Anderson and
	// Feil, "Turning Lights Out with Linear Algebra", 1998). So each of the
	// C(25,5) = 53,130 sets makes a board of its own.
	lightsPresses = 5
)

// A lightsBoard has the light of row r and column c in bit 5r+c.
type lightsBoard uint32

// lightsEffect has what each press toggles.
var lightsEffect = func() (t [lightsCells]lightsBoard) {
	for i := range t {
		r, c := i/lightsSide, i%lightsSide
		t[i] = 1 << i
		if r > 0 {
			t[i] |= 1 << (i - lightsSide)
		}
		if r < lightsSide-1 {
			t[i] |= 1 << (i + lightsSide)
		}
		if c > 0 {
			t[i] |= 1 << (i - 1)
		}
		if c < lightsSide-1 {
			t[i] |= 1 << (i + 1)
		}
	}
	return t
}()

// after returns what the presses make of a dark board.
func (b lightsBoard) after() (lit lightsBoard) {
	for ; b != 0; b &= b - 1 {
		lit ^= lightsEffect[bits.TrailingZeros32(uint32(b))]
	}
	return lit
}

// lightsOf returns the board to darken, drawing presses without putting back
// (Floyd's algorithm, CACM 30(9), 1987).
func lightsOf(s seed) lightsBoard {
	d := answerDice(s)
	var presses lightsBoard
	for top := lightsCells - lightsPresses; top < lightsCells; top++ {
		bit := lightsBoard(1) << d.below(top+1)
		if presses&bit != 0 {
			bit = 1 << top
		}
		presses |= bit
	}
	return presses.after()
}

type lightsPrompt struct {
	Board string `json:"board"` // 25 lights row by row, '1' is lit
}

func lightsPromptOf(s seed) lightsPrompt { return lightsPrompt{Board: lightsOf(s).String()} }

// String returns the board row by row, '1' for each bit set.
func (b lightsBoard) String() string {
	var a [lightsCells]byte
	for i := range a {
		a[i] = '0' + byte(b>>i&1)
	}
	return string(a[:])
}

func parseLights(s string) (b lightsBoard, ok bool) {
	if len(s) != lightsCells {
		return 0, false
	}
	for i := range lightsCells {
		if s[i]|1 != '1' {
			return 0, false
		}
		b |= lightsBoard(s[i]&1) << i
	}
	return b, true
}

func lightsAnswers(s seed, answer string) bool {
	presses, ok := parseLights(answer)
	return ok && presses.after() == lightsOf(s)
}

// solve chases the lights down: once the first row's presses are chosen, each
// row below must press under every light still lit above it. It tries all 32
// first rows and takes the answer with the fewest presses.
func (p *lightsPrompt) solve() (string, error) {
	board, ok := parseLights(p.Board)
	if !ok {
		return "", fmt.Errorf("board %.40q: want %d of 0 and 1", p.Board, lightsCells)
	}
	const row = 1<<lightsSide - 1
	best, found := lightsBoard(0), false
	for first := range lightsBoard(row + 1) {
		presses := first
		for r := 1; r < lightsSide; r++ {
			lit := (board ^ presses.after()) >> ((r - 1) * lightsSide) & row
			presses |= lit << (r * lightsSide)
		}
		if presses.after() == board && (!found || bits.OnesCount32(uint32(presses)) < bits.OnesCount32(uint32(best))) {
			best, found = presses, true
		}
	}
	if !found {
		return "", fmt.Errorf("board %s can't be darkened", p.Board)
	}
	return best.String(), nil
}

package puzzle

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
)

// Odd: find the cell of another hue among 8×8, in three rounds. The answer is
// the three cells' numbers, row by row from 0, with commas: "12,40,7".
const (
	oddRounds = 3
	oddCells  = 64

	oddAnswerBytesMax = oddRounds*2 + oddRounds - 1
)

// oddDelta is how far the odd hue is off in each round, in degrees; oddNoise is
// how far the others stray from their common hue. Lightness strays by more
// than what the odd cell's hue makes of it, so that hue alone tells.
var oddDelta = [oddRounds]float64{40, 30, 22}

const (
	oddNoise      = 2.0
	oddSaturation = 0.62
	oddLightness  = 0.56
	oddShade      = 0.05
)

type oddPrompt struct {
	Rounds []oddRound `json:"rounds"` // three
}

type oddRound struct {
	Cells []string `json:"cells"` // 64 colours row by row, as "#rrggbb"
}

func oddPlaces(s seed) (at [oddRounds]int) {
	d := answerDice(s)
	for i := range at {
		at[i] = d.below(oddCells)
	}
	return at
}

func appendOddAnswer(b []byte, at [oddRounds]int) []byte {
	for i, place := range at {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, int64(place), 10)
	}
	return b
}

func oddPromptOf(s seed) oddPrompt {
	rng := surroundings(s)
	var p oddPrompt
	for i, odd := range oddPlaces(s) {
		p.Rounds = append(p.Rounds, oddRoundOf(rng, odd, oddDelta[i]))
	}
	return p
}

func oddRoundOf(rng *rand.Rand, odd int, delta float64) oddRound {
	spread := func(by float64) float64 { return (2*rng.Float64() - 1) * by }
	hue := 360 * rng.Float64()
	if rng.IntN(2) == 0 {
		delta = -delta
	}
	cells := make([]string, oddCells)
	for i := range cells {
		h := hue + spread(oddNoise)
		if i == odd {
			h += delta
		}
		cells[i] = hexColour(h, oddSaturation, oddLightness+spread(oddShade))
	}
	return oddRound{Cells: cells}
}

// hexColour converts hue in degrees, saturation and lightness in 0…1 to sRGB,
// as CSS Color 4, section 7.1 does.
func hexColour(hue, saturation, lightness float64) string {
	channel := func(n float64) int {
		k := math.Mod(n+hue/30+24, 12)
		a := saturation * min(lightness, 1-lightness)
		return int(math.Round(255 * (lightness - a*max(-1, min(k-3, 9-k, 1)))))
	}
	return fmt.Sprintf("#%02x%02x%02x", channel(0), channel(8), channel(4))
}

// hueOf returns the hue of "#rrggbb" in degrees, 0 for grey.
func hueOf(colour string) (float64, error) {
	v, err := strconv.ParseUint(colour[min(1, len(colour)):], 16, 32)
	if err != nil || len(colour) != 7 || colour[0] != '#' {
		return 0, fmt.Errorf("colour %.20q: want #rrggbb", colour)
	}
	r, g, b := float64(v>>16), float64(v>>8&255), float64(v&255)
	most, least := max(r, g, b), min(r, g, b)
	switch d := most - least; {
	case d == 0:
		return 0, nil
	case most == r:
		return math.Mod(60*(g-b)/d+360, 360), nil
	case most == g:
		return 60*(b-r)/d + 120, nil
	default:
		return 60*(r-g)/d + 240, nil
	}
}

// solve takes the cell whose hue is farthest from the mean of all. Hues lie on
// a circle: the mean is that of their unit vectors.
func (p *oddPrompt) solve() (string, error) {
	if len(p.Rounds) != oddRounds {
		return "", fmt.Errorf("has %d rounds, want %d", len(p.Rounds), oddRounds)
	}
	var at [oddRounds]int
	for i, round := range p.Rounds {
		if len(round.Cells) != oddCells {
			return "", fmt.Errorf("round %d has %d cells, want %d", i, len(round.Cells), oddCells)
		}
		var hues [oddCells]float64
		var x, y float64
		for j, colour := range round.Cells {
			h, err := hueOf(colour)
			if err != nil {
				return "", err
			}
			hues[j] = h * math.Pi / 180
			x, y = x+math.Cos(hues[j]), y+math.Sin(hues[j])
		}
		least := math.Inf(1)
		for j, h := range hues {
			if dot := x*math.Cos(h) + y*math.Sin(h); dot < least {
				least, at[i] = dot, j
			}
		}
	}
	return string(appendOddAnswer(nil, at)), nil
}

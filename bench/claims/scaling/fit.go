//go:build unix

package scaling

import "math"

// A Fit is the line y = Intercept + Slope·x that is nearest to some points, by
// least squares.
type Fit struct {
	Slope     float64 `json:"slope"`
	Intercept float64 `json:"intercept"`
	R2        float64 `json:"r2"` // how much of what y varies the line explains; 1 if y does not
}

// A Point is what came of one size.
type Point struct {
	X float64 `json:"x"`
	Y float64 `json:"y"`
}

// FitOf fits a line to points. Of fewer than two different x there is none:
// then the slope is NaN, and with no point all is.
func FitOf(points []Point) Fit {
	n := float64(len(points))
	var mx, my float64
	for _, p := range points {
		mx += p.X / n
		my += p.Y / n
	}
	if n == 0 {
		return Fit{math.NaN(), math.NaN(), math.NaN()}
	}
	var xx, xy, yy float64
	for _, p := range points {
		dx, dy := p.X-mx, p.Y-my
		xx += dx * dx
		xy += dx * dy
		yy += dy * dy
	}
	if xx == 0 {
		return Fit{math.NaN(), my, math.NaN()}
	}
	f := Fit{Slope: xy / xx, R2: 1}
	f.Intercept = my - f.Slope*mx
	if yy > 0 {
		f.R2 = xy * xy / (xx * yy)
	}
	return f
}

// At returns the line's y.
func (f Fit) At(x float64) float64 { return f.Intercept + f.Slope*x }

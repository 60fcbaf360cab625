//go:build unix

package scaling

import (
	"math"
	"testing"
)

// TestFit holds the fit against lines that are known: exact ones, and Anscombe's
// first quartet, whose figures are in every textbook.
func TestFit(t *testing.T) {
	near := func(a, b float64) bool {
		return math.IsNaN(a) && math.IsNaN(b) || math.Abs(a-b) <= 5e-3*max(1, math.Abs(b))
	}
	nan := math.NaN()
	for name, tt := range map[string]struct {
		points []Point
		want   Fit
	}{
		"none":      {nil, Fit{nan, nan, nan}},
		"one":       {[]Point{{2, 7}}, Fit{nan, 7, nan}},
		"upright":   {[]Point{{2, 7}, {2, 9}}, Fit{nan, 8, nan}},
		"exact":     {[]Point{{1, 5}, {2, 7}, {10, 23}}, Fit{2, 3, 1}},
		"flat":      {[]Point{{1, 4}, {2, 4}, {3, 4}}, Fit{0, 4, 1}},
		"unrelated": {[]Point{{-1, 1}, {0, -2}, {1, 1}}, Fit{0, 0, 0}},
		"large":     {[]Point{{1e9, 1}, {1e9 + 1, 2}, {1e9 + 2, 3}}, Fit{1, 1 - 1e9, 1}},
		"anscombe": {[]Point{
			{10, 8.04},
			{8, 6.95},
			{13, 7.58},
			{9, 8.81},
			{11, 8.33},
			{14, 9.96},
			{6, 7.24},
			{4, 4.26},
			{12, 10.84},
			{7, 4.82},
			{5, 5.68},
		}, Fit{0.5, 3, 0.67}},
	} {
		got := FitOf(tt.points)
		if !near(got.Slope, tt.want.Slope) || !near(got.Intercept, tt.want.Intercept) || !near(got.R2, tt.want.R2) {
			t.Errorf("%s: got %+v, want %+v", name, got, tt.want)
		}
	}
	if y := (Fit{Slope: 2, Intercept: 3}).At(10); y != 23 {
		t.Errorf("At(10): got %v, want 23", y)
	}
}

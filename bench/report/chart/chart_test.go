package chart

import (
	"image/png"
	"math"
	"os"
	"path/filepath"
	"testing"
)

// TestCharts: every kind of chart is a picture, with values that have no place
// on its axes as well.
func TestCharts(t *testing.T) {
	dir := t.TempDir()
	line := []Line{{Name: "a", X: []float64{1, 10, 100}, Y: []float64{3, 0, 300}}, {Name: "limit", X: []float64{1, 100}, Y: []float64{50, 50}, Dashed: true}, {Name: "none"}}
	for name, draw := range map[string]func(path string) error{
		"bars": func(path string) error {
			return Bars(path, "t", Axis{Label: "ms"}, []string{"x", "y"}, Series{"a", []float64{1, 2}}, Series{"b", []float64{3, math.NaN()}})
		},
		"logbars": func(path string) error {
			return Bars(path, "t", Axis{Label: "ms", Log: true}, []string{"x", "y"}, Series{"a", []float64{1000, 0}}, Series{"b", []float64{3, math.NaN()}})
		},
		"nobars": func(path string) error {
			return Bars(path, "t", Axis{Log: true}, []string{"x"}, Series{"a", []float64{0}})
		},
		"lines":    func(path string) error { return Lines(path, "t", Axis{Label: "x"}, Axis{Label: "y"}, line...) },
		"loglines": func(path string) error { return Lines(path, "t", Axis{"x", true}, Axis{"y", true}, line...) },
	} {
		path := filepath.Join(dir, name+".png")
		if err := draw(path); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := png.Decode(f); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		f.Close()
	}
	if err := Bars(filepath.Join(dir, "x.png"), "t", Axis{}, []string{"x", "y"}, Series{"a", []float64{1}}); err == nil {
		t.Error("a value too few: got no error")
	}
}

package svg_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"strings"
	"testing"

	"github.com/veltrix/cairn/internal/capacity/svg"
)

// TestWrite draws what is awkward: nothing, infinities, text that is markup.
// All of it must be well-formed and without a number that is none.
func TestWrite(t *testing.T) {
	var b bytes.Buffer
	err := svg.Write(&b, `a < b & "c"`,
		svg.Bars{},
		svg.Bars{Title: "bars", Rows: []svg.Bar{{Name: "<x>", Value: 3, Text: "3"}, {Name: "y", Value: math.Inf(1)}, {Name: "z", Value: -1}}, Mark: 2},
		svg.Lines{Title: "none"},
		svg.Lines{Title: "lines", At: []float64{0, 1, 2}, Mark: 5, Series: []svg.Series{
			{Name: "up", Values: []float64{0, 1, 2}}, {Name: "steps", Values: []float64{2, math.NaN(), math.Inf(1)}, Step: true}, {Name: "short", Values: []float64{1}},
		}},
	)
	if err != nil {
		t.Fatal(err)
	}
	for d := xml.NewDecoder(bytes.NewReader(b.Bytes())); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("not well-formed: %v\n%s", err, b.String())
		}
	}
	for _, bad := range []string{"NaN", "Inf", "<x>"} {
		if strings.Contains(b.String(), bad) {
			t.Errorf("the picture has %q in it:\n%s", bad, b.String())
		}
	}
}

// Package report is how benchmarks show what they measured: medians with their
// spread, tables in Markdown, files of JSON, and the places of a document that
// are theirs.
package report

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Median returns the middle of what of says of all, or 0 if there is none; of
// an even number the upper of the two.
func Median[T any](all []T, of func(T) float64) float64 {
	return Of(all, of).Median
}

// A Spread is what came of a figure in several runs.
type Spread struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
	Runs   int     `json:"runs"`
}

// Of returns the spread of what of says of all.
func Of[T any](all []T, of func(T) float64) Spread {
	if len(all) == 0 {
		return Spread{}
	}
	vs := make([]float64, len(all))
	for i, v := range all {
		vs[i] = of(v)
	}
	slices.Sort(vs)
	return Spread{Median: vs[len(vs)/2], Min: vs[0], Max: vs[len(vs)-1], Runs: len(vs)}
}

// Table writes the head of a table in Markdown, whose first column is aligned
// to the left and all others to the right.
func Table(w io.Writer, columns ...string) {
	fmt.Fprintf(w, "| %s |\n|", strings.Join(columns, " | "))
	for i := range columns {
		if i == 0 {
			fmt.Fprint(w, " --- |")
		} else {
			fmt.Fprint(w, " --: |")
		}
	}
	fmt.Fprintln(w)
}

// Row writes a row of a table.
func Row(w io.Writer, cells ...string) { fmt.Fprintf(w, "| %s |\n", strings.Join(cells, " | ")) }

// Times returns how often of goes into v, such as "2.50×", or "" if of is 0.
func Times(v, of float64) string {
	switch {
	case of == 0:
		return ""
	case v/of >= 10:
		return fmt.Sprintf("%.0f×", v/of)
	}
	return fmt.Sprintf("%.2f×", v/of)
}

// Splice replaces what is between the marks of a name in a document:
//
//	<!-- broadcast-full -->
//	…
//	<!-- /broadcast-full -->
func Splice(path, name, text string) error {
	doc, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	begin, end := fmt.Sprintf("<!-- %s -->\n", name), fmt.Sprintf("<!-- /%s -->\n", name)
	before, rest, ok := strings.Cut(string(doc), begin)
	_, after, closed := strings.Cut(rest, end)
	if !ok || !closed {
		return fmt.Errorf("%s has no %q and %q, each on a line of its own", path, strings.TrimSpace(begin), strings.TrimSpace(end))
	}
	return os.WriteFile(path, []byte(before+begin+"\n"+strings.TrimSpace(text)+"\n\n"+end+after), 0o644)
}

// Write writes v as JSON into a file of a folder, which it makes if need be.
func Write(dir, name string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, name), append(b, '\n'), 0o644)
}

// Read reads what Write wrote.
func Read[T any](dir, name string) (*T, error) {
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return nil, err
	}
	v := new(T)
	if err := json.Unmarshal(b, v); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return v, nil
}

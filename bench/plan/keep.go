//go:build unix

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/veltrix/cairn/bench/report"
	"github.com/veltrix/cairn/internal/capacity"
)

// keep puts a record where the test that judges a plan reads it, beside the
// file of coefficients, and the comparison into a document.
func keep(coefficients, record, document string) error {
	rec, err := report.Read[capacity.Record](filepath.Dir(record), filepath.Base(record))
	if errors.Is(err, fs.ErrNotExist) { // the one that is kept already stays
		rec, err = report.Read[capacity.Record](filepath.Join(filepath.Dir(coefficients), "testdata"), "plan.json")
	}
	if err != nil {
		return err
	}
	dir := filepath.Join(filepath.Dir(coefficients), "testdata")
	if err := report.Write(dir, "plan.json", rec); err != nil {
		return err
	}
	text, err := os.ReadFile(coefficients)
	if err != nil {
		return err
	}
	c, err := capacity.ParseCoefficients(text)
	if err != nil {
		return err
	}
	return report.Splice(document, "capacity-measured", table(c, rec))
}

// table is the comparison in Markdown: a row a figure, a column a load.
func table(c *capacity.Coefficients, rec *capacity.Record) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s; commit %s; `%s`; %s. Measured, and how far the plan is off:\n\n", rec.Machine, rec.Commit, rec.Command, rec.Began.Format("2006-01-02"))
	columns := []string{""}
	for _, r := range rec.Runs {
		columns = append(columns, fmt.Sprintf("%s: %.0f attempts/s, %.0f wins/s, %d sockets", r.Name, r.Load.Attempts, r.Load.WinsPerS(), r.Load.Connections))
	}
	report.Table(&b, columns...)
	var order []string
	cells := map[string]map[string]string{}
	for _, x := range capacity.Compare(c, rec) {
		if cells[x.What] == nil {
			order = append(order, x.What)
			cells[x.What] = map[string]string{}
		}
		cells[x.What][x.Run] = fmt.Sprintf("%s (%+.0f%%)", capacity.Short(x.Measured), 100*x.Error())
	}
	for _, what := range order {
		row := []string{what}
		for _, r := range rec.Runs {
			row = append(row, cells[what][r.Name])
		}
		report.Row(&b, row...)
	}
	return b.String()
}

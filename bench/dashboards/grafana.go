//go:build unix

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
)

// root is the checkout: the folder above with go.mod.
func root() string {
	dir := "."
	for range 8 {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		dir = filepath.Join(dir, "..")
	}
	return "."
}

// A dashboard is one of ops/grafana, as far as we look at it.
type dashboard struct {
	File, Title string // File is without .json
	Panels      []panel
	Templating  struct {
		List []struct{ Name, Type, Query string }
	}
}

type panel struct {
	ID          int
	Type, Title string
	Targets     []query
	FieldConfig struct {
		Defaults struct{ Unit string }
	}
}

// A query is one of a panel's, with how its series are called.
type query struct {
	Expr         string
	LegendFormat string
}

// dashboards reads all of ops/grafana, by name.
func dashboards() ([]dashboard, error) {
	files, err := filepath.Glob(filepath.Join(root(), "ops", "grafana", "*.json"))
	if err != nil || len(files) == 0 {
		return nil, fmt.Errorf("ops/grafana: %d dashboards, %w", len(files), err)
	}
	var all []dashboard
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			return nil, err
		}
		d := dashboard{File: strings.TrimSuffix(filepath.Base(f), ".json")}
		if err := json.Unmarshal(b, &d); err != nil {
			return nil, fmt.Errorf("%s: %w", f, err)
		}
		d.Panels = slices.DeleteFunc(d.Panels, func(p panel) bool { return p.Type == "row" })
		all = append(all, d)
	}
	return all, nil
}

// expr fills in the variables of a query as Grafana would: all jobs and
// instances, and a window of rates.
func (q query) expr(window time.Duration) string {
	return strings.NewReplacer(
		"$__rate_interval", window.String(), "$job", ".*", "$instance", ".*", "$core_hour", "0.04", "$gigabyte", "0.05",
	).Replace(q.Expr)
}

// variables returns the queries of a dashboard's variables.
func (d dashboard) variables() (all []query) {
	for _, v := range d.Templating.List {
		if of, ok := strings.CutPrefix(v.Query, "label_values("); ok {
			all = append(all, query{Expr: of[:strings.LastIndexByte(of, ',')]})
		}
	}
	return all
}

// A rule is a recording or an alerting rule.
type rule struct {
	Record, Alert, Expr string
	Labels, Annotations map[string]string
}

// rules reads a file of ops/prometheus.
func rules(file string) ([]rule, error) {
	b, err := os.ReadFile(filepath.Join(root(), "ops", "prometheus", file))
	if err != nil {
		return nil, err
	}
	var f struct {
		Groups []struct{ Rules []rule }
	}
	if err := yaml.Unmarshal(b, &f); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	var all []rule
	for _, g := range f.Groups {
		all = append(all, g.Rules...)
	}
	return all, nil
}

var (
	named      = regexp.MustCompile(`\b(cairn[_:]|process_|go_)[a-zA-Z0-9_:]+|\bup\b`)
	quoted     = regexp.MustCompile(`"[^"]*"`)
	comparison = regexp.MustCompile(` (>|<|>=|<=|==|!=) `)
)

// metricsOf returns the names of metrics in a query.
func metricsOf(expr string) []string {
	names := named.FindAllString(quoted.ReplaceAllString(expr, `""`), -1)
	slices.Sort(names)
	return slices.Compact(names)
}

// shown makes a condition answer 0 where it would have no answer because it
// does not hold: so it is seen that both of its sides have data.
func shown(condition string) string { return comparison.ReplaceAllString(condition, " $1 bool ") }

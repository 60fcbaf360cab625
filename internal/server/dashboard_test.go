package server

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"text/scanner"

	"github.com/prometheus/client_golang/prometheus/collectors"
	dto "github.com/prometheus/client_model/go"
)

// A promQuery reads the part of PromQL that dashboards use: it says whether a
// query is well-formed, and which metrics and labels are in it. Prometheus' own
// parser would bring its hundreds of packages into go.mod for this one test.
type promQuery struct {
	s       scanner.Scanner
	tok     rune
	text    string
	metrics map[string][]string // name → labels that are asked for
	labels  []string            // of by, without and on
	err     error
}

// Functions and aggregations that may be called, by what they are.
var (
	promAggregations = []string{"sum", "max", "min", "avg", "count", "topk", "bottomk", "quantile"}
	promFunctions    = []string{"rate", "increase", "irate", "histogram_quantile", "clamp_min", "clamp_max", "time", "vector", "label_replace", "max_over_time", "avg_over_time"}
)

func readPromQL(expr string) *promQuery {
	q := &promQuery{metrics: map[string][]string{}}
	q.s.Init(strings.NewReader(expr))
	q.s.Mode = scanner.ScanIdents | scanner.ScanFloats | scanner.ScanStrings
	q.s.Error = func(_ *scanner.Scanner, msg string) { q.fail("%s", msg) }
	q.next()
	q.expr()
	if q.tok != scanner.EOF {
		q.fail("%q is one too many", q.text)
	}
	return q
}

func (q *promQuery) fail(format string, args ...any) {
	if q.err == nil {
		q.err = fmt.Errorf("at %d: %s", q.s.Position.Column, fmt.Sprintf(format, args...))
	}
	q.tok = scanner.EOF
}

func (q *promQuery) next() {
	if q.err == nil {
		q.tok = q.s.Scan()
		q.text = q.s.TokenText()
	}
}

func (q *promQuery) expect(tok string) {
	if q.text != tok || q.tok == scanner.EOF {
		q.fail("%q, want %q", q.text, tok)
		return
	}
	q.next()
}

// is reports whether the next token is one of some, and passes over it.
func (q *promQuery) is(some ...string) bool {
	if q.tok == scanner.EOF || !slices.Contains(some, q.text) {
		return false
	}
	q.next()
	return true
}

func (q *promQuery) expr() {
	for q.operand(); q.is("+", "-", "*", "/", ">", "<", "and", "or", "unless"); q.operand() {
		q.is("=")
		if q.is("on", "ignoring") {
			q.list()
		}
	}
}

func (q *promQuery) operand() {
	switch {
	case q.is("-"):
		q.operand()
	case q.is("("):
		q.expr()
		q.expect(")")
	case q.tok == scanner.Float || q.tok == scanner.Int || q.tok == scanner.String:
		q.next()
	case q.tok == scanner.Ident:
		q.named()
	default:
		q.fail("%q, want something to count with", q.text)
	}
}

// named reads a call or a metric.
func (q *promQuery) named() {
	name := q.text
	q.next()
	aggregates := slices.Contains(promAggregations, name)
	if aggregates && q.is("by", "without") {
		q.list()
	}
	if q.is("(") {
		if !aggregates && !slices.Contains(promFunctions, name) {
			q.fail("there is no function %s", name)
		}
		for !q.is(")") && q.err == nil {
			if q.expr(); q.text != ")" {
				q.expect(",")
			}
		}
		if aggregates && q.is("by", "without") {
			q.list()
		}
		return
	}
	q.metrics[name] = append(q.metrics[name], q.matchers()...)
	if q.is("[") {
		for q.tok == scanner.Float || q.tok == scanner.Int || q.tok == scanner.Ident {
			q.next()
		}
		q.expect("]")
	}
}

func (q *promQuery) matchers() (labels []string) {
	if !q.is("{") {
		return nil
	}
	for !q.is("}") && q.err == nil {
		labels = append(labels, q.text)
		q.next()
		if !q.is("=", "!") {
			q.fail("%q, want a matcher", q.text)
		}
		q.is("=", "~")
		if q.tok != scanner.String {
			q.fail("%q, want a string", q.text)
		}
		if q.next(); q.text != "}" {
			q.expect(",")
		}
	}
	return labels
}

func (q *promQuery) list() {
	q.expect("(")
	for !q.is(")") && q.err == nil {
		q.labels = append(q.labels, q.text)
		if q.next(); q.text != ")" {
			q.expect(",")
		}
	}
}

func TestReadPromQL(t *testing.T) {
	q := readPromQL(`1e6 * (sum by (a, b) (rate(x_total{c=~"d",e!="f"}[5m])) / -2.5) > on (g) histogram_quantile(0.9, sum(y) without (h))`)
	if q.err != nil || len(q.metrics) != 2 || !slices.Equal(q.metrics["x_total"], []string{"c", "e"}) || q.metrics["y"] != nil || !slices.Equal(q.labels, []string{"a", "b", "g", "h"}) {
		t.Errorf("got %+v", q)
	}
	for _, bad := range []string{"", "x y", "sum(x", "sum(x))", "x +", "x{a}", `x{a="b"`, "x[5m", "summ(x)", "rate(x,,y)", "x{a=b}", "* x", `x{a="b}`} {
		if q := readPromQL(bad); q.err == nil {
			t.Errorf("%q was taken for a query", bad)
		}
	}
}

// TestDashboards reads every query of the Grafana dashboards, and wants each
// metric and label in it to be one that a running gateway shows.
func TestDashboards(t *testing.T) {
	g := newGame(t, nil)
	g.reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	s, _, err := g.dial(nil)
	if err != nil {
		t.Fatal(err)
	}
	s.send(`{"type":"hello"}`)
	s.until("welcome")
	s.c.CloseNow()
	g.eventually("it is counted out", func() bool { return len(g.shown("cairn_broadcast_closes_total")) > 0 })

	files, err := filepath.Glob("../../ops/grafana/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d dashboards, %v", len(files), err)
	}
	for _, file := range files {
		for _, expr := range queries(t, file) {
			q := readPromQL(strings.NewReplacer("$__rate_interval", "5m", "$core_hour", "0.04", "$gigabyte", "0.05").Replace(expr))
			if q.err != nil {
				t.Errorf("%s: %s: %v", file, expr, q.err)
			}
			for name, labels := range q.metrics {
				has := g.shown(name)
				if has == nil {
					t.Errorf("%s: %s: no gateway shows %s", file, expr, name)
					continue
				}
				for _, l := range append(labels, q.labels...) {
					if !slices.Contains(append(has, "job", "instance"), l) {
						t.Errorf("%s: %s: %s has no label %s", file, expr, name, l)
					}
				}
			}
		}
	}
}

// queries returns the queries of a dashboard, its variables' included.
func queries(t *testing.T, file string) (all []string) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
		Templating struct {
			List []struct{ Type, Query string }
		}
	}
	if err := json.Unmarshal(b, &d); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	for _, p := range d.Panels {
		for _, target := range p.Targets {
			all = append(all, target.Expr)
		}
	}
	for _, v := range d.Templating.List {
		if of, ok := strings.CutPrefix(v.Query, "label_values("); ok {
			all = append(all, of[:strings.LastIndexByte(of, ',')])
		}
	}
	if len(all) == 0 {
		t.Errorf("%s has no queries", file)
	}
	return all
}

// shown returns the labels of a time series that the game's metrics show, not
// nil if there are none, or nil if there is no such series.
func (g *game) shown(name string) (labels []string) {
	g.t.Helper()
	families, err := g.reg.Gather()
	if err != nil {
		g.t.Fatal(err)
	}
	for _, f := range families {
		names := []string{f.GetName()}
		if f.GetType() == dto.MetricType_HISTOGRAM {
			names = []string{f.GetName() + "_bucket", f.GetName() + "_sum", f.GetName() + "_count"}
		}
		if !slices.Contains(names, name) || len(f.GetMetric()) == 0 {
			continue
		}
		labels = []string{}
		for _, l := range f.GetMetric()[0].GetLabel() {
			labels = append(labels, l.GetName())
		}
		if strings.HasSuffix(name, "_bucket") {
			labels = append(labels, "le")
		}
	}
	return labels
}

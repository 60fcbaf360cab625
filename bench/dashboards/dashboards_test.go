//go:build unix

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image/png"
	"io/fs"
	"log/slog"
	"math"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"go.uber.org/goleak"

	"github.com/veltrix/cairn/bench/prometheus"
	"github.com/veltrix/cairn/internal/lab"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// window is of the rates in queries here: a few scrapes.
const window = 5 * time.Second

// small is the smallest system that has every metric.
var small = scale{
	spec: lab.Spec{Generators: 1, Claims: 1, Gateways: 1, Leaderboards: 1, Rewards: 1, Redis: lab.ClusterOptions{Primaries: 1}},
	// A few claims, so that every histogram has something.
	shards: 24, rate: 20, connections: 10, every: 500 * time.Millisecond,
}

// TestAnswered has a real Prometheus scrape a real fleet, and wants an answer
// with data for every query of every dashboard and every rule.
func TestAnswered(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a whole fleet and a Prometheus: some 10 s")
	}
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute) // a machine may be busy
	defer cancel()
	l, err := lab.New(lab.Options{})
	must(t, err)
	defer l.Close()
	defer http.DefaultClient.CloseIdleConnections()
	w, err := build(ctx, l, small)
	must(t, err)
	playing, stop := context.WithCancel(ctx)
	played := make(chan error, 1)
	go func() { played <- w.play(playing, small, slog.New(slog.DiscardHandler)) }()
	defer func() {
		stop()
		if err := <-played; err != nil {
			t.Error(err)
		}
	}()

	declared := declaredMetrics(t)
	ask := everything(t)
	quiet := conditions(t)
	// Each is asked until it is answered: data comes as the game goes on.
	for open := slices.Clone(ask); ; {
		var reasons []string
		open = slices.DeleteFunc(open, func(a asked) bool {
			why := w.answers(ctx, a)
			if why != "" {
				reasons = append(reasons, fmt.Sprintf("%s: %s\n    %s", a.what, why, a.expr))
			}
			return why == "" || silent[a.what] != ""
		})
		// The fleet is well: what does not depend on this machine's speed holds.
		firing := slices.DeleteFunc(slices.Clone(quiet), func(a asked) bool {
			all, err := w.prom.Query(ctx, a.expr)
			return err == nil && len(all) == 0
		})
		for _, a := range firing {
			reasons = append(reasons, a.what+" would fire: "+a.expr)
		}
		if len(open)+len(firing) == 0 {
			break
		}
		select {
		case err := <-played:
			t.Fatalf("the load ended: %v", err)
		case <-ctx.Done():
			t.Fatalf("no data, or too much, for\n%s", strings.Join(reasons, "\n"))
		case <-time.After(small.every):
		}
	}
	has, err := w.prom.Metrics(ctx)
	must(t, err)
	for _, a := range ask {
		for _, name := range metricsOf(a.expr) {
			if !slices.Contains(has, name) && !(silent[a.what] != "" && declared[name]) {
				t.Errorf("%s asks for %s, which nobody exports", a.what, name)
			}
		}
		if silent[a.what] == "" {
			continue // it was answered
		}
		if _, err := w.prom.Query(ctx, a.expr); err != nil {
			t.Errorf("%s: %s: %v", a.what, a.expr, err)
		}
	}
	drawn(ctx, t, w)
}

// drawn draws one panel, and wants a picture.
func drawn(ctx context.Context, t *testing.T, w *world) {
	t.Helper()
	all, err := dashboards()
	must(t, err)
	dir := t.TempDir()
	for _, p := range all[0].Panels[:1] {
		lines, err := w.lines(ctx, p, w.began, time.Now(), time.Second, window)
		must(t, err)
		path := filepath.Join(dir, "panel.png")
		must(t, draw(path, p, lines, "a test"))
		f, err := os.Open(path)
		must(t, err)
		if _, err := png.Decode(f); err != nil {
			t.Error(err)
		}
		f.Close()
	}
}

// An asked is a query that must be answered with data.
type asked struct{ what, expr string }

func everything(t *testing.T) (all []asked) {
	t.Helper()
	ds, err := dashboards()
	must(t, err)
	known := map[string]bool{}
	for _, d := range ds {
		for _, v := range d.variables() {
			all = append(all, asked{d.File + ": variables", v.expr(window)})
		}
		for _, p := range d.Panels {
			known[d.File+": "+p.Title] = true
			for _, q := range p.Targets {
				all = append(all, asked{d.File + ": " + p.Title, q.expr(window)})
			}
		}
	}
	recorded, err := rules("recording.yml")
	must(t, err)
	for _, r := range recorded {
		all = append(all, asked{"rule " + r.Record, r.Expr})
	}
	scaled, err := scaledBy()
	must(t, err)
	all = append(all, scaled...)
	alerts, err := rules("alerts.yml")
	must(t, err)
	for _, r := range alerts {
		known["alert "+r.Alert] = true
		all = append(all, asked{"alert " + r.Alert, shown(r.Expr)})
	}
	for what := range silent {
		if !known[what] {
			t.Errorf("silent.go has %q, which is no panel and no alert", what)
		}
	}
	return all
}

// scaledBy returns what the ScaledObjects of deploy/kubernetes ask Prometheus.
func scaledBy() (all []asked, err error) {
	files, err := filepath.Glob(filepath.Join(root(), "deploy", "kubernetes", "base", "scale-*.yaml"))
	if err == nil && len(files) == 0 {
		err = errors.New("no deploy/kubernetes/base/scale-*.yaml")
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		var object struct {
			Metadata struct{ Name string }
			Spec     struct {
				Triggers []struct {
					Name     string
					Metadata struct{ Query string }
				}
			}
		}
		if err := yaml.Unmarshal(b, &object); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		for _, t := range object.Spec.Triggers {
			all = append(all, asked{"ScaledObject " + object.Metadata.Name + ", " + t.Name, t.Metadata.Query})
		}
	}
	return all, err
}

// busy are the alerts that a healthy fleet may have on a busy machine, or in
// its first minutes, or on a small disk.
var busy = regexp.MustCompile(`Burn$|Slow$|Stale$|Late$|Behind$|Undecided$|Skipped$|ServerErrors$|ReadersStalled$|Unknown$|Reopened$|MemoryFilling$|RetentionStuck$|LogDisk$|BoardsUnavailable$|CommitsFail$|ScalingNearLimit$`)

// conditions returns those of the other alerts, which must not hold.
func conditions(t *testing.T) (all []asked) {
	t.Helper()
	alerts, err := rules("alerts.yml")
	must(t, err)
	for _, r := range alerts {
		if !busy.MatchString(r.Alert) {
			all = append(all, asked{"alert " + r.Alert, r.Expr})
		}
	}
	return all
}

// answers returns why a query has no answer with data, or "". One that can't be
// parsed never will.
func (w *world) answers(ctx context.Context, a asked) string {
	all, err := w.prom.Query(ctx, a.expr)
	if err != nil {
		return err.Error()
	}
	for _, s := range all {
		if !math.IsNaN(s.Points[0].Value) {
			return ""
		}
	}
	return fmt.Sprintf("%d series, without a number", len(all))
}

var declaredName = regexp.MustCompile(`"(cairn_[a-z_]+)"`)

// declaredMetrics returns the names that the code gives to metrics, and those
// that a histogram has with them.
func declaredMetrics(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	for _, dir := range []string{"internal", "cmd"} {
		must(t, filepath.WalkDir(filepath.Join(root(), dir), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			b, err := os.ReadFile(path)
			for _, m := range declaredName.FindAllSubmatch(b, -1) {
				for _, suffix := range []string{"", "_bucket", "_sum", "_count"} {
					names[string(m[1])+suffix] = true
				}
			}
			return err
		}))
	}
	return names
}

// TestRules has promtool check the rules and run their tests: each alert fires
// where it should, and not where it is near.
func TestRules(t *testing.T) {
	t.Parallel()
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Fatal(prometheus.ErrMissing)
	}
	for _, args := range [][]string{
		{"check", "rules", "recording.yml", "alerts.yml"},
		{"check", "config", "prometheus.yml"},
		{"test", "rules", "alerts_test.yml", "hours_test.yml", "scaling_test.yml"},
	} {
		cmd := exec.CommandContext(t.Context(), promtool, args...)
		cmd.Dir = filepath.Join(root(), "ops", "prometheus")
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Run(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, &out)
		}
	}
	var tested []byte
	for _, f := range []string{"alerts_test.yml", "hours_test.yml", "scaling_test.yml"} {
		b, err := os.ReadFile(filepath.Join(root(), "ops", "prometheus", f))
		must(t, err)
		tested = append(tested, b...)
	}
	alerts, err := rules("alerts.yml")
	must(t, err)
	for _, a := range alerts {
		for _, how := range []string{"fires", "is quiet"} {
			if !regexp.MustCompile(`name: ` + a.Alert + `( at [0-9.]+ times)? ` + how).Match(tested) {
				t.Errorf("no test of %s %s", a.Alert, how)
			}
		}
	}
}

// TestRunbook: each alert has an entry that says all there is to say, and each
// entry an alert; and each alert says where its entry is.
func TestRunbook(t *testing.T) {
	b, err := os.ReadFile(filepath.Join(root(), "docs", "runbook.md"))
	must(t, err)
	entries := map[string]string{}
	for _, e := range strings.Split(string(b), "\n### ")[1:] {
		name, text, _ := strings.Cut(e, "\n")
		entries[name] = text
	}
	alerts, err := rules("alerts.yml")
	must(t, err)
	known := map[string]bool{}
	for _, a := range alerts {
		known[a.Alert] = true
		text, ok := entries[a.Alert]
		if !ok {
			t.Errorf("docs/runbook.md has no entry of %s", a.Alert)
		}
		for _, part := range []string{"- **Confirm:** ", "- **Do:** ", "- **Never** "} {
			if strings.Count(text, part) != 1 {
				t.Errorf("docs/runbook.md: %s has %d parts %q; want one", a.Alert, strings.Count(text, part), part)
			}
		}
		link := "https://github.com/veltrix/cairn/blob/main/docs/runbook.md#" + strings.ToLower(a.Alert)
		if a.Annotations["summary"] == "" || a.Annotations["description"] == "" || a.Annotations["runbook_url"] != link {
			t.Errorf("%s: annotations are %q; want summary, description and runbook_url %s", a.Alert, a.Annotations, link)
		}
		if s := a.Labels["severity"]; s != "page" && s != "ticket" {
			t.Errorf("%s: severity is %q; want page or ticket", a.Alert, s)
		}
	}
	for name := range entries {
		if !known[name] {
			t.Errorf("docs/runbook.md has an entry of %s, which is no alert", name)
		}
	}
	for _, m := range regexp.MustCompile(`\]\(#([a-z-]+)\)`).FindAllSubmatch(b, -1) {
		if !slices.ContainsFunc(alerts, func(a rule) bool { return strings.ToLower(a.Alert) == string(m[1]) }) {
			t.Errorf("docs/runbook.md links to #%s, which is no entry", m[1])
		}
	}
}

// TestShown: a condition that does not hold answers 0 instead of nothing.
func TestShown(t *testing.T) {
	if got, want := shown(`a / b > 0.8 and on (x) c{d!="e"} == 1`), `a / b > bool 0.8 and on (x) c{d!="e"} == bool 1`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := metricsOf(`cairn_a{x="cairn_b"} / (up + process_c)`); !slices.Equal(got, []string{"cairn_a", "process_c", "up"}) {
		t.Errorf("got %v", got)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

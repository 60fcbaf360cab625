//go:build unix

// Package monitor is a real Prometheus for benchmarks whose processes come and
// go: it scrapes those that it is told of, evaluates the repository's rules, and
// answers queries as KEDA asks them.
package monitor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/veltrix/cairn/bench/prometheus"
	"github.com/veltrix/cairn/internal/lab"
)

// Options says how a Monitor differs from production.
type Options struct {
	Rules  string        // the folder ops/prometheus
	Every  time.Duration // between two scrapes, and between two evaluations
	Window time.Duration // in place of the minute that the autoscaler's rules look back
}

// A Monitor is a Prometheus.
type Monitor struct {
	*prometheus.Server
	dir string
}

// The autoscaler's rules are hurried: they are those of production but for how
// often they are evaluated and how far they look back.
var (
	group    = regexp.MustCompile(`(?s)  - name: cairn-scaling\n.*?(\n  - name: |\z)`)
	interval = regexp.MustCompile(`interval: \w+`)
	minute   = "[1m]"
)

// hurried returns recording rules whose group for the autoscaler is evaluated so
// often, and looks back so far. The other groups stay as they are.
func hurried(rules string, every, window time.Duration) (string, error) {
	scaling := group.FindString(rules)
	if !interval.MatchString(scaling) || !strings.Contains(scaling, minute) {
		return "", errors.New("recording rules: have no group cairn-scaling with an interval and windows of [1m]")
	}
	fast := interval.ReplaceAllString(scaling, fmt.Sprintf("interval: %v", every))
	return strings.Replace(rules, scaling, strings.ReplaceAll(fast, minute, fmt.Sprintf("[%v]", window)), 1), nil
}

// Start starts a Prometheus on a free port, with its data in the lab, which ends
// it, and waits until it answers. It scrapes nobody before [Monitor.Targets].
func Start(ctx context.Context, l *lab.Lab, opts Options, roles []string) (*Monitor, error) {
	dir, err := l.Folder("prometheus")
	if err != nil {
		return nil, err
	}
	m := &Monitor{dir: dir}
	if err := m.configure(opts, roles); err != nil {
		return nil, err
	}
	m.Server, err = prometheus.Start(ctx, l, dir)
	return m, err
}

// configure writes the configuration: a job a role, as production has it, with
// targets that are read from files again and again.
func (m *Monitor) configure(opts Options, roles []string) error {
	rules, err := os.ReadFile(filepath.Join(opts.Rules, "recording.yml"))
	if err != nil {
		return err
	}
	fast, err := hurried(string(rules), opts.Every, opts.Window)
	if err != nil {
		return err
	}
	alerts, err := filepath.Abs(filepath.Join(opts.Rules, "alerts.yml"))
	if err != nil {
		return err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "global: {scrape_interval: %v, evaluation_interval: %v}\nrule_files: [recording.yml, %q]\nscrape_configs:\n", opts.Every, opts.Every, alerts)
	for _, r := range roles {
		fmt.Fprintf(&b, "  - {job_name: cairn-%s, file_sd_configs: [{files: [targets-%[1]s.json], refresh_interval: 1s}]}\n", r)
	}
	if err := os.WriteFile(filepath.Join(m.dir, "recording.yml"), []byte(fast), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(m.dir, "prometheus.yml"), []byte(b.String()), 0o644)
}

// Targets says whom of a role to scrape from now on: operators' addresses, by
// the names of the processes. One role is set by one goroutine at a time.
func (m *Monitor) Targets(role string, addrs map[string]string) error {
	type group struct {
		Targets []string          `json:"targets"`
		Labels  map[string]string `json:"labels"`
	}
	groups := []group{}
	for name, addr := range addrs {
		groups = append(groups, group{[]string{addr}, map[string]string{"instance": name}})
	}
	b, err := json.Marshal(groups)
	if err != nil {
		return err
	}
	path := filepath.Join(m.dir, "targets-"+role+".json")
	if err := os.WriteFile(path+".new", b, 0o644); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// Value evaluates an expression as a trigger of KEDA does that has
// ignoreNullValues false: NaN, with an error, unless there is just one value.
func (m *Monitor) Value(ctx context.Context, expr string) (float64, error) {
	all, err := m.Query(ctx, expr)
	if err == nil && len(all) != 1 {
		err = fmt.Errorf("prometheus: %s: has %d values; want one", expr, len(all))
	}
	if err != nil {
		return math.NaN(), err
	}
	return all[0].Points[0].Value, nil
}

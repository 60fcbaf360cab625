//go:build unix

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/veltrix/cairn/bench/prometheus"
	"github.com/veltrix/cairn/internal/lab"
)

// A target is what is scraped, under the name of a job and, as instance, its
// own.
type target struct{ job, name, addr string }

// config is the server's configuration: as ops/prometheus/prometheus.yml, but
// for quick answers and fixed targets.
func config(targets []target, every time.Duration) (string, error) {
	rules, err := filepath.Abs(filepath.Join(root(), "ops", "prometheus"))
	if err != nil {
		return "", err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "global: {scrape_interval: %v, evaluation_interval: %v}\nrule_files: [%q, %q]\nscrape_configs:\n",
		every, every, filepath.Join(rules, "recording.yml"), filepath.Join(rules, "alerts.yml"))
	jobs := map[string][]string{}
	var order []string
	for _, t := range targets {
		if jobs[t.job] == nil {
			order = append(order, t.job)
		}
		jobs[t.job] = append(jobs[t.job], fmt.Sprintf("{targets: [%q], labels: {instance: %s}}", t.addr, t.name))
	}
	for _, job := range order {
		fmt.Fprintf(&b, "  - {job_name: %s, static_configs: [%s]}\n", job, strings.Join(jobs[job], ", "))
	}
	return b.String(), nil
}

// startPrometheus starts a server that scrapes the targets, with its data in the
// lab, and waits until it answers.
func startPrometheus(ctx context.Context, l *lab.Lab, targets []target, every time.Duration) (*prometheus.Server, error) {
	dir, err := l.Folder("prometheus")
	if err != nil {
		return nil, err
	}
	conf, err := config(targets, every)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "prometheus.yml"), []byte(conf), 0o644); err != nil {
		return nil, err
	}
	return prometheus.Start(ctx, l, dir)
}

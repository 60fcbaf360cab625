//go:build unix

// Command dashboards draws every panel of ops/grafana as a picture, from what a
// real Prometheus answers that scrapes the production form of Cairn under load:
// two processes of each role, a Redis Cluster with replicas and PostgreSQL, as
// make cluster has them, and a `cairn up` beside them. See docs/monitoring.md.
//
//	go run ./bench/dashboards -for 2m
//
// Its tests, which are part of make test, ask every query of every dashboard
// and of every rule.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/veltrix/cairn/bench/origin"
	"github.com/veltrix/cairn/bench/report"
	"github.com/veltrix/cairn/internal/lab"
)

type options struct {
	length      time.Duration
	rate        float64
	connections int
	bin         string
	docs        string
}

func main() {
	var o options
	flag.DurationVar(&o.length, "for", 2*time.Minute, "how long the system is under load")
	flag.Float64Var(&o.rate, "rate", 300, "claims a second")
	flag.IntVar(&o.connections, "connections", 500, "clients that watch")
	flag.StringVar(&o.bin, "bin", "", "a cairn binary; empty means that one is built")
	flag.StringVar(&o.docs, "docs", "docs", "folder that gets dashboards/*.png, and the pages in monitoring.md")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := o.run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "dashboards:", err)
		os.Exit(1)
	}
}

// every is the time between two scrapes, and between two points of a picture.
const every = 2 * time.Second

func (o options) run(ctx context.Context) (err error) {
	if o.length < 30*time.Second || flag.NArg() > 0 {
		return fmt.Errorf("-for: is %v, with %d arguments more; want 30s or more, and flags only", o.length, flag.NArg())
	}
	l, err := lab.New(lab.Options{Bin: o.bin})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	s := scale{
		spec: lab.Spec{Redis: lab.ClusterOptions{Primaries: 3, Replicas: 1}}, shards: 24,
		rate: o.rate, connections: o.connections, every: every,
	}
	fmt.Fprintln(os.Stderr, "starting the fleet and Prometheus …")
	w, err := build(ctx, l, s)
	if err != nil {
		return err
	}
	playing, end := context.WithTimeout(ctx, o.length)
	defer end()
	fmt.Fprintf(os.Stderr, "playing for %v …\n", o.length)
	if err := w.play(playing, s, slog.New(slog.NewTextHandler(os.Stderr, nil))); err != nil || ctx.Err() != nil {
		return err
	}
	return o.picture(ctx, w)
}

// picture draws all panels, and lists them in docs/monitoring.md.
func (o options) picture(ctx context.Context, w *world) error {
	all, err := dashboards()
	if err != nil {
		return err
	}
	dir := filepath.Join(o.docs, "dashboards")
	if err := fresh(dir); err != nil {
		return err
	}
	var page strings.Builder
	fmt.Fprintf(&page, "\n%v of %.0f claims a second and %d clients that watch, on %s, at `%s`: `make dashboards`.\n",
		o.length, o.rate, o.connections, origin.Machine(), origin.Commit())
	now := time.Now()
	for _, d := range all {
		fmt.Fprintf(&page, "\n### %s\n\n[ops/grafana/%s.json](../ops/grafana/%[2]s.json)\n\n", strings.TrimPrefix(d.Title, "Cairn: "), d.File)
		drawn, quiet, err := o.board(ctx, w, d, now)
		if err != nil {
			return err
		}
		table(&page, drawn)
		for _, q := range quiet {
			fmt.Fprintf(&page, "\n%s\n", q)
		}
	}
	fmt.Fprintf(os.Stderr, "drawn into %s\n", dir)
	return report.Splice(filepath.Join(o.docs, "monitoring.md"), "dashboards", page.String())
}

// fresh makes a folder without pictures: a panel that is gone leaves none.
func fresh(dir string) error {
	old, err := filepath.Glob(filepath.Join(dir, "*.png"))
	if err != nil {
		return err
	}
	for _, f := range old {
		if err := os.Remove(f); err != nil {
			return err
		}
	}
	return os.MkdirAll(dir, 0o755)
}

// board draws the panels of a dashboard. It returns them as links, and sentences
// about those that have nothing to draw.
func (o options) board(ctx context.Context, w *world, d dashboard, now time.Time) (drawn, quiet []string, err error) {
	for _, p := range d.Panels {
		lines, err := w.lines(ctx, p, w.began, now, every, 5*every)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %s: %w", d.File, p.Title, err)
		}
		if len(lines) == 0 {
			why := silent[d.File+": "+p.Title]
			if why == "" {
				return nil, nil, fmt.Errorf("%s: %s: no data", d.File, p.Title)
			}
			quiet = append(quiet, fmt.Sprintf("*%s* has nothing to draw: %s.", p.Title, why))
			continue
		}
		name := d.File + "-" + slug(p.Title) + ".png"
		if err := draw(filepath.Join(o.docs, "dashboards", name), p, lines, origin.Commit()); err != nil {
			return nil, nil, err
		}
		drawn = append(drawn, fmt.Sprintf("![%s](dashboards/%s)", p.Title, name))
	}
	return drawn, quiet, nil
}

// table writes cells in rows of three, as Grafana has panels.
func table(w io.Writer, cells []string) {
	const across = 3
	report.Table(w, make([]string, across)...)
	for row := range slices.Chunk(cells, across) {
		report.Row(w, append(row[:len(row):len(row)], make([]string, across-len(row))...)...)
	}
}

// slug makes a file's name of a title.
func slug(title string) string {
	return strings.Trim(regexp.MustCompile(`[^a-z0-9]+`).ReplaceAllString(strings.ToLower(title), "-"), "-")
}

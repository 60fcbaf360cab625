//go:build unix

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/veltrix/cairn/internal/lab"
)

// A prometheus is a real server that scrapes a system and evaluates our rules.
type prometheus struct {
	url string
}

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

// errNoPrometheus says what is missing, and how to get it.
var errNoPrometheus = errors.New("no prometheus and promtool on the PATH: scripts/setup.sh prometheus installs them (Debian: apt-get install prometheus)")

// startPrometheus starts a server on a free port, with its data in the lab, and
// waits until it answers.
func startPrometheus(ctx context.Context, l *lab.Lab, targets []target, every time.Duration) (*prometheus, error) {
	bin, err := exec.LookPath("prometheus")
	if err != nil {
		return nil, errNoPrometheus
	}
	dir, err := l.Folder("prometheus")
	if err != nil {
		return nil, err
	}
	conf, err := config(targets, every)
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(file, []byte(conf), 0o644); err != nil {
		return nil, err
	}
	port, err := l.FreePort()
	if err != nil {
		return nil, err
	}
	p := &prometheus{url: fmt.Sprintf("http://127.0.0.1:%d", port)}
	_, err = l.StartProgram(ctx, lab.Program{
		Name: "prometheus",
		Argv: []string{bin, "--config.file=" + file, "--storage.tsdb.path=" + filepath.Join(dir, "data"), fmt.Sprintf("--web.listen-address=127.0.0.1:%d", port), "--log.level=warn"},
		Ready: func(*lab.Process) (bool, error) {
			resp, err := http.Get(p.url + "/-/ready")
			if err != nil {
				return false, nil // not yet
			}
			resp.Body.Close()
			return resp.StatusCode == http.StatusOK, nil
		},
	})
	return p, err
}

// A series is one line of an answer.
type series struct {
	Metric map[string]string
	Points []point
}

type point struct {
	At    time.Time
	Value float64
}

// UnmarshalJSON decodes [seconds, "value"].
func (p *point) UnmarshalJSON(b []byte) error {
	var text string
	var at float64
	if err := json.Unmarshal(b, &[]any{&at, &text}); err != nil {
		return err
	}
	v, err := strconv.ParseFloat(text, 64)
	p.At, p.Value = time.UnixMicro(int64(at*1e6)), v
	return err
}

// get asks the API and decodes what it says as data.
func (p *prometheus) get(ctx context.Context, path string, args url.Values, data any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url+path+"?"+args.Encode(), nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	answer := struct {
		Status, Error string
		Data          any
	}{Data: data}
	if err := json.Unmarshal(body, &answer); err != nil {
		return fmt.Errorf("%s: HTTP %d: %.200s: %w", path, resp.StatusCode, body, err)
	}
	if answer.Status != "success" {
		return errors.New(answer.Error)
	}
	return nil
}

// query evaluates expr now. A scalar is one series.
func (p *prometheus) query(ctx context.Context, expr string) ([]series, error) {
	var data struct {
		ResultType string
		Result     json.RawMessage
	}
	if err := p.get(ctx, "/api/v1/query", url.Values{"query": {expr}}, &data); err != nil {
		return nil, err
	}
	if data.ResultType == "scalar" {
		var at point
		err := json.Unmarshal(data.Result, &at)
		return []series{{Points: []point{at}}}, err
	}
	var vector []struct {
		Metric map[string]string
		Value  point
	}
	if err := json.Unmarshal(data.Result, &vector); err != nil {
		return nil, err
	}
	var all []series
	for _, v := range vector {
		all = append(all, series{v.Metric, []point{v.Value}})
	}
	return all, nil
}

// queryRange evaluates expr at each step from begin to end.
func (p *prometheus) queryRange(ctx context.Context, expr string, begin, end time.Time, step time.Duration) ([]series, error) {
	unix := func(t time.Time) string { return strconv.FormatFloat(float64(t.UnixMilli())/1000, 'f', 3, 64) }
	var data struct {
		Result []struct {
			Metric map[string]string
			Values []point
		}
	}
	err := p.get(ctx, "/api/v1/query_range", url.Values{"query": {expr}, "start": {unix(begin)}, "end": {unix(end)}, "step": {strconv.FormatFloat(step.Seconds(), 'f', 3, 64)}}, &data)
	if err != nil {
		return nil, err
	}
	var all []series
	for _, r := range data.Result {
		all = append(all, series{r.Metric, r.Values})
	}
	return all, nil
}

// metrics returns the names of all that it has.
func (p *prometheus) metrics(ctx context.Context) (names []string, err error) {
	err = p.get(ctx, "/api/v1/label/__name__/values", nil, &names)
	return names, err
}

//go:build unix

// Package prometheus is a real Prometheus for benchmarks: started in a lab, and
// asked by its API.
package prometheus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"github.com/veltrix/cairn/internal/lab"
)

// ErrMissing says what is missing, and how to get it.
var ErrMissing = errors.New("no prometheus and promtool on the PATH: scripts/setup.sh prometheus installs them (Debian: apt-get install prometheus)")

// A Server is a Prometheus that runs.
type Server struct {
	url string
}

// Start starts a server on a free port, which the lab ends, and waits until it
// answers. Its configuration is prometheus.yml in a folder, where its data is
// too.
func Start(ctx context.Context, l *lab.Lab, dir string) (*Server, error) {
	bin, err := exec.LookPath("prometheus")
	if err != nil {
		return nil, ErrMissing
	}
	addr, err := lab.FreeAddress()
	if err != nil {
		return nil, err
	}
	s := &Server{url: "http://" + addr}
	_, err = l.StartProgram(ctx, lab.Program{
		Name:  "prometheus",
		Argv:  []string{bin, "--config.file=" + filepath.Join(dir, "prometheus.yml"), "--storage.tsdb.path=" + filepath.Join(dir, "data"), "--web.listen-address=" + addr, "--log.level=warn"},
		Ready: func(*lab.Process) (bool, error) { return lab.Answers(ctx, s.url+"/-/ready"), nil },
	})
	return s, err
}

// A Series is one line of an answer.
type Series struct {
	Metric map[string]string // its labels
	Points []Point
}

// A Point is a value at a time.
type Point struct {
	At    time.Time
	Value float64
}

// UnmarshalJSON decodes [seconds, "value"].
func (p *Point) UnmarshalJSON(b []byte) error {
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
func (s *Server) get(ctx context.Context, path string, args url.Values, data any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+path+"?"+args.Encode(), nil)
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

// Query evaluates expr now: each series has one point. A scalar is one series.
func (s *Server) Query(ctx context.Context, expr string) ([]Series, error) {
	var data struct {
		ResultType string
		Result     json.RawMessage
	}
	if err := s.get(ctx, "/api/v1/query", url.Values{"query": {expr}}, &data); err != nil {
		return nil, fmt.Errorf("prometheus: %s: %w", expr, err)
	}
	if data.ResultType == "scalar" {
		var at Point
		err := json.Unmarshal(data.Result, &at)
		return []Series{{Points: []Point{at}}}, err
	}
	var vector []struct {
		Metric map[string]string
		Value  Point
	}
	if err := json.Unmarshal(data.Result, &vector); err != nil {
		return nil, fmt.Errorf("prometheus: %s: %w", expr, err)
	}
	var all []Series
	for _, v := range vector {
		all = append(all, Series{v.Metric, []Point{v.Value}})
	}
	return all, nil
}

// QueryRange evaluates expr at each step from begin to end.
func (s *Server) QueryRange(ctx context.Context, expr string, begin, end time.Time, step time.Duration) ([]Series, error) {
	unix := func(t time.Time) string { return strconv.FormatFloat(float64(t.UnixMilli())/1000, 'f', 3, 64) }
	var data struct {
		Result []struct {
			Metric map[string]string
			Values []Point
		}
	}
	err := s.get(ctx, "/api/v1/query_range", url.Values{"query": {expr}, "start": {unix(begin)}, "end": {unix(end)}, "step": {strconv.FormatFloat(step.Seconds(), 'f', 3, 64)}}, &data)
	if err != nil {
		return nil, fmt.Errorf("prometheus: %s: %w", expr, err)
	}
	var all []Series
	for _, r := range data.Result {
		all = append(all, Series{r.Metric, r.Values})
	}
	return all, nil
}

// Metrics returns the names of all that it has.
func (s *Server) Metrics(ctx context.Context) (names []string, err error) {
	err = s.get(ctx, "/api/v1/label/__name__/values", nil, &names)
	return names, err
}

// Command game measures the whole game on one machine: it starts a real
// `cairn up` on a fresh data folder, loads it with real clients through its
// public API, reads what both sides measured, and has `cairn verify` check the
// data that is left.
//
//	go run ./bench/game -rate 2000 -for 60s
//
// The floor of a claim is the disk's own fsync, measured before and after on
// the same disk.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"syscall"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/veltrix/cairn/bench/origin"
	"github.com/veltrix/cairn/bench/report"
)

type options struct {
	rate        float64
	run         time.Duration
	players     int
	connections int
	tiles       int
	crowd       int
	out         string
}

// A result is what one run found. Times are milliseconds.
type result struct {
	Machine string          `json:"machine"`
	Rate    float64         `json:"rate"`
	Load    json.RawMessage `json:"load"` // cairn load's own report
	Fsync   quantiles       `json:"fsync_ms"`
	Server  struct {
		Claim     quantiles `json:"claim_ms"`         // receipt → answer
		Append    quantiles `json:"append_ms"`        // one batch into the log
		Standings quantiles `json:"standings_lag_ms"` // claim → published board
	} `json:"server"`
	Verified bool `json:"verified"`
}

// quantiles of a histogram of classic buckets are upper bounds of buckets: never
// better than the truth.
type quantiles struct {
	Count uint64  `json:"count"`
	P50   float64 `json:"p50"`
	P99   float64 `json:"p99"`
	P999  float64 `json:"p999"`
}

func main() {
	var o options
	flag.Float64Var(&o.rate, "rate", 2000, "attempts a second")
	flag.DurationVar(&o.run, "for", time.Minute, "how long")
	flag.IntVar(&o.players, "players", 400, "players that claim")
	flag.IntVar(&o.connections, "connections", 20, "sockets that watch")
	flag.IntVar(&o.tiles, "tiles", 0, "tiles a map; 0 means a fifth more than the rate needs")
	flag.IntVar(&o.crowd, "crowd", 1, "players that try each tile at once")
	flag.StringVar(&o.out, "out", "bench/out/game.json", "where to write the result")
	flag.Parse()
	if o.tiles == 0 {
		o.tiles = int(math.Ceil(o.rate/float64(o.crowd)*1.2)) + 100
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := measure(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "game:", err)
		os.Exit(1)
	}
}

func measure(ctx context.Context, o options) (err error) {
	dir, err := os.MkdirTemp("", "cairn-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	bin := filepath.Join(dir, "cairn")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", bin, "./cmd/cairn").CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	var res result
	res.Rate = o.rate
	res.Machine = origin.Machine()
	var syncs []float64
	if syncs, err = fsyncs(dir, syncs); err != nil {
		return err
	}
	data := filepath.Join(dir, "data")
	g, err := start(bin, dir, data, o)
	if err != nil {
		return err
	}
	defer g.kill()
	if err := g.load(ctx, bin, o, &res); err != nil {
		return err
	}
	if err := g.scrape(ctx, &res); err != nil {
		return err
	}
	if err := g.stop(); err != nil {
		return err
	}
	if syncs, err = fsyncs(dir, syncs); err != nil {
		return err
	}
	res.Fsync = exact(syncs)
	verify := exec.CommandContext(ctx, bin, "verify", "--data", data)
	verify.Stdout, verify.Stderr = os.Stdout, os.Stderr
	res.Verified = verify.Run() == nil
	return res.write(o.out)
}

// fsyncs times 300 appends of 4 KiB, each made durable, and adds them to ms.
func fsyncs(dir string, ms []float64) ([]float64, error) {
	f, err := os.CreateTemp(dir, "fsync-")
	if err != nil {
		return nil, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	page := make([]byte, 4096)
	for range 300 {
		t := time.Now()
		if _, err := f.Write(page); err != nil {
			return nil, err
		}
		if err := syscall.Fdatasync(int(f.Fd())); err != nil {
			return nil, err
		}
		ms = append(ms, time.Since(t).Seconds()*1000)
	}
	return ms, nil
}

func exact(ms []float64) quantiles {
	slices.Sort(ms)
	at := func(q float64) float64 { return ms[min(len(ms)-1, int(q*float64(len(ms))))] }
	return quantiles{uint64(len(ms)), at(0.5), at(0.99), at(0.999)}
}

// A game is a running cairn up.
type game struct {
	cmd           *exec.Cmd
	public, admin string
}

var address = regexp.MustCompile(`(play|operate)\s+(http://[^/\s]+)`)

func start(bin, dir, data string, o options) (*game, error) {
	hunt := filepath.Join(dir, "hunt.yaml")
	spec := fmt.Sprintf("name: bench\nregion: {geohash: u4}\nmask: none\ntiles_per_map: %d\nlifetime: 5s\nreward: {min: 1, max: 1000, budget: 1000000000000}\n", o.tiles)
	if err := os.WriteFile(hunt, []byte(spec), 0o644); err != nil {
		return nil, err
	}
	g := &game{cmd: exec.Command(bin, "up", "--data", data, "--hunt", hunt, "--bots", "0", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--log-level", "warn")}
	g.cmd.Stderr = os.Stderr
	out, err := g.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := g.cmd.Start(); err != nil {
		return nil, err
	}
	for lines := bufio.NewScanner(out); g.admin == "" && lines.Scan(); {
		if m := address.FindStringSubmatch(lines.Text()); m != nil && m[1] == "play" {
			g.public = m[2]
		} else if m != nil {
			g.admin = m[2]
		}
	}
	if g.admin == "" {
		return nil, errors.New("cairn up did not print where it is")
	}
	go func() { _, _ = io.Copy(io.Discard, out) }() // so that it never waits for a reader
	for range 600 {
		if resp, err := http.Get(g.admin + "/readyz"); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return g, nil
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	return nil, errors.New("cairn up was not ready within 30s")
}

func (g *game) load(ctx context.Context, bin string, o options, res *result) error {
	cmd := exec.CommandContext(ctx, bin, "load", "--target", g.public, "--json", "--rate", fmt.Sprint(o.rate), "--for", o.run.String(),
		"--players", fmt.Sprint(o.players), "--connections", fmt.Sprint(o.connections), "--crowd", fmt.Sprint(o.crowd))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if !json.Valid(out) {
		return fmt.Errorf("cairn load: %w", err)
	}
	res.Load = out
	return nil
}

// scrape reads the histograms that /metrics has.
func (g *game) scrape(ctx context.Context, res *result) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, g.admin+"/metrics", nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(resp.Body)
	if err != nil {
		return fmt.Errorf("/metrics: %w", err)
	}
	for name, q := range map[string]*quantiles{
		"cairn_claim_duration_seconds":  &res.Server.Claim,
		"cairn_append_duration_seconds": &res.Server.Append,
		"cairn_standings_lag_seconds":   &res.Server.Standings,
	} {
		if families[name] == nil {
			return fmt.Errorf("/metrics has no %s", name)
		}
		*q = bounds(families[name])
	}
	return nil
}

// bounds returns quantiles of all the histograms of a family together.
func bounds(f *dto.MetricFamily) quantiles {
	at := map[float64]uint64{}
	var q quantiles
	for _, m := range f.Metric {
		q.Count += m.Histogram.GetSampleCount()
		for _, b := range m.Histogram.Bucket {
			at[b.GetUpperBound()] += b.GetCumulativeCount()
		}
	}
	var uppers []float64
	for u := range at {
		uppers = append(uppers, u)
	}
	slices.Sort(uppers)
	find := func(share float64) float64 {
		for _, u := range uppers {
			if float64(at[u]) >= share*float64(q.Count) {
				return min(u*1000, math.MaxFloat64)
			}
		}
		return math.MaxFloat64
	}
	q.P50, q.P99, q.P999 = find(0.5), find(0.99), find(0.999)
	return q
}

// kill ends what stop did not.
func (g *game) kill() {
	if g.cmd.ProcessState == nil {
		_ = g.cmd.Process.Kill() // it may just have ended
	}
}

func (g *game) stop() error {
	if err := g.cmd.Process.Signal(os.Interrupt); err != nil {
		return err
	}
	return g.cmd.Wait()
}

func (r *result) write(path string) error {
	if err := report.Write(filepath.Dir(path), filepath.Base(path), r); err != nil {
		return err
	}
	var load struct {
		Answered  float64 `json:"answered_per_s"`
		Claim     latency `json:"claim"`
		Delta     latency `json:"delta"`
		Standings latency `json:"standings"`
	}
	if err := json.Unmarshal(r.Load, &load); err != nil {
		return err
	}
	row := func(what string, p50, p99, p999 float64) {
		fmt.Printf("%-34s %9.2f %9.2f %9.2f\n", what, p50, p99, p999)
	}
	fmt.Printf("\n%s, %.0f answered/s of %.0f\n%-34s %9s %9s %9s  ms\n", r.Machine, load.Answered, r.Rate, "", "p50", "p99", "p99.9")
	row("fsync of the disk", r.Fsync.P50, r.Fsync.P99, r.Fsync.P999)
	row("claim, by the client's clock", load.Claim.P50, load.Claim.P99, load.Claim.P999)
	row("claim, by /metrics", r.Server.Claim.P50, r.Server.Claim.P99, r.Server.Claim.P999)
	row("append, by /metrics", r.Server.Append.P50, r.Server.Append.P99, r.Server.Append.P999)
	row("standings published, by /metrics", r.Server.Standings.P50, r.Server.Standings.P99, r.Server.Standings.P999)
	row("standings on a socket, by client", load.Standings.P50, load.Standings.P99, load.Standings.P999)
	row("delta on a socket, by client", load.Delta.P50, load.Delta.P99, load.Delta.P999)
	fmt.Printf("verified: %v\n", r.Verified)
	if !r.Verified {
		return errors.New("cairn verify found the data broken")
	}
	return nil
}

type latency struct {
	P50  float64 `json:"p50_ms"`
	P99  float64 `json:"p99_ms"`
	P999 float64 `json:"p999_ms"`
}

package e2e_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/heapprofiler"
	"github.com/chromedp/cdproto/performance"
	"github.com/chromedp/chromedp"
)

// watchFrames watches the page for ten seconds: how long the slowest hundredth
// of its frames took, and the tasks over 50 ms that kept it from answering.
const watchFrames = `new Promise((ok) => {
	const frames = [], tasks = [];
	const observer = new PerformanceObserver((list) => tasks.push(...list.getEntries()));
	observer.observe({ entryTypes: ['longtask'] });
	let last = performance.now();
	const end = last + 10_000;
	const step = (now) => {
		frames.push(now - last);
		last = now;
		if (now < end) return requestAnimationFrame(step);
		observer.disconnect();
		frames.sort((a, b) => a - b);
		ok({ p50: frames[frames.length >> 1], p99: frames[Math.floor(frames.length * 0.99)], longTasks: tasks.length });
	};
	requestAnimationFrame(step);
})`

// BenchmarkPage reports what it takes to show a hunt with so many open tiles on
// a phone's screen for ten seconds, the list of tiles open: frame times, long
// tasks, the share of the time that scripts ran, and what the heap holds after.
//
//	go test ./web/e2e -run '^$' -bench Page -benchtime 3x
func BenchmarkPage(b *testing.B) {
	for _, tiles := range []int{1000, 20_000} {
		b.Run(fmt.Sprintf("tiles=%d", tiles), func(b *testing.B) {
			g := startGame(b, fmt.Sprintf("region: {bbox: [4, 57, 32, 71]}\ntiles_per_map: %d\ntick: 1s\nlifetime: 30s\n", (tiles+29)/30)+
				"puzzles: {tap: 3, cipher: 2, lights: 2, echo: 1, odd: 1}\nreward: {min: 10000, max: 500000, budget: 100000000000}\n")
			p := g.open(chromium, phone)
			p.showTiles()
			oldest := eval[string](p, `$('tile').dataset.key`)
			eventually(b, "the oldest map has closed: as many are open as can be", func() bool {
				return eval[bool](p, fmt.Sprintf(`Math.min(...$$('tile').map((tile) => parseInt(tile.dataset.key))) > parseInt(%q)`, oldest))
			})
			before := p.metrics()
			var p50, p99, longTasks float64
			for b.Loop() {
				ctx, cancel := context.WithTimeout(p.ctx, patience)
				got, err := chromedp.Run(ctx, chromedp.Evaluate[map[string]float64](watchFrames, chromedp.EvalAwaitPromise))
				cancel()
				if err != nil {
					b.Fatal(err)
				}
				p50, p99, longTasks = p50+got["p50"], p99+got["p99"], longTasks+got["longTasks"]
			}
			script := p.metrics()["ScriptDuration"] - before["ScriptDuration"]
			if _, err := chromedp.Call(p.ctx, heapprofiler.CollectGarbage, cdp.Empty{}); err != nil {
				b.Fatal(err)
			}
			n := float64(b.N)
			b.ReportMetric(0, "ns/op") // it is ten seconds
			b.ReportMetric(p50/n, "p50-frame-ms")
			b.ReportMetric(p99/n, "p99-frame-ms")
			b.ReportMetric(longTasks/n, "longtasks")
			b.ReportMetric(script/n/10*100, "script-%")
			b.ReportMetric(p.metrics()["JSHeapUsedSize"]/1e6, "heap-MB")
		})
	}
}

// metrics returns what the browser counts of the page.
func (p *tab) metrics() map[string]float64 {
	p.t.Helper()
	if _, err := chromedp.Call(p.ctx, performance.Enable, performance.EnableParams{}); err != nil {
		p.t.Fatal(err)
	}
	got, err := chromedp.Call(p.ctx, performance.GetMetrics, cdp.Empty{})
	if err != nil {
		p.t.Fatal(err)
	}
	out := map[string]float64{}
	for _, m := range got.Metrics {
		out[m.Name] = m.Value
	}
	return out
}

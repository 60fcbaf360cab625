package redislog

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/veltrix/cairn/internal/eventlog"
	"github.com/veltrix/cairn/internal/eventlog/redislog/redistest"
)

// benchBody is as long as a record of a few claims; fullBody as one of 256.
var (
	benchBody = make([]byte, 200)
	fullBody  = make([]byte, 256*40)
)

func reportPercentiles(b *testing.B, took []time.Duration) {
	b.Helper()
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Nanoseconds()), "p50-ns")
	b.ReportMetric(float64(took[len(took)*99/100].Nanoseconds()), "p99-ns")
	b.ReportMetric(float64(len(took))/b.Elapsed().Seconds(), "records/s")
}

// BenchmarkXadd is the floor: one XADD of as much, on a socket of its own, with
// no client between.
func BenchmarkXadd(b *testing.B) {
	node := redistest.Start(b)
	c, err := net.Dial("tcp", node.Addr)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	r := bufio.NewReader(c)
	body := string(benchBody)
	head := strings.Repeat("h", 60)
	var took []time.Duration
	for b.Loop() {
		id := fmt.Sprintf("1-%d", len(took)+1)
		began := time.Now()
		fmt.Fprintf(c, "*7\r\n$4\r\nXADD\r\n$1\r\nx\r\n$%d\r\n%s\r\n$1\r\nh\r\n$%d\r\n%s\r\n$1\r\nb\r\n$%d\r\n%s\r\n",
			len(id), id, len(head), head, len(body), body)
		for range 2 { // the id is a bulk string
			line, err := r.ReadString('\n')
			if err != nil || line[0] == '-' {
				b.Fatal(line, err)
			}
		}
		took = append(took, time.Since(began))
	}
	reportPercentiles(b, took)
}

// BenchmarkAppend appends to as many logs at once as there are writers.
func BenchmarkAppend(b *testing.B) {
	for _, c := range []struct {
		name     string
		settings []string
		opts     Options
		writers  int
		body     []byte
		volatile bool
	}{
		{"primary/writers=1", nil, Options{}, 1, benchBody, false},
		{"primary/writers=24", nil, Options{}, 24, benchBody, false},
		{"primary/writers=24/claims=256", nil, Options{}, 24, fullBody, false},
		{"fsync/writers=1", []string{"--appendfsync", "always"}, Options{Ack: AckFsync}, 1, benchBody, false},
		{"fsync/writers=24", []string{"--appendfsync", "always"}, Options{Ack: AckFsync}, 24, benchBody, false},
		{"volatile/writers=1", nil, Options{}, 1, benchBody, true},
	} {
		b.Run(c.name, func(b *testing.B) {
			node := redistest.Start(b, c.settings...)
			benchAppend(b, mustOpen(b, node.URL(), c.opts), c.writers, c.body, c.volatile)
		})
	}
	b.Run("replicas/writers=1", func(b *testing.B) {
		nodes := redistest.StartCluster(b, 3, 1, replicated...)
		benchAppend(b, mustOpen(b, clusterURL(nodes), Options{}), 1, benchBody, false)
	})
	b.Run("replicas/writers=24", func(b *testing.B) {
		nodes := redistest.StartCluster(b, 3, 1, replicated...)
		benchAppend(b, mustOpen(b, clusterURL(nodes), Options{}), 24, benchBody, false)
	})
}

func benchAppend(b *testing.B, s *Store, writers int, body []byte, volatile bool) {
	b.Helper()
	defer s.Close()
	ctx := context.Background()
	var ws []eventlog.Writer
	for i := range writers {
		log := eventlog.Shard(i)
		if err := s.Provision(ctx, eventlog.Spec{Name: log, Volatile: volatile}); err != nil {
			b.Fatal(err)
		}
		w, err := s.Open(ctx, log)
		if err != nil {
			b.Fatal(err)
		}
		ws = append(ws, w)
	}
	took := make([][]time.Duration, writers)
	var left atomic.Int64
	var wg sync.WaitGroup
	left.Store(int64(b.N))
	b.ResetTimer()
	for i, w := range ws {
		wg.Go(func() {
			for n := 1; left.Add(-1) >= 0; n++ {
				began := time.Now()
				o, err := w.Append(ctx, body, eventlog.Offset{})
				if err != nil {
					b.Error(err)
					return
				}
				took[i] = append(took[i], time.Since(began))
				if n%4096 == 0 { // as the retention does, and a benchmark must end
					if err := s.Trim(ctx, eventlog.Shard(i), o); err != nil {
						b.Error(err)
						return
					}
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	reportPercentiles(b, slices.Concat(took...))
}

// BenchmarkFollow is how soon a follower at the tail has a record, over many
// that do the same.
func BenchmarkFollow(b *testing.B) {
	node := redistest.Start(b)
	s := mustOpen(b, node.URL(), Options{})
	defer s.Close()
	ctx := context.Background()
	if err := s.Provision(ctx, eventlog.Spec{Name: "s00"}); err != nil {
		b.Fatal(err)
	}
	w, err := s.Open(ctx, "s00")
	if err != nil {
		b.Fatal(err)
	}
	f, err := s.Follow(ctx, "s00", w.Fence())
	if err != nil {
		b.Fatal(err)
	}
	var took []time.Duration
	for b.Loop() {
		o, err := w.Append(ctx, benchBody, eventlog.Offset{})
		if err != nil {
			b.Fatal(err)
		}
		began := time.Now()
		for at := (eventlog.Offset{}); at.Less(o); {
			recs, _, err := f.Next(ctx)
			if err != nil {
				b.Fatal(err)
			}
			if len(recs) > 0 {
				at = recs[len(recs)-1].Offset
			}
		}
		took = append(took, time.Since(began))
	}
	reportPercentiles(b, took)
}

package redislog

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/veltrix/cairn/internal/eventlog"
	"github.com/veltrix/cairn/internal/eventlog/logtest"
	"github.com/veltrix/cairn/internal/eventlog/redislog/redistest"
)

func TestConformance(t *testing.T) {
	t.Run("node", func(t *testing.T) {
		t.Parallel()
		node := redistest.Start(t)
		logtest.Run(t, func(t *testing.T) logtest.Backend { return backend(t, node.URL(), Options{}) })
	})
	t.Run("cluster, replicas", func(t *testing.T) {
		t.Parallel()
		nodes := redistest.StartCluster(t, 3, 1, replicated...)
		logtest.Run(t, func(t *testing.T) logtest.Backend {
			b := backend(t, clusterURL(nodes), Options{})
			if ack := b.Store.(*Store).Ack(); ack != AckReplicas {
				t.Fatalf("ack mode %q, want replicas", ack)
			}
			return b
		})
	})
	if testing.Short() {
		return
	}
	// A ring so small that followers read from Redis.
	t.Run("node, fsync, small ring", func(t *testing.T) {
		t.Parallel()
		node := redistest.Start(t, "--appendfsync", "always")
		logtest.Run(t, func(t *testing.T) logtest.Backend {
			return backend(t, node.URL(), Options{Ack: AckFsync, RingBytesMax: 1})
		})
	})
}

func clusterURL(nodes []*redistest.Server) string {
	var addrs []string
	for _, n := range nodes {
		addrs = append(addrs, n.Addr)
	}
	return "redis://" + strings.Join(addrs, ",") + "?cluster"
}

var prefixes atomic.Int64

// newPrefix returns one that no other test uses: to a store, an empty Redis.
func newPrefix() string { return fmt.Sprintf("t%d", prefixes.Add(1)) }

func backend(t testing.TB, url string, opts Options) logtest.Backend {
	t.Helper()
	opts.Prefix = newPrefix()
	// The suite looks at logs that are written to, and would see marks come in
	// between on a machine that is slow; the marks' own tests are elsewhere.
	opts.MarkAfter = time.Second
	s := mustOpen(t, url, opts)
	return logtest.Backend{
		Store: s,
		Reopen: func(t testing.TB) eventlog.Store {
			t.Helper()
			if err := s.Close(); err != nil {
				t.Fatalf("Close: %v", err)
			}
			s = mustOpen(t, url, opts)
			return s
		},
		Second: func(t testing.TB) eventlog.Store {
			t.Helper()
			return mustOpen(t, url, opts)
		},
	}
}

func mustOpen(t testing.TB, url string, opts Options) *Store {
	t.Helper()
	if opts.ResolveMax == 0 {
		opts.ResolveMax = 10 * time.Second // the machine may be busy
	}
	if opts.ReplyMax == 0 {
		opts.ReplyMax = 5 * time.Second
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	s, err := Open(ctx, url, opts)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	return s
}

//go:build unix

// Package redistest runs real Redis servers for tests: on free ports of the
// loopback, with their data in a folder of the test, and ended with it.
package redistest

import (
	"context"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/veltrix/cairn/internal/lab"
)

// patience bounds what must happen, sooner or later.
const patience = 30 * time.Second

// A Server is one redis-server process. Its methods fail the test that calls
// them.
type Server struct {
	Addr string // host:port

	t testing.TB // that it ends with
	r *lab.Redis
}

// Start starts a server with an append-only file, on a free port, and waits
// until it answers. args are settings, such as "--maxmemory", "10mb".
func Start(t testing.TB, args ...string) *Server {
	t.Helper()
	r, err := newLab(t).StartRedis(context.Background(), "redis", args...)
	if err != nil {
		t.Fatal(err)
	}
	return &Server{Addr: r.Addr, t: t, r: r}
}

// StartCluster starts a Cluster of as many primaries, each with as many
// replicas, and waits until all of it is in service. The first nodes are the
// primaries.
func StartCluster(t testing.TB, primaries, replicas int, args ...string) []*Server {
	t.Helper()
	c, err := newLab(t).StartCluster(context.Background(), lab.ClusterOptions{Primaries: primaries, Replicas: replicas, Settings: args})
	if err != nil {
		t.Fatal(err)
	}
	nodes := make([]*Server, len(c.Nodes))
	for i, r := range c.Nodes {
		nodes[i] = &Server{Addr: r.Addr, t: t, r: r}
	}
	return nodes
}

// newLab makes a lab that ends with the test.
func newLab(t testing.TB) *lab.Lab {
	t.Helper()
	l, err := lab.New(lab.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// URL returns the server's URL.
func (s *Server) URL() string { return s.r.URL() }

// Kill ends the process at once, as kill -9 does.
func (s *Server) Kill() { s.must(s.r.Kill()) }

// Restart starts the server anew on the data that it left.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := s.r.Restart(ctx); err != nil {
		t.Fatal(err)
	}
}

// Pause stops the process, connections open, until Continue.
func (s *Server) Pause() { s.must(s.r.Pause()) }

// Continue undoes Pause.
func (s *Server) Continue() { s.must(s.r.Continue()) }

func (s *Server) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Error(err)
	}
}

// Do sends a command and returns the reply. An error reply fails the test.
func (s *Server) Do(t testing.TB, args ...string) rueidis.RedisResult {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	reply, err := s.r.Do(ctx, args...)
	if err != nil {
		t.Fatal(err)
	}
	return reply
}

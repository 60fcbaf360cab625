//go:build unix

// Package pgtest runs real PostgreSQL servers for tests: on loopback, in a
// folder of their own, with nothing left behind.
package pgtest

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/veltrix/cairn/internal/lab"
)

// A Server is a PostgreSQL server with one superuser, cairn, and one database,
// cairn, and no password. Its methods fail the test that calls them.
type Server struct {
	lab     *lab.Lab
	server  *lab.Postgres
	schemas atomic.Int64
}

// Start starts a server for one test, which stops it. A durable one syncs to
// disk, as in production; another does so only as far as a killed process
// needs, which is quicker.
func Start(t testing.TB, durable bool) *Server {
	t.Helper()
	s, err := start(durable)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.lab.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func start(durable bool) (*Server, error) {
	l, err := lab.New(lab.Options{})
	if err != nil {
		return nil, err
	}
	p, err := l.StartPostgres(context.Background(), "postgres", lab.PostgresOptions{Durable: durable})
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return &Server{lab: l, server: p}, nil
}

var shared struct {
	mu sync.Mutex
	s  *Server
}

// Shared returns the server that all tests of a package share, and starts it
// if it is the first to ask. TestMain must call StopShared.
func Shared(t testing.TB) *Server {
	t.Helper()
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.s == nil {
		s, err := start(false)
		if err != nil {
			t.Fatal(err)
		}
		shared.s = s
	}
	return shared.s
}

// StopShared stops the shared server, if there is one.
func StopShared() {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.s != nil {
		_ = shared.s.lab.Close() // what it leaves is in a folder for temporary files
		shared.s = nil
	}
}

// Addr returns where the server listens.
func (s *Server) Addr() string { return s.server.Addr }

// Schema makes a schema and returns the dsn of it: as good as a database of
// its own, and made in no time.
func (s *Server) Schema(t testing.TB) string {
	t.Helper()
	name := "t" + strconv.FormatInt(s.schemas.Add(1), 10)
	s.Exec(t, "CREATE SCHEMA "+name)
	return s.server.DSN() + "?search_path=" + name
}

// Exec executes SQL as the superuser.
func (s *Server) Exec(t testing.TB, sql string) {
	t.Helper()
	if err := s.server.Exec(context.Background(), sql); err != nil {
		t.Fatal(err)
	}
}

// Kill ends the server and all that it started, as kill -9 does.
func (s *Server) Kill() {
	if err := s.server.Kill(); err != nil {
		panic(err) // it is our own process: we may
	}
}

// Start starts a server anew that was killed, on the same port and data.
func (s *Server) Start(t testing.TB) {
	t.Helper()
	if err := s.server.Restart(context.Background()); err != nil {
		t.Fatal(err)
	}
}

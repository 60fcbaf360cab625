//go:build unix

package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestPostgres: what was committed is there after a kill -9 and after either
// kind of stop.
func TestPostgres(t *testing.T) {
	ctx := t.Context()
	l := newLab(t)
	p, err := l.StartPostgres(ctx, "postgres", PostgresOptions{})
	must(t, err)
	must(t, p.Exec(ctx, "CREATE TABLE kept (x BIGINT); INSERT INTO kept VALUES (7)"))
	for name, end := range map[string]func() error{
		"kill":             p.Kill,
		"stop":             func() error { return p.Stop(ctx) },
		"stop immediately": func() error { return p.StopImmediately(ctx) },
		"stop while it is paused": func() error {
			must(t, p.Pause())
			return p.Stop(ctx)
		},
	} {
		if err := end(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if p.Running() || p.Exec(ctx, "SELECT 1") == nil {
			t.Errorf("%s: it runs still", name)
		}
		must(t, p.Restart(ctx))
		must(t, p.Exec(ctx, "SELECT 1 / (SELECT count(*) FROM kept)"))
	}
}

// TestFollower: what is committed comes to a follower, which takes no writes of
// its own, also after a kill -9.
func TestFollower(t *testing.T) {
	ctx := t.Context()
	l := newLab(t)
	p, err := l.StartPostgres(ctx, "primary", PostgresOptions{})
	must(t, err)
	must(t, p.Exec(ctx, "CREATE TABLE copied (x BIGINT)"))
	f, err := l.StartFollower(ctx, "follower", p)
	must(t, err)
	for n := range 2 {
		must(t, p.Exec(ctx, "INSERT INTO copied VALUES (7)"))
		must(t, f.until(ctx, "got the row", func() (bool, error) {
			return f.Exec(ctx, fmt.Sprintf("SELECT 1 / (count(*) - %d) FROM copied", n)) == nil, nil
		}))
		if err := f.Exec(ctx, "INSERT INTO copied VALUES (8)"); err == nil || !strings.Contains(err.Error(), "read-only") {
			t.Errorf("a write to the follower: %v; want it refused", err)
		}
		must(t, f.Restart(ctx))
	}
}

// TestPostgresBin: the newest are taken, and without any the error says what to
// install.
func TestPostgresBin(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir)
	if _, err := postgresBin(dir); err == nil || !strings.Contains(err.Error(), "scripts/setup.sh postgres") {
		t.Errorf("no PostgreSQL: %v, want what to install", err)
	}
	for _, version := range []string{"9", "15", "13"} {
		bin := filepath.Join(dir, version, "bin")
		must(t, os.MkdirAll(bin, 0o755))
		must(t, os.WriteFile(filepath.Join(bin, "initdb"), nil, 0o755))
	}
	if got, err := postgresBin(dir); err != nil || got != filepath.Join(dir, "15", "bin") {
		t.Errorf("postgresBin: %s, %v; want that of 15", got, err)
	}
}

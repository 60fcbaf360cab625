package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/veltrix/cairn/internal/ledger/pgtest"
)

// TestPostgres plays with the ledger in PostgreSQL. The server is killed while
// claims go on: the game does not mind, /readyz tells, and all is paid once it
// is back. cairn verify finds the books whole, and a row altered or dropped.
func TestPostgres(t *testing.T) {
	server := pgtest.Start(t, false)
	dsn := server.Schema(t)
	data := filepath.Join(t.TempDir(), "data")
	p := up(t, data, "--hunt", write(t, "race.yaml", raceHunt), "--ledger", dsn)
	_, token := p.signIn("ana")
	m := p.call("GET", "/v1/hunts/race/maps/current", "", "")
	if len(m.Tiles) == 0 {
		t.Fatalf("no map is open: %+v; it said: %s", m, p.stderr.String())
	}
	var offset string
	claim := func(first, end int) {
		t.Helper()
		for _, tile := range m.Tiles[first:end] {
			a := p.call("POST", "/v1/hunts/race/claims", token, fmt.Sprintf(`{"map":%d,"tile":%d}`, m.Tick, tile.Index))
			if offset = a.Offset; a.Status != http.StatusOK {
				t.Fatalf("claim: got %+v, want 200", a)
			}
		}
	}
	paid := func(n int) {
		t.Helper()
		p.until("paid", func() bool {
			a := p.call("GET", "/v1/players/me/rewards?limit=100", token, "")
			return a.Status == http.StatusOK && len(a.Rewards) == n
		})
	}
	claim(0, 10)
	paid(10)
	server.Kill()
	claim(10, len(m.Tiles))
	p.until("telling that the ledger is behind", func() bool {
		status, body := p.readyz()
		return status == http.StatusOK && strings.Contains(body, "records behind; transactions fail")
	})
	server.Start(t)
	paid(len(m.Tiles))
	p.until("telling that all is well", func() bool {
		_, body := p.readyz()
		return !strings.Contains(body, "records behind")
	})
	p.interrupt()
	if _, err := os.Stat(filepath.Join(data, ledgerFile)); !os.IsNotExist(err) {
		t.Errorf("%s: %v; want none", ledgerFile, err)
	}

	shard, rest, _ := strings.Cut(offset, "/")
	record, _, _ := strings.Cut(rest, "/")
	last := fmt.Sprintf(" WHERE shard = %s AND epoch || '-' || seq = '%s'", shard, record)
	for _, c := range []struct {
		name, damage string
		code         int
		want         string
	}{
		{"none", "SELECT 1", exitDone, fmt.Sprintf("%d entries", len(m.Tiles))},
		{"altered", "UPDATE entries SET reward = reward + 1" + last, exitFailed, offset},
		{"dropped", "DELETE FROM entries" + last, exitFailed, offset},
	} {
		execute(t, dsn, c.damage)
		if code, out := verifyWith(t, data, dsn); code != c.code || !strings.Contains(out, c.want) {
			t.Errorf("%s: verify: exit code %d, want %d and %q:\n%s", c.name, code, c.code, c.want, out)
		}
	}
	// A server that is not there breaks no invariant.
	server.Kill()
	if code, out := verifyWith(t, data, dsn); code != exitFailed || strings.Contains(out, "VIOLATION") || !strings.Contains(out, "--ledger:") {
		t.Errorf("verify without its server: exit code %d, want %d and why:\n%s", code, exitFailed, out)
	}
}

func execute(t *testing.T, dsn, sql string) {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(context.Background(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// verifyWith runs cairn verify; the dsn comes from the environment, as a
// service would have it.
func verifyWith(t *testing.T, data, dsn string) (code int, out string) {
	t.Helper()
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, "verify", "--data", data)
	cmd.Env = append(os.Environ(), "CAIRN_LEDGER="+dsn)
	b, _ := cmd.CombinedOutput()
	return cmd.ProcessState.ExitCode(), string(b)
}

func (p *process) readyz() (status int, body string) {
	p.t.Helper()
	resp, err := http.Get(p.admin + "/readyz")
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// TestLedgerFlag: what is no database is refused before anything is made, and
// no password is printed.
func TestLedgerFlag(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	if err := os.MkdirAll(filepath.Join(data, logDir), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, dsn := range []string{"mysql://u:secret@h/db", "postgres", "postgres://u:secret@h:port/db", "sqlite:"} {
		for _, cmd := range []string{"up", "verify"} {
			code, _, stderr := cairnCmd(t, cmd, "--data", data, "--ledger", dsn)
			if code != exitUsage || !strings.Contains(stderr, "--ledger: ") || strings.Contains(stderr, "secret") {
				t.Errorf("%s --ledger %s: exit code %d, said %q; want %d and why", cmd, dsn, code, stderr, exitUsage)
			}
		}
	}
}

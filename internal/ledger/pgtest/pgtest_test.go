//go:build unix

package pgtest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestKill: what was committed is there after a kill -9, and nothing of the
// server after its end.
func TestKill(t *testing.T) {
	s, err := create(false)
	if err != nil {
		t.Fatal(err)
	}
	defer s.remove()
	s.Start(t)
	s.Exec(t, "CREATE TABLE kept (x BIGINT); INSERT INTO kept VALUES (7)")
	for range 2 {
		s.Kill()
		s.Start(t)
		s.Exec(t, "SELECT 1 / (SELECT count(*) FROM kept)")
	}
	s.remove()
	if _, err := os.Stat(s.dir); !os.IsNotExist(err) {
		t.Errorf("the folder is still there: %v", err)
	}
}

// TestBinaries: the newest are taken, and without any the error says what to
// install.
func TestBinaries(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir)
	if _, err := binaries(dir); err == nil || !strings.Contains(err.Error(), "scripts/setup.sh postgres") {
		t.Errorf("no PostgreSQL: %v, want what to install", err)
	}
	for _, version := range []string{"9", "15", "13"} {
		bin := filepath.Join(dir, version, "bin")
		if err := os.MkdirAll(bin, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(bin, "initdb"), nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := binaries(dir); err != nil || got != filepath.Join(dir, "15", "bin") {
		t.Errorf("binaries: %s, %v; want those of 15", got, err)
	}
}

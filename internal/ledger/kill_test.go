package ledger

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/veltrix/cairn/internal/eventlog/filelog"
)

const (
	childEnv = "CAIRN_LEDGER_TEST_CHILD"
	childDSN = "CAIRN_LEDGER_TEST_DSN"
)

// child settles the logs under dir until it is killed.
func child(dir, dsn string) int {
	store, err := filelog.Open(filepath.Join(dir, "log"), filelog.Options{})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	l, err := Open(context.Background(), dsn, Options{CommitEvery: time.Microsecond, RowsMax: 20})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if err := l.Run(context.Background(), store); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	return 1
}

// TestKill9 kills a settling process over and over; the books are right each
// time, as far as they go, and whole in the end.
func TestKill9(t *testing.T) { each(t, testKill9) }

func testKill9(t *testing.T, b backend) {
	const shards = 4
	dir := t.TempDir()
	store := openStore(t, filepath.Join(dir, "log"))
	provisionIn(t, store, shards)
	newHistory(t, store, 9).some(shards, 600)
	whole := int64(len(foldLogs(t, store, shards).Rows))
	store.Close()
	dsn := b.fresh(t)

	kills, last := 0, int64(0)
	for done := false; !done; {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childEnv+"="+dir, childDSN+"="+dsn)
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		watch := openLedger(t, dsn, fast) // makes the file, or recovers it
		entries := func() int64 {
			totals, err := watch.Totals(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return totals.Entries
		}
		enough := min(whole, last+1+whole/20)
		eventually(t, "the child settles", func() bool { return entries() >= enough })
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		cmd.Wait()
		kills++
		last = entries()
		checkSums(t, watch)
		done = last == whole
		watch.Close()
	}
	if kills < 5 {
		t.Errorf("killed %d times only", kills)
	}
	store = openStore(t, filepath.Join(dir, "log"))
	l := openLedger(t, dsn, fast)
	start(t, l, store)
	eventually(t, "all settled", func() bool { return settled(t, l, store, shards) })
	checkBooks(t, l, store, shards)
}

// checkSums holds the ledger's sums against each other: there is no log that
// can be read while a process has it.
func checkSums(t *testing.T, l *Ledger) {
	t.Helper()
	b := readBooks(t, l)
	var rows, shards, players balance
	for _, r := range b.Rows {
		rows.entries++
		rows.total += r.Reward
	}
	for _, s := range b.Shards {
		shards.entries += s.Entries
		shards.total += s.Rewards
	}
	for _, p := range b.Balances {
		players.entries += p.entries
		players.total += p.total
	}
	if rows != shards || rows != players {
		t.Fatalf("after a kill: entries %+v, offsets %+v, balances %+v; want them equal", rows, shards, players)
	}
}

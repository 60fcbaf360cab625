package ledger

import (
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/veltrix/cairn"
)

// fill settles a history and returns its ledger.
func fill(t *testing.T, b backend, seed uint64, shards, records int) (*Ledger, *history, func()) {
	t.Helper()
	store := provision(t, shards)
	h := newHistory(t, store, seed)
	h.some(shards, records)
	l := openLedger(t, b.fresh(t), fast)
	stop := start(t, l, store)
	eventually(t, "all settled", func() bool { return settled(t, l, store, shards) })
	return l, h, stop
}

// pages reads all of a player's rewards, and calls between after each page.
func pages(t *testing.T, l *Ledger, player cairn.PlayerID, limit int, between func()) []Entry {
	t.Helper()
	var all []Entry
	cursor := ""
	for {
		entries, next, err := l.Rewards(t.Context(), player, cursor, limit)
		if err != nil {
			t.Fatal(err)
		}
		if len(entries) > limit || len(entries) == 0 && (next != "" || cursor != "") {
			t.Fatalf("page of %d entries with limit %d and next %q", len(entries), limit, next)
		}
		all = append(all, entries...)
		if next == "" {
			return all
		}
		cursor = next
		between()
	}
}

func TestRewardsPages(t *testing.T) { each(t, testRewardsPages) }

func testRewardsPages(t *testing.T, b backend) {
	l, h, _ := fill(t, b, 10, 3, 40)
	want := map[cairn.PlayerID][]Row{}
	for _, r := range foldLogs(t, h.store, 3).Rows {
		want[r.Player] = append(want[r.Player], r)
	}
	for player, rows := range want {
		slices.SortFunc(rows, func(a, b Row) int { return int(b.At - a.At) })
		all := pages(t, l, player, 7, func() {})
		if len(all) != len(rows) {
			t.Fatalf("%s: %d entries in pages, want %d", player, len(all), len(rows))
		}
		seen := map[string]bool{}
		for i, e := range all {
			if e.At != rows[i].At || seen[e.Offset] {
				t.Errorf("%s: entry %d is at %v (seen before: %v), want %v", player, i, e.At, seen[e.Offset], rows[i].At)
			}
			seen[e.Offset] = true
			if e.State != Settled || e.Hunt != "oslo-winter" || len(e.Geohash) != 7 {
				t.Errorf("%s: entry %d is %+v", player, i, e)
			}
		}
		if one, next, err := l.Rewards(t.Context(), player, "", PageMax+1000); err != nil || next != "" || cmp.Diff(one, all) != "" {
			t.Errorf("%s: one page of all: %d entries, next %q, %v; want the same %d", player, len(one), next, err, len(all))
		}
	}
	if none, next, err := l.Rewards(t.Context(), "nobody", "", 0); none == nil || len(none) != 0 || next != "" || err != nil {
		t.Errorf("Rewards of nobody: %v, %q, %v; want an empty page", none, next, err)
	}
}

// TestRewardsStable: entries that come while a reader pages neither repeat nor
// hide any that were there.
func TestRewardsStable(t *testing.T) { each(t, testRewardsStable) }

func testRewardsStable(t *testing.T, b backend) {
	const player = "p07"
	l, h, _ := fill(t, b, 11, 2, 60)
	before := pages(t, l, player, PageMax, func() {})
	during := pages(t, l, player, 5, func() {
		h.some(2, 3)
		eventually(t, "all settled", func() bool { return settled(t, l, h.store, 2) })
	})
	if d := cmp.Diff(before, during); d != "" || len(before) < 10 {
		t.Errorf("pages changed while entries came, of %d (-before +during):\n%s", len(before), d)
	}
	if after := pages(t, l, player, 5, func() {}); len(after) <= len(before) || cmp.Diff(after[len(after)-len(before):], before) != "" {
		t.Errorf("afterwards %d entries do not end with the %d from before", len(after), len(before))
	}
}

// TestRewardsIndexed: a page is read from the index alone, without a sort.
func TestRewardsIndexed(t *testing.T) {
	for _, c := range []struct {
		b                   backend
		set, explain, index string
		never               string
	}{
		{backends[0], "SELECT 1", "EXPLAIN QUERY PLAN ", "USING INDEX entries_player (player=? AND (at,", "B-TREE"},
		// It would not bother with an index on so few rows.
		{backends[1], "SET LOCAL enable_seqscan = off", "EXPLAIN ", "Index Scan Backward using entries_player", "Sort"},
	} {
		t.Run(c.b.name, func(t *testing.T) {
			l, _, _ := fill(t, c.b, 12, 1, 5)
			tx, err := l.read.BeginTx(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer tx.Rollback()
			if _, err := tx.ExecContext(t.Context(), c.set); err != nil {
				t.Fatal(err)
			}
			rows, err := tx.QueryContext(t.Context(), c.explain+pageQuery(true), "p", 1, "h", 1, 1, 10)
			if err != nil {
				t.Fatal(err)
			}
			got := lastColumns(t, rows)
			if !strings.Contains(got, c.index) || strings.Contains(got, c.never) {
				t.Errorf("plan:\n%s\nwant one with %q and without %q", got, c.index, c.never)
			}
		})
	}
}

// lastColumns returns what a query's last column says, a line a row.
func lastColumns(t *testing.T, rows *sql.Rows) string {
	t.Helper()
	defer rows.Close()
	names, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for rows.Next() {
		var last string
		to := make([]any, len(names))
		for i := range to {
			to[i] = new(any)
		}
		to[len(to)-1] = &last
		if err := rows.Scan(to...); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, last)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return strings.Join(lines, "\n")
}

func TestEntryJSON(t *testing.T) {
	e := Entry{"oslo-winter", 17, 4, "u4xsudh", 250, 1_760_000_000_123_456, "7/3-15/4", Settled}
	got, err := json.Marshal(e)
	want := `{"hunt":"oslo-winter","map":17,"tile":4,"geohash":"u4xsudh","reward":250,"at":"2025-10-09T08:53:20.123Z","offset":"7/3-15/4","state":"settled"}`
	if err != nil || string(got) != want {
		t.Errorf("JSON of an entry: %s, %v; want %s", got, err, want)
	}
}

func TestBadCursors(t *testing.T) {
	l, _, _ := fill(t, backends[0], 13, 1, 30)
	_, good, err := l.Rewards(t.Context(), "p01", "", 1)
	if err != nil || good == "" {
		t.Fatalf("no cursor: %q, %v", good, err)
	}
	raw, _ := base64.RawURLEncoding.DecodeString(good)
	enc := base64.RawURLEncoding.EncodeToString
	for name, c := range map[string]string{
		"not base64":         "%%%",
		"padded":             good + "=",
		"cut":                good[:len(good)/3],
		"a space":            good + " ",
		"another version":    enc(append([]byte{2}, raw[1:]...)),
		"version alone":      enc([]byte{1}),
		"no hunt":            cursor{at: 5}.String(),
		"hunt with a space":  cursor{5, cairn.TileRef{Hunt: "a b"}}.String(),
		"hunt with a zero":   enc(append(slices.Clone(raw), 0)),
		"tile too large":     enc([]byte{1, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x7f, 'a'}),
		"overlong varint":    enc([]byte{1, 0x80, 0x00, 0, 0, 'a'}),
		"endless varint":     enc([]byte{1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}),
		"SQL":                "' OR 1=1 --",
		"very long":          strings.Repeat("A", 100_000),
		"a place of the log": "7/3-15/4",
	} {
		if e, next, err := l.Rewards(t.Context(), "p01", c, 10); !errors.Is(err, ErrBadCursor) || e != nil || next != "" {
			t.Errorf("%s: %d entries, %v; want %v", name, len(e), err, ErrBadCursor)
		}
	}
	for _, c := range []cursor{
		{0, cairn.TileRef{Hunt: "a"}},
		{math.MaxInt64, cairn.TileRef{Hunt: "z", Tick: math.MaxInt64, Tile: math.MaxUint32}},
		{math.MinInt64, cairn.TileRef{Hunt: "0", Tick: math.MinInt64}},
	} {
		if got, err := parseCursor(c.String()); got != c || err != nil {
			t.Errorf("cursor %+v: %+v, %v after a round trip", c, got, err)
		}
	}
}

func FuzzCursor(f *testing.F) {
	f.Add(cursor{5, cairn.TileRef{Hunt: "oslo", Tick: 9, Tile: 3}}.String())
	f.Add("")
	f.Fuzz(func(t *testing.T, s string) {
		c, err := parseCursor(s)
		if err == nil && c.String() != s {
			t.Errorf("cursor %q reads as %+v, which is %q", s, c, c.String())
		}
		if err != nil && !errors.Is(err, ErrBadCursor) {
			t.Errorf("cursor %q: %v", s, err)
		}
	})
}

func TestOpenErrors(t *testing.T) {
	dir := t.TempDir()
	text := filepath.Join(dir, "text")
	if err := os.WriteFile(text, []byte(strings.Repeat("this is not a database ", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, dsn string
		opts      Options
		want      string
	}{
		{"empty", "", Options{}, "want sqlite:PATH"},
		{"no path", "sqlite:", Options{}, "want sqlite:PATH"},
		{"another database", "mysql://u:secret@h/db", Options{}, "want sqlite:PATH"},
		{"not a URL", "postgres:secret", Options{}, "want sqlite:PATH"},
		{"no folder", "sqlite:" + filepath.Join(dir, "none", "x.db"), Options{}, "unable to open"},
		{"not there", "sqlite:" + filepath.Join(dir, "x.db"), Options{ReadOnly: true}, "no such file"},
		{"not a database", "sqlite:" + text, Options{}, "not a database"},
		{"not a database, read-only", "sqlite:" + text, Options{ReadOnly: true}, "not a database"},
	} {
		l, err := Open(t.Context(), c.dsn, c.opts)
		if err == nil {
			l.Close()
			t.Errorf("%s: no error", c.name)
			continue
		}
		if !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v; want one with %q", c.name, err, c.want)
		}
	}
	// A newer program's schema is refused.
	l := openLedger(t, "sqlite:"+filepath.Join(dir, "new.db"), Options{})
	if _, err := l.write.Exec(`INSERT INTO goose_db_version (version_id, is_applied) VALUES (999, 1)`); err != nil {
		t.Fatal(err)
	}
	l.Close()
	if _, err := Open(t.Context(), "sqlite:"+l.name, Options{ReadOnly: true}); err == nil || !strings.Contains(err.Error(), "version 999") {
		t.Errorf("a newer schema: %v", err)
	}
}

// TestPaths: a path is a path, whatever characters it has.
func TestPaths(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a b?mode=memory#%41&ø.db")
	openLedger(t, "sqlite:"+path, Options{}).Close()
	if _, err := os.Stat(path); err != nil {
		t.Fatal(err)
	}
	openLedger(t, "sqlite:"+path, Options{ReadOnly: true})
}

// TestReadOnly: reading changes nothing in the folder, after a clean end and
// after one that left the write-ahead log behind.
func TestReadOnly(t *testing.T) {
	l, h, stop := fill(t, backends[0], 14, 2, 20)
	stop()
	want := foldLogs(t, h.store, 2)
	crashed := t.TempDir()
	for _, suffix := range []string{"", "-wal"} { // as a crash would leave them
		b, err := os.ReadFile(l.name + suffix)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(crashed, "ledger.db"+suffix), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l.Close()
	for name, path := range map[string]string{"clean": l.name, "crashed": filepath.Join(crashed, "ledger.db")} {
		before := folder(t, filepath.Dir(path))
		r := openLedger(t, "sqlite:"+path, Options{ReadOnly: true})
		if d := cmp.Diff(want, readBooks(t, r), cmp.AllowUnexported(balance{})); d != "" {
			t.Errorf("%s: read-only ledger differs (-want +got):\n%s", name, d)
		}
		if err := r.Run(t.Context(), h.store); !errors.Is(err, ErrReadOnly) {
			t.Errorf("%s: Run: %v, want %v", name, err, ErrReadOnly)
		}
		if r.Lag() != 0 || r.Ready() == nil {
			t.Errorf("%s: lag %d, ready %v", name, r.Lag(), r.Ready())
		}
		r.Close()
		after := folder(t, filepath.Dir(path))
		for f := range after {
			if strings.HasSuffix(f, "-shm") { // an index of the -wal, made to read it
				delete(after, f)
			}
		}
		if d := cmp.Diff(before, after); d != "" {
			t.Errorf("%s: the folder changed (-before +after):\n%s", name, d)
		}
	}
}

// folder returns what its files hold.
func folder(t *testing.T, dir string) map[string]string {
	t.Helper()
	m := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		m[d.Name()] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

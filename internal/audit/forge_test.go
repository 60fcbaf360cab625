package audit

import (
	"bytes"
	"database/sql"
	"encoding/binary"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"

	"github.com/veltrix/cairn/internal/eventlog"
)

// These read and write a folder of filelog beneath it, in its format
// (filelog/codec.go), as somebody would who wants to alter what is stored.

// forge rewrites the records of a log as edit returns them. With relink each
// gets the chain hash that belongs to it, and the log's head the newest's.
func (w *world) forge(log eventlog.Name, relink bool, edit func([]eventlog.Record) []eventlog.Record) {
	w.t.Helper()
	db, err := pebble.Open(w.logs(), &pebble.Options{FormatMajorVersion: pebble.FormatNewest, Logger: quiet{}})
	if err != nil {
		w.t.Fatal(err)
	}
	recs := edit(readAll(w.t, db, log))
	b := db.NewBatch()
	prefix := append([]byte("r"+string(log)), 0)
	check(w.t, b.DeleteRange(prefix, append([]byte("r"+string(log)), 1), nil))
	var chain eventlog.Chain
	for i := range recs {
		r := &recs[i]
		if relink {
			if i > 0 {
				r.Prev = recs[i-1].Offset
			}
			r.Chain = eventlog.NextChain(chain, r)
		}
		chain = r.Chain
		v := append([]byte{1, byte(r.Kind)}, r.Nonce[:]...)
		v = append(v, r.Chain[:]...)
		for _, o := range []eventlog.Offset{r.Prev, r.Mark, r.From} {
			v = appendOffset(v, o)
		}
		check(w.t, b.Set(appendOffset(bytes.Clone(prefix), r.Offset), append(v, r.Body...), nil))
	}
	if relink {
		last := recs[len(recs)-1]
		h := append([]byte{1, 0}, recs[0].Body...)
		h = append(appendOffset(h, last.Offset), last.Chain[:]...)
		check(w.t, b.Set([]byte("h"+string(log)), h, nil))
	}
	check(w.t, b.Commit(pebble.Sync))
	check(w.t, db.Close())
}

func readAll(t testing.TB, db *pebble.DB, log eventlog.Name) (recs []eventlog.Record) {
	t.Helper()
	it, err := db.NewIter(&pebble.IterOptions{
		LowerBound: append([]byte("r"+string(log)), 0),
		UpperBound: append([]byte("r"+string(log)), 1),
	})
	check(t, err)
	defer it.Close()
	for ok := it.First(); ok; ok = it.Next() {
		k, v := it.Key(), bytes.Clone(it.Value())
		recs = append(recs, eventlog.Record{
			Offset: offsetAt(k[len(k)-16:]),
			Kind:   eventlog.Kind(v[1]), Nonce: eventlog.Nonce(v[2:10]), Chain: eventlog.Chain(v[10:26]),
			Prev: offsetAt(v[26:]), Mark: offsetAt(v[42:]), From: offsetAt(v[58:]), Body: v[74:],
		})
	}
	if len(recs) < 3 {
		t.Fatalf("log %s has %d records", log, len(recs))
	}
	return recs
}

func appendOffset(b []byte, o eventlog.Offset) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(b, o.Epoch), o.Seq)
}

func offsetAt(b []byte) eventlog.Offset {
	return eventlog.Offset{Epoch: binary.BigEndian.Uint64(b), Seq: binary.BigEndian.Uint64(b[8:])}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

type quiet struct{}

func (quiet) Infof(string, ...any)              {}
func (quiet) Errorf(string, ...any)             {}
func (quiet) Fatalf(format string, args ...any) { panic(format) }

// sql changes the ledger's rows: exactly one, or the test is wrong.
func (w *world) sql(query string, args ...any) {
	w.t.Helper()
	driver, name := "sqlite", "file:"+w.ledger()
	if w.dsn != "" {
		driver, name = "pgx", w.dsn
		query = blobs.ReplaceAllString(query, `'\x$1'`)
		for i := range args {
			query = strings.Replace(query, "?", fmt.Sprintf("$%d", i+1), 1)
		}
	}
	db, err := sql.Open(driver, name)
	check(w.t, err)
	defer db.Close()
	res, err := db.Exec(query, args...)
	check(w.t, err)
	if n, err := res.RowsAffected(); n != 1 || err != nil {
		w.t.Fatalf("%s: %d rows, %v; want 1", query, n, err)
	}
}

// blobs are SQLite's; PostgreSQL writes them in its own way.
var blobs = regexp.MustCompile(`x'([0-9a-f]*)'`)

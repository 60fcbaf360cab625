package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/veltrix/cairn"
)

// batch is the records of one shard that go into one transaction.
type batch struct {
	shard   int
	from    position // settled before
	to      position // the last record
	records []record
	claims  int
}

// total returns Σ of the rewards of all claims of b.
func (b *batch) total() (t cairn.Micro) {
	for i := range b.records {
		for j := range b.records[i].claims {
			t += b.records[i].claims[j].Reward
		}
	}
	return t
}

// counts are what a transaction did.
type counts struct{ entries, conflicts int }

// errStale reports that a shard's offset was not where this process left it:
// another worker settled it, or a commit of ours whose answer was lost did
// land. Nothing was written.
type errStale struct{ shard int }

func (e *errStale) Error() string { return fmt.Sprintf("shard %d's offset has moved", e.shard) }

// settle writes the whole queue, at most RowsMax claims (or one record) a
// transaction.
func (s *settler) settle(ctx context.Context) {
	for len(s.queue) > 0 && ctx.Err() == nil {
		batches := s.take()
		var n counts
		var stale *errStale
		ok := s.retry(ctx, "transaction", func() (err error) {
			begun := s.opts.Now()
			ctx, done := s.bounded(ctx)
			defer done()
			n, err = s.writer.commit(ctx, s.write, batches)
			if err == nil {
				s.metrics.commits.Observe(s.opts.Now().Sub(begun).Seconds())
			}
			if errors.As(err, &stale) {
				return nil
			}
			return err
		})
		if !ok {
			s.again(batches) // it may have been committed, or not
			return
		}
		if stale != nil {
			s.metrics.stale.Inc()
			s.opts.Log.Info("ledger: another worker or a lost answer; reading on from the database", "shard", stale.shard)
			s.again(batches)
			continue
		}
		s.metrics.entries.Add(float64(n.entries))
		s.metrics.conflicts.Add(float64(n.conflicts))
		for _, b := range batches {
			sh := s.shards[b.shard]
			sh.at = b.to
			sh.addUnsettled(-owed(b.records))
		}
	}
}

// take removes the next transaction's batches from the queue, by shard.
func (s *settler) take() []batch {
	var bs []batch
	left := s.opts.RowsMax
	for _, id := range slices.Sorted(maps.Keys(s.queue)) {
		if left <= 0 {
			break
		}
		recs := s.queue[id]
		n, claims := 0, 0
		for n < len(recs) && claims < left {
			claims += len(recs[n].claims)
			n++
		}
		bs = append(bs, batch{id, s.shards[id].at, position{recs[n-1].offset, recs[n-1].chain}, recs[:n:n], claims})
		left -= claims
		s.rows -= claims
		if n == len(recs) {
			delete(s.queue, id)
		} else {
			s.queue[id] = recs[n:]
		}
	}
	return bs
}

// A writer writes batches. It keeps what it needs between transactions.
type writer struct {
	bulk     bulk
	rows     []Row
	balances map[cairn.PlayerID]*balance
}

type balance struct {
	entries int64
	total   cairn.Micro
}

// commit writes batches in one transaction. After an error that is not
// errStale the transaction may have been committed nevertheless, or be so
// yet; the offsets then make the next try stale.
func (w *writer) commit(ctx context.Context, db *sql.DB, batches []batch) (n counts, err error) {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return n, err
	}
	defer func() {
		if err != nil {
			_ = tx.Rollback()
		}
	}()
	if err := w.bulk.advance(ctx, tx, batches); err != nil {
		return n, err
	}
	w.rows = appendRows(w.rows[:0], batches)
	lost, err := w.bulk.insert(ctx, tx, w.rows)
	if err != nil {
		return n, err
	}
	if err := takeBack(ctx, tx, w.rows, lost); err != nil {
		return n, err
	}
	if err := w.credit(ctx, tx, lost); err != nil {
		return n, err
	}
	return counts{len(w.rows) - len(lost), len(lost)}, tx.Commit()
}

// appendRows appends the claims of batches as entries, in the logs' order.
func appendRows(rows []Row, batches []batch) []Row {
	for i := range batches {
		b := &batches[i]
		for j := range b.records {
			r := &b.records[j]
			for k := range r.claims {
				c := &r.claims[k]
				rows = append(rows, Row{
					TileRef: c.TileRef, Geohash: c.Cell.String(), Reward: c.Reward, Player: c.Player, Name: c.Name, At: c.At,
					Place: cairn.Place{Shard: b.shard, Epoch: r.offset.Epoch, Seq: r.offset.Seq, Index: k},
				})
			}
		}
	}
	return rows
}

// checkLost holds how many of rows were inserted against how many are another's.
func checkLost(rows, inserted, lost int) error {
	if inserted+lost != rows {
		return fmt.Errorf("of %d rows %d were inserted, and %d stand", rows, inserted, rows-lost)
	}
	return nil
}

// takeBack takes the claims that were not paid out of their shards' sums.
func takeBack(ctx context.Context, tx *sql.Tx, rows []Row, lost []int) error {
	for first := 0; first < len(lost); {
		shard, total, n := rows[lost[first]].Place.Shard, cairn.Micro(0), 0
		for _, i := range lost[first:] {
			if rows[i].Place.Shard != shard {
				break
			}
			total += rows[i].Reward
			n++
		}
		_, err := tx.ExecContext(ctx, `UPDATE offsets SET entries = entries - $1, total = total - $2, conflicts = conflicts + $1 WHERE shard = $3`,
			n, int64(total), shard)
		if err != nil {
			return err
		}
		first += n
	}
	return nil
}

// credit adds what the transaction paid to the balances.
func (w *writer) credit(ctx context.Context, tx *sql.Tx, lost []int) error {
	w.balances = map[cairn.PlayerID]*balance{}
	for i := range w.rows {
		if len(lost) > 0 && lost[0] == i {
			lost = lost[1:]
			continue
		}
		b := w.balances[w.rows[i].Player]
		if b == nil {
			b = new(balance)
			w.balances[w.rows[i].Player] = b
		}
		b.entries++
		b.total += w.rows[i].Reward
	}
	if len(w.balances) == 0 {
		return nil
	}
	players := slices.Sorted(maps.Keys(w.balances))
	by := make([]*balance, len(players))
	for i, p := range players {
		by[i] = w.balances[p]
	}
	return w.bulk.credit(ctx, tx, players, by)
}

package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

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
			return
		}
		if stale != nil {
			s.metrics.stale.Inc()
			s.opts.Log.Info("ledger: another worker or a lost answer; reading on from the database", "shard", stale.shard)
			var again []*shard
			for _, b := range batches {
				again = append(again, s.shards[b.shard])
			}
			s.restart(ctx, again...)
			continue
		}
		s.metrics.entries.Add(float64(n.entries))
		s.metrics.conflicts.Add(float64(n.conflicts))
		for _, b := range batches {
			sh := s.shards[b.shard]
			sh.at = b.to
			sh.addUnsettled(-len(b.records))
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

// insertRows is how many rows one INSERT takes: a statement costs about as
// much as four of its rows.
const insertRows = 64

const (
	insertColumns = 12
	balanceRows   = 64
)

// A writer writes batches. It keeps what it needs between transactions.
type writer struct {
	args     []any
	balances map[cairn.PlayerID]*balance
}

type balance struct {
	entries int64
	total   cairn.Micro
}

// commit writes batches in one transaction. After an error that is not
// errStale the transaction may have been committed nevertheless; the offsets
// then make the next try stale.
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
	w.balances = map[cairn.PlayerID]*balance{}
	for i := range batches {
		b := &batches[i]
		if err := advance(ctx, tx, b); err != nil {
			return n, err
		}
		lost, lostReward, err := w.insert(ctx, tx, b)
		if err != nil {
			return n, err
		}
		n.entries += b.claims - lost
		n.conflicts += lost
		if lost > 0 {
			_, err = tx.ExecContext(ctx, `UPDATE offsets SET entries = entries - ?, total = total - ?, conflicts = conflicts + ? WHERE shard = ?`,
				lost, int64(lostReward), lost, b.shard)
			if err != nil {
				return n, err
			}
		}
	}
	if err := w.addBalances(ctx, tx); err != nil {
		return n, err
	}
	return n, tx.Commit()
}

// advance moves a shard's offset from b.from to b.to, and its sums as though
// every claim of b were paid. It goes first, so that of two workers one waits
// here and then finds the offset moved.
func advance(ctx context.Context, tx *sql.Tx, b *batch) error {
	var total cairn.Micro
	for i := range b.records {
		for j := range b.records[i].claims {
			total += b.records[i].claims[j].Reward
		}
	}
	if b.from.offset.IsZero() {
		_, err := tx.ExecContext(ctx, `INSERT INTO offsets (shard, epoch, seq, chain, entries, total, conflicts)
			VALUES (?, 0, 0, ?, 0, 0, 0) ON CONFLICT DO NOTHING`, b.shard, b.from.chain[:])
		if err != nil {
			return err
		}
	}
	res, err := tx.ExecContext(ctx, `UPDATE offsets SET epoch = ?, seq = ?, chain = ?, entries = entries + ?, total = total + ?
		WHERE shard = ? AND epoch = ? AND seq = ? AND chain = ?`,
		int64(b.to.offset.Epoch), int64(b.to.offset.Seq), b.to.chain[:], b.claims, int64(total),
		b.shard, int64(b.from.offset.Epoch), int64(b.from.offset.Seq), b.from.chain[:])
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil || n != 1 {
		return errors.Join(err, &errStale{b.shard})
	}
	return nil
}

// insert writes the claims of b as entries, the first of a tile in the log's
// order wins, and returns how many did not and Σ of their rewards.
func (w *writer) insert(ctx context.Context, tx *sql.Tx, b *batch) (lost int, lostReward cairn.Micro, err error) {
	rows := make([]Row, 0, insertRows)
	flush := func() error {
		n, reward, err := w.insertChunk(ctx, tx, rows)
		lost += n
		lostReward += reward
		rows = rows[:0]
		return err
	}
	for i := range b.records {
		r := &b.records[i]
		for j := range r.claims {
			c := &r.claims[j]
			rows = append(rows, Row{
				TileRef: c.TileRef, Geohash: c.Cell.String(), Reward: c.Reward, Player: c.Player, Name: c.Name, At: c.At,
				Place: cairn.Place{Shard: b.shard, Epoch: r.offset.Epoch, Seq: r.offset.Seq, Index: j},
			})
			if len(rows) == insertRows {
				if err := flush(); err != nil {
					return lost, lostReward, err
				}
			}
		}
	}
	if len(rows) > 0 {
		err = flush()
	}
	return lost, lostReward, err
}

// insertChunk inserts rows with one statement.
func (w *writer) insertChunk(ctx context.Context, tx *sql.Tx, rows []Row) (lost int, lostReward cairn.Micro, err error) {
	w.args = w.args[:0]
	for i := range rows {
		r := &rows[i]
		w.args = append(w.args, string(r.Hunt), int64(r.Tick), int64(r.Tile), string(r.Player), r.Name, r.Geohash, int64(r.Reward), int64(r.At),
			int64(r.Place.Shard), int64(r.Place.Epoch), int64(r.Place.Seq), int64(r.Place.Index))
	}
	res, err := tx.ExecContext(ctx, `INSERT INTO entries (hunt, map, tile, player, name, cell, reward, at, shard, epoch, seq, idx) VALUES `+
		values(len(rows), insertColumns)+` ON CONFLICT DO NOTHING`, w.args...)
	if err != nil {
		return 0, 0, err
	}
	n, err := res.RowsAffected()
	if err != nil {
		return 0, 0, err
	}
	for i := range rows {
		r := &rows[i]
		if int(n) < len(rows) {
			won, err := stands(ctx, tx, r)
			if err != nil {
				return lost, lostReward, err
			}
			if !won {
				lost++
				lostReward += r.Reward
				continue
			}
		}
		w.credit(r.Player, r.Reward)
	}
	if lost != len(rows)-int(n) {
		return lost, lostReward, fmt.Errorf("of %d rows %d were inserted, and %d stand", len(rows), n, len(rows)-lost)
	}
	return lost, lostReward, nil
}

// stands reports whether the tile's entry is r: its place is r's alone.
func stands(ctx context.Context, tx *sql.Tx, r *Row) (bool, error) {
	var p cairn.Place
	err := tx.QueryRowContext(ctx, `SELECT shard, epoch, seq, idx FROM entries WHERE hunt = ? AND map = ? AND tile = ?`,
		string(r.Hunt), int64(r.Tick), int64(r.Tile)).Scan(&p.Shard, &p.Epoch, &p.Seq, &p.Index)
	return p == r.Place, err
}

func (w *writer) credit(player cairn.PlayerID, reward cairn.Micro) {
	b := w.balances[player]
	if b == nil {
		b = new(balance)
		w.balances[player] = b
	}
	b.entries++
	b.total += reward
}

// addBalances adds what the transaction credited, by player.
func (w *writer) addBalances(ctx context.Context, tx *sql.Tx) error {
	for players := range slices.Chunk(slices.Sorted(maps.Keys(w.balances)), balanceRows) {
		w.args = w.args[:0]
		for _, p := range players {
			b := w.balances[p]
			w.args = append(w.args, string(p), b.entries, int64(b.total))
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO balances (player, entries, total) VALUES `+values(len(players), 3)+
			` ON CONFLICT (player) DO UPDATE SET entries = balances.entries + excluded.entries, total = balances.total + excluded.total`, w.args...)
		if err != nil {
			return err
		}
	}
	return nil
}

// values returns the VALUES list of n rows.
func values(n, columns int) string {
	row := "(?" + strings.Repeat(", ?", columns-1) + ")"
	return row + strings.Repeat(", "+row, n-1)
}

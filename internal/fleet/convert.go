package fleet

import (
	"math"
	"time"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/fleet/fleetpb"
)

func attemptTo(id uint64, a *cairn.Attempt, lookup bool, within time.Duration) *fleetpb.Attempt {
	return &fleetpb.Attempt{
		Id: id, Hunt: string(a.Hunt), Tick: int64(a.Tick), Tile: a.Tile, Player: string(a.Player), Name: a.Name,
		ClaimId: a.ClaimID, Answer: a.Answer, Token: a.Token, Lookup: lookup, WithinMs: millis(within),
	}
}

func attemptOf(p *fleetpb.Attempt) cairn.Attempt {
	return cairn.Attempt{
		TileRef: cairn.TileRef{Hunt: cairn.HuntID(p.Hunt), Tick: cairn.Tick(p.Tick), Tile: p.Tile},
		Player:  cairn.PlayerID(p.Player), Name: p.Name, ClaimID: p.ClaimId, Answer: p.Answer, Token: p.Token,
	}
}

func answerOf(id uint64, v *cairn.Verdict) *fleetpb.Answer {
	p := &fleetpb.Answer{
		Id: id, Outcome: uint32(v.Outcome), MarginUs: v.Margin.Microseconds(), AttemptsLeft: uint32(v.AttemptsLeft),
		OpensUs: int64(v.Opens), ClosesUs: int64(v.Closes), RetryAfterMs: millis(v.RetryAfter),
	}
	if v.Outcome == cairn.Won || v.Outcome == cairn.Gone {
		c := &v.Claim
		p.Claim = &fleetpb.Claim{
			Cell: uint64(c.Cell), Reward: int64(c.Reward), Player: string(c.Player), Name: c.Name, AtUs: int64(c.At),
			Shard: uint32(v.Place.Shard), Epoch: v.Place.Epoch, Seq: v.Place.Seq, Index: uint32(v.Place.Index),
		}
	}
	return p
}

// verdictOf is what answerOf was made of, of the tile that was asked for.
func verdictOf(p *fleetpb.Answer, ref cairn.TileRef) cairn.Verdict {
	v := cairn.Verdict{
		Outcome: cairn.Outcome(p.Outcome), Margin: time.Duration(p.MarginUs) * time.Microsecond, AttemptsLeft: int(p.AttemptsLeft),
		Opens: cairn.Instant(p.OpensUs), Closes: cairn.Instant(p.ClosesUs), RetryAfter: time.Duration(p.RetryAfterMs) * time.Millisecond,
	}
	if c := p.Claim; c != nil {
		v.Claim = cairn.Claim{
			TileRef: ref, Cell: cairn.Cell(c.Cell), Reward: cairn.Micro(c.Reward),
			Player: cairn.PlayerID(c.Player), Name: c.Name, At: cairn.Instant(c.AtUs),
		}
		v.Place = cairn.Place{Shard: int(c.Shard), Epoch: c.Epoch, Seq: c.Seq, Index: int(c.Index)}
	}
	return v
}

// millis returns d in milliseconds, rounded up: what is left never becomes
// nothing.
func millis(d time.Duration) uint32 {
	return uint32(min(max(0, d+time.Millisecond-1)/time.Millisecond, math.MaxUint32))
}

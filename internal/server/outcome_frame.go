package server

import (
	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/broadcast"
	"github.com/veltrix/cairn/internal/claim"
	"github.com/veltrix/cairn/internal/wire/livepb"
)

// appendOutcomeFrame appends what came of the claim id, as a message of a
// connection: the members of [appendOutcome] in its codec. A nil verdict is
// that of an attempt that ended in an error.
func appendOutcomeFrame(b []byte, codec broadcast.Codec, id string, v *cairn.Verdict, a *cairn.Attempt) []byte {
	if codec == broadcast.Proto {
		return appendOutcomeProto(b, id, v, a)
	}
	b = appendText(append(b, `{"type":"outcome","id":`...), id)
	b = append(b, ',')
	if v == nil {
		b = appendUndecided(b, a)
	} else {
		b = appendOutcome(b, v, a)
	}
	return append(b, '}')
}

// The numbers of live.proto's fields.
const (
	frameOutcome = 5

	outcomeID, outcomeVerdict, outcomeHunt, outcomeMap, outcomeTile, outcomeClaimID = 1, 2, 3, 4, 5, 6
	outcomeOffset, outcomeReward, outcomeAt                                         = 7, 8, 9
	outcomeWinner, outcomeWinnerName, outcomeMarginMS                               = 10, 11, 12
	outcomeAttemptsLeft, outcomeOpens, outcomeCloses, outcomeRetryAfterMS           = 13, 14, 15, 16
)

// appendOutcomeProto appends a ServerFrame. The schema has the outcomes'
// numbers.
func appendOutcomeProto(b []byte, id string, v *cairn.Verdict, a *cairn.Attempt) []byte {
	verdict := livepb.Verdict_VERDICT_UNAVAILABLE
	if v != nil {
		verdict = livepb.Verdict(v.Outcome)
	}
	b, frame := livepb.Begin(b, frameOutcome, 64)
	b = livepb.AppendString(b, outcomeID, id)
	b = livepb.AppendUint(b, outcomeVerdict, uint64(verdict))
	b = livepb.AppendString(b, outcomeHunt, a.Hunt)
	b = livepb.AppendInt(b, outcomeMap, a.Tick)
	b = livepb.AppendUint(b, outcomeTile, uint64(a.Tile))
	b = livepb.AppendString(b, outcomeClaimID, a.ClaimID)
	if v == nil {
		return frame.End(livepb.AppendInt(b, outcomeRetryAfterMS, waitMS(claim.RetryAfter)))
	}
	switch v.Outcome {
	case cairn.Won:
		b = livepb.AppendString(b, outcomeOffset, v.Place.String())
		b = livepb.AppendInt(b, outcomeReward, v.Claim.Reward)
		b = livepb.AppendInt(b, outcomeAt, v.Claim.At)
	case cairn.Gone:
		b = livepb.AppendInt(b, outcomeAt, v.Claim.At)
		b = livepb.AppendString(b, outcomeWinner, v.Claim.Player)
		b = livepb.AppendString(b, outcomeWinnerName, v.Claim.Name)
		b = livepb.AppendInt(b, outcomeMarginMS, v.Margin.Milliseconds())
	case cairn.Wrong:
		b = livepb.AppendInt(b, outcomeAttemptsLeft, v.AttemptsLeft)
	case cairn.Closed:
		b = livepb.AppendInt(b, outcomeOpens, v.Opens)
		b = livepb.AppendInt(b, outcomeCloses, v.Closes)
	case cairn.Throttled, cairn.Pending:
		b = livepb.AppendInt(b, outcomeRetryAfterMS, waitMS(v.RetryAfter))
	}
	return frame.End(b)
}

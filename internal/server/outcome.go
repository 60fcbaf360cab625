package server

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/claim"
)

// outcomeUnavailable stands where an outcome would, for what was not decided
// at all.
const outcomeUnavailable = "unavailable"

// appendOutcome appends what came of an attempt as members of a JSON object,
// without braces: the same wherever an outcome is told.
func appendOutcome(b []byte, v *cairn.Verdict, a *cairn.Attempt) []byte {
	b = appendText(append(b, `"outcome":`...), v.Outcome.String())
	b = appendRef(b, a)
	switch v.Outcome {
	case cairn.Won:
		b = append(v.Place.AppendTo(append(b, `,"offset":"`...)), '"')
		b = strconv.AppendInt(append(b, `,"reward":`...), int64(v.Claim.Reward), 10)
		b = appendTime(append(b, `,"at":`...), v.Claim.At)
	case cairn.Gone:
		b = appendText(append(b, `,"winner":`...), v.Claim.Player)
		b = appendText(append(b, `,"winner_name":`...), v.Claim.Name)
		b = strconv.AppendInt(append(b, `,"margin_ms":`...), v.Margin.Milliseconds(), 10)
		b = appendTime(append(b, `,"at":`...), v.Claim.At)
	case cairn.Wrong:
		b = strconv.AppendInt(append(b, `,"attempts_left":`...), int64(v.AttemptsLeft), 10)
	case cairn.Closed:
		b = appendTime(append(b, `,"opens":`...), v.Opens)
		b = appendTime(append(b, `,"closes":`...), v.Closes)
	case cairn.Throttled, cairn.Pending:
		b = appendWait(b, v.RetryAfter)
	}
	return b
}

// appendUndecided is appendOutcome for an attempt that ended in an error.
func appendUndecided(b []byte, a *cairn.Attempt) []byte {
	b = appendRef(append(b, `"outcome":"`+outcomeUnavailable+`"`...), a)
	return appendWait(b, claim.RetryAfter)
}

func appendRef(b []byte, a *cairn.Attempt) []byte {
	b = appendText(append(b, `,"hunt":`...), a.Hunt)
	b = strconv.AppendInt(append(b, `,"map":`...), int64(a.Tick), 10)
	b = strconv.AppendInt(append(b, `,"tile":`...), int64(a.Tile), 10)
	if a.ClaimID != "" {
		b = appendText(append(b, `,"claim_id":`...), a.ClaimID)
	}
	return b
}

func appendWait(b []byte, d time.Duration) []byte {
	return strconv.AppendInt(append(b, `,"retry_after_ms":`...), waitMS(d), 10)
}

// waitMS rounds up: who waits so long is not a moment early.
func waitMS(d time.Duration) int64 {
	return int64((waitOf(d) + time.Millisecond - 1) / time.Millisecond)
}

func appendTime(b []byte, t cairn.Instant) []byte {
	b, _ = t.AppendText(append(b, '"')) // never fails
	return append(b, '"')
}

// waitOf makes a wait of a second out of one that is not known.
func waitOf(d time.Duration) time.Duration {
	if d <= 0 {
		return time.Second
	}
	return d
}

// writeVerdict answers one attempt: the status is the outcome's, and the body
// its members, in a problem unless it won or is pending.
func writeVerdict(w http.ResponseWriter, v *cairn.Verdict, a *cairn.Attempt, err error) {
	b := make([]byte, 0, 512)
	if err != nil {
		undecided(err, a).write(w)
		return
	}
	h := w.Header()
	status := http.StatusOK
	switch v.Outcome {
	case cairn.Won:
	case cairn.Pending:
		status = http.StatusAccepted
		h.Set("Retry-After", retryAfter(waitOf(v.RetryAfter)))
		h.Set("Location", "/v1/hunts/"+string(a.Hunt)+"/maps/"+a.Tick.String()+"/tiles/"+strconv.Itoa(int(a.Tile))+"/claim")
	default:
		problemOf(v, a).write(w)
		return
	}
	h["Content-Type"] = headerJSON
	b = append(appendOutcome(append(b, '{'), v, a), '}')
	h.Set("Content-Length", strconv.Itoa(len(b)))
	w.WriteHeader(status)
	w.Write(b)
}

// problemOf returns the problem that an outcome is.
func problemOf(v *cairn.Verdict, a *cairn.Attempt) *Problem {
	code := v.Outcome.String()
	var p *Problem
	switch v.Outcome {
	case cairn.Gone:
		p = problem(http.StatusConflict, code, "%s", v.Claim.Name+" was "+strconv.FormatInt(v.Margin.Milliseconds(), 10)+" ms ahead")
	case cairn.Wrong:
		p = problem(http.StatusUnprocessableEntity, code, "that is not the puzzle's answer")
	case cairn.Closed:
		p = problem(http.StatusGone, code, "%s", closedDetail(v))
	case cairn.UnknownTile:
		p = problem(http.StatusNotFound, code, "there is no such tile")
	case cairn.Throttled:
		p = problem(http.StatusTooManyRequests, code, "too many tries; wait a little").with("Retry-After", retryAfter(waitOf(v.RetryAfter)))
	default:
		return problem(http.StatusInternalServerError, "", "the claim service answered %s", v.Outcome)
	}
	p.extra = appendOutcome(make([]byte, 0, 320), v, a)
	return p
}

func closedDetail(v *cairn.Verdict) string {
	if v.Opens == 0 {
		return "the tile's map is not open"
	}
	return "the tile's map is open from " + v.Opens.String() + " to " + v.Closes.String() + ", and not while its hunt is paused"
}

// undecided returns the problem of an attempt that ended in an error.
func undecided(err error, a *cairn.Attempt) *Problem {
	p := problem(http.StatusServiceUnavailable, "", "the tile's shard can't decide now; try again")
	if !errors.Is(err, claim.ErrUnavailable) {
		p.Detail = "the claim service can't be reached; try again"
	}
	p.extra = appendUndecided(make([]byte, 0, 160), a)
	return p.with("Retry-After", retryAfter(claim.RetryAfter))
}

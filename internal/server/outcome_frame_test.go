package server

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/broadcast"
	"github.com/veltrix/cairn/internal/wire/livepb"
)

// outcomeOf translates an outcome into its JSON, with the generated decoder.
// Which members there are follows from how the claim ended.
func outcomeOf(b []byte) (map[string]any, error) {
	var f livepb.ServerFrame
	if err := proto.Unmarshal(b, &f); err != nil {
		return nil, err
	}
	if n := proto.Size(&f); n != len(b) || f.GetOutcome() == nil {
		return nil, fmt.Errorf("%x is no outcome of %d bytes", b, n)
	}
	x := f.GetOutcome()
	name := strings.ToLower(strings.TrimPrefix(x.Outcome.String(), "VERDICT_"))
	o := map[string]any{"type": "outcome", "id": x.Id, "outcome": name, "hunt": x.Hunt, "map": x.Map, "tile": x.Tile}
	if x.ClaimId != "" {
		o["claim_id"] = x.ClaimId
	}
	switch name {
	case "won":
		o["offset"], o["reward"], o["at"] = x.Offset, x.Reward, cairn.Instant(x.At)
	case "gone":
		o["winner"], o["winner_name"], o["margin_ms"], o["at"] = x.Winner, x.WinnerName, x.MarginMs, cairn.Instant(x.At)
	case "wrong":
		o["attempts_left"] = x.AttemptsLeft
	case "closed":
		o["opens"], o["closes"] = cairn.Instant(x.Opens), cairn.Instant(x.Closes)
	case "throttled", "pending", "unavailable":
		o["retry_after_ms"] = x.RetryAfterMs
	}
	return o, nil
}

// TestOutcomesSayTheSame in both codecs.
func TestOutcomesSayTheSame(t *testing.T) {
	text := rapid.StringN(0, 20, 64)
	moment := rapid.Map(rapid.Int64Range(0, 1<<52), func(us int64) cairn.Instant { return cairn.Instant(us) })
	wait := rapid.Map(rapid.Int64Range(0, 1<<40), func(ns int64) time.Duration { return time.Duration(ns) })
	rapid.Check(t, func(t *rapid.T) {
		a := &cairn.Attempt{TileRef: cairn.TileRef{
			Hunt: "oslo", Tick: cairn.Tick(rapid.Int64Range(0, 1<<53-1).Draw(t, "map")), Tile: rapid.Uint32Range(0, 65535).Draw(t, "tile"),
		}, ClaimID: text.Draw(t, "claim_id")}
		id := text.Draw(t, "id")
		var v *cairn.Verdict
		if rapid.Bool().Draw(t, "decided") {
			v = &cairn.Verdict{
				Outcome: cairn.Outcome(rapid.IntRange(int(cairn.Won), int(cairn.Pending)).Draw(t, "outcome")),
				Claim: cairn.Claim{
					Player: cairn.PlayerID(text.Draw(t, "player")), Name: text.Draw(t, "name"),
					Reward: cairn.Micro(rapid.Int64Range(0, 1<<53).Draw(t, "reward")), At: moment.Draw(t, "at"),
				},
				Place:  cairn.Place{Shard: rapid.IntRange(0, 99).Draw(t, "shard"), Epoch: 3, Seq: 15, Index: rapid.IntRange(0, 99).Draw(t, "index")},
				Margin: wait.Draw(t, "margin"), AttemptsLeft: rapid.IntRange(0, 9).Draw(t, "left"),
				Opens: moment.Draw(t, "opens"), Closes: moment.Draw(t, "closes"), RetryAfter: wait.Draw(t, "wait"),
			}
		}
		translated, err := outcomeOf(appendOutcomeFrame(nil, broadcast.Proto, id, v, a))
		if err != nil {
			t.Fatal(err)
		}
		b, err := json.Marshal(translated)
		if err != nil {
			t.Fatal(err)
		}
		var got, want any
		if err := json.Unmarshal(b, &got); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(appendOutcomeFrame(nil, broadcast.JSON, id, v, a), &want); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(got, want); diff != "" {
			t.Fatalf("got (-) of cairn.v1.proto, want (+) of cairn.v1.json:\n%s", diff)
		}
	})
}

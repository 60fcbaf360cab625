//go:build unix

package main

// silent are the panels and alerts that may have no data while all is well, and
// why. Their queries must parse, and their metrics must be declared in the
// code, all the same.
var silent = map[string]string{
	"fanout: Drops by reason":          "a reason is counted from its first connection on that ends by it",
	"fanout: Left out, begun anew":     "a reason is counted from the first record on that is left out",
	"claims: Takeovers":                "a shard is taken over when its owner ends",
	"log: Unclear appends":             "an outcome is counted from the first append on that gets no clear answer",
	"leaderboard: Held by checkpoints": "a checkpoint is written each half minute at most, after claims",
	"alert CairnAppendsUnknown":        "an outcome is counted from the first append on that gets no clear answer",
	"alert CairnLogNotTrimmed":         "it compares with seven hours ago",
}

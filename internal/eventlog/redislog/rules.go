package redislog

// A rule is one of those that make a log of streams (docs/redislog.md). Every
// store keeps all of them. The simulation has one broken at a time, and must
// notice (mutation_test.go): a rule that would not be missed is none.
type rule uint32

const (
	ruleNoCreate  rule = 1 << iota // R1: an append never creates a stream
	ruleGenesis                    // R1: a stream with another genesis is another log
	ruleNonce                      // R2: each try to open has a nonce of its own
	ruleChained                    // R3: followers check what stands before a record
	ruleHashed                     // R3: followers check the chain hash
	ruleMark                       // R3: a durable mark tells only of what is acknowledged, and safe
	ruleIdleMark                   // R3: an idle writer appends a durable mark
	ruleCloseMark                  // R3: so does one that is closed
	ruleWatch                      // R4: an append is done only on a stream that is as it was seen
	ruleLook                       // R4: it is looked at again whenever that may not be so
	ruleRepair                     // R5: what a failover lost is put back
	rulePrefix                     // R5: behind what is a beginning of the writer's own only
	ruleSame                       // R6: what was not heard of may have landed
	ruleOpen                       // R6: and stays in doubt until the log tells
	ruleOwn                        // R6: a record at its id is the same only with the same bytes
	ruleFinal                      // R6: what is absent below a higher id is lost
	ruleWaitAll                    // replicas: all of them are waited for
	ruleWaitShort                  // replicas: a WAIT that counts fewer acknowledges nothing
	ruleWaitFence                  // replicas: a fence is waited for too
	ruleWaitFound                  // replicas: and what is found to have landed
	ruleEnds                       // a follower with nothing new compares the log's end with its own
	ruleSealBack                   // and reads again from its last record
	ruleGiveUp                     // an idle writer gives up a link that fails
)

// keeps reports whether the store keeps r.
func (s *Store) keeps(r rule) bool { return s.broken&r == 0 }

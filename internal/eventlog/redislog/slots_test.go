package redislog

import (
	"testing"

	"github.com/veltrix/cairn/internal/eventlog"
)

// TestShardsSpread: the shards of hunts of every size, over every usual count
// of primaries that have even parts of the slots.
func TestShardsSpread(t *testing.T) {
	var at [400]int
	for i := range at {
		at[i] = slotOf(tagOf(eventlog.Shard(i)))
	}
	for _, primaries := range []int{1, 2, 3, 4, 6, 8, 12, 16, 24} {
		for shards := 1; shards <= len(at); shards++ {
			count := make([]int, primaries)
			for _, slot := range at[:shards] {
				count[slot*primaries/slots]++
			}
			lo, hi := count[0], count[0]
			for _, n := range count {
				lo, hi = min(lo, n), max(hi, n)
			}
			// Never two more than an even part, and even where it can be.
			even := shards%primaries == 0 && shards%3 == 0 && (shards&(shards-1) == 0 || shards%12 == 0)
			if even && hi != lo || hi-lo > 2 {
				t.Errorf("%d shards on %d primaries: %v", shards, primaries, count)
			}
		}
	}
}

// TestTags: where the data of a log is must never change.
func TestTags(t *testing.T) {
	for log, want := range map[eventlog.Name]string{
		"maps": "maps", "control": "control", "standings": "standings",
		"s": "s", "s0": "s0", "s000": "s000", "s-1": "s-1", "s+12": "s+12", "s012": "s012", "s01x": "s01x",
		"s00": "s00.1706", "s01": "s01.361", "s02": "s02.1291", "s03": "s03.227", "s07": "s07.954", "s63": "s63.252", "s383": "s383.472",
	} {
		if got := tagOf(log); got != want {
			t.Errorf("log %s has tag %s, want %s", log, got, want)
		}
	}
	s := &Store{opts: Options{}.withDefaults()}
	for i := range 1024 {
		log := eventlog.Shard(i)
		if got, ok := s.logOf(s.key(log)); !ok || got != log {
			t.Errorf("the key of %s is of %s", log, got)
		}
	}
	for _, key := range []string{"cairn:{s07}:log", "cairn:{s07.1}:log", "cairn:{maps.1}:log", "cairn:{}:log", "cairn:{maps}:lo", "x:{maps}:log"} {
		if log, ok := s.logOf(key); ok {
			t.Errorf("%s is a key of %s, want of none", key, log)
		}
	}
}

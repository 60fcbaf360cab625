package broadcast

import (
	"bytes"
	"math/bits"
	"time"

	"github.com/gobwas/ws"
)

// Pings and what comes back cost about as much as two deltas. Clients that came
// together, as they do after an outage, must not be pinged together for ever
// after: each has a phase of its own, and keeps it.

var pingBytes = ownFrame(ws.OpPing, nil)

// pingPhase returns how long ago a client that says hello now is taken to have
// been pinged, in milliseconds: another part of the time from ping to ping for
// each slot, so that any number of neighbours are spread evenly.
func pingPhase(slot uint32, every time.Duration) uint32 {
	return uint32(uint64(bits.Reverse32(slot)) * uint64(every.Milliseconds()) >> 32)
}

// pinged returns the time that counts as that of a ping which is sent now, the
// one before being due at mark + every: as if it were not late, so that those
// who were late together part again.
func pinged(mark, now uint32, every time.Duration) uint32 {
	period := uint32(every.Milliseconds())
	if due := mark + period; now-due < period {
		return due
	}
	return now
}

// pongBytes is how long a client's answer to pingBytes is: RFC 6455, 5.2. Its
// last four are the mask.
const pongBytes = 6

// isPong reports whether b is an answer to pingBytes and nothing else.
func isPong(b []byte) bool {
	return len(b) == pongBytes && bytes.HasPrefix(b, []byte{0x80 | byte(ws.OpPong), 0x80})
}

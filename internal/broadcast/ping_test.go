package broadcast

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"github.com/gobwas/ws"
)

// TestPingsAreSpread: those who came together are pinged evenly over the time
// from ping to ping, and go on so though checks are late.
func TestPingsAreSpread(t *testing.T) {
	const n, every = 1000, 30 * time.Second
	const period = uint32(every / time.Millisecond)
	hello := ^uint32(0) - 5000 // the clock overflows soon
	due := make([]uint32, n)   // after hello
	for slot := range due {
		due[slot] = period - pingPhase(uint32(slot), every)
		mark := hello - pingPhase(uint32(slot), every)
		for _, late := range []uint32{0, 1, period / 2, period - 1} {
			if got := pinged(mark, mark+period+late, every); got != mark+period {
				t.Fatalf("a ping %d ms late counts as of %d, want %d", late, got, mark+period)
			}
		}
	}
	slices.Sort(due)
	for i, at := range due {
		if want := period * uint32(i) / n; max(at, want)-min(at, want) > 5*period/n {
			t.Fatalf("the %dth of %d pings is due after %d ms, want %d", i, n, at, want)
		}
	}
	if got := pinged(hello, hello+2*period, every); got != hello+2*period {
		t.Errorf("a ping a whole period late counts as of %d, want now, %d", got, hello+2*period)
	}
}

// TestIsPong: what clients answer to our pings is known for what it is.
func TestIsPong(t *testing.T) {
	frame := func(f ws.Frame) []byte {
		var b bytes.Buffer
		if err := ws.WriteFrame(&b, ws.MaskFrameWith(f, [4]byte{1, 2, 3, 4})); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	pong := frame(ws.NewPongFrame(nil))
	for what, c := range map[string]struct {
		b    []byte
		want bool
	}{
		"a pong":         {pong, true},
		"a part of one":  {pong[:5], false},
		"two":            {append(slices.Clone(pong), pong...), false},
		"one that talks": {frame(ws.NewPongFrame([]byte("x"))), false},
		"a ping":         {frame(ws.NewPingFrame(nil)), false},
		"an empty text":  {frame(ws.NewTextFrame(nil)), false},
	} {
		if got := isPong(c.b); got != c.want {
			t.Errorf("%s: got %v, want %v", what, got, c.want)
		}
	}
}

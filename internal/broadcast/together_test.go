package broadcast

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/gobwas/ws"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/wire"
)

// A countingEdge notes how many claims it was asked for at once.
type countingEdge struct {
	testEdge
	asked []int
}

func (e *countingEdge) Claims(_ context.Context, _ cairn.PlayerID, _ string, _ Codec, cs []wire.ClaimFrame, reply func([]byte)) {
	e.asked = append(e.asked, len(cs))
	for _, c := range cs {
		reply([]byte(c.ID))
	}
}

// TestClaimsTogether: claims that one read brings are decided together, what
// else it brings is answered in its place, and who sends more than may be in
// flight is refused only what is.
func TestClaimsTogether(t *testing.T) {
	var stream bytes.Buffer
	say := func(format string, args ...any) {
		f := ws.MaskFrame(ws.NewTextFrame(fmt.Appendf(nil, format, args...)))
		if err := ws.WriteFrame(&stream, f); err != nil {
			t.Fatal(err)
		}
	}
	claim := func(id int) { say(`{"type":"claim","id":"%d","hunt":"oslo","map":1,"tile":%d}`, id, id) }
	for id := range 5 {
		claim(id)
	}
	claim(5) // of another form, and decided all the same: …
	say(`{"id":"\u0036","type":"claim","hunt":"oslo","map":1,"tile":6}`)
	say(`{"type":"ping"}`)
	claim(7)
	r := newRig(t, Options{ClaimsMax: 4})
	e, o := &countingEdge{}, &tape{hub: r.hub}
	s := &session{hub: r.hub, out: o, edge: e, hello: true, player: "ana"}
	if err := s.in.feed(s, stream.Bytes()); err != nil {
		t.Fatal(err)
	}
	if want := []int{4, 3, 1}; !slices.Equal(e.asked, want) {
		t.Errorf("asked for %v claims at once, want %v", e.asked, want)
	}
	if len(o.said) != 9 || o.said[6] != fmt.Sprintf("frame %x", "6") || o.said[8] != fmt.Sprintf("frame %x", "7") {
		t.Errorf("got %q; want eight outcomes and, before the last, a pong", o.said)
	}
	if n := s.inFlight.Load(); n != 0 {
		t.Errorf("%d claims are in flight, want none", n)
	}
	clear(stream.Bytes()) // whoever reads uses its buffer again
}

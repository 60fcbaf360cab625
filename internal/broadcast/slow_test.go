package broadcast

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"

	"github.com/veltrix/cairn"
)

func changeCreate(id cairn.HuntID) cairn.Change {
	return cairn.Change{Hunt: id, Create: testHunt(id)}
}

// dialSlow returns a client whose socket holds little, so that it stalls soon
// after it stops reading.
func (r *rig) dialSlow() *client {
	r.t.Helper()
	dialer := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		nc, err := (&net.Dialer{}).DialContext(ctx, network, addr)
		if err == nil {
			err = nc.(*net.TCPConn).SetReadBuffer(256 << 10) // below a segment of loopback it would crawl
		}
		return nc, err
	}}}
	return r.dialIn(r.codec, dialer)
}

// bigMap opens a map whose delta is about 0.4 MB.
func (r *rig) bigMap() *cairn.Map {
	r.t.Helper()
	cells := make([]string, 6000)
	for i := range cells {
		cells[i] = "u4xsu"
	}
	return r.open(cells...)
}

// TestSlowReaderIsSkipped: a client that stops reading holds up nobody and
// nothing is kept for it; when it reads again it is told what is, not what was.
func TestSlowReaderIsSkipped(t *testing.T) { eachWay(t, testSlowReaderIsSkipped) }

func testSlowReaderIsSkipped(t *testing.T) {
	r := newRig(t, Options{CatchUp: 3, StuckFor: time.Minute})
	slow := r.dialSlow()
	slow.hello("")
	slow.send(watchText(false, "u4"))
	slow.want("snapshot")

	// The healthy one reads everything all the while.
	fast, snap := r.join("u4")
	f := newModel("u4")
	if err := f.apply(snap); err != nil {
		t.Fatal(err)
	}
	tr := &truth{winner: map[cairn.TileRef]string{}}
	for i := range 40 {
		m := r.bigMap()
		c := r.claimOf(m, i, fmt.Sprintf("p%d", i))
		r.claim(c)
		tr.maps, tr.winner[c.TileRef] = append(tr.maps, m), string(c.Player)
		for f.maps[int64(m.Tick)] == nil || f.maps[int64(m.Tick)].holders[i] == "" {
			d, err := fast.read()
			if err != nil {
				t.Fatal(err)
			}
			if err := f.apply(d); err != nil {
				t.Fatal(err)
			}
		}
		r.pass(time.Second)
	}
	if f.snaps != 1 {
		t.Errorf("the healthy client was skipped %d times", f.snaps-1)
	}
	r.sweep() // what closed by the clock alone
	// 40 maps of 0.4 MB came by; what is in flight to the slow one is a batch
	// or what fits the sockets, and nothing waits behind it.
	for _, p := range r.hub.peers() {
		if own, _ := p.(inspected).inspect(); own > 0 {
			t.Errorf("%d frames are queued for a connection", own)
		}
	}
	g := newModel("u4")
	g.at["u4"] = snap.Seq
	g.snaps = 1
	deltas := 0
	for g.snaps == 1 {
		m, err := slow.read()
		if err != nil {
			t.Fatal(err)
		}
		if m.Type == "delta" {
			deltas++
		}
		if err := g.apply(m); err != nil {
			t.Fatal(err)
		}
	}
	if n := r.metric("cairn_broadcast_skips_total"); n != 1 {
		t.Errorf("got %v skips, want 1", n)
	}
	if deltas >= 40 {
		t.Errorf("the slow client was sent %d deltas, as many as there were", deltas)
	}
	if got, want := g.String(), tr.seen(r.instant(), []string{"u4"}); got != want {
		t.Errorf("after the skip the client does not see what is true (%d bytes, want %d)", len(got), len(want))
	}
}

// TestStuckReaderIsClosed: a client that takes no byte is closed with a code
// that says why, and one that is stuck for ever is hung up on.
func TestStuckReaderIsClosed(t *testing.T) { eachWay(t, testStuckReaderIsClosed) }

func testStuckReaderIsClosed(t *testing.T) {
	r := newRig(t, Options{StuckFor: 400 * time.Millisecond})
	dial := func() *client {
		c := r.dialSlow()
		c.hello("")
		c.send(watchText(false, "u4"))
		c.want("snapshot")
		return c
	}
	late := dial()
	told := func() bool {
		return slices.ContainsFunc(r.hub.peers(), func(p peer) bool {
			_, why := p.(inspected).inspect()
			return why == endSlow
		})
	}
	heard := make(chan websocket.StatusCode)
	go func() { // it has a second, which a map may take on a busy machine
		for !told() {
			time.Sleep(time.Millisecond)
		}
		code, _ := late.closed()
		heard <- code
	}()
	for waits := true; waits; {
		select {
		case code := <-heard:
			if waits = false; code != websocket.StatusCode(statusTooSlow) {
				t.Errorf("got close code %d, want %d", code, statusTooSlow)
			}
		default:
			r.bigMap()
			r.pass(time.Second)
		}
	}
	stuck := dial()
	for r.metric("cairn_broadcast_connections") > 0 {
		r.bigMap()
		r.pass(time.Second)
	}
	for { // by a reset: the kernel is not to keep for it what it did not take
		_, err := stuck.read()
		if err == nil {
			continue
		}
		if !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the stuck one's connection ends with %v, want a reset", err)
		}
		break
	}
	r.edge.mu.Lock()
	defer r.edge.mu.Unlock()
	if !slices.ContainsFunc(r.edge.ended, func(err error) bool { return err != nil }) {
		t.Errorf("Serve returned %v, want errors", r.edge.ended)
	}
}

// TestTricklingReaderIsClosed: a client that takes a byte now and then does not
// hold what it is sent for ever.
func TestTricklingReaderIsClosed(t *testing.T) { eachWay(t, testTricklingReaderIsClosed) }

func testTricklingReaderIsClosed(t *testing.T) {
	r := newRig(t, Options{StuckFor: time.Minute, BatchWithin: 200 * time.Millisecond})
	nc := r.rawDial()
	if err := nc.(*net.TCPConn).SetReadBuffer(256 << 10); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{`{"type":"hello"}`, watchText(false, "u4")} {
		if err := wsutil.WriteClientText(nc, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	told := func() bool {
		for _, p := range r.hub.peers() {
			if _, why := p.(inspected).inspect(); why == endSlow {
				return true
			}
		}
		return false
	}
	some := make([]byte, 64)
	var got []byte
	for !told() {
		r.bigMap()
		r.pass(time.Second)
		m, err := nc.Read(some)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, some[:m]...)
	}
	// It reads on at last, and hears why it must go.
	all := io.MultiReader(bytes.NewReader(got), nc)
	for {
		h, err := readHeard(all)
		if err != nil {
			t.Fatal(err)
		}
		if h.op != opClose {
			continue
		}
		if code, _ := ws.ParseCloseFrameData(h.payload); code != statusTooSlow {
			t.Errorf("got close code %d, want %d", code, statusTooSlow)
		}
		return
	}
}

// TestFloodOfPings: a client that asks on without reading is cut, and never
// grows what is kept for it.
func TestFloodOfPings(t *testing.T) { eachHalf(t, testFloodOfPings) }

func testFloodOfPings(t *testing.T) {
	r := newRig(t, Options{StuckFor: time.Minute})
	c := r.dialSlow()
	c.hello("")
	c.send(watchText(false, "u4"))
	c.want("snapshot")
	for range 12 {
		r.bigMap()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for r.metric("cairn_broadcast_closes_total") == 0 && ctx.Err() == nil {
		if c.ws.Write(ctx, websocket.MessageText, []byte(`{"type":"ping"}`)) != nil {
			break
		}
		for _, p := range r.hub.peers() {
			n, why := p.(inspected).inspect()
			if n > r.hub.ownMax()+1 { // and the close frame
				t.Fatalf("%d frames are queued, want at most %d", n, r.hub.ownMax())
			}
			if why == endSlow {
				return
			}
		}
	}
	if ctx.Err() != nil {
		t.Error("a client that never reads was never cut")
	}
}

// An inspected is a connection that tests look into: how many frames wait for
// it alone, and why it ends.
type inspected interface{ inspect() (own int, why string) }

func (c *conn) inspect() (own int, why string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.own), c.why
}

// TestEncodeOnce counts encodings against connections.
func TestEncodeOnce(t *testing.T) { eachCodec(t, testEncodeOnce) }

func testEncodeOnce(t *testing.T) {
	r := newRig(t, Options{})
	m := r.open("u4xsu", "u4xsv")
	const n = 40
	cs := make([]*client, n)
	for i := range cs {
		cs[i], _ = r.join("u4")
	}
	r.until("the snapshots are counted", func() bool { return r.metric("cairn_broadcast_deliveries_total") == n })
	before := r.metric("cairn_broadcast_encodes_total")
	sent := r.metric("cairn_broadcast_deliveries_total")
	r.claim(r.claimOf(m, 0, "ana"))
	var all sync.WaitGroup
	for _, c := range cs {
		all.Go(func() { c.want("delta") })
	}
	all.Wait()
	r.until("all deliveries are counted", func() bool { return r.metric("cairn_broadcast_deliveries_total")-sent >= n })
	if got := r.metric("cairn_broadcast_encodes_total") - before; got != 1 {
		t.Errorf("got %v encodings for one claim and %d connections, want 1", got, n)
	}
	if got := r.metric("cairn_broadcast_deliveries_total") - sent; got != n {
		t.Errorf("got %v deliveries, want %d", got, n)
	}
	if r.metric("cairn_broadcast_staleness_seconds") == 0 {
		t.Error("staleness was not observed")
	}
}

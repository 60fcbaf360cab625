package broadcast

import (
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestDeafAfterGoodbye: a client that was told goodbye is not listened to any
// more, though its bytes are read.
func TestDeafAfterGoodbye(t *testing.T) { eachHalf(t, testDeafAfterGoodbye) }

func testDeafAfterGoodbye(t *testing.T) {
	r := newRig(t, Options{})
	r.edge.hold = true
	s := speech(JSON)
	nc, err := r.socketTo(JSON, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if _, err := nc.Write(maskedFrame(opText, true, s.say(`{"type":"hello","token":"token-ana"}`))); err != nil {
		t.Fatal(err)
	}
	if h, err := readHeard(nc); err != nil || h.op != opText {
		t.Fatalf("got %q, %v; want a welcome", h.payload, err)
	}
	for _, p := range r.hub.peers() {
		p.end(false)
	}
	if err := wantEnd(nc, []uint16{1001}); err != nil {
		t.Fatal(err)
	}
	if _, err := nc.Write(glue(s.frame("late"), ping("late"))); err != nil {
		t.Fatal(err)
	}
	r.until("it is gone", func() bool { return r.hub.Connections() == 0 })
	r.edge.mu.Lock()
	defer r.edge.mu.Unlock()
	if len(r.edge.held) > 0 {
		t.Error("a claim was taken from one who was told goodbye")
	}
}

// TestServeWhileStopping: clients that come in the very moment in which the hub
// ends are told so, each of them once, and Run waits for them.
func TestServeWhileStopping(t *testing.T) { eachHalf(t, testServeWhileStopping) }

func testServeWhileStopping(t *testing.T) {
	r := newRig(t, Options{})
	for round := range 5 {
		h := New(r.store, Options{Sweep: 5 * time.Millisecond, PingEvery: noPings, Portable: isOf(t, portable)})
		ctx, stop := context.WithCancel(t.Context())
		ran := make(chan error, 1)
		go func() { ran <- h.Run(ctx) }()
		r.until("the second hub is ready", func() bool { return h.Ready() == nil })
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		const clients = 60
		var all sync.WaitGroup
		var ends atomic.Int32
		hello := maskedFrame(opText, true, []byte(`{"type":"hello"}`))
		for i := range clients {
			nc, err := net.Dial("tcp", ln.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			server, err := ln.Accept()
			if err != nil {
				t.Fatal(err)
			}
			all.Go(func() {
				h.Serve(server, hello[:i%len(hello)], JSON, r.edge, func(error) { ends.Add(1) })
			})
			all.Go(func() {
				defer nc.Close()
				nc.SetDeadline(time.Now().Add(20 * time.Second))
				for {
					f, err := readHeard(nc)
					if err != nil {
						t.Errorf("round %d, client %d: got %v; want a goodbye", round, i, err)
						return
					}
					if f.op == opClose {
						break
					}
				}
				if _, err := io.Copy(io.Discard, nc); err != nil {
					t.Errorf("round %d, client %d: %v behind the goodbye", round, i, err)
				}
			})
			if i == clients/2+round {
				stop()
			}
		}
		all.Wait()
		if err := <-ran; err != nil {
			t.Error(err)
		}
		if n := ends.Load(); n != clients || h.Connections() != 0 {
			t.Errorf("%d of %d ends were told, and %d connections are open", n, clients, h.Connections())
		}
		ln.Close()
		stop()
	}
}

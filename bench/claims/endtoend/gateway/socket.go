//go:build unix

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/gobwas/ws"

	"github.com/veltrix/cairn/internal/wire"
)

const (
	readBytes  = 16 << 10 // as ours
	atOnceMost = 256      // claims in one pipeline
)

var upgrader = ws.HTTPUpgrader{Protocol: func(p string) bool { return p == "cairn.v1.json" }}

// live upgrades to a WebSocket and serves it.
func (g *game) live(w http.ResponseWriter, r *http.Request) {
	conn, rw, _, err := upgrader.Upgrade(r, w)
	if err != nil {
		return
	}
	g.mu.Lock()
	open := g.sockets != nil
	if open {
		g.sockets[conn] = struct{}{}
		g.serving.Add(1)
	}
	g.mu.Unlock()
	if !open {
		conn.Close()
		return
	}
	go func() {
		defer g.serving.Done()
		_ = g.play(conn, bufio.NewReaderSize(rw.Reader, readBytes)) // whoever breaks the protocol is cut
		conn.Close()
		g.mu.Lock()
		delete(g.sockets, conn)
		g.mu.Unlock()
	}()
}

// closeSockets ends all of them.
func (g *game) closeSockets() {
	g.mu.Lock()
	for c := range g.sockets {
		c.Close()
	}
	g.sockets = nil
	g.mu.Unlock()
	g.serving.Wait()
}

// play serves one player. While the store decides what one read brought, the
// next claims gather in the socket: the slower it is, the more are decided at
// once.
func (g *game) play(conn net.Conn, r *bufio.Reader) error {
	ctx := context.Background()
	hello, err := message(r)
	if err != nil {
		return err
	}
	f, err := wire.DecodeFrame(hello)
	if err != nil {
		return err
	}
	h, ok := f.(*wire.HelloFrame)
	if !ok {
		return errors.New("the first message is not a hello")
	}
	p, err := g.who(h.Token)
	if err != nil {
		return err
	}
	var b batch
	b.out = frame(b.out, fmt.Appendf(nil, `{"type":"welcome","player":%q}`, p.id))
	for {
		if _, err := conn.Write(b.out); err != nil {
			return err
		}
		b.clear()
		if err := b.gather(r); err != nil {
			return err
		}
		now := time.Now()
		if err := g.decide(ctx, p, &b, now); err != nil {
			return err
		}
		var room [512]byte
		for i := range b.claims {
			c := &b.claims[i]
			m := append(append(room[:0], `{"type":"outcome","id":"`...), c.ID...)
			m = g.appendOutcome(append(m, `",`...), c, &b.outcomes[i], now)
			b.out = frame(b.out, append(m, '}'))
		}
	}
}

// gather reads a claim and all others that have come.
func (b *batch) gather(r *bufio.Reader) error {
	for len(b.claims) == 0 || r.Buffered() > 0 && len(b.claims) < atOnceMost {
		m, err := message(r)
		if err != nil {
			return err
		}
		b.claims = append(b.claims, wire.ClaimFrame{})
		c := &b.claims[len(b.claims)-1]
		if wire.ScanClaimFrame(m, c, &b.text) {
			continue
		}
		f, err := wire.DecodeFrame(m)
		if err != nil {
			return err
		}
		full, ok := f.(*wire.ClaimFrame)
		if !ok {
			return errors.New("a message that is not a claim")
		}
		*c = *full
	}
	return nil
}

// message returns the payload of the next text frame, which is good until the
// next call.
func message(r *bufio.Reader) ([]byte, error) {
	const size, mask, long = 2, 4, 126
	h, err := r.Peek(size)
	if err != nil {
		return nil, err
	}
	n, head := int(h[1]&0x7f), size
	if n == long {
		if h, err = r.Peek(size + 2); err != nil {
			return nil, err
		}
		n, head = int(h[2])<<8|int(h[3]), size+2
	}
	if h[0] != 0x80|byte(ws.OpText) || h[1]&0x80 == 0 || n > wire.FrameBytesMax {
		return nil, errors.New("want masked text frames in one piece, of at most 4 KiB")
	}
	b, err := r.Peek(head + mask + n)
	if err != nil {
		return nil, err
	}
	ws.Cipher(b[head+mask:], [4]byte(b[head:]), 0)
	_, err = r.Discard(len(b))
	return b[head+mask:], err
}

// frame appends a text frame of a server.
func frame(b, payload []byte) []byte {
	const fin, short, long = 0x80, 125, 126
	b = append(b, fin|byte(ws.OpText))
	if n := len(payload); n <= short {
		b = append(b, byte(n))
	} else {
		b = append(b, long, byte(n>>8), byte(n))
	}
	return append(b, payload...)
}

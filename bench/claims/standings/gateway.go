//go:build unix

package standings

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
)

// A row is a line of a peer's board.
type row struct {
	player string
	score  int64
}

// boardRows is how many lines a client gets: as many as ours.
const boardRows = 20

// A gateway tells those who watch a peer's boards: one message a board, made
// once, written to each socket by the goroutine that read the board.
type gateway struct {
	ln net.Listener
	wg sync.WaitGroup

	mu    sync.Mutex
	conns [][]*socket // by hunt
	err   error
}

// A socket is a client's.
type socket struct {
	mu   sync.Mutex // boards of one hunt may be told by several
	conn net.Conn
}

// writeWithin is how long a client may take no byte before it is cut off.
const writeWithin = 10 * time.Second

func openGateway(ctx context.Context, hunts int) (*gateway, error) {
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	g := &gateway{ln: ln, conns: make([][]*socket, hunts)}
	g.wg.Go(g.serve)
	return g, nil
}

// serve takes clients. Each says the number of the hunt that it watches.
func (g *gateway) serve() {
	up := ws.Upgrader{Protocol: func(p []byte) bool { return string(p) == protocol }}
	for {
		conn, err := g.ln.Accept()
		if err != nil {
			return // closed
		}
		if _, err := up.Upgrade(conn); err != nil {
			conn.Close()
			g.fail(err)
			continue
		}
		g.wg.Go(func() { g.fail(g.hear(conn)) })
	}
}

// hear reads what a client says until it is gone.
func (g *gateway) hear(conn net.Conn) error {
	defer conn.Close()
	b, err := wsutil.ReadClientText(conn)
	if err != nil {
		return err
	}
	hunt, err := strconv.Atoi(string(b))
	if err != nil || hunt < 0 || hunt >= len(g.conns) {
		return fmt.Errorf("a client watches hunt %q; want 0 to %d", b, len(g.conns)-1)
	}
	g.mu.Lock()
	g.conns[hunt] = append(g.conns[hunt], &socket{conn: conn})
	g.mu.Unlock()
	for err == nil {
		_, err = wsutil.ReadClientText(conn)
	}
	return nil // it went
}

// tell writes a board, asked for at the given moment, to all who watch its hunt.
func (g *gateway) tell(hunt int, asked int64, rows []row) {
	b := fmt.Appendf(make([]byte, 0, 2048), `{"type":"standings","hunt":%q,"window":"hunt","region":"","at":%d,"rows":[`, huntName(hunt), asked)
	for i, r := range rows {
		if i > 0 {
			b = append(b, ',')
		}
		b = fmt.Appendf(b, `{"rank":%d,"player":%q,"name":%q,"score":%d}`, i+1, r.player, r.player, r.score)
	}
	frame, err := ws.CompileFrame(ws.NewTextFrame(append(b, ']', '}')))
	if err != nil {
		g.fail(err)
		return
	}
	g.mu.Lock()
	conns := g.conns[hunt]
	g.mu.Unlock()
	for _, c := range conns {
		c.mu.Lock()
		_ = c.conn.SetWriteDeadline(time.Now().Add(writeWithin))
		if _, err := c.conn.Write(frame); err != nil {
			c.conn.Close() // hear ends it
		}
		c.mu.Unlock()
	}
}

// ready reports whether n clients of each hunt are there.
func (g *gateway) ready(n int) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, cs := range g.conns {
		if len(cs) < n {
			return false
		}
	}
	return true
}

func (g *gateway) fail(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.err = errors.Join(g.err, err)
}

// close cuts all clients off, and returns what went wrong before.
func (g *gateway) close() error {
	g.ln.Close()
	g.mu.Lock()
	for _, cs := range g.conns {
		for _, c := range cs {
			c.conn.Close()
		}
	}
	err := g.err
	g.mu.Unlock()
	g.wg.Wait()
	return err
}

package redislog

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/rueidis"
	"github.com/redis/rueidis/mock"

	"github.com/veltrix/cairn/internal/eventlog/redislog/redissim"
)

// A simConn is one connection of a process to a node: commands arrive in the
// order they were sent, if they arrive.
type simConn struct {
	p      *proc
	n      *simNode
	server *redissim.Conn
	queue  []*batch   // not done yet; the first is being done
	multi  [][]string // XADDs that were queued since MULTI
	closed bool       // by the client; what is under way may still be done, or not
	cut    bool       // nothing gets through any more, and the client is told
	hollow bool       // requests get through, replies do not: a half-open link
}

// A batch is commands that were sent in one go.
type batch struct {
	conn    *simConn
	cmds    [][]string
	replies []redissim.Reply
	lost    bool          // the connection ended before all replies came
	since   time.Duration // when its WAIT began
	left    bool          // nobody waits for its replies any more
}

func (b *batch) done() bool { return len(b.replies) == len(b.cmds) }

var (
	errCut     = errors.New("connection reset by peer")
	errTimeout = context.DeadlineExceeded
)

var builder = mock.NewClient(nil).B()

// A simClient is what the real code takes for a client of one node.
type simClient struct {
	rueidis.Client // nil: what is not below is not used
	p              *proc
	addr           string
	shared         *simConn
	pool           []*simConn
}

func (w *sim) dial(p *proc, addr string) *simConn {
	n := w.node(addr)
	c := &simConn{p: p, n: n, cut: n.down}
	if !c.cut {
		c.server = n.Dial()
		w.conns = append(w.conns, c)
	}
	return c
}

// B implements rueidis.Client.
func (c *simClient) B() rueidis.Builder { return builder }

// Do implements rueidis.Client.
func (c *simClient) Do(ctx context.Context, cmd rueidis.Completed) rueidis.RedisResult {
	return c.DoMulti(ctx, cmd)[0]
}

// DoMulti implements rueidis.Client. The connection is made anew if it is gone.
func (c *simClient) DoMulti(ctx context.Context, cmds ...rueidis.Completed) []rueidis.RedisResult {
	if c.shared == nil || c.shared.cut {
		c.shared = c.p.w.dial(c.p, c.addr)
	}
	return c.shared.do(ctx, cmds)
}

// Dedicate implements rueidis.Client.
func (c *simClient) Dedicate() (rueidis.DedicatedClient, func()) {
	var conn *simConn
	for conn == nil && len(c.pool) > 0 {
		if last := c.pool[len(c.pool)-1]; !last.cut && !last.closed {
			conn = last
		}
		c.pool = c.pool[:len(c.pool)-1]
	}
	if conn == nil {
		conn = c.p.w.dial(c.p, c.addr)
	}
	return &simDedicated{conn: conn}, func() {
		if !conn.cut && !conn.closed {
			c.pool = append(c.pool, conn)
		}
	}
}

// Close implements rueidis.Client.
func (c *simClient) Close() {}

type simDedicated struct {
	rueidis.DedicatedClient // nil
	conn                    *simConn
}

// B implements rueidis.DedicatedClient.
func (d *simDedicated) B() rueidis.Builder { return builder }

// DoMulti implements rueidis.DedicatedClient.
func (d *simDedicated) DoMulti(ctx context.Context, cmds ...rueidis.Completed) []rueidis.RedisResult {
	w := d.conn.p.w
	again := make([]rueidis.Completed, 0, len(cmds))
	if w.without == withoutNoRetry {
		for i := range cmds {
			again = append(again, builder.Arbitrary(cmds[i].Commands()...).Build())
		}
	}
	rs := d.conn.do(ctx, cmds)
	if w.without == withoutNoRetry && errors.Is(rs[0].Error(), errCut) {
		d.conn = w.dial(d.conn.p, d.conn.n.Addr)
		return d.conn.do(ctx, again)
	}
	return rs
}

// Do implements rueidis.DedicatedClient.
func (d *simDedicated) Do(ctx context.Context, cmd rueidis.Completed) rueidis.RedisResult {
	return d.conn.do(ctx, rueidis.Commands{cmd})[0]
}

// Close implements rueidis.DedicatedClient.
func (d *simDedicated) Close() { d.conn.closed = true }

// do sends commands and gives way until they are answered, the connection is
// cut, or ctx ends.
func (c *simConn) do(ctx context.Context, cmds []rueidis.Completed) []rueidis.RedisResult {
	w := c.p.w
	if c.closed || c.cut {
		return failed(len(cmds), errCut)
	}
	b := &batch{conn: c, cmds: make([][]string, len(cmds))}
	for i := range cmds {
		b.cmds[i] = append([]string(nil), cmds[i].Commands()...)
	}
	c.queue = append(c.queue, b)
	if w.trace {
		w.tracef("%s → %s: %s", c.p.name, c.n.Addr, b)
	}
	until := untilOf(ctx)
	if until == 0 {
		until = w.now + time.Hour
	}
	c.p.wait(b, until)
	switch {
	case b.done() && !c.hollow && !b.lost:
	case b.lost || c.cut:
		b.left = true
		w.tracef("%s: connection to %s is cut", c.p.name, c.n.Addr)
		return failed(len(cmds), errCut)
	default:
		b.left = true
		w.tracef("%s: no reply from %s in time", c.p.name, c.n.Addr)
		return failed(len(cmds), errTimeout)
	}
	out := make([]rueidis.RedisResult, len(cmds))
	for i, r := range b.replies {
		out[i] = mock.Result(message(r))
	}
	return out
}

func failed(n int, err error) []rueidis.RedisResult {
	out := make([]rueidis.RedisResult, n)
	for i := range out {
		out[i] = mock.ErrorResult(err)
	}
	return out
}

// message returns r as the real client would.
func message(r redissim.Reply) rueidis.RedisMessage {
	switch r.Kind {
	case redissim.Int:
		return mock.RedisInt64(r.Int)
	case redissim.Status:
		return mock.RedisString(r.Text)
	case redissim.Bulk:
		return mock.RedisBlobString(r.Text)
	case redissim.Error:
		return mock.RedisError(r.Text)
	case redissim.Array:
		list := make([]rueidis.RedisMessage, len(r.List))
		for i := range r.List {
			list[i] = message(r.List[i])
		}
		return mock.RedisArray(list...)
	}
	return mock.RedisNil()
}

// String returns the commands, without headers.
func (b *batch) String() string {
	var out []string
	for _, c := range b.cmds {
		if c[0] == "XADD" {
			var e entry
			_ = e.readHeader([]byte(c[len(c)-3]))
			c = []string{"XADD", c[len(c)-5], fmt.Sprintf("(%x behind %v, chain %x)", e.Nonce[:2], e.Prev, e.Chain[:3]), c[len(c)-1]}
		}
		out = append(out, strings.Join(c, " "))
	}
	return strings.Join(out, "; ")
}

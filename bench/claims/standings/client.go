//go:build unix

package standings

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"github.com/coder/websocket"

	"github.com/veltrix/cairn/internal/eventlog"
)

// clients are WebSockets that watch standings, as many of each hunt, and note
// when they have which board.
type clients struct {
	clock clock
	all   []*observer
	conns []*websocket.Conn
	ctx   context.Context
	stop  context.CancelFunc
	wg    sync.WaitGroup

	mu  sync.Mutex
	err error // the first
}

// watch connects n clients of each hunt to an address, each of which says what
// hello returns.
func watch(ctx context.Context, c clock, addr string, hunts, n int, hello func(hunt int) []string) (*clients, error) {
	x := &clients{clock: c}
	x.ctx, x.stop = context.WithCancel(ctx)
	for i := range hunts * n {
		conn, _, err := websocket.Dial(ctx, "ws://"+addr, &websocket.DialOptions{
			Subprotocols: []string{protocol}, CompressionMode: websocket.CompressionDisabled,
		})
		if err != nil {
			return nil, errors.Join(err, x.close())
		}
		conn.SetReadLimit(-1)
		x.conns = append(x.conns, conn)
		o := &observer{hunt: i % hunts}
		x.all = append(x.all, o)
		for _, m := range hello(o.hunt) {
			if err := conn.Write(ctx, websocket.MessageText, []byte(m)); err != nil {
				return nil, errors.Join(err, x.close())
			}
		}
		x.wg.Go(func() {
			if err := x.read(conn, o); err != nil && x.ctx.Err() == nil {
				x.mu.Lock()
				defer x.mu.Unlock()
				x.err = errors.Join(x.err, err)
			}
		})
	}
	return x, nil
}

// protocol is what clients and gateways speak. A peer's gateway sends what of
// it a page needs to show a board.
const protocol = "cairn.v1.json"

// A frame is what of a server's message says how far a board is.
type frame struct {
	Type      string
	Window    string
	Region    string
	AsOf      map[string]string `json:"as_of"`
	At        int64             // of a peer's board: when it was asked for
	Standings []frame           // of a snapshot
}

func (x *clients) read(conn *websocket.Conn, o *observer) error {
	for {
		_, b, err := conn.Read(x.ctx)
		if err != nil {
			return fmt.Errorf("a client's socket: %w", err)
		}
		at := x.clock.now()
		var f frame
		if err := json.Unmarshal(b, &f); err != nil {
			return fmt.Errorf("a client got %.200q: %w", b, err)
		}
		switch f.Type {
		case "standings":
			err = o.board(at, &f)
		case "snapshot":
			for i := range f.Standings {
				err = errors.Join(err, o.board(at, &f.Standings[i]))
			}
		case "error":
			err = fmt.Errorf("a client was told %s", b)
		}
		if err != nil {
			return err
		}
	}
}

// board notes a board of the whole hunt.
func (o *observer) board(at int64, f *frame) error {
	if f.Window != "hunt" || f.Region != "" {
		return nil
	}
	if f.At != 0 {
		o.saw(at, []place{moment(f.At)})
		return nil
	}
	upTo := make([]place, 0, len(f.AsOf))
	for name, offset := range f.AsOf {
		var p place
		var err error
		if _, err = fmt.Sscanf(name, "s%d", &p.shard); err == nil {
			p.at, err = eventlog.ParseOffset(offset)
		}
		if err != nil {
			return fmt.Errorf("as_of %q: %q: %w", name, offset, err)
		}
		upTo = append(upTo, p)
	}
	o.saw(at, upTo)
	return nil
}

// close ends the clients, and returns what went wrong with them before.
func (x *clients) close() error {
	x.stop()
	x.wg.Wait()
	for _, c := range x.conns {
		_ = c.CloseNow() // the server may be gone
	}
	return x.err
}

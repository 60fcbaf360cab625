package load

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"

	"github.com/veltrix/cairn"
)

// connect opens the sockets. The first is the probe: it watches the whole hunt
// and its standings, and looks into every frame. The others are a crowd.
// background ends with life.
func (r *run) connect(ctx, life context.Context, background *sync.WaitGroup) error {
	var err error
	if r.sockets, err = openSockets(ctx, &r.opts, r.hunt); err != nil {
		return fmt.Errorf("connecting sockets: %w", err)
	}
	background.Go(func() { r.tell(life) })
	if r.opts.Connections == 0 {
		return nil
	}
	r.probe = newProbe(r.stats)
	s, err := r.dial(ctx)
	if err != nil {
		return errors.Join(fmt.Errorf("connecting sockets: %w", err), r.sockets.close())
	}
	s.probe = r.probe
	stop := context.AfterFunc(life, func() { s.conn.Close() })
	background.Go(func() {
		defer stop()
		defer s.conn.Close()
		if err := s.read(); life.Err() == nil {
			r.stats.dropped.Add(1)
			r.opts.Log.Debug("socket ended", "err", err)
		}
	})
	if err := r.sockets.grow(ctx, r.opts.Connections-1); err != nil {
		return errors.Join(fmt.Errorf("connecting sockets: %w", err), r.sockets.close())
	}
	return nil
}

// A socket is the probe's connection to /v1/live.
type socket struct {
	conn  net.Conn
	in    *wsutil.Reader
	stats *stats
	probe *probe
	seq   map[cairn.Cell]uint64
}

// dial connects, says hello and begins to watch.
func (r *run) dial(ctx context.Context) (*socket, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	d := ws.Dialer{Protocols: []string{"cairn.v1.json"}, Header: ws.HandshakeHeaderHTTP(http.Header{})}
	conn, br, _, err := d.Dial(ctx, r.client.live())
	if err != nil {
		return nil, err
	}
	s := &socket{conn: conn, stats: r.stats, seq: map[cairn.Cell]uint64{}}
	s.in = &wsutil.Reader{Source: conn, State: ws.StateClientSide, CheckUTF8: false}
	if br != nil {
		s.in.Source = br
	}
	for _, frame := range []any{
		map[string]any{"type": "hello"},
		map[string]any{"type": "watch", "hunt": r.hunt, "regions": []string{""}, "standings": true},
	} {
		b, err := json.Marshal(frame)
		if err == nil {
			err = wsutil.WriteClientText(conn, b)
		}
		if err != nil {
			conn.Close()
			return nil, err
		}
	}
	return s, nil
}

// read takes frames until the connection ends, and returns why.
func (s *socket) read() error {
	var buf []byte
	answer := wsutil.ControlFrameHandler(s.conn, ws.StateClientSide)
	for {
		h, err := s.in.NextFrame()
		if err != nil {
			return err
		}
		if h.OpCode.IsControl() {
			if err := answer(h, s.in); err != nil {
				return err
			}
			continue
		}
		if int64(cap(buf)) < h.Length {
			buf = make([]byte, h.Length*3/2)
		}
		buf = buf[:h.Length]
		for n := 0; n < len(buf); {
			m, err := s.in.Read(buf[n:])
			if n += m; err != nil && n < len(buf) {
				return err
			}
		}
		s.stats.delivered(len(buf))
		if err := s.take(buf); err != nil {
			return err
		}
	}
}

// A liveFrame is what the probe wants to know of a frame from the server.
type liveFrame struct {
	Type    string            `json:"type"`
	Region  cairn.Cell        `json:"region"`
	From    uint64            `json:"from"`
	Seq     uint64            `json:"seq"`
	Code    string            `json:"code"`
	Detail  string            `json:"detail"`
	AsOf    map[string]string `json:"as_of"`
	Window  string            `json:"window"`
	Claimed []struct {
		Map  cairn.Tick `json:"map"`
		Tile uint32     `json:"tile"`
	} `json:"claimed"`
}

// take looks into one frame.
func (s *socket) take(b []byte) error {
	now := time.Now()
	var f liveFrame
	if err := json.Unmarshal(b, &f); err != nil {
		return fmt.Errorf("frame %.80q: %w", b, err)
	}
	switch f.Type {
	case "snapshot":
		clear(s.seq)
		s.seq[0] = f.Seq
		s.probe.snapshots++
	case "delta":
		if last, ok := s.seq[f.Region]; ok && f.From > last {
			s.stats.gaps.Add(1)
		}
		s.seq[f.Region] = f.Seq
		for _, c := range f.Claimed {
			s.probe.claimed(tileKey{c.Map, c.Tile}, now)
		}
	case "standings":
		if f.Window == "" || f.Window == "hunt" {
			s.probe.standings(f.AsOf, now)
		}
	case "error":
		return fmt.Errorf("the server says %s: %s", f.Code, f.Detail)
	}
	return nil
}

// A probe times how long a won claim takes to reach a socket: as a delta, and
// in the standings. It learns of a claim from two sides, in either order.
type probe struct {
	stats     *stats
	snapshots int // by the socket's goroutine

	mu     sync.Mutex
	sent   map[tileKey]time.Time // won, and not yet seen in a delta
	seen   map[tileKey]time.Time // seen in a delta, and not yet known to be won
	boards map[int][]won         // by shard: won, and not yet in a board
	asOf   map[int]reached       // by shard: the newest board
}

// A won is a claim that waits for a board that reflects it.
type won struct {
	place cairn.Place
	due   time.Time
}

// A reached is up to where a board reflects a shard, and when that was seen.
type reached struct {
	epoch, seq uint64
	at         time.Time
}

func (b reached) covers(p cairn.Place) bool {
	return p.Epoch < b.epoch || p.Epoch == b.epoch && p.Seq <= b.seq
}

func newProbe(s *stats) *probe {
	return &probe{stats: s, sent: map[tileKey]time.Time{}, seen: map[tileKey]time.Time{}, boards: map[int][]won{}, asOf: map[int]reached{}}
}

// expect says that a claim, due at the given time, was won.
func (p *probe) expect(k tileKey, offset string, due time.Time) {
	place, err := cairn.ParsePlace(offset)
	if err != nil {
		p.stats.failed(err)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if at, ok := p.seen[k]; ok {
		delete(p.seen, k)
		p.stats.delta.record(at.Sub(due))
	} else {
		p.sent[k] = due
	}
	if b := p.asOf[place.Shard]; b.covers(place) {
		// Its board came before its answer: how long before is not known any
		// more, so it counts as late as the newest one.
		p.stats.board.record(b.at.Sub(due))
		return
	}
	p.boards[place.Shard] = append(p.boards[place.Shard], won{place, due})
}

// claimed says that a delta told of a claim.
func (p *probe) claimed(k tileKey, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if due, ok := p.sent[k]; ok {
		delete(p.sent, k)
		p.stats.delta.record(now.Sub(due))
		return
	}
	p.seen[k] = now // a stranger's, or its answer is still on its way
}

// standings says that a board came that reflects the logs up to asOf.
func (p *probe) standings(asOf map[string]string, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for name, off := range asOf {
		var shard int
		b := reached{at: now}
		if _, err := fmt.Sscanf(name+" "+off, "s%d %d-%d", &shard, &b.epoch, &b.seq); err != nil {
			p.stats.failed(fmt.Errorf("as_of %s %s: %w", name, off, err))
			continue
		}
		if old := p.asOf[shard]; old.epoch == b.epoch && old.seq == b.seq {
			continue
		}
		p.asOf[shard] = b
		left := p.boards[shard][:0]
		for _, w := range p.boards[shard] {
			if b.covers(w.place) {
				p.stats.board.record(now.Sub(w.due))
			} else {
				left = append(left, w)
			}
		}
		p.boards[shard] = left
	}
}

// waiting returns how many claims have not reached the socket yet.
func (p *probe) waiting() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.sent)
	for _, b := range p.boards {
		n += len(b)
	}
	return n
}

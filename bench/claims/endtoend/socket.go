//go:build unix

package endtoend

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/gobwas/ws"
)

// A socket is one player on a WebSocket of cairn.v1.json. It has many claims in
// flight, and is lean: it shares the machine's cores with what it measures.
type socket struct {
	conn   net.Conn
	r      *bufio.Reader
	hunt   string
	window int // claims in flight, at most

	out  []byte      // frames to be written at once
	free []int       // ids of claims that are not in flight
	due  []time.Time // by id: when the claim was due
	tile []target    // likewise: what it is for
	tally
}

// A target is a tile that is tried.
type target struct {
	tick int64
	tile uint32
}

// A tally is what came of claims.
type tally struct {
	answered, won, other int64
	wins                 []target
	latency              histogram
}

// dial connects a player, says hello and waits for the welcome.
func dial(ctx context.Context, addr, hunt, token string, window int) (*socket, error) {
	d := ws.Dialer{Protocols: []string{"cairn.v1.json"}, Timeout: 10 * time.Second}
	conn, early, _, err := d.Dial(ctx, "ws://"+addr+"/v1/live")
	if err != nil {
		return nil, fmt.Errorf("endtoend: %s: %w", addr, err)
	}
	s := &socket{conn: conn, hunt: hunt, window: window, due: make([]time.Time, window), tile: make([]target, window)}
	for id := range window {
		s.free = append(s.free, id)
	}
	var src io.Reader = conn
	if early != nil {
		src = io.MultiReader(early, conn)
	}
	s.r = bufio.NewReaderSize(src, 64<<10)
	s.frame(fmt.Appendf(nil, `{"type":"hello","token":%q}`, token))
	if err := s.welcomed(); err != nil {
		conn.Close()
		return nil, fmt.Errorf("endtoend: %s: hello: %w", addr, err)
	}
	return s, nil
}

// welcomed sends the hello and waits for what it is answered with.
func (s *socket) welcomed() error {
	if err := s.flush(); err != nil {
		return err
	}
	p, err := s.read()
	if err == nil && !bytes.HasPrefix(p, []byte(`{"type":"welcome"`)) {
		err = fmt.Errorf("got %.200s; want a welcome", p)
	}
	return err
}

// frame adds a message. Its mask is zero, which is one of those that there are,
// and spares the client the masking.
func (s *socket) frame(payload []byte) {
	const fin, masked, short, long = 0x80, 0x80, 125, 126
	s.out = append(s.out, fin|byte(ws.OpText))
	if n := len(payload); n <= short {
		s.out = append(s.out, masked|byte(n))
	} else {
		s.out = binary.BigEndian.AppendUint16(append(s.out, masked|long), uint16(n))
	}
	s.out = append(append(s.out, 0, 0, 0, 0), payload...)
}

// claim adds a claim that was due at a time. There must be room in the window.
func (s *socket) claim(t target, due time.Time) {
	id := s.free[len(s.free)-1]
	s.free = s.free[:len(s.free)-1]
	s.due[id], s.tile[id] = due, t
	var room [160]byte
	b := strconv.AppendInt(append(room[:0], `{"type":"claim","id":"`...), int64(id), 10)
	b = append(append(b, `","hunt":"`...), s.hunt...)
	b = strconv.AppendInt(append(b, `","map":`...), t.tick, 10)
	b = strconv.AppendUint(append(b, `,"tile":`...), uint64(t.tile), 10)
	s.frame(append(b, '}'))
}

func (s *socket) flush() error {
	_, err := s.conn.Write(s.out)
	s.out = s.out[:0]
	return err
}

// read returns the payload of the next frame, if it is text: nil for a ping,
// which needs no answer from one that has so much to say. It is good until the
// next read.
func (s *socket) read() ([]byte, error) {
	h, err := s.r.Peek(2)
	if err != nil {
		return nil, err
	}
	op, n, size := ws.OpCode(h[0]&15), 2, int(h[1])
	switch {
	case size == 126:
		if h, err = s.r.Peek(4); err != nil {
			return nil, err
		}
		n, size = 4, int(binary.BigEndian.Uint16(h[2:]))
	case size > 126:
		return nil, errors.New("a frame over 64 KiB, or one that is masked")
	}
	b, err := s.r.Peek(n + size)
	if err != nil {
		return nil, err
	}
	if _, err := s.r.Discard(len(b)); err != nil {
		return nil, err
	}
	switch op {
	case ws.OpText:
		return b[n:], nil
	case ws.OpPing, ws.OpPong:
		return nil, nil
	}
	return nil, fmt.Errorf("a frame of kind %x: %.200q", op, b[n:])
}

// The beginning of an outcome's frame.
var (
	beginOutcome = []byte(`{"type":"outcome","id":"`)
	beginWord    = []byte(`","outcome":"`)
	wordWon      = []byte(`won"`)
	wordGone     = []byte(`gone"`)
	beginError   = []byte(`{"type":"error"`)
)

// answers reads a message and all others that have come, and returns how many
// of them are outcomes.
func (s *socket) answers() (n int, err error) {
	for first := true; first || s.r.Buffered() > 0; first = false {
		p, err := s.read()
		if err != nil {
			return n, err
		}
		rest, ok := bytes.CutPrefix(p, beginOutcome)
		if !ok {
			if bytes.HasPrefix(p, beginError) {
				return n, fmt.Errorf("endtoend: %s", p)
			}
			continue
		}
		id, i := 0, 0
		for ; i < len(rest) && i < 6 && rest[i] >= '0' && rest[i] <= '9'; i++ {
			id = 10*id + int(rest[i]-'0')
		}
		word, ok := bytes.CutPrefix(rest[i:], beginWord)
		if !ok || id >= s.window || s.due[id].IsZero() {
			return n, fmt.Errorf("endtoend: an outcome that is not of a claim in flight: %s", p)
		}
		s.latency.record(time.Since(s.due[id]))
		s.due[id] = time.Time{}
		s.free = append(s.free, id)
		s.answered++
		switch {
		case bytes.HasPrefix(word, wordWon):
			s.won++
			s.wins = append(s.wins, s.tile[id])
		case !bytes.HasPrefix(word, wordGone):
			s.other++
		}
		n++
	}
	return n, nil
}

// flood keeps the window full until the time is over, and then hears the last
// outcomes.
func (s *socket) flood(until time.Time, draw func(time.Time) target) error {
	now := time.Now()
	for range s.window {
		s.claim(draw(now), now)
	}
	inFlight := s.window
	for {
		if len(s.out) > 0 {
			if err := s.flush(); err != nil {
				return err
			}
		}
		n, err := s.answers()
		if err != nil {
			return err
		}
		if inFlight -= n; !time.Now().Before(until) {
			if inFlight == 0 {
				return nil
			}
			continue
		}
		now := time.Now()
		for ; n > 0; n-- {
			s.claim(draw(now), now)
			inFlight++
		}
	}
}

// pace sends a claim every so often, from a time on until the time is over. One
// that can't be sent because the window is full is sent later, and counted from
// when it was due.
func (s *socket) pace(from, until time.Time, every time.Duration, draw func(time.Time) target) error {
	var mu sync.Mutex // guards the socket but for its reader
	free := make(chan struct{}, s.window)
	for range s.window {
		free <- struct{}{}
	}
	sent := make(chan error, 1)
	total := int(until.Sub(from) / every)
	go func() { sent <- s.paced(&mu, free, total, from, every, draw) }()
	for heard := 0; heard < total; {
		if err := s.await(); err != nil {
			return errors.Join(err, s.conn.Close(), <-sent)
		}
		mu.Lock()
		n, err := s.answers()
		mu.Unlock()
		if err != nil {
			return errors.Join(err, s.conn.Close(), <-sent)
		}
		heard += n
		for range n {
			free <- struct{}{}
		}
	}
	return <-sent
}

// await waits until there is something to read.
func (s *socket) await() error {
	_, err := s.r.Peek(1)
	return err
}

// paced sends what is due.
func (s *socket) paced(mu *sync.Mutex, free <-chan struct{}, total int, from time.Time, every time.Duration, draw func(time.Time) target) error {
	for i := 0; i < total; {
		due := from.Add(time.Duration(i) * every)
		if d := time.Until(due); d > 0 {
			time.Sleep(d)
		}
		<-free
		mu.Lock()
		s.claim(draw(due), due)
		for i++; i < total; i++ { // what else is due by now
			due = from.Add(time.Duration(i) * every)
			if time.Until(due) > 0 {
				break
			}
			select {
			case <-free:
				s.claim(draw(due), due)
				continue
			default:
			}
			break
		}
		err := s.flush()
		mu.Unlock()
		if err != nil {
			return err
		}
	}
	return nil
}

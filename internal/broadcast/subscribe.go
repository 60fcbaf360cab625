package broadcast

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/veltrix/cairn"
)

// sseComment keeps a silent stream of events alive.
var sseComment = []byte(": still here\n\n")

const sseCommentEvery = 15 * time.Second

// An Interest is what one who watches wants to see of one hunt.
type Interest struct {
	Codec     Codec // of the frames; a Subscription has JSON whatever it says
	Hunt      cairn.HuntID
	Regions   []cairn.Cell // at most wire.WatchRegionsMax
	Standings bool
}

// A Resume is where a client was when it lost its connection. The zero Resume
// is a client without a past.
type Resume struct {
	Epoch string
	Seq   uint64
}

// ParseResume parses the id of an event as Last-Event-ID brings it back,
// "epoch-seq". Anything else is a client without a past.
func ParseResume(id string) Resume {
	epoch, seq, ok := strings.Cut(id, "-")
	n, err := strconv.ParseUint(seq, 10, 64)
	if !ok || err != nil {
		return Resume{}
	}
	return Resume{epoch, n}
}

// A Subscription is one who watches through Server-Sent Events.
type Subscription struct {
	hub    *Hub
	del    *deliverer
	signal chan struct{} // never closed; one token says that there may be news
	feed   feed          // owned by whoever calls Next

	closed sync.Once

	mu      sync.Mutex
	left    time.Duration // to go elsewhere
	drained int           // 0: no; 1: the event is to be sent; 2: it was
	over    bool
}

// Subscribe begins to watch. The caller calls Close when it is done, at the
// latest when Next has failed: [Hub.Run] waits for it. Errors:
// ErrHuntUnknown, ErrNotReady, ErrDraining, or a *cairn.FieldError about
// regions.
func (h *Hub) Subscribe(interest Interest, resume Resume) (*Subscription, error) {
	if err := h.admit(); err != nil {
		return nil, err
	}
	interest.Codec = JSON
	v, err := h.acquire(interest)
	if err != nil {
		h.serving.Done()
		return nil, err
	}
	d := h.deliverer()
	s := &Subscription{hub: h, del: d, signal: make(chan struct{}, 1), feed: feed{hub: h, del: d}}
	s.feed.watch(s, interest.Hunt, v, resume)
	d.enter(s)
	h.metrics.connections.WithLabelValues(transportSSE).Inc()
	return s, nil
}

// Next waits until there is something to send, and returns it as whole
// events, shared and immutable, to be written in order before Next is called
// again. Every 15 s without an event it returns a comment, so that a dead
// connection is noticed. One goroutine at a time. Errors: ctx's, and
// ErrDraining after the drain event was returned or when the hub has stopped.
func (s *Subscription) Next(ctx context.Context) (frames [][]byte, err error) {
	silence := time.NewTimer(sseCommentEvery)
	defer silence.Stop()
	for {
		if b, over := s.farewell(); b != nil {
			return [][]byte{b}, nil
		} else if over {
			return nil, ErrDraining
		}
		fs, _ := s.feed.collect(nil, false)
		if len(fs) > 0 {
			return s.events(fs), nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-silence.C:
			return [][]byte{sseComment}, nil
		case <-s.signal:
		}
	}
}

// events returns frames as events.
func (s *Subscription) events(fs []*frame) [][]byte {
	epoch := s.feed.cursors[0].life.epoch
	m := s.hub.metrics
	m.deliveries.Add(float64(len(fs)))
	out := make([][]byte, len(fs))
	for i, f := range fs {
		out[i] = f.sse(epoch)
		m.bytes.Add(float64(len(out[i])))
		if f.fresh != 0 {
			m.standings.Observe(cairn.InstantOf(s.hub.opts.Now()).Sub(f.fresh).Seconds())
		}
	}
	return out
}

// farewell returns the drain event if it is due, or whether all is over.
func (s *Subscription) farewell() (event []byte, over bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.drained == 1 {
		s.drained = 2
		b, err := json.Marshal(drainFrame{Type: "drain", WithinMS: s.left.Milliseconds()})
		if err != nil {
			panic(err) // it always has a JSON form
		}
		return fmt.Appendf(nil, "event: drain\ndata: %s\n\n", b), false
	}
	return nil, s.over || s.drained == 2
}

// Close ends the subscription. Next must not be running.
func (s *Subscription) Close() {
	s.closed.Do(func() {
		s.feed.close()
		s.del.exit(s)
		s.hub.metrics.connections.WithLabelValues(transportSSE).Dec()
		s.hub.serving.Done()
	})
}

// wake implements listener.
func (s *Subscription) wake() {
	select {
	case s.signal <- struct{}{}:
	default:
	}
}

// drain implements peer.
func (s *Subscription) drain(left time.Duration) {
	s.mu.Lock()
	if s.drained == 0 {
		s.drained, s.left = 1, left
	}
	s.mu.Unlock()
	s.wake()
}

// end implements peer.
func (s *Subscription) end(bool) {
	s.mu.Lock()
	s.over = true
	s.mu.Unlock()
	s.wake()
}

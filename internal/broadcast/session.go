package broadcast

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/gobwas/ws"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/wire"
)

const (
	faultsMax = 16 // malformed messages that a client may send
	huntsMax  = 16 // hunts that a client may watch at once
)

// Codes of error frames beyond those of wire.FrameError.
const (
	codeUnexpected    = "unexpected"      // a frame of a known type at the wrong time
	codeUnauthorized  = "unauthorized"    // a token that is no good, or none where one is needed
	codeUnknownHunt   = "unknown_hunt"    // no such hunt
	codeTooManyClaims = "too_many_claims" // in flight on this connection
	codeTooLarge      = "too_large"       // a message over wire.FrameBytesMax
	codeBinary        = "binary"          // a message of the other codec's kind
)

// An outlet is what a session asks of its connection. Only the goroutine that
// reads the connection calls it, but for send.
type outlet interface {
	// send queues a whole frame for this client. Any goroutine may, also when
	// the connection has ended.
	send(frame []byte)

	// reply queues the frame of a payload in the session's codec, which it
	// copies: several may share a write. Any goroutine may, as with send.
	reply(payload []byte)

	// say ends the connection with a close frame. The first one counts.
	say(code ws.StatusCode, reason, why string, cause error)

	// greet says that the client said hello: it gets a welcome, and time.
	greet()

	// watch takes up a wish. It is false if too many wait to be taken up.
	watch(w watching) bool

	// life returns a context that ends with the connection.
	life() context.Context
}

// A watching is a client's wish to watch v, or to end watching a hunt.
type watching struct {
	hunt   cairn.HuntID
	view   *view // acquired for it; nil to end
	resume Resume
}

// A session is what a client said so far, and how it is answered: the half of
// the protocol that does not depend on how bytes are read. Only the goroutine
// that reads uses it, but for inFlight.
type session struct {
	hub   *Hub
	out   outlet
	codec Codec
	edge  Edge

	in       inbound
	player   cairn.PlayerID // "" for one who only watches
	name     string
	hello    bool
	resume   Resume // of hello, until the first watch
	watched  []watched
	faults   int
	claims   *claims            // gathered; nil until there is one
	answer   func(frame []byte) // to one of them; nil until there is one
	inFlight atomic.Int32       // claims
}

// claims are those that a client sent together, in one read: they are decided
// together as well. The zero value is empty.
type claims struct {
	frames []wire.ClaimFrame
	text   wire.Text
}

// A watched is how many regions of a hunt a client watches.
type watched struct {
	hunt    cairn.HuntID
	regions int
}

// plain reports whether all that there is to know of a client is that it said
// hello and watches one hunt at most.
func (s *session) plain() bool {
	return s.hello && s.player == "" && s.faults == 0 && len(s.watched) < 2 && s.resume == Resume{} && s.in.idle()
}

// control answers a control frame, which may come between two fragments.
func (s *session) control(op ws.OpCode, p []byte) error {
	s.decide()
	switch op {
	case ws.OpPing:
		s.out.send(ownFrame(ws.OpPong, p))
	case ws.OpClose:
		return s.closed(p)
	}
	return nil
}

// closeCodeMax is the highest close code that there is: RFC 6455, 7.4.2.
const closeCodeMax = 4999

// closed answers the client's close frame.
func (s *session) closed(p []byte) error {
	code := ws.StatusNormalClosure
	if len(p) > 0 {
		var reason string
		code, reason = ws.ParseCloseFrameData(p)
		err := ws.CheckCloseFrameData(code, reason)
		if err == nil && code > closeCodeMax {
			err = ws.ErrProtocolStatusCodeUnknown
		}
		if err != nil {
			return s.protocol(err)
		}
	}
	s.out.say(code, "", endClient, nil)
	return errBye
}

// protocol ends a connection whose client breaks RFC 6455.
func (s *session) protocol(err error) error {
	s.decide()
	s.out.say(ws.StatusProtocolError, err.Error(), endProtocol, fmt.Errorf("broadcast: %w", err))
	return errBye
}

// bye ends a connection for what a client may not send.
func (s *session) bye(code ws.StatusCode, fe *wire.FrameError) error {
	s.decide()
	s.complain(fe.Code, fe.Msg, "")
	s.out.say(code, fe.Code, endProtocol, errors.New("broadcast: "+fe.Msg))
	return errBye
}

// complain sends an error frame.
func (s *session) complain(code, detail, id string) {
	s.out.send(s.codec.message(errorFrame{Type: "error", Code: code, Detail: detail, ID: id}))
}

// fault answers a message that can't be taken. A client that sends too many of
// them is cut.
func (s *session) fault(code, detail, id string) error {
	s.complain(code, detail, id)
	if s.faults++; s.faults >= faultsMax {
		s.out.say(ws.StatusPolicyViolation, "too many malformed messages", endProtocol, errors.New("broadcast: too many malformed messages"))
		return errBye
	}
	return nil
}

// message answers one message.
func (s *session) message(b []byte) error {
	if s.codec == JSON && s.hello {
		if c := s.gather(); wire.ScanClaimFrame(b, c, &s.claims.text) {
			s.claim()
			return nil
		}
		s.ungather()
	}
	f, err := s.codec.decode(b)
	if c, ok := f.(*wire.ClaimFrame); ok && err == nil && s.hello {
		*s.gather() = *c
		s.claim()
		return nil
	}
	s.decide()
	if err != nil {
		var fe *wire.FrameError
		if !errors.As(err, &fe) {
			fe = &wire.FrameError{Code: wire.FrameMalformed, Msg: err.Error()}
		}
		return s.fault(fe.Code, fe.Error(), fe.ID)
	}
	if hello, ok := f.(*wire.HelloFrame); ok != !s.hello {
		if ok {
			return s.fault(codeUnexpected, "hello: was said already", "")
		}
		s.complain(codeUnexpected, "type: the first message is a hello", "")
		s.out.say(ws.StatusPolicyViolation, "no hello", endHandshake, errors.New("broadcast: first message is not hello"))
		return errBye
	} else if ok {
		return s.greeted(hello)
	}
	switch f := f.(type) {
	case *wire.WatchFrame:
		return s.watch(f)
	default:
		s.hub.mu.RLock()
		seq := s.hub.seq
		s.hub.mu.RUnlock()
		s.out.send(s.codec.message(pongFrame{Type: "pong", Seq: seq, Now: cairn.InstantOf(s.hub.opts.Now())}))
		return nil
	}
}

// greeted takes a hello.
func (s *session) greeted(f *wire.HelloFrame) error {
	if f.Token != "" {
		player, name, err := s.edge.Hello(f.Token)
		if err != nil {
			s.complain(codeUnauthorized, err.Error(), "")
			s.out.say(ws.StatusPolicyViolation, codeUnauthorized, endHandshake, fmt.Errorf("broadcast: hello: %w", err))
			return errBye
		}
		s.player, s.name = player, name
	}
	s.hello = true
	s.resume = Resume{Epoch: f.Epoch, Seq: f.Seq}
	s.out.greet()
	return nil
}

func (s *session) watch(f *wire.WatchFrame) error {
	w := watching{hunt: f.Hunt, resume: s.resume}
	s.resume = Resume{}
	others := slices.DeleteFunc(slices.Clone(s.watched), func(w watched) bool { return w.hunt == f.Hunt })
	if len(f.Regions) > 0 || f.Standings {
		sum := len(f.Regions)
		for _, o := range others {
			sum += o.regions
		}
		if sum > wire.WatchRegionsMax || len(others) >= huntsMax {
			return s.fault(wire.FrameInvalidField, fmt.Sprintf("regions: would be %d in %d hunts; want at most %d in %d", sum, len(others)+1, wire.WatchRegionsMax, huntsMax), "")
		}
		v, err := s.hub.acquire(Interest{Hunt: f.Hunt, Regions: f.Regions, Standings: f.Standings, Codec: s.codec})
		switch {
		case errors.Is(err, ErrHuntUnknown):
			return s.fault(codeUnknownHunt, fmt.Sprintf("hunt: there is no hunt %s", f.Hunt), "")
		case err != nil:
			return s.fault(wire.FrameInvalidField, err.Error(), "")
		}
		w.view = v
		others = append(others, watched{f.Hunt, len(f.Regions)})
	}
	s.watched = others
	if !s.out.watch(w) {
		s.out.say(statusTooSlow, "too slow", endSlow, errTooSlow)
		return errBye
	}
	return nil
}

// gather returns room for one more claim.
func (s *session) gather() *wire.ClaimFrame {
	if s.claims == nil {
		s.claims = new(claims)
	}
	s.claims.frames = append(s.claims.frames, wire.ClaimFrame{})
	return &s.claims.frames[len(s.claims.frames)-1]
}

// ungather gives the room back, and returns what was in it.
func (s *session) ungather() wire.ClaimFrame {
	last := len(s.claims.frames) - 1
	f := s.claims.frames[last]
	s.claims.frames = s.claims.frames[:last]
	return f
}

// claim takes the newest claim that was gathered, or refuses it.
func (s *session) claim() {
	switch {
	case s.player == "":
		s.complain(codeUnauthorized, "claim: needs a player's token in hello", s.ungather().ID)
	case !s.enter():
		f := s.ungather()
		s.decide() // some may be answered at once
		if s.enter() {
			*s.gather() = f
		} else {
			s.complain(codeTooManyClaims, fmt.Sprintf("claim: %d are in flight; wait for an outcome", s.hub.opts.ClaimsMax), f.ID)
		}
	}
}

// enter counts a claim in, unless too many are in flight.
func (s *session) enter() bool {
	if int(s.inFlight.Add(1)) <= s.hub.opts.ClaimsMax {
		return true
	}
	s.inFlight.Add(-1)
	return false
}

// decide has the edge decide what was gathered.
func (s *session) decide() {
	if s.claims == nil || len(s.claims.frames) == 0 {
		return
	}
	if s.answer == nil {
		s.answer = func(frame []byte) {
			s.inFlight.Add(-1)
			s.out.reply(frame)
		}
	}
	s.edge.Claims(s.out.life(), s.player, s.name, s.codec, s.claims.frames, s.answer)
	clear(s.claims.frames)
	s.claims.frames = s.claims.frames[:0]
}

// ownMax bounds the frames that wait for one client alone: answers to its
// claims and pings. A client that asks on without reading is cut.
func (h *Hub) ownMax() int { return h.opts.ClaimsMax + 64 }

// welcome returns the frame that begins a life for a client.
func (h *Hub) welcome(codec Codec, player cairn.PlayerID, l *life) []byte {
	h.mu.RLock()
	seq := h.seq
	h.mu.RUnlock()
	return codec.message(welcomeFrame{Type: "welcome", Epoch: l.epoch, Seq: seq, Player: player, Now: cairn.InstantOf(h.opts.Now())})
}

package crowd

import (
	"errors"
	"net/netip"
	"time"
)

// A link moves the bytes of a loop's connections. Only the loop's goroutine
// calls it, but for wake, and it calls the loop's opened, heard and lost only
// from within poll.
type link interface {
	// dial begins to connect. small asks for a small receive buffer.
	dial(c handle, m *member, to netip.AddrPort, small bool) error

	// send sends a few bytes. It never waits: what can't be sent is an error.
	send(c handle, m *member, b []byte) error

	// unpause reads again what was not read while the member was stalled.
	unpause(c handle, m *member)

	// hangUp ends a connection; with reset by a RST, as if the network or the
	// client's process went, and else by a FIN.
	hangUp(c handle, m *member, reset bool)

	// poll takes up what happened, and waits for it as long as that.
	poll(wait time.Duration)

	// wake has poll return. Any goroutine may call it.
	wake()

	close()
}

// Errors that a connection ends with. Their texts' ends are kinds of
// Stats.Errors.
var (
	errEOF           = errors.New("crowd: hung up without a close frame")
	errSlowHandshake = errors.New("crowd: handshake took over 30s")
	errBlocked       = errors.New("crowd: server takes no bytes")
	errHandshake     = errors.New("crowd: answer to the handshake is not HTTP")
	errAccept        = errors.New("crowd: handshake refused: wrong Sec-WebSocket-Accept or Sec-WebSocket-Protocol")
	errFrame         = errors.New("crowd: frame breaks RFC 6455")
	errCutStalled    = errors.New("cut while it did not read")
)

const (
	shakeWithin = 30 * time.Second
	smallBuffer = 16 << 10  // bytes of SO_RCVBUF for those who are to stall; the kernel doubles it
	largeBuffer = 512 << 10 // bytes of it once they have resumed
	readAtOnce  = 256 << 10 // bytes; the one buffer that a loop reads into
	frameMax    = 64 << 20  // bytes; no server of ours sends more
	headMax     = 16 << 10  // bytes of an answer to the handshake
)

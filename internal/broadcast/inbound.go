package broadcast

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"unicode/utf8"

	"github.com/gobwas/ws"

	"github.com/veltrix/cairn/internal/wire"
)

// An inbound puts messages together from the bytes of a client, as they come.
// Its zero value is one that waits for a frame's first byte, and then it holds
// nothing: the memory of a message is only there while a part of it is missing.
type inbound struct {
	rest    []byte // of a frame that is not whole yet: less than a header and the longest message
	message []byte // the fragments of a message, so far
	inside  bool   // a message has begun and its last fragment is yet to come
}

// errBye says that a close frame is on its way and nothing more is to be read.
var errBye = errors.New("broadcast: goodbye")

// feed takes the next bytes, which it may change, and hands the session each
// control frame and each message that they complete. It keeps none of b. An
// error is errBye: what comes after it is of no interest.
func (in *inbound) feed(s *session, b []byte) error {
	if len(in.rest) > 0 {
		b = append(in.rest, b...)
	}
	for len(b) > 0 {
		h, n, err := header(b)
		if err != nil {
			return s.protocol(err)
		}
		if n == 0 {
			break
		}
		if err := in.check(s, h); err != nil {
			return err
		}
		end := n + int(h.Length) // bounded by check
		if len(b) < end {
			break
		}
		payload := b[n:end:end]
		b = b[end:]
		ws.Cipher(payload, h.Mask, 0)
		if h.OpCode.IsControl() {
			err = s.control(h.OpCode, payload)
		} else {
			err = in.fragment(s, h, payload)
		}
		if err != nil {
			return err
		}
	}
	s.decide()
	in.rest = nil
	if len(b) > 0 {
		in.rest = slices.Clone(b)
	}
	return nil
}

// idle reports whether nothing is kept.
func (in *inbound) idle() bool { return !in.inside && len(in.rest) == 0 }

// header reads a frame's header, and returns how many bytes it takes: none if
// b does not have all of it.
func header(b []byte) (ws.Header, int, error) {
	if h, n := shortHeader(b); n > 0 {
		return h, n, nil
	}
	r := bytes.NewReader(b)
	h, err := ws.ReadHeader(r)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return h, 0, nil
	}
	return h, len(b) - r.Len(), err
}

// shortHeader is header for the frames that clients send, which are masked and
// below 64 KiB, and allocates nothing. It takes no bytes for others.
func shortHeader(b []byte) (h ws.Header, n int) {
	const masked, short, long = 0x80, 125, 126
	n = 2
	if len(b) < n || b[1]&masked == 0 {
		return h, 0
	}
	h.Fin, h.Rsv, h.OpCode, h.Masked = b[0]&0x80 != 0, b[0]>>4&7, ws.OpCode(b[0]&15), true
	switch size := b[1] &^ masked; {
	case size <= short:
		h.Length = int64(size)
	case size == long && len(b) >= 4:
		h.Length, n = int64(binary.BigEndian.Uint16(b[2:])), 4
	default:
		return h, 0
	}
	if len(b) < n+len(h.Mask) {
		return h, 0
	}
	return h, n + copy(h.Mask[:], b[n:])
}

// check looks at a frame before its payload has come.
func (in *inbound) check(s *session, h ws.Header) error {
	state := ws.StateServerSide
	if in.inside {
		state = state.Set(ws.StateFragmented)
	}
	if err := ws.CheckHeader(h, state); err != nil {
		return s.protocol(err)
	}
	switch {
	case h.OpCode.IsControl():
	case h.OpCode != ws.OpContinuation && h.OpCode != s.codec.opcode():
		return s.bye(ws.StatusUnsupportedData, &wire.FrameError{Code: codeBinary, Msg: s.codec.otherKind()})
	case h.Length > int64(wire.FrameBytesMax-len(in.message)):
		return s.bye(ws.StatusMessageTooBig, &wire.FrameError{Code: codeTooLarge, Msg: fmt.Sprintf("message is over %d bytes", wire.FrameBytesMax)})
	}
	return nil
}

// fragment takes a data frame, and hands on the message that it ends.
func (in *inbound) fragment(s *session, h ws.Header, payload []byte) error {
	if !h.Fin {
		in.inside = true
		in.message = append(in.message, payload...)
		return nil
	}
	whole := payload
	if in.inside {
		whole = append(in.message, payload...)
		in.inside, in.message = false, nil
	}
	if s.codec == JSON && !utf8.Valid(whole) {
		return s.bye(ws.StatusInvalidFramePayloadData, &wire.FrameError{Code: wire.FrameNotUTF8, Msg: "message is not valid UTF-8"})
	}
	return s.message(whole)
}

// Package wire is the bytes of records and of client frames: what one process
// writes to a log or a socket and another reads. docs/wire.md draws them.
//
// Records begin with a tag byte that says what they are. Integers are
// varints, strings are a varint length and bytes, lists a varint count and
// their items. A decoder takes nothing on trust: what does not decode whole,
// and to the last byte, is an error that wraps ErrMalformed.
package wire

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/veltrix/cairn"
)

// ErrMalformed reports bytes that no encoder of this package wrote.
var ErrMalformed = errors.New("wire: malformed record")

// The tags. The numbers are stored: never reuse one.
const (
	tagClaims    = 0x01
	tagMapChunk  = 0x02
	tagMapHeader = 0x03
	tagBoard     = 0x04
	tagCourse    = 0x05
)

func appendString[S ~string](b []byte, s S) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// A reader takes values off the front of b. The first failure sticks, and
// from then on every value is zero.
type reader struct {
	b   []byte
	err error
}

func (r *reader) fail(what string) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: %s", ErrMalformed, what)
	}
	r.b = nil
}

func (r *reader) tag(want byte) {
	if len(r.b) == 0 || r.b[0] != want {
		r.fail(fmt.Sprintf("tag %.1x, want %02x", r.b, want))
		return
	}
	r.b = r.b[1:]
}

func (r *reader) byte(what string) byte {
	if len(r.b) == 0 {
		r.fail(what + " is missing")
		return 0
	}
	v := r.b[0]
	r.b = r.b[1:]
	return v
}

func (r *reader) uint(what string, most uint64) uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 || overlong(r.b[:n]) || v > most {
		r.fail(fmt.Sprintf("%s is missing or over %d", what, most))
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) int(what string) int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 || overlong(r.b[:n]) {
		r.fail(what + " is missing")
		return 0
	}
	r.b = r.b[n:]
	return v
}

// overlong reports whether a varint ends in a byte that adds nothing. Every
// value has one encoding, so that equal records have equal bytes.
func overlong(varint []byte) bool { return len(varint) > 1 && varint[len(varint)-1] == 0 }

func (r *reader) bytes(what string, most uint64) []byte {
	n := r.uint(what+"'s length", most)
	if n > uint64(len(r.b)) {
		r.fail(what + " is cut short")
		return nil
	}
	v := r.b[:n]
	r.b = r.b[n:]
	return v
}

func (r *reader) string(what string, most uint64) string { return string(r.bytes(what, most)) }

// count reads the length of a list whose items take at least one byte each.
func (r *reader) count(what string) int {
	n := r.uint(what+"'s count", uint64(len(r.b)))
	return int(n)
}

func (r *reader) digest(what string) (d cairn.Digest) {
	if len(r.b) < len(d) {
		r.fail(what + " is cut short")
		return d
	}
	copy(d[:], r.b)
	r.b = r.b[len(d):]
	return d
}

// end returns the first failure, or one for bytes left over.
func (r *reader) end() error {
	if r.err == nil && len(r.b) > 0 {
		r.fail(fmt.Sprintf("%d bytes too many", len(r.b)))
	}
	return r.err
}

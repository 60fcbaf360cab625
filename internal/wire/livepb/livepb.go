// Package livepb is the schema of the live protocol's second form,
// cairn.v1.proto, what is generated of it, and what appends its bytes by hand:
// frames that go to many are encoded without going through generated messages.
package livepb

import (
	_ "embed"

	"google.golang.org/protobuf/encoding/protowire"
)

//go:generate npx --yes @bufbuild/buf@1.75.0 generate

// Schema is live.proto. It must not be changed.
//
//go:embed live.proto
var Schema []byte

// AppendUint appends a field of an integer type, a bool or an enum. Like proto3
// itself it leaves out what is zero.
func AppendUint(b []byte, field protowire.Number, v uint64) []byte {
	if v == 0 {
		return b
	}
	return appendVarint(appendVarint(b, protowire.EncodeTag(field, protowire.VarintType)), v)
}

// AppendInt appends a field of a signed type, and leaves out what is zero. A
// negative value takes ten bytes.
func AppendInt[I ~int | ~int64](b []byte, field protowire.Number, v I) []byte {
	return AppendUint(b, field, uint64(int64(v)))
}

// AppendString appends a field of type string or bytes, and leaves out what is
// empty. An item of a repeated field must not be left out: see [AppendItem].
func AppendString[S ~string | ~[]byte](b []byte, field protowire.Number, v S) []byte {
	if len(v) == 0 {
		return b
	}
	return AppendItem(b, field, v)
}

// AppendItem appends an item of a repeated field of strings or bytes.
func AppendItem[S ~string | ~[]byte](b []byte, field protowire.Number, v S) []byte {
	b = AppendLength(b, field, len(v))
	return append(b, v...)
}

// AppendLength begins a field of size bytes, which the caller appends.
func AppendLength(b []byte, field protowire.Number, size int) []byte {
	return appendVarint(appendVarint(b, protowire.EncodeTag(field, protowire.BytesType)), uint64(size))
}

// appendVarint is [protowire.AppendVarint], short enough to be inlined where
// one byte does, as it does for most tags.
func appendVarint(b []byte, v uint64) []byte {
	if v < 0x80 {
		return append(b, byte(v))
	}
	return protowire.AppendVarint(b, v)
}

// A Mark stands where the length of a field is to be written.
type Mark struct {
	at   int // where the value begins if the guess is right
	room int // bytes kept for the length
}

// Begin begins a field that is a message or packed: what is appended up to
// [Mark.End] is its value. about guesses how many bytes these are; a guess
// that is far off costs a move of them.
func Begin(b []byte, field protowire.Number, about int) ([]byte, Mark) {
	b = appendVarint(b, protowire.EncodeTag(field, protowire.BytesType))
	if about < 0x80 {
		return append(b, 0), Mark{len(b) + 1, 1}
	}
	room := protowire.SizeVarint(uint64(about))
	b = append(b, "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"[:room]...)
	return b, Mark{len(b), room}
}

// End ends the field that m began.
func (m Mark) End(b []byte) []byte {
	size := len(b) - m.at
	if size < 0x80 && m.room == 1 {
		b[m.at-1] = byte(size)
		return b
	}
	need := protowire.SizeVarint(uint64(size))
	if by := need - m.room; by != 0 {
		for range by {
			b = append(b, 0) // room to move up
		}
		copy(b[m.at+by:], b[m.at:m.at+size])
		b = b[:m.at+by+size]
	}
	protowire.AppendVarint(b[:m.at-m.room], uint64(size))
	return b
}

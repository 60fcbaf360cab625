package livepb

import (
	"bytes"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"pgregory.net/rapid"
)

// TestMark: whatever was guessed, a field has its shortest form, and what
// stands before it is left alone.
func TestMark(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sizes := rapid.SampledFrom([]int{0, 1, 127, 128, 129, 16383, 16384, 16385, 70_000})
		size, about := sizes.Draw(t, "size"), sizes.Draw(t, "about")
		value := bytes.Repeat([]byte{0xa5}, size)
		b, m := Begin([]byte("before"), 3, about)
		b = m.End(append(b, value...))
		want := protowire.AppendBytes(protowire.AppendTag([]byte("before"), 3, protowire.BytesType), value)
		if !bytes.Equal(b, want) {
			t.Errorf("size %d, guessed %d: got %d bytes, %.20x…; want %d, %.20x…", size, about, len(b), b, len(want), want)
		}
	})
}

func TestAppendLeavesOutZeros(t *testing.T) {
	if b := AppendString(AppendInt(AppendUint(nil, 1, 0), 2, 0), 3, ""); len(b) != 0 {
		t.Errorf("got %x, want nothing", b)
	}
	if b := AppendItem(nil, 1, ""); !bytes.Equal(b, []byte{1<<3 | 2, 0}) {
		t.Errorf("got %x, want an empty item", b)
	}
	if b := AppendInt(nil, 1, -1); len(b) != 11 {
		t.Errorf("got %x, want a tag and ten bytes", b)
	}
}

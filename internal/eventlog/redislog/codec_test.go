package redislog

import (
	"bytes"
	"encoding/hex"
	"testing"

	"github.com/veltrix/cairn/internal/eventlog"
)

// TestHeaderBytes: what is stored must stay readable.
func TestHeaderBytes(t *testing.T) {
	e := entry{genesis: [16]byte{0xaa, 15: 0xab}, volatile: true}
	e.Kind, e.Nonce, e.Chain = eventlog.Data, eventlog.Nonce{0xbb, 7: 0xbc}, eventlog.Chain{0xcc, 15: 0xcd}
	e.Prev, e.Mark, e.From = eventlog.Offset{Epoch: 300, Seq: 1}, eventlog.Offset{Epoch: 2, Seq: 200}, eventlog.Offset{Epoch: 0, Seq: 1}
	const want = "010301" + "aa0000000000000000000000000000ab" + "bb000000000000bc" + "cc0000000000000000000000000000cd" +
		"ac0201" + "02c801" + "0001"
	if got := hex.EncodeToString(e.appendHeader(nil)); got != want {
		t.Errorf("header\n%s, want\n%s", got, want)
	}
}

func FuzzHeader(f *testing.F) {
	var e entry
	f.Add(e.appendHeader(nil))
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, b []byte) {
		var e entry
		if e.readHeader(b) != nil {
			return
		}
		var again entry
		head := e.appendHeader(nil)
		if err := again.readHeader(head); err != nil || again.Offset != e.Offset || !bytes.Equal(again.appendHeader(nil), head) {
			t.Errorf("%x became %x: %v", b, head, err)
		}
	})
}

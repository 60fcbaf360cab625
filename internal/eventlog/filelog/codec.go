package filelog

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/veltrix/cairn/internal/eventlog"
)

// Keys. A log's name has no byte 0, so that no log's keys lie between
// another's:
//
//	'b' name                           base: where a trimmed log begins
//	'h' name                           head: what the newest record is
//	'r' name 0 epoch(8) seq(8)         record, big-endian, so in log order
const (
	keyBase   = 'b'
	keyHead   = 'h'
	keyRecord = 'r'
)

func appendKey(b []byte, kind byte, name eventlog.Name) []byte {
	return append(append(b, kind), name...)
}

func appendRecordKey(b []byte, name eventlog.Name, o eventlog.Offset) []byte {
	b = append(appendKey(b, keyRecord, name), 0)
	return appendOffset(b, o)
}

// recordsFrom and recordsTo bound the keys of a log's records.
func recordsFrom(name eventlog.Name) []byte { return append(appendKey(nil, keyRecord, name), 0) }
func recordsTo(name eventlog.Name) []byte   { return append(appendKey(nil, keyRecord, name), 1) }

// recordKeyOffset returns the offset at the end of a record's key.
func recordKeyOffset(key []byte) (eventlog.Offset, error) {
	if len(key) < 18 {
		return eventlog.Offset{}, fmt.Errorf("record key of %d bytes", len(key))
	}
	return offsetAt(key[len(key)-16:]), nil
}

func appendOffset(b []byte, o eventlog.Offset) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(b, o.Epoch), o.Seq)
}

func offsetAt(b []byte) eventlog.Offset {
	return eventlog.Offset{Epoch: binary.BigEndian.Uint64(b), Seq: binary.BigEndian.Uint64(b[8:])}
}

// A record's value, after which comes the body; its offset is in the key:
//
//	 0  version (1)
//	 1  kind
//	 2  nonce      8
//	10  chain     16
//	26  prev      16  epoch, seq
//	42  mark      16
//	58  from      16
//	74  body
const (
	recordVersion   = 1
	recordHeadBytes = 74
)

func recordBytes(r *eventlog.Record) int { return recordHeadBytes + len(r.Body) }

func appendRecord(b []byte, r *eventlog.Record) []byte {
	b = append(b, recordVersion, byte(r.Kind))
	b = append(b, r.Nonce[:]...)
	b = append(b, r.Chain[:]...)
	b = appendOffset(b, r.Prev)
	b = appendOffset(b, r.Mark)
	b = appendOffset(b, r.From)
	return append(b, r.Body...)
}

// decodeRecord reads what appendRecord wrote. The body is borrowed from v.
func decodeRecord(r *eventlog.Record, o eventlog.Offset, v []byte) error {
	if len(v) < recordHeadBytes {
		return fmt.Errorf("record of %d bytes: want at least %d", len(v), recordHeadBytes)
	}
	if v[0] != recordVersion {
		return fmt.Errorf("record version %d: want %d", v[0], recordVersion)
	}
	*r = eventlog.Record{
		Offset: o,
		Kind:   eventlog.Kind(v[1]),
		Nonce:  eventlog.Nonce(v[2:10]),
		Chain:  eventlog.Chain(v[10:26]),
		Prev:   offsetAt(v[26:]),
		Mark:   offsetAt(v[42:]),
		From:   offsetAt(v[58:]),
		Body:   v[recordHeadBytes:],
	}
	if r.Kind < eventlog.Genesis || r.Kind > eventlog.Mark {
		return fmt.Errorf("record of unknown kind %d", r.Kind)
	}
	return nil
}

// A head says what a log's newest record is. It is written in the same batch
// as that record: a log whose newest record is another has lost some.
//
//	0 version (1) · 1 flags (1: volatile) · 2 genesis 16 · 18 offset 16 · 34 chain 16
type head struct {
	volatile bool
	genesis  [16]byte
	offset   eventlog.Offset
	chain    eventlog.Chain
}

const headBytes = 50

func (h *head) appendTo(b []byte) []byte {
	var flags byte
	if h.volatile {
		flags |= 1
	}
	b = append(b, recordVersion, flags)
	b = append(b, h.genesis[:]...)
	b = appendOffset(b, h.offset)
	return append(b, h.chain[:]...)
}

func decodeHead(v []byte) (head, error) {
	if len(v) != headBytes || v[0] != recordVersion || v[1] > 1 {
		return head{}, errors.New("head can't be read")
	}
	return head{
		volatile: v[1]&1 != 0,
		genesis:  [16]byte(v[2:18]),
		offset:   offsetAt(v[18:]),
		chain:    eventlog.Chain(v[34:50]),
	}, nil
}

// A base is the last record that was trimmed: the record held behind it must
// chain to it. The zero base is that of a log that is whole.
//
//	0 offset 16 · 16 chain 16
type base struct {
	offset eventlog.Offset
	chain  eventlog.Chain
}

func (p *base) appendTo(b []byte) []byte { return append(appendOffset(b, p.offset), p.chain[:]...) }

func decodeBase(v []byte) (base, error) {
	if len(v) != 32 {
		return base{}, errors.New("base can't be read")
	}
	return base{offsetAt(v), eventlog.Chain(v[16:32])}, nil
}

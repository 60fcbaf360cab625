package redislog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/redis/rueidis"

	"github.com/veltrix/cairn/internal/eventlog"
)

// A stream entry is a record, its id the record's offset, in two fields:
//
//	h  header, see below
//	b  body
//
//	header: version 1 │ kind 1 │ flags 1 │ genesis 16 │ nonce 8 │ chain 16 │
//	        prev, mark, from: epoch and seq, each an unsigned varint
//
// Every header has the genesis' id, so that a stream that was trimmed still
// tells which log it is, without a second key.
const (
	fieldHeader = "h"
	fieldBody   = "b"

	headerVersion = 1
	headerFixed   = 3 + 16 + 8 + 16

	flagVolatile = 1
)

// kindSeal is an entry that is no record, and that followers never see: it
// stands behind an epoch's last possible offset and so ends the epoch, before
// the next writer looks at what its last record is (see Store.Open).
const kindSeal eventlog.Kind = 255

// sealSeq is the seq of a seal.
const sealSeq = math.MaxUint64

// An entry is what a stream holds at an id: a record, or a seal.
type entry struct {
	eventlog.Record
	genesis  [16]byte
	volatile bool
}

func (e *entry) sealed() bool { return e.Kind == kindSeal }

func (e *entry) appendHeader(b []byte) []byte {
	var flags byte
	if e.volatile {
		flags |= flagVolatile
	}
	b = append(b, headerVersion, byte(e.Kind), flags)
	b = append(b, e.genesis[:]...)
	b = append(b, e.Nonce[:]...)
	b = append(b, e.Chain[:]...)
	for _, o := range [...]eventlog.Offset{e.Prev, e.Mark, e.From} {
		b = binary.AppendUvarint(b, o.Epoch)
		b = binary.AppendUvarint(b, o.Seq)
	}
	return b
}

var errHeader = errors.New("header is cut short")

func (e *entry) readHeader(b []byte) error {
	if len(b) < headerFixed {
		return errHeader
	}
	if b[0] != headerVersion {
		return fmt.Errorf("header version %d, want %d", b[0], headerVersion)
	}
	e.Kind, e.volatile = eventlog.Kind(b[1]), b[2]&flagVolatile != 0
	b = b[3:]
	b = b[copy(e.genesis[:], b):]
	b = b[copy(e.Nonce[:], b):]
	b = b[copy(e.Chain[:], b):]
	for _, o := range [...]*eventlog.Offset{&e.Prev, &e.Mark, &e.From} {
		for _, v := range [...]*uint64{&o.Epoch, &o.Seq} {
			x, n := binary.Uvarint(b)
			if n <= 0 {
				return errHeader
			}
			*v, b = x, b[n:]
		}
	}
	if len(b) != 0 {
		return fmt.Errorf("header has %d bytes too many", len(b))
	}
	return nil
}

// decode returns the entry that m, one of an XRANGE's reply, holds. What can't
// be one is ErrDamaged.
func decode(m rueidis.RedisMessage) (entry, error) {
	var e entry
	pair, err := m.ToArray()
	if err != nil || len(pair) != 2 {
		return e, fmt.Errorf("%w: reply is not an entry: %w", eventlog.ErrDamaged, err)
	}
	id, err := pair[0].ToString()
	if err == nil {
		e.Offset, err = eventlog.ParseOffset(id)
	}
	if err != nil {
		return e, fmt.Errorf("%w: %w", eventlog.ErrDamaged, err)
	}
	fields, err := pair[1].ToArray()
	if err != nil || len(fields) != 4 {
		return e, fmt.Errorf("%w: record %v has %d fields, want %s and %s", eventlog.ErrDamaged, e.Offset, len(fields)/2, fieldHeader, fieldBody)
	}
	var text [4]string
	for i := range fields {
		if text[i], err = fields[i].ToString(); err != nil {
			return e, fmt.Errorf("%w: record %v: %w", eventlog.ErrDamaged, e.Offset, err)
		}
	}
	if text[0] != fieldHeader || text[2] != fieldBody {
		return e, fmt.Errorf("%w: record %v has fields %.8q and %.8q", eventlog.ErrDamaged, e.Offset, text[0], text[2])
	}
	if err := e.readHeader([]byte(text[1])); err != nil {
		return e, fmt.Errorf("%w: record %v: %w", eventlog.ErrDamaged, e.Offset, err)
	}
	e.Body = []byte(text[3])
	return e, nil
}

// entries decodes the reply of an XRANGE or XREVRANGE.
func entries(r rueidis.RedisResult) ([]entry, error) {
	list, err := r.ToArray()
	if err != nil {
		if rueidis.IsRedisNil(err) {
			return nil, nil
		}
		return nil, err
	}
	out := make([]entry, 0, len(list))
	for _, m := range list {
		e, err := decode(m)
		if err != nil {
			return nil, err
		}
		out = append(out, e)
	}
	return out, nil
}

// records drops the seals among list.
func records(list []entry) []entry {
	out := list[:0]
	for _, e := range list {
		if !e.sealed() {
			out = append(out, e)
		}
	}
	return out
}

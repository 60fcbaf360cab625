package server

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/wire"
)

// Bounds of a claim's body.
const (
	claimsMax = 256 // bodies in one array

	// claimBytesMax bounds one body: two numbers, three strings at their
	// longest, and names and punctuation are below 700 bytes; the rest is for
	// white space and escapes.
	claimBytesMax = 4 << 10
	// claimsBytesMax bounds an array: 256 bodies of 512 bytes, which is an
	// ordinary body (150 bytes) three times over.
	claimsBytesMax = claimsMax * 512
)

// A claimBody is one body of a claim, as the client sent it.
type claimBody struct {
	tick    cairn.Tick
	tile    uint32
	claimID string
	answer  string
	token   string
}

// A claimDecoder decodes claims' bodies strictly: a member that is unknown,
// twice there, missing, of another type or out of range is refused by name, and
// so is text that is not UTF-8. It is reused (claimDecoders); what it decoded
// is valid until then.
type claimDecoder struct {
	buf    bytes.Buffer // the request's body
	dec    jsontext.Decoder
	frames []wire.ClaimFrame // scanned
	space  wire.Text         // of their strings
	bodies []claimBody
	fields []Field
}

var claimDecoders = sync.Pool{New: func() any { return new(claimDecoder) }}

func (d *claimDecoder) release() {
	if d.buf.Cap() > 2*claimBytesMax {
		d.buf = bytes.Buffer{} // an array's: too much to keep for one claim
	}
	clear(d.bodies)
	clear(d.frames)
	d.bodies, d.fields = d.bodies[:0], d.fields[:0]
	claimDecoders.Put(d)
}

// fieldsShown bounds how many fields of one request are named.
const fieldsShown = 16

func (d *claimDecoder) bad(at, name, format string, args ...any) {
	if len(d.fields) < fieldsShown {
		d.fields = append(d.fields, Field{In: "body", Field: at + name, Message: fmt.Sprintf(format, args...)})
	}
}

// decode decodes d.buf: one body or an array of them. What is wrong is in
// d.fields when it returns.
func (d *claimDecoder) decode() (array bool) {
	var ok bool
	if d.frames, array, ok = wire.ScanClaims(d.buf.Bytes(), d.frames[:0], &d.space, claimsMax); ok {
		for i := range d.frames {
			f := &d.frames[i]
			d.bodies = append(d.bodies, claimBody{f.Map, f.Tile, f.ClaimID, f.Answer, f.Token})
		}
		return array
	}
	return d.decodeAny()
}

// decodeAny is decode for what is not of the usual form ([wire.ScanClaims]).
func (d *claimDecoder) decodeAny() (array bool) {
	d.dec.Reset(&d.buf)
	switch k := d.dec.PeekKind(); k {
	case '{':
		d.body("")
	case '[':
		array = true
		d.array()
	default:
		if k == 0 {
			_, err := d.dec.ReadToken()
			d.syntax(err)
			return false
		}
		d.bad("", "", "the body is %s; want an object, or an array of 1 to %d", kindName(k), claimsMax)
		return false
	}
	if len(d.fields) > 0 {
		return array
	}
	if _, err := d.dec.ReadToken(); err == nil {
		d.bad("", "", "the body has more after its end")
	} else if !errors.Is(err, io.EOF) {
		d.syntax(err)
	}
	return array
}

func (d *claimDecoder) array() {
	if _, err := d.dec.ReadToken(); err != nil {
		d.syntax(err)
		return
	}
	for i := 0; ; i++ {
		k := d.dec.PeekKind()
		if k == ']' {
			_, _ = d.dec.ReadToken() // was peeked: can't fail
			if i == 0 {
				d.bad("", "", "the body is an empty array; want 1 to %d bodies", claimsMax)
			}
			return
		}
		at := "[" + strconv.Itoa(i) + "]"
		switch {
		case i == claimsMax:
			d.bad("", "", "the body has more than %d bodies", claimsMax)
			return
		case k == 0:
			_, err := d.dec.ReadToken()
			d.syntax(err)
			return
		case k != '{':
			d.bad(at, "", "is %s; want an object", kindName(k))
			return
		}
		if !d.body(at + ".") {
			return
		}
	}
}

// body decodes one object and reports whether decoding can go on behind it.
func (d *claimDecoder) body(at string) bool {
	if _, err := d.dec.ReadToken(); err != nil {
		return d.syntax(err)
	}
	var c claimBody
	var hasMap, hasTile bool
	for d.dec.PeekKind() != '}' {
		name, err := d.dec.ReadValue()
		if err != nil {
			return d.syntax(err)
		}
		// The name is borrowed from the decoder until the next read.
		var ok bool
		switch string(name) {
		case `"map"`:
			var v int64
			v, ok = d.number(at, "map", wire.ClaimTickMax)
			c.tick, hasMap = cairn.Tick(v), true
		case `"tile"`:
			var v int64
			v, ok = d.number(at, "tile", cairn.TilesPerMapMax-1)
			c.tile, hasTile = uint32(v), true
		case `"claim_id"`:
			if c.claimID, ok = d.text(at, "claim_id", cairn.ClaimIDBytesMax); ok && strings.ContainsFunc(c.claimID, isControl) {
				d.bad(at, "claim_id", "has a control character")
			}
		case `"answer"`:
			c.answer, ok = d.text(at, "answer", wire.ClaimAnswerBytesMax)
		case `"token"`:
			c.token, ok = d.text(at, "token", wire.ClaimTokenBytesMax)
		default:
			unknown, _ := jsontext.AppendUnquote(nil, name)
			d.bad(at, cut(string(unknown), 64), "is unknown; want map, tile, claim_id, answer, token")
			if err := d.dec.SkipValue(); err != nil {
				return d.syntax(err)
			}
			ok = true
		}
		if !ok {
			return false
		}
	}
	if _, err := d.dec.ReadToken(); err != nil {
		return d.syntax(err)
	}
	if !hasMap {
		d.bad(at, "map", "is missing; want a map's tick")
	}
	if !hasTile {
		d.bad(at, "tile", "is missing; want a tile's index")
	}
	d.bodies = append(d.bodies, c)
	return true
}

func isControl(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 }

// number reads a whole number of 0 to most. It reports whether decoding can go
// on: a value that is wrong is noted, and read past.
func (d *claimDecoder) number(at, name string, most int64) (int64, bool) {
	k := d.dec.PeekKind()
	raw, err := d.dec.ReadValue()
	if err != nil {
		return 0, d.syntax(err)
	}
	if k != '0' {
		d.bad(at, name, "is %s; want a whole number", kindName(k))
		return 0, true
	}
	v, err := strconv.ParseInt(string(raw), 10, 64)
	switch {
	case errors.Is(err, strconv.ErrSyntax):
		d.bad(at, name, "is %s; want a whole number in plain digits", cut(string(raw), 24))
	case err != nil || v < 0 || v > most:
		d.bad(at, name, "is %s; want 0 to %d", cut(string(raw), 24), most)
	}
	return v, true
}

// text reads a string of at most so many bytes, like number.
func (d *claimDecoder) text(at, name string, most int) (string, bool) {
	k := d.dec.PeekKind()
	raw, err := d.dec.ReadValue()
	if err != nil {
		return "", d.syntax(err)
	}
	if k != '"' {
		d.bad(at, name, "is %s; want a string", kindName(k))
		return "", true
	}
	var s string
	if body := raw[1 : len(raw)-1]; bytes.IndexByte(body, '\\') < 0 {
		s = string(body)
	} else {
		b, _ := jsontext.AppendUnquote(nil, raw) // the decoder has found it valid
		s = string(b)
	}
	if len(s) > most {
		d.bad(at, name, "has %d bytes; want at most %d", len(s), most)
	}
	return s, true
}

// syntax notes what is wrong with the JSON itself, after which nothing more
// can be read.
func (d *claimDecoder) syntax(err error) bool {
	if len(d.fields) < fieldsShown {
		d.fields = append(d.fields, jsonField(err))
	}
	return false
}

// jsonField says where and why a body could not be decoded.
func jsonField(err error) Field {
	f := Field{In: "body"}
	var syn *jsontext.SyntacticError
	var sem *json.SemanticError
	var fe *cairn.FieldError
	switch {
	case errors.As(err, &fe):
		f.Field, f.Message = fe.Field, fe.Msg
	case errors.As(err, &sem):
		f.Field, f.Message = dotted(sem.JSONPointer), semantic(sem)
	case errors.As(err, &syn):
		f.Field = dotted(syn.JSONPointer)
		f.Message = fmt.Sprintf("%v at byte %d", syn.Err, syn.ByteOffset)
		if errors.Is(err, jsontext.ErrDuplicateName) {
			f.Message = "is there twice"
		} else if errors.Is(err, io.ErrUnexpectedEOF) {
			f.Message = fmt.Sprintf("the JSON ends too early, at byte %d", syn.ByteOffset)
		}
	case errors.Is(err, io.EOF):
		f.Message = "the body is empty; want JSON"
	default:
		f.Message = err.Error()
	}
	return f
}

func semantic(e *json.SemanticError) string {
	switch {
	case errors.Is(e.Err, json.ErrUnknownName):
		return "is unknown"
	case e.Err != nil:
		return e.Err.Error()
	case e.GoType != nil:
		return fmt.Sprintf("is %s; want %s", kindName(e.JSONKind), typeName(e.GoType))
	}
	return fmt.Sprintf("is %s", kindName(e.JSONKind))
}

// dotted writes a JSON pointer as the path that people write: /reward/max is
// reward.max, and /3/tile is [3].tile.
func dotted(p jsontext.Pointer) string {
	var b strings.Builder
	for tok := range p.Tokens() {
		if _, err := strconv.Atoi(tok); err == nil {
			b.WriteString("[" + tok + "]")
			continue
		}
		if b.Len() > 0 {
			b.WriteByte('.')
		}
		b.WriteString(cut(tok, 64))
	}
	return b.String()
}

func kindName(k jsontext.Kind) string {
	switch k {
	case 'n':
		return "null"
	case 't', 'f':
		return "a boolean"
	case '"':
		return "a string"
	case '0':
		return "a number"
	case '{':
		return "an object"
	case '[':
		return "an array"
	}
	return "not a JSON value"
}

// cut shortens s to most bytes, on a boundary of characters.
func cut(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

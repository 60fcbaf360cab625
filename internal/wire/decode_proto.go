package wire

import (
	"fmt"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// The fields of live.proto that a client sends, by number.
var (
	protoFrames = []string{1: "hello", 2: "watch", 3: "claim", 4: "ping"}
	protoFields = map[string][]string{
		"hello": {1: "token", 2: "epoch", 3: "seq"},
		"watch": {1: "hunt", 2: "regions", 3: "standings"},
		"claim": {1: "id", 2: "hunt", 3: "map", 4: "tile", 5: "claim_id", 6: "answer", 7: "token"},
		"ping":  {},
	}
)

// DecodeFrameProto decodes one message of a client in cairn.v1.proto, a
// ClientFrame of live.proto. Its errors are *FrameError. It is as strict as
// [DecodeFrame], and so stricter than protobuf's own decoders: every field
// known, none twice, numbers within bounds. But a field that is not there is
// zero, be it required or not, and only text that must not be empty is missing.
func DecodeFrameProto(b []byte) (ClientFrame, error) {
	fields, ok := scanMessage(b, 1)
	if !ok {
		return nil, &FrameError{Code: FrameMalformed, Msg: "is not a message of protobuf"}
	}
	const want = "want one of hello (1), watch (2), claim (3) and ping (4)"
	switch {
	case len(fields) == 0:
		return nil, &FrameError{Code: FrameMissingField, Field: "frame", Msg: "is missing; " + want}
	case len(fields) > 1:
		return nil, &FrameError{Code: FrameUnknownField, Field: "frame", Msg: fmt.Sprintf("is there %d times; %s", len(fields), want)}
	}
	x := &fields[0]
	kind := nameOf(protoFrames, x.number)
	switch {
	case kind == "":
		return nil, &FrameError{Code: FrameUnknownType, Field: "frame", Msg: fmt.Sprintf("is field %d; %s", x.number, want)}
	case x.form != protowire.BytesType:
		return nil, &FrameError{Code: FrameInvalidField, Field: kind, Msg: fmt.Sprintf("has wire type %d; want a message", x.form)}
	}
	d := &protoDecoder{names: protoFields[kind]}
	if d.fields, ok = scanMessage(x.bytes, 8); !ok {
		return nil, &FrameError{Code: FrameMalformed, Field: kind, Msg: "is not a message of protobuf"}
	}
	f := clientFrame(kind, d)
	if err := d.end(f); err != nil {
		return nil, err
	}
	return f, nil
}

// A protoField is one field of a message as it came.
type protoField struct {
	number protowire.Number
	form   protowire.Type
	varint uint64 // of form VarintType
	bytes  []byte // of form BytesType
	taken  bool
}

// scanMessage cuts b into its fields, about as many. It is false if b is no
// message.
func scanMessage(b []byte, about int) (fields []protoField, ok bool) {
	fields = make([]protoField, 0, about)
	for len(b) > 0 {
		number, form, n := protowire.ConsumeTag(b)
		if n < 0 {
			return nil, false
		}
		b = b[n:]
		x := protoField{number: number, form: form}
		switch form {
		case protowire.VarintType:
			x.varint, n = protowire.ConsumeVarint(b)
		case protowire.BytesType:
			x.bytes, n = protowire.ConsumeBytes(b)
		default:
			n = protowire.ConsumeFieldValue(number, form, b)
		}
		if n < 0 {
			return nil, false
		}
		b = b[n:]
		fields = append(fields, x)
	}
	return fields, true
}

// nameOf returns the name of a field, or "" if it has none.
func nameOf(names []string, number protowire.Number) string {
	if number > 0 && int(number) < len(names) {
		return names[number]
	}
	return ""
}

// A protoDecoder implements frameDecoder on a message.
type protoDecoder struct {
	failure
	names  []string // by number
	fields []protoField
}

// take returns a field, or nil if it is not there.
func (d *protoDecoder) take(name string, form protowire.Type, want string) *protoField {
	for i := range d.fields {
		if nameOf(d.names, d.fields[i].number) == name {
			return d.check(&d.fields[i], name, form, want)
		}
	}
	return nil
}

// check returns x, which is taken from now on, or nil if it has another form.
func (d *protoDecoder) check(x *protoField, name string, form protowire.Type, want string) *protoField {
	x.taken = true
	if x.form != form {
		d.fail(FrameInvalidField, name, "has wire type %d; want %s", x.form, want)
		return nil
	}
	return x
}

func (d *protoDecoder) has(name string) bool {
	for i := range d.fields {
		if nameOf(d.names, d.fields[i].number) == name {
			return true
		}
	}
	return false
}

func (d *protoDecoder) string(name string, required bool, bytesMax int) string {
	var b []byte
	if x := d.take(name, protowire.BytesType, "a string"); x != nil {
		b = x.bytes
	}
	switch {
	case !utf8.Valid(b):
		d.fail(FrameNotUTF8, name, "is not valid UTF-8")
		return "" // a claim's id is said back in the error
	case len(b) > bytesMax:
		d.fail(FrameInvalidField, name, "has %d bytes; want at most %d", len(b), bytesMax)
	case required && len(b) == 0:
		d.fail(FrameMissingField, name, "is missing")
	}
	return string(b)
}

func (d *protoDecoder) int(name string, _ bool, lo, hi int64) (v int64, had bool) {
	x := d.take(name, protowire.VarintType, "a whole number")
	if x == nil {
		return 0, false
	}
	v = int64(x.varint)
	if v < lo || v > hi {
		d.fail(FrameInvalidField, name, "is %d; want a whole number, %d to %d", v, lo, hi)
	}
	return v, true
}

func (d *protoDecoder) bool(name string) bool {
	x := d.take(name, protowire.VarintType, "true or false")
	if x == nil {
		return false
	}
	if x.varint > 1 {
		d.fail(FrameInvalidField, name, "is %d; want true (1) or false (0)", x.varint)
	}
	return x.varint == 1
}

func (d *protoDecoder) strings(name string, countMax int) []string {
	var out []string
	for i := range d.fields {
		if nameOf(d.names, d.fields[i].number) != name {
			continue
		}
		x := d.check(&d.fields[i], name, protowire.BytesType, "a string")
		if x == nil {
			return nil
		}
		if !utf8.Valid(x.bytes) {
			d.fail(FrameNotUTF8, fmt.Sprintf("%s[%d]", name, len(out)), "is not valid UTF-8")
			return nil
		}
		out = append(out, string(x.bytes))
	}
	if len(out) > countMax {
		d.fail(FrameInvalidField, name, "has %d items; want at most %d", len(out), countMax)
		return nil
	}
	return out
}

// end returns the first failure, or one for a field that nobody asked for.
func (d *protoDecoder) end(f ClientFrame) error {
	for i := range d.fields {
		x := &d.fields[i]
		switch name := nameOf(d.names, x.number); {
		case x.taken:
		case name == "":
			d.fail(FrameUnknownField, fmt.Sprintf("field %d", x.number), "is not a field of this frame")
		default:
			d.fail(FrameUnknownField, name, "is there twice")
		}
	}
	return d.of(f)
}

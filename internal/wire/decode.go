package wire

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/veltrix/cairn"
)

// DecodeFrame decodes one message of a client. Its errors are *FrameError.
// It takes the frames' own form of JSON strictly: one object, whose values are
// strings, integers, booleans and lists of strings, every field known, none
// twice, none null. The order of fields is free.
func DecodeFrame(b []byte) (ClientFrame, error) {
	if !utf8.Valid(b) {
		return nil, &FrameError{Code: FrameNotUTF8, Msg: "is not valid UTF-8"}
	}
	fields, err := scanObject(b)
	if err != nil {
		return nil, err
	}
	d := &jsonDecoder{fields: fields}
	kind := d.string("type", true, 32)
	if d.err != nil {
		return nil, d.err
	}
	f := clientFrame(kind, d)
	if f == nil {
		return nil, &FrameError{Code: FrameUnknownType, Field: "type", Msg: fmt.Sprintf("is %.32q; want hello, watch, claim or ping", kind)}
	}
	if err := d.end(f); err != nil {
		return nil, err
	}
	return f, nil
}

// A frameDecoder hands out the fields of a frame, by name, in one of the
// protocol's codecs. The first failure sticks: what it returns after one means
// nothing.
type frameDecoder interface {
	// has reports whether a field is there.
	has(name string) bool

	// string returns a field of text, "" if it is not there. With required
	// that is a failure, and so is "".
	string(name string, required bool, bytesMax int) string

	// int returns a number within bounds. had is false if it is not there,
	// which is a failure with required where the codec knows of it.
	int(name string, required bool, lo, hi int64) (v int64, had bool)

	// bool returns a field that is false if it is not there.
	bool(name string) bool

	// strings returns a list.
	strings(name string, countMax int) []string

	fail(code, name, format string, args ...any)
}

// clientFrame decodes a frame of a kind, or returns nil if there is no such.
func clientFrame(kind string, d frameDecoder) ClientFrame {
	switch kind {
	case "hello":
		return helloFrame(d)
	case "watch":
		return watchFrame(d)
	case "claim":
		return claimFrame(d)
	case "ping":
		return &PingFrame{}
	}
	return nil
}

func helloFrame(d frameDecoder) *HelloFrame {
	f := &HelloFrame{
		Token: d.string("token", false, FrameBytesMax),
		Epoch: d.string("epoch", false, 64),
	}
	seq, had := d.int("seq", f.Epoch != "", 0, 1<<53)
	if had && !d.has("epoch") {
		d.fail(FrameMissingField, "epoch", "is missing, and seq means nothing without it")
	}
	if f.Epoch != "" { // "" says that there is no past, whatever seq is
		f.Seq = uint64(seq)
	}
	return f
}

func watchFrame(d frameDecoder) *WatchFrame {
	f := &WatchFrame{Hunt: huntOf(d)}
	for i, s := range d.strings("regions", WatchRegionsMax) {
		c, err := cairn.ParseCell(s)
		if err != nil {
			d.fail(FrameInvalidField, fmt.Sprintf("regions[%d]", i), "%v", err)
			break
		}
		f.Regions = append(f.Regions, c)
	}
	f.Standings = d.bool("standings")
	return f
}

func claimFrame(d frameDecoder) *ClaimFrame {
	f := &ClaimFrame{
		ID:      d.string("id", true, FrameIDBytesMax),
		Hunt:    huntOf(d),
		ClaimID: d.string("claim_id", false, cairn.ClaimIDBytesMax),
		Answer:  d.string("answer", false, ClaimAnswerBytesMax),
		Token:   d.string("token", false, ClaimTokenBytesMax),
	}
	if strings.ContainsFunc(f.ClaimID, isControl) {
		d.fail(FrameInvalidField, "claim_id", "has a control character")
	}
	tick, _ := d.int("map", true, 0, ClaimTickMax)
	tile, _ := d.int("tile", true, 0, cairn.TilesPerMapMax-1)
	f.Map, f.Tile = cairn.Tick(tick), uint32(tile)
	return f
}

func huntOf(d frameDecoder) cairn.HuntID {
	id := cairn.HuntID(d.string("hunt", true, FrameBytesMax))
	if err := cairn.ValidHuntID(id); err != nil {
		d.fail(FrameInvalidField, "hunt", "%v", err)
	}
	return id
}

func isControl(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 }

// A field is one member of a frame's object. Its value is the JSON as it came.
type field struct {
	name  string
	value []byte
	taken bool
}

// A failure is the first thing that is wrong with a frame.
type failure struct{ err *FrameError }

func (x *failure) fail(code, name, format string, args ...any) {
	if x.err == nil {
		x.err = &FrameError{Code: code, Field: name, Msg: fmt.Sprintf(format, args...)}
	}
}

// of returns the failure as one of f, or nil if there is none.
func (x *failure) of(f ClientFrame) error {
	if x.err == nil {
		return nil
	}
	if claim, ok := f.(*ClaimFrame); ok && len(claim.ID) <= FrameIDBytesMax {
		x.err.ID = claim.ID
	}
	return x.err
}

// A jsonDecoder implements frameDecoder on an object.
type jsonDecoder struct {
	failure
	fields []field
}

func (d *jsonDecoder) has(name string) bool { return d.take(name, false) != nil }

func (d *jsonDecoder) take(name string, required bool) []byte {
	for i := range d.fields {
		if d.fields[i].name == name {
			d.fields[i].taken = true
			return d.fields[i].value
		}
	}
	if required {
		d.fail(FrameMissingField, name, "is missing")
	}
	return nil
}

func (d *jsonDecoder) string(name string, required bool, bytesMax int) string {
	v := d.take(name, required)
	if v == nil {
		return ""
	}
	s, ok := stringValue(v)
	switch {
	case !ok:
		d.fail(FrameInvalidField, name, "is %.32s; want a string", v)
	case len(s) > bytesMax:
		d.fail(FrameInvalidField, name, "has %d bytes; want at most %d", len(s), bytesMax)
	case required && s == "":
		d.fail(FrameInvalidField, name, "is empty")
	}
	return s
}

func (d *jsonDecoder) int(name string, required bool, lo, hi int64) (v int64, had bool) {
	b := d.take(name, required)
	if b == nil {
		return 0, false
	}
	v, err := strconv.ParseInt(string(b), 10, 64)
	if err != nil || v < lo || v > hi {
		d.fail(FrameInvalidField, name, "is %.32s; want a whole number, %d to %d", b, lo, hi)
		return 0, true
	}
	return v, true
}

func (d *jsonDecoder) bool(name string) bool {
	switch v := d.take(name, false); string(v) {
	case "true":
		return true
	case "", "false":
	default:
		d.fail(FrameInvalidField, name, "is %.32s; want true or false", v)
	}
	return false
}

func (d *jsonDecoder) strings(name string, countMax int) []string {
	v := d.take(name, true)
	if v == nil {
		return nil
	}
	var list []json.RawMessage
	if v[0] != '[' || json.Unmarshal(v, &list) != nil {
		d.fail(FrameInvalidField, name, "is %.32s; want a list of strings", v)
		return nil
	}
	if len(list) > countMax {
		d.fail(FrameInvalidField, name, "has %d items; want at most %d", len(list), countMax)
		return nil
	}
	out := make([]string, len(list))
	for i, item := range list {
		s, ok := stringValue(item)
		if !ok {
			d.fail(FrameInvalidField, fmt.Sprintf("%s[%d]", name, i), "is %.32s; want a string", []byte(item))
			return nil
		}
		out[i] = s
	}
	return out
}

// end returns the first failure, or one for a field that nobody asked for.
func (d *jsonDecoder) end(f ClientFrame) error {
	for _, x := range d.fields {
		if !x.taken {
			d.fail(FrameUnknownField, clip(x.name), "is not a field of this frame")
		}
	}
	return d.of(f)
}

// stringValue decodes a JSON string.
func stringValue(v []byte) (s string, ok bool) {
	if v[0] != '"' {
		return "", false
	}
	if bytes.IndexByte(v, '\\') < 0 {
		return string(v[1 : len(v)-1]), true
	}
	return s, json.Unmarshal(v, &s) == nil
}

// scanObject cuts b, an object, into its fields.
func scanObject(b []byte) ([]field, error) {
	if !json.Valid(b) {
		return nil, &FrameError{Code: FrameMalformed, Msg: "is not JSON"}
	}
	b = bytes.TrimLeft(b, " \t\r\n")
	if b[0] != '{' {
		return nil, &FrameError{Code: FrameMalformed, Msg: fmt.Sprintf("is %.32s; want a JSON object", b)}
	}
	var fields []field
	for i := skipSpace(b, 1); b[i] != '}'; {
		n := skipValue(b, i)
		name, ok := stringValue(b[i:n])
		if !ok {
			return nil, &FrameError{Code: FrameMalformed, Msg: "has a name that is not a string"}
		}
		for _, f := range fields {
			if f.name == name {
				return nil, &FrameError{Code: FrameUnknownField, Field: clip(name), Msg: "is there twice"}
			}
		}
		i = skipSpace(b, skipSpace(b, n)+1) // over the colon
		n = skipValue(b, i)
		fields = append(fields, field{name: name, value: b[i:n]})
		if i = skipSpace(b, n); b[i] == ',' {
			i = skipSpace(b, i+1)
		}
	}
	return fields, nil
}

func skipSpace(b []byte, i int) int {
	for b[i] == ' ' || b[i] == '\t' || b[i] == '\r' || b[i] == '\n' {
		i++
	}
	return i
}

// skipValue returns the index behind the value at b[i] of valid JSON.
func skipValue(b []byte, i int) int {
	depth := 0
	for {
		switch b[i] {
		case '"':
			for i++; b[i] != '"'; i++ {
				if b[i] == '\\' {
					i++
				}
			}
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		default:
			if depth == 0 { // a number, true, false or null
				for i < len(b) && bytes.IndexByte([]byte(",}] \t\r\n"), b[i]) < 0 {
					i++
				}
				return i
			}
		}
		i++
		if depth == 0 {
			return i
		}
	}
}

// clip shortens a name that a client chose, for an error's text.
func clip(s string) string {
	if len(s) <= 32 {
		return s
	}
	n := 32
	for !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}

package broadcast

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/veltrix/cairn/internal/wire"
)

const bytesMax = wire.FrameBytesMax

// rfcGroups are the cases.
var rfcGroups = []func(speech) []rfcCase{
	framing, pings, reservedBits, reservedOpcodes, fragmentation, utf8Handling, closeHandling, closeCodes, limits,
}

var (
	broken  = []uint16{1002}
	notUTF8 = []uint16{1007}
	tooLong = []uint16{1009}
)

// framing is Autobahn's group 1, and 9.1 and 9.2 as far as messages may be long.
func framing(s speech) []rfcCase {
	var cs []rfcCase
	for _, n := range []int{0, 1, 124, 125, 126, 127, 128, 129, 255, 256, 1024, bytesMax - 1, bytesMax} {
		m, w := s.long(n)
		cs = append(cs, rfcCase{fmt.Sprintf("1.1/1.2 a message of %d bytes", n), maskedFrame(s.op(), true, m), []want{w}, nil})
	}
	m, w := s.long(2000)
	for _, n := range []int{1, 125, 126, 997, 1999} {
		cs = append(cs, rfcCase{fmt.Sprintf("1.1.8 in frames of %d bytes", n), s.fragments(m, n), []want{w}, nil})
	}
	other := opText + opBinary - s.op()
	for _, n := range []int{0, 125, 126, bytesMax, 65535, 65536} {
		cs = append(cs, rfcCase{
			fmt.Sprintf("1.2 %d bytes of the other kind", n), maskedFrame(other, true, make([]byte, n)),
			[]want{fault(codeBinary)},
			[]uint16{1003},
		})
	}
	for _, key := range [][]byte{{0, 0, 0, 0}, {0xff, 0xff, 0xff, 0xff}, {0, 1, 0x80, 0xff}} {
		b := append([]byte{finBit | s.op(), maskBit | 126}, 0, 0)
		p := s.claim(strings.Repeat("k", 60))
		binary.BigEndian.PutUint16(b[2:], uint16(len(p)))
		b = append(b, key...)
		for i, c := range p {
			b = append(b, c^key[i%4])
		}
		cs = append(cs, rfcCase{fmt.Sprintf("5.3 masked with % x", key), b, []want{echo(strings.Repeat("k", 60))}, nil})
	}
	for name, b := range map[string][]byte{
		"a message": append([]byte{finBit | s.op(), 2}, "{}"...), "a ping": {finBit | opPing, 0}, "a close": {finBit | opClose, 2, 3, 0xe8},
	} {
		cs = append(cs, rfcCase{"5.1 not masked: " + name, glue(s.frame("1"), b, s.frame("2")), []want{echo("1")}, broken})
	}
	return cs
}

// pings is group 2.
func pings(s speech) []rfcCase {
	long, bin := strings.Repeat("\xfe", 125), "\x00\xff\xfe\xfd\xfc\xfb\x00\xff"
	cs := []rfcCase{
		{"2.1 an empty ping", ping(""), []want{pong("")}, nil},
		{"2.2 a ping with a text", ping("Hello, world!"), []want{pong("Hello, world!")}, nil},
		{"2.3 a ping with bytes", ping(bin), []want{pong(bin)}, nil},
		{"2.4 a ping of 125 bytes", ping(long), []want{pong(long)}, nil},
		{"2.5 a ping of 126 bytes", glue(ping(long+"\xfe"), s.frame("1")), nil, broken},
		{"2.7 an empty pong", maskedFrame(opPong, true, nil), nil, nil},
		{"2.8 a pong with a payload", maskedFrame(opPong, true, []byte("unsolicited")), nil, nil},
		{"2.9 a pong, and then a ping", glue(maskedFrame(opPong, true, []byte("unsolicited")), ping("ping")), []want{pong("ping")}, nil},
		{"a pong of 126 bytes", maskedFrame(opPong, true, make([]byte, 126)), nil, broken},
	}
	var many []byte
	var answers []want
	for i := range 10 {
		p := fmt.Sprintf("payload-%d", i)
		many, answers = append(many, ping(p)...), append(answers, pong(p))
	}
	return append(cs, rfcCase{"2.10 ten pings at once", many, answers, nil})
}

// reservedBits is group 3.
func reservedBits(s speech) []rfcCase {
	var cs []rfcCase
	for rsv := byte(1); rsv < 8; rsv++ {
		for name, f := range map[string][]byte{
			"a message": rawFrame(finBit|rsv<<4|s.op(), s.claim("2")),
			"nothing":   rawFrame(finBit|rsv<<4|s.op(), nil),
			"a ping":    rawFrame(finBit|rsv<<4|opPing, nil),
			"a close":   rawFrame(finBit|rsv<<4|opClose, []byte{3, 0xe8}),
		} {
			cs = append(cs, rfcCase{fmt.Sprintf("3 %s with reserved bits %d", name, rsv), glue(s.frame("1"), f, ping("no")), []want{echo("1")}, broken})
		}
	}
	return append(cs, rfcCase{
		"3 a continuation with a reserved bit", glue(maskedFrame(s.op(), false, s.claim("1")), rawFrame(finBit|0x40|opMore, nil)), nil, broken,
	})
}

// reservedOpcodes is group 4.
func reservedOpcodes(s speech) []rfcCase {
	var cs []rfcCase
	for _, op := range []byte{3, 4, 5, 6, 7, 11, 12, 13, 14, 15} {
		for _, p := range []string{"", "reserved opcode payload"} {
			cs = append(cs, rfcCase{
				fmt.Sprintf("4 opcode %d with %d bytes", op, len(p)), glue(s.frame("1"), maskedFrame(op, true, []byte(p)), ping("no")),
				[]want{echo("1")},
				broken,
			})
		}
		cs = append(cs, rfcCase{
			fmt.Sprintf("4 opcode %d inside a message", op), glue(maskedFrame(s.op(), false, s.claim("1")), maskedFrame(op, true, nil)), nil, broken,
		})
	}
	return cs
}

// fragmentation is group 5.
func fragmentation(s speech) []rfcCase {
	m := s.claim("fragment")
	a, b, c := m[:3], m[3:9], m[9:]
	start := func(p []byte) []byte { return maskedFrame(s.op(), false, p) }
	more := func(p []byte) []byte { return maskedFrame(opMore, false, p) }
	last := func(p []byte) []byte { return maskedFrame(opMore, true, p) }
	whole := []want{echo("fragment")}
	_, empty := s.long(0)
	return []rfcCase{
		{"5.1 a ping in two fragments", glue(maskedFrame(opPing, false, []byte("frag")), last([]byte("ment"))), nil, broken},
		{"5.2 a pong in two fragments", glue(maskedFrame(opPong, false, []byte("frag")), last([]byte("ment"))), nil, broken},
		{"a close in two fragments", glue(maskedFrame(opClose, false, []byte{3}), last([]byte{0xe8})), nil, broken},
		{"5.3 two fragments", glue(start(a), last(m[3:])), whole, nil},
		{"three fragments", glue(start(a), more(b), last(c)), whole, nil},
		{"5.6 a ping between", glue(start(a), ping("pongme"), last(m[3:])), []want{pong("pongme"), whole[0]}, nil},
		{"a pong between", glue(start(a), maskedFrame(opPong, true, nil), last(m[3:])), whole, nil},
		{"5.9 a last continuation of nothing", glue(last(a), s.frame("1")), nil, broken},
		{"5.12 a continuation of nothing", glue(more(a), s.frame("1")), nil, broken},
		{"5.15 continued behind its end", glue(start(a), last(m[3:]), more(a), s.frame("1")), whole, broken},
		{"5.16 twice continued before it begins", glue(more(a), s.frame("1"), more(a), s.frame("2")), nil, broken},
		{"5.18 a message inside a message", glue(start(a), s.frame("1")), nil, broken},
		{"two starts", glue(start(a), start(a), last(m[3:])), nil, broken},
		{"the other kind inside a message", glue(start(a), maskedFrame(opText+opBinary-s.op(), true, nil)), nil, broken},
		{
			"5.19 pings between five fragments",
			glue(start(m[:1]), more(m[1:5]), ping("pongme 1!"), more(m[5:6]), more(m[6:9]), ping("pongme 2!"), last(c)),
			[]want{pong("pongme 1!"), pong("pongme 2!"), whole[0]},
			nil,
		},
		{"6.1 an empty message in three fragments", glue(start(nil), more(nil), last(nil)), []want{empty}, nil},
		{"6.1.3 empty fragments around one that is not", glue(start(nil), more(m), last(nil)), whole, nil},
		{"a hundred empty fragments", glue(start(a), bytes.Repeat(more(nil), 100), last(m[3:])), whole, nil},
		{"two messages in fragments", glue(start(a), last(m[3:]), start(a), more(b), last(c)), []want{whole[0], whole[0]}, nil},
		{"octet by octet", s.fragments(m, 1), whole, nil},
		{"left unfinished", start(a), nil, nil},
	}
}

// utf8Handling is group 6. What a message is to end with may be found at its
// end. Binary messages have no such rule.
func utf8Handling(s speech) []rfcCase {
	if Codec(s) == Proto {
		return []rfcCase{{"6.3 bytes that are not UTF-8", maskedFrame(opBinary, true, []byte("\x1a\x04\x0a\x02\xff\xfe")), []want{fault(wire.FrameNotUTF8)}, nil}}
	}
	var cs []rfcCase
	good := []string{
		"κόσμε", "Hello-µ@ßöäüàá-UTF-8!!", "\u0080", "\u07ff", "\u0800", "\ufffd", "\uffff", "\ufffe", "\U00010000", "\U0010ffff", "\u007f",
		"\ud7ff", "\ue000", "\ufdd0\ufdef", "\U0001fffe\U0001ffff\U0002fffe\U0010fffe", "\u2028\u2029", "a\u0308\u200d",
	}
	for _, text := range good {
		m := s.claim(text)
		cs = append(cs, rfcCase{fmt.Sprintf("6.2 %+q", text), maskedFrame(opText, true, m), []want{echo(text)}, nil})
		for at := range len(text) + 1 { // each cut, inside of code points too
			at += bytes.Index(m, []byte(text))
			cs = append(cs, rfcCase{
				fmt.Sprintf("6.2 %+q cut at %d", text, at), glue(maskedFrame(opText, false, m[:at]), ping("p"), maskedFrame(opMore, true, m[at:])),
				[]want{pong("p"), echo(text)},
				nil,
			})
		}
	}
	bad := []string{
		"κόσμε\xed\xa0\x80edited", "κόσμε\xf4\x90\x80\x80", // 6.3, 6.4
		"\xce", "\xce\xba\xe1", "\xce\xba\xe1\xbd", "\xce\xba\xe1\xbd\xb9\xcf", // 6.6
		"\xf8\x88\x80\x80\x80", "\xfc\x84\x80\x80\x80\x80", "\xf7\xbf\xbf\xbf", "\xfb\xbf\xbf\xbf\xbf", "\xfd\xbf\xbf\xbf\xbf\xbf", // 6.8, 6.10
		"\xf4\x90\x80\x80",         // 6.11
		"\x80", "\xbf", "\x80\xbf", // 6.12
		"\xc0 ", "\xdf ", "\xe0 \xef ", "\xf0 \xf7 ", "\xf8 ", "\xfc ", // 6.13
		"\xc0", "\xe0\x80", "\xf0\x80\x80", "\xdf", "\xef\xbf", "\xf7\xbf\xbf", // 6.14
		"\xc0\xe0\x80\xf0\x80\x80", "\xfe", "\xff", "\xfe\xfe\xff\xff", // 6.15, 6.16
		"\xc0\xaf", "\xe0\x80\xaf", "\xf0\x80\x80\xaf", "\xc1\xbf", "\xe0\x9f\xbf", "\xf0\x8f\xbf\xbf", "\xc0\x80", // 6.17 to 6.19
		"\xed\xa0\x80", "\xed\xad\xbf", "\xed\xbf\xbf", "\xed\xa0\x80\xed\xb0\x80", "\xed\xaf\xbf\xed\xbf\xbf", // 6.20, 6.21
	}
	for _, text := range bad {
		m := s.claim(text)
		cut := len(m) / 2
		cs = append(
			cs,
			rfcCase{fmt.Sprintf("6.3 %+q", text), glue(maskedFrame(opText, true, m), s.frame("1")), []want{fault(wire.FrameNotUTF8)}, notUTF8},
			rfcCase{
				fmt.Sprintf("6.4 %+q in fragments", text), glue(maskedFrame(opText, false, m[:cut]), maskedFrame(opMore, true, m[cut:]), s.frame("1")),
				[]want{fault(wire.FrameNotUTF8)},
				notUTF8,
			},
		)
	}
	return cs
}

// closeHandling is group 7 but for its close codes.
func closeHandling(s speech) []rfcCase {
	m := s.claim("1")
	normal := []uint16{1000}
	long := strings.Repeat("\xc3\xa4", 61) + "!" // 123 bytes
	return []rfcCase{
		{"7.1.1 a message, and a close", glue(s.frame("1"), closing(1000, "")), []want{echo("1")}, normal},
		{"7.1.2 two closes", glue(closing(1000, ""), closing(1001, "")), nil, normal},
		{"7.1.3 a ping behind the close", glue(closing(1000, ""), ping("no")), nil, normal},
		{"7.1.4 a message behind the close", glue(closing(1000, ""), s.frame("1")), nil, normal},
		{"7.1.5 a close inside a message", glue(maskedFrame(s.op(), false, m[:3]), closing(1000, ""), maskedFrame(opMore, true, m[3:])), nil, normal},
		{"7.1.6 256 KiB behind the close", glue(closing(1000, ""), bytes.Repeat(ping(long), 2048)), nil, normal},
		{"what no frame is behind the close", glue(closing(1000, ""), []byte{0xff, 0xff, 0xff, 0xff}), nil, normal},
		{"7.3.1 a close without a code", maskedFrame(opClose, true, nil), nil, normal},
		{"7.3.2 a close of one byte", maskedFrame(opClose, true, []byte{3}), nil, broken},
		{"7.3.3 a close of two bytes", closing(1000, ""), nil, normal},
		{"7.3.4 a close with a reason", closing(1000, "Hello World!"), nil, normal},
		{"7.3.5 a reason of 123 bytes", closing(1000, long), nil, normal},
		{"7.3.6 a reason of 124 bytes", closing(1000, long+"!"), nil, broken},
		{"7.5.1 a reason that is not UTF-8", closing(1000, "\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited"), nil, []uint16{1002, 1007}},
		{"a reason that ends in a code point", closing(1000, "\xce"), nil, []uint16{1002, 1007}},
	}
}

// closeCodes is 7.7, 7.9 and 7.13.
func closeCodes(speech) []rfcCase {
	var cs []rfcCase
	add := func(sent uint16, end ...uint16) {
		for _, reason := range []string{"", "a reason"} {
			cs = append(cs, rfcCase{fmt.Sprintf("7.7/7.9 close code %d %q", sent, reason), closing(sent, reason), nil, end})
		}
	}
	for _, code := range []uint16{1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999} {
		add(code, code)
	}
	for _, code := range []uint16{0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 9999, 65535} {
		add(code, 1002)
	}
	for _, code := range []uint16{1012, 1013, 1014} { // registered since, and a server's: either will do
		add(code, code, 1002)
	}
	return cs
}

// limits is what groups 9 and 10 are about, at 4 KiB.
func limits(s speech) []rfcCase {
	m, w := s.long(bytesMax)
	over, _ := s.long(bytesMax + 1)
	refused := []want{fault(codeTooLarge)}
	cs := []rfcCase{
		{"9 one byte too many", glue(maskedFrame(s.op(), true, over), s.frame("1")), refused, tooLong},
		{"9 a header of one byte too many", clientHeader(finBit|s.op(), bytesMax+1), refused, tooLong},
		{"9 a header of 64 KiB", clientHeader(finBit|s.op(), 1<<16), refused, tooLong},
		{"9 a header of 2^63-1", clientHeader(finBit|s.op(), math.MaxInt64), refused, tooLong},
		{"9 a header of 2^63", clientHeader(finBit|s.op(), 1<<63), nil, broken},
		{"9 a header of 2^64-1", clientHeader(finBit|s.op(), math.MaxUint64), nil, broken},
		{"9 a ping of 2^63-1", clientHeader(finBit|opPing, math.MaxInt64), nil, broken},
		{"9 a fragment of 2^63-1", glue(maskedFrame(s.op(), false, m[:10]), clientHeader(finBit|opMore, math.MaxInt64)), refused, tooLong},
		{"9 full, and an empty fragment", glue(maskedFrame(s.op(), false, m), maskedFrame(opMore, true, nil)), []want{w}, nil},
		{"9 full, and a ping", glue(maskedFrame(s.op(), false, m), ping("p"), maskedFrame(opMore, true, nil)), []want{pong("p"), w}, nil},
		{"9 full, and one byte", glue(maskedFrame(s.op(), false, m), clientHeader(opMore, 1)), refused, tooLong},
		{"9 ten messages in a row", bytes.Repeat(maskedFrame(s.op(), true, m), 10), slices.Repeat([]want{w}, 10), nil},
	}
	for _, n := range []int{64, 256, 1024, 1300, bytesMax - 1} { // 9.3 to 9.6, 10.1.1
		cs = append(
			cs,
			rfcCase{fmt.Sprintf("9.3 4 KiB in frames of %d", n), s.fragments(m, n), []want{w}, nil},
			rfcCase{fmt.Sprintf("9.3 one byte too many in frames of %d", n), glue(s.fragments(over, n), s.frame("1")), refused, tooLong},
		)
	}
	return cs
}

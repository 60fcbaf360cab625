package wire

import (
	"strings"

	"github.com/veltrix/cairn"
)

// textChunk is how much memory a Text takes at a time: that of some 200 claims.
const textChunk = 8 << 10

// A Text holds the strings of many claims in few pieces of memory, so that one
// costs no allocation of its own. A string keeps the others of its piece. The
// zero Text is empty.
type Text struct {
	chunk strings.Builder // only ever appended to, never beyond its capacity
	hunt  cairn.HuntID    // the last that was found valid: most claims are of the same
}

// keep returns b as a string.
func (t *Text) keep(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	if t.chunk.Cap()-t.chunk.Len() < len(b) {
		t.chunk.Reset()
		t.chunk.Grow(textChunk)
	}
	at := t.chunk.Len()
	t.chunk.Write(b)
	return t.chunk.String()[at:]
}

// huntID returns b as the id of a hunt, and whether it is one.
func (t *Text) huntID(b []byte) (cairn.HuntID, bool) {
	if string(b) != string(t.hunt) || len(b) == 0 {
		id := cairn.HuntID(b)
		if cairn.ValidHuntID(id) != nil {
			return "", false
		}
		t.hunt = id
	}
	return t.hunt, true
}

// ScanClaimFrame decodes a claim frame of the form that clients send: printable
// ASCII without escapes. It returns false for whatever else there is, valid or
// not: [DecodeFrame] then says what it is. Both decode what they take alike.
func ScanClaimFrame(b []byte, f *ClaimFrame, text *Text) bool {
	s := scanner{b: b, text: text}
	*f = ClaimFrame{}
	s.claim(f, memberFrame)
	const want = memberType | memberID | memberHunt | memberMap | memberTile
	return s.end() && s.seen&want == want && f.ID != ""
}

// ScanClaims decodes the body of POST claims, one or an array of them, and
// appends them to fs: of each frame what a body has. It returns false as
// ScanClaimFrame does, and for an array that is empty or has more than most.
func ScanClaims(b []byte, fs []ClaimFrame, text *Text, most int) (_ []ClaimFrame, array, ok bool) {
	s := scanner{b: b, text: text}
	array = s.token('[')
	for first := len(fs); ; {
		fs = append(fs, ClaimFrame{})
		s.seen = 0
		s.claim(&fs[len(fs)-1], memberBody)
		const want = memberMap | memberTile
		if s.bad || s.seen&want != want || len(fs)-first > most {
			return fs[:first], array, false
		}
		if !array || !s.token(',') {
			break
		}
	}
	if array {
		s.want(']')
	}
	return fs, array, s.end()
}

// The members of a claim.
const (
	memberType = 1 << iota
	memberID
	memberHunt
	memberMap
	memberTile
	memberClaimID
	memberAnswer
	memberToken

	memberBody  = memberMap | memberTile | memberClaimID | memberAnswer | memberToken
	memberFrame = memberBody | memberType | memberID | memberHunt
)

// A scanner reads claims off b. bad sticks: what it returns then means nothing.
type scanner struct {
	b    []byte
	i    int
	text *Text
	seen int // members
	bad  bool
}

// claim reads one object, of which the members in allowed may be there once.
func (s *scanner) claim(f *ClaimFrame, allowed int) {
	s.want('{')
	for !s.bad {
		name := s.bytes(16)
		s.want(':')
		member := 0
		switch string(name) {
		case "type":
			member = memberType
			s.bad = s.bad || string(s.bytes(16)) != "claim"
		case "id":
			member, f.ID = memberID, s.text.keep(s.bytes(FrameIDBytesMax))
		case "hunt":
			id, ok := s.text.huntID(s.bytes(cairn.HuntNameBytesMax))
			member, f.Hunt, s.bad = memberHunt, id, s.bad || !ok
		case "map":
			member, f.Map = memberMap, cairn.Tick(s.number(ClaimTickMax))
		case "tile":
			member, f.Tile = memberTile, uint32(s.number(cairn.TilesPerMapMax-1))
		case "claim_id":
			member, f.ClaimID = memberClaimID, s.text.keep(s.bytes(cairn.ClaimIDBytesMax))
		case "answer":
			member, f.Answer = memberAnswer, s.text.keep(s.bytes(ClaimAnswerBytesMax))
		case "token":
			member, f.Token = memberToken, s.text.keep(s.bytes(ClaimTokenBytesMax))
		}
		if member&allowed == 0 || s.seen&member != 0 {
			s.bad = true
		}
		s.seen |= member
		if !s.token(',') {
			s.want('}')
			return
		}
	}
}

// space passes over space.
func (s *scanner) space() {
	for s.i < len(s.b) && (s.b[s.i] == ' ' || s.b[s.i] == '\n' || s.b[s.i] == '\r' || s.b[s.i] == '\t') {
		s.i++
	}
}

// token reads c, with space before it, if it is there.
func (s *scanner) token(c byte) bool {
	s.space()
	if s.i == len(s.b) || s.b[s.i] != c {
		return false
	}
	s.i++
	return true
}

func (s *scanner) want(c byte) {
	if !s.token(c) {
		s.bad = true
	}
}

// end reports whether all was read, and well.
func (s *scanner) end() bool {
	s.space()
	return !s.bad && s.i == len(s.b)
}

// bytes reads a string of printable ASCII without escapes, of at most so many
// bytes.
func (s *scanner) bytes(most int) []byte {
	s.want('"')
	if s.bad {
		return nil
	}
	rest := s.b[s.i:]
	for n, c := range rest {
		if c == '"' {
			s.i += n + 1
			s.bad = n > most
			return rest[:n]
		}
		if c < ' ' || c > '~' || c == '\\' {
			break
		}
	}
	s.bad = true
	return nil
}

// number reads a whole number of 0 to most, as JSON has it: without zeros
// before it.
func (s *scanner) number(most int64) int64 {
	s.space()
	const digitsMax = 16 // more than any that is let in has, and no overflow
	var v int64
	n := 0
	for rest := s.b[s.i:]; n < len(rest) && n <= digitsMax && rest[n] >= '0' && rest[n] <= '9'; n++ {
		v = 10*v + int64(rest[n]-'0')
	}
	if n == 0 || n > digitsMax || v > most || n > 1 && s.b[s.i] == '0' {
		s.bad = true
	}
	s.i += n
	return v
}

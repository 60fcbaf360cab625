package redissim

import (
	"math"
	"slices"
	"strconv"
	"strings"
)

// An ID is a stream entry's: Redis compares Ms, then Seq.
type ID struct{ Ms, Seq uint64 }

var idMax = ID{math.MaxUint64, math.MaxUint64}

func (a ID) less(b ID) bool { return a.Ms < b.Ms || a.Ms == b.Ms && a.Seq < b.Seq }

// String returns ms-seq.
func (a ID) String() string {
	return strconv.FormatUint(a.Ms, 10) + "-" + strconv.FormatUint(a.Seq, 10)
}

// An Entry is one of a stream.
type Entry struct {
	ID     ID
	Fields []string // names and values in turn; never changed
}

// A stream keeps its last id when its entries are gone; deleting the key
// forgets it.
type stream struct {
	entries []Entry // sorted by ID
	last    ID
}

func (s *stream) clone() *stream { return &stream{slices.Clone(s.entries), s.last} }

// find returns where id stands, or would.
func (s *stream) find(id ID) (int, bool) {
	return slices.BinarySearchFunc(s.entries, id, func(e Entry, id ID) int {
		switch {
		case e.ID.less(id):
			return -1
		case id.less(e.ID):
			return 1
		}
		return 0
	})
}

// between returns the entries in from ≤ id ≤ to.
func (s *stream) between(from, to ID) []Entry {
	i, _ := s.find(from)
	j, found := s.find(to)
	if found {
		j++
	}
	if i >= j {
		return nil
	}
	return s.entries[i:j]
}

// parseID parses ms-seq; where there is no seq it is missing.
func parseID(text string, missing uint64) (ID, bool) {
	if len(text) > 127 {
		return ID{}, false
	}
	ms, seq, both := strings.Cut(text, "-")
	id := ID{Seq: missing}
	var err error
	if id.Ms, err = strconv.ParseUint(ms, 10, 64); err != nil {
		return ID{}, false
	}
	if both {
		if id.Seq, err = strconv.ParseUint(seq, 10, 64); err != nil {
			return ID{}, false
		}
	}
	return id, true
}

// xadd is XADD key [NOMKSTREAM] id field value [field value …]: explicit ids only.
func (s *Server) xadd(args []string) Reply {
	key, rest := args[1], args[2:]
	noCreate := false
	if strings.EqualFold(rest[0], "NOMKSTREAM") {
		noCreate, rest = true, rest[1:]
	}
	id, ok := parseID(rest[0], 0)
	if !ok {
		return errID
	}
	fields := rest[1:]
	if len(fields) < 2 || len(fields)%2 == 1 {
		return errArgs("xadd")
	}
	if id == (ID{}) {
		return errZeroID
	}
	st, wrong := s.stream(key)
	if wrong {
		return errType
	}
	if st == nil {
		if noCreate {
			return Reply{}
		}
		st = &stream{}
	}
	if st.last == idMax {
		return errFull
	}
	if !st.last.less(id) {
		return errTop
	}
	st.entries = append(st.entries, Entry{id, fields})
	st.last = id
	s.keys[key] = value{stream: st, expires: s.keys[key].expires}
	s.wrote(key, "XADD", key, id.String(), fields...)
	return bulk(id.String())
}

// bound parses an end of an interval.
func bound(text string, end bool) (ID, Reply) {
	missing := uint64(0)
	if end {
		missing = math.MaxUint64
	}
	exact, open := strings.CutPrefix(text, "(")
	if open && len(text) > 1 {
		id, ok := parseID(exact, missing)
		switch {
		case !ok:
			return ID{}, errID
		case !end && id == idMax:
			return ID{}, failure("ERR invalid start ID for the interval")
		case end && id == ID{}:
			return ID{}, failure("ERR invalid end ID for the interval")
		case end && id.Seq == 0:
			return ID{id.Ms - 1, math.MaxUint64}, Reply{}
		case end:
			return ID{id.Ms, id.Seq - 1}, Reply{}
		case id.Seq == math.MaxUint64:
			return ID{id.Ms + 1, 0}, Reply{}
		}
		return ID{id.Ms, id.Seq + 1}, Reply{}
	}
	switch text {
	case "-":
		return ID{}, Reply{}
	case "+":
		return idMax, Reply{}
	}
	id, ok := parseID(text, missing)
	if !ok {
		return ID{}, errID
	}
	return id, Reply{}
}

// xrange is XRANGE key from to [COUNT n], or XREVRANGE key to from [COUNT n].
func (s *Server) xrange(args []string, reverse bool) Reply {
	lo, hi := args[2], args[3]
	if reverse {
		lo, hi = hi, lo
	}
	from, err := bound(lo, false)
	if err.Kind == Error {
		return err
	}
	to, err := bound(hi, true)
	if err.Kind == Error {
		return err
	}
	count := -1
	for rest := args[4:]; len(rest) > 0; rest = rest[2:] {
		if !strings.EqualFold(rest[0], "COUNT") || len(rest) < 2 {
			return errSyntax
		}
		n, err := strconv.ParseInt(rest[1], 10, 64)
		if err != nil {
			return errNumber
		}
		count = int(max(n, 0))
	}
	st, wrong := s.stream(args[1])
	if wrong {
		return errType
	}
	if st == nil {
		return array()
	}
	if count == 0 {
		return Reply{}
	}
	found := st.between(from, to)
	if reverse {
		found = slices.Clone(found)
		slices.Reverse(found)
	}
	if count > 0 && len(found) > count {
		found = found[:count]
	}
	out := make([]Reply, len(found))
	for i, e := range found {
		fields := make([]Reply, len(e.Fields))
		for j, f := range e.Fields {
			fields[j] = bulk(f)
		}
		out[i] = array(bulk(e.ID.String()), array(fields...))
	}
	return array(out...)
}

func (s *Server) xlen(args []string) Reply {
	st, wrong := s.stream(args[1])
	switch {
	case wrong:
		return errType
	case st == nil:
		return integer(0)
	}
	return integer(len(st.entries))
}

// xtrim is XTRIM key MAXLEN|MINID [=] threshold: exact only.
func (s *Server) xtrim(args []string) Reply {
	rest := args[3:]
	if len(rest) > 1 && rest[0] == "=" {
		rest = rest[1:]
	}
	if len(rest) != 1 {
		return errSyntax
	}
	var below ID
	longest := int64(-1)
	switch strings.ToUpper(args[2]) {
	case "MAXLEN":
		n, err := strconv.ParseInt(rest[0], 10, 64)
		if err != nil {
			return errNumber
		}
		if n < 0 {
			return failure("ERR The MAXLEN argument must be >= 0.")
		}
		longest = n
	case "MINID":
		id, ok := parseID(rest[0], 0)
		if !ok {
			return errID
		}
		below = id
	default:
		return errSyntax
	}
	st, wrong := s.stream(args[1])
	if wrong {
		return errType
	}
	if st == nil {
		return integer(0)
	}
	n, _ := st.find(below)
	if longest >= 0 {
		n = max(0, len(st.entries)-int(longest))
	}
	if n > 0 {
		st.entries = slices.Clone(st.entries[n:])
		s.wrote(args[1], args[0], args[1], args[2], args[3:]...)
	}
	return integer(n)
}

// xdel is XDEL key id [id …]. All ids are read before anything is deleted.
func (s *Server) xdel(args []string) Reply {
	st, wrong := s.stream(args[1])
	if wrong {
		return errType
	}
	if st == nil {
		return integer(0)
	}
	var ids []ID
	for _, text := range args[2:] {
		id, ok := parseID(text, 0)
		if !ok {
			return errID
		}
		ids = append(ids, id)
	}
	n := 0
	for _, id := range ids {
		if i, found := st.find(id); found {
			st.entries = slices.Concat(st.entries[:i], st.entries[i+1:])
			n++
		}
	}
	if n > 0 {
		s.wrote(args[1], args[0], args[1], args[2], args[3:]...)
	}
	return integer(n)
}

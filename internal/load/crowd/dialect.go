package crowd

import (
	"fmt"
	"slices"
	"strings"

	"github.com/veltrix/cairn"
)

// A Dialect is how a server is spoken to. It is plain data, so that it can be
// told to another process; its name decides how messages are understood.
type Dialect struct {
	Name     string   `json:"name"`     // one of Names
	Path     string   `json:"path"`     // of the handshake's request
	Protocol string   `json:"protocol"` // WebSocket subprotocol; "" asks for none
	Hello    [][]byte `json:"hello"`    // messages sent right after the handshake; the cairn dialects make their own
	Binary   bool     `json:"binary"`   // messages are binary ones
}

// The names of dialects.
const (
	nameJSON       = "cairn.v1.json"
	nameProto      = "cairn.v1.proto"
	namePlain      = "plain"
	nameCentrifuge = "centrifuge"
)

// Names are the dialects that there are.
var Names = []string{nameJSON, nameProto, namePlain, nameCentrifuge}

// JSON is the live protocol (docs/live.md): a connection says hello, watches,
// and folds what it is told.
func JSON() Dialect { return Dialect{Name: nameJSON, Path: "/v1/live", Protocol: nameJSON} }

// Proto is the live protocol in its other form.
func Proto() Dialect {
	return Dialect{Name: nameProto, Path: "/v1/live", Protocol: nameProto, Binary: true}
}

// Plain is a server that sends text messages to whoever connects. One that is a
// JSON object with "at", and perhaps "from" and "seq", is timed, and looked at
// for gaps.
func Plain() Dialect { return Dialect{Name: namePlain, Path: "/"} }

// Centrifuge is the JSON form of the client protocol of the centrifuge library:
// a connection subscribes to one channel, whose publications are as Plain's
// messages.
func Centrifuge(channel string) Dialect {
	return Dialect{Name: nameCentrifuge, Path: "/connection/websocket", Hello: [][]byte{
		[]byte(`{"id":1,"connect":{}}`), fmt.Appendf(nil, `{"id":2,"subscribe":{"channel":%q}}`, channel),
	}}
}

// check returns what is wrong with a dialect.
func (d *Dialect) check() error {
	if !slices.Contains(Names, d.Name) {
		return &cairn.FieldError{Field: "Dialect", Msg: fmt.Sprintf("is %q; want one of %s", d.Name, strings.Join(Names, ", "))}
	}
	if !strings.HasPrefix(d.Path, "/") || strings.ContainsAny(d.Path, " \r\n") {
		return &cairn.FieldError{Field: "Dialect.Path", Msg: fmt.Sprintf("is %q; want one such as /v1/live", d.Path)}
	}
	return nil
}

// A tongue understands the messages of a dialect.
type tongue interface {
	// decode reads a message, or a line of one where lines mean something by
	// themselves.
	decode(part []byte) (*update, error)

	// hello returns the messages that open a connection which knows a state
	// already, or none.
	hello(s *state) [][]byte
}

// newTongue returns what understands o.Dialect.
func newTongue(o *Options) (tongue, error) {
	switch o.Dialect.Name {
	case nameJSON:
		return newJSONTongue(o)
	case nameProto:
		return newProtoTongue(o)
	case nameCentrifuge:
		return centrifugeTongue{o.Dialect.Hello}, nil
	default:
		return plainTongue{o.Dialect.Hello}, nil
	}
}

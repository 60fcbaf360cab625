package server

import (
	"bytes"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/gobwas/ws"

	"github.com/veltrix/cairn/internal/broadcast"
)

// liveLine begins every handshake that is read without net/http.
const liveLine = "GET /v1/live HTTP/1.1\r\n"

// The headers of a handshake that mean something to [Server.mayUpgrade], by
// the names that http.Header has for them.
var shakeHeaders = [...]string{
	"Connection", "Upgrade", "Origin", "X-Request-Id", headerForwarded,
	"Sec-Websocket-Version", "Sec-Websocket-Key", "Sec-Websocket-Protocol",
}

// oddHeaders say that there is more to a request than a handshake has.
var oddHeaders = [...]string{"Content-Length", "Transfer-Encoding", "Expect", "Trailer"}

// A handshake reads upgrades of /v1/live that are whole and plain: of the form
// that clients really send, of which there can be no two opinions. Whatever
// else there is to HTTP/1.1 is net/http's to judge. It is used again and again
// by one goroutine.
type handshake struct {
	// Valid until the next read.
	req  http.Request // as mayUpgrade looks at it
	body []byte       // what came behind the header

	values   [len(shakeHeaders)][1]string
	in       bytes.Reader
	out      bytes.Buffer
	upgrader ws.Upgrader // plainUpgrader, and the header below
	id       connID      // of the connection that is answered
}

func newHandshake() *handshake {
	h := &handshake{}
	h.req = http.Request{
		Method: http.MethodGet, URL: &url.URL{Path: "/v1/live"}, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: make(http.Header, len(shakeHeaders)),
	}
	h.upgrader = plainUpgrader
	identify := ws.HandshakeHeaderFunc(func(w io.Writer) (int64, error) {
		n, err := io.WriteString(w, headerRequestID+": "+h.id.String()+"\r\n")
		return int64(n), err
	})
	h.upgrader.OnBeforeUpgrade = func() (ws.HandshakeHeader, error) { return identify, nil }
	return h
}

// read reports whether b begins with a whole and plain upgrade of /v1/live,
// and reads it.
func (h *handshake) read(b []byte) bool {
	if !bytes.HasPrefix(b, []byte(liveLine)) {
		return false
	}
	end := bytes.Index(b, []byte("\r\n\r\n"))
	if end < len(liveLine) {
		return false
	}
	clear(h.req.Header)
	h.req.Host = ""
	for text := string(b[len(liveLine) : end+2]); text != ""; {
		line, rest, _ := strings.Cut(text, "\r\n")
		if !h.header(line) {
			return false
		}
		text = rest
	}
	h.body = b[end+4:]
	return h.req.Host != ""
}

// header reads one line. It is false if the line is not plain, or says that the
// request is not: a header that counts and is there twice included.
func (h *handshake) header(line string) bool {
	name, value, ok := strings.Cut(line, ":")
	if !ok || !plainName(name) || !plainText(value) {
		return false
	}
	value = strings.Trim(value, " ")
	if strings.EqualFold(name, "Host") {
		had := h.req.Host != ""
		h.req.Host = value
		return !had && plainHost(value)
	}
	for _, odd := range oddHeaders {
		if len(name) == len(odd) && strings.EqualFold(name, odd) {
			return false
		}
	}
	for i, known := range shakeHeaders {
		if len(name) == len(known) && strings.EqualFold(name, known) {
			if h.req.Header[known] != nil {
				return false
			}
			h.values[i][0] = value
			h.req.Header[known] = h.values[i][:]
			return true
		}
	}
	return true
}

func plainName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_') {
			return false
		}
	}
	return s != ""
}

func plainText(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

func plainHost(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '.' || c == ':' || c == '[' || c == ']') {
			return false
		}
	}
	return s != ""
}

// plainUpgrader answers handshakes that are plain, from memory to memory.
var plainUpgrader = ws.Upgrader{
	ReadBufferSize: headerBytesMax,
	Protocol: func(p []byte) bool {
		_, ok := broadcast.CodecOf(string(p))
		return ok
	},
}

// answer returns the 101 for the request that was read, which begins b, whose
// connection is to have an id, and the subprotocol that was agreed on. It is false if net/http should have a look.
func (h *handshake) answer(b []byte, id connID) (out []byte, protocol string, ok bool) {
	h.id = id
	h.in.Reset(b[:len(b)-len(h.body)])
	h.out.Reset()
	hs, err := h.upgrader.Upgrade(h)
	if err != nil || h.in.Len() > 0 {
		return nil, "", false
	}
	return h.out.Bytes(), hs.Protocol, true
}

// Read implements io.Reader for the upgrader.
func (h *handshake) Read(b []byte) (int, error) { return h.in.Read(b) }

// Write implements io.Writer for the upgrader.
func (h *handshake) Write(b []byte) (int, error) { return h.out.Write(b) }

package server

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// serveFront serves a game's public handler as a gateway does, until the test
// ends: front stands before its listeners.
func (g *game) serveFront(front func(net.Listener) net.Listener) (addr string) {
	g.t.Helper()
	lns, err := Listen(context.Background(), "127.0.0.1:0", ListenOptions{N: 2})
	if err != nil {
		g.t.Fatal(err)
	}
	for i, ln := range lns {
		lns[i] = front(ln)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- Serve(ctx, lns, g.server.Public(), ServeOptions{HeaderTimeout: time.Minute, ReadTimeout: time.Minute})
	}()
	g.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			g.t.Errorf("Serve: %v", err)
		}
	})
	return lns[0].Addr().String()
}

const goodShake = "GET /v1/live HTTP/1.1\r\nHost: HOST\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n" +
	"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: cairn.v1.json\r\n"

const pingFrame, pongFrame = "\x89\x82\x00\x00\x00\x00hi", "\x8a\x02hi"

// shakes are requests that a front may see, by what is special about them. HOST
// stands for the address. Those of fast are a front's own to answer.
var fastShakes, otherShakes = func() (fast, other map[string]string) {
	with := func(old, instead string) string {
		if !strings.Contains(goodShake, old) {
			panic(old)
		}
		return strings.Replace(goodShake, old, instead, 1) + "\r\n"
	}
	and := func(line string) string { return goodShake + line + "\r\n\r\n" }
	fast = map[string]string{
		"plain":                   goodShake + "\r\n",
		"lower case":              with("Connection: keep-alive, Upgrade", "connection:Upgrade"),
		"shouting":                with("Upgrade: websocket", "UPGRADE:   WebSocket  "),
		"no subprotocol":          with("Sec-WebSocket-Protocol: cairn.v1.json\r\n", ""),
		"subprotocols":            with("cairn.v1.json", "other, cairn.v1.json , another"),
		"no value":                and("X-Nothing:"),
		"own origin":              and("Origin: http://HOST"),
		"listed origin":           and("Origin: https://play.example"),
		"extensions":              and("Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"),
		"a browser's":             and("User-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\nAccept-Encoding: gzip, deflate\r\nCookie: a=b; c=\"d\"\r\nPragma: no-cache\r\nAccept-Language: nb,en;q=0.9"),
		"a frame behind":          goodShake + "\r\n" + pingFrame,
		"a key that is no base64": with("dGhlIHNhbXBsZSBub25jZQ==", "########################"),
		"request id":              and("X-Request-Id: abc-1"),
		"malformed subprotocols":  with("cairn.v1.json", "cairn.v1.json, a b"),
		"a large header":          and("X-Large: " + strings.Repeat("a", 8<<10)),
	}
	other = map[string]string{
		"no upgrade":              with("Upgrade: websocket\r\n", ""),
		"no connection":           with("Connection: keep-alive, Upgrade", "Connection: close"),
		"two connections":         with("Connection: keep-alive, Upgrade", "Connection: keep-alive\r\nConnection: Upgrade"),
		"two upgrades":            with("Upgrade: websocket", "Upgrade: h2c, websocket"),
		"version 8":               with("Version: 13", "Version: 8"),
		"no version":              with("Sec-WebSocket-Version: 13\r\n", ""),
		"no key":                  with("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", ""),
		"short key":               with("dGhlIHNhbXBsZSBub25jZQ==", "abc"),
		"another subprotocol":     with("cairn.v1.json", "graphql-ws"),
		"subprotocols twice":      and("Sec-WebSocket-Protocol: other"),
		"foreign origin":          and("Origin: https://evil.example"),
		"origin null":             and("Origin: null"),
		"a query":                 with("/v1/live", "/v1/live?a=b"),
		"an empty query":          with("/v1/live", "/v1/live?"),
		"an absolute address":     with("/v1/live", "http://HOST/v1/live"),
		"an escaped address":      with("/v1/live", "/v1/liv%65"),
		"elsewhere":               with("/v1/live", "/v1/lives"),
		"POST":                    with("GET", "POST"),
		"HEAD":                    with("GET", "HEAD"),
		"HTTP/1.0":                with("HTTP/1.1", "HTTP/1.0"),
		"HTTP/3":                  with("HTTP/1.1", "HTTP/3.0"),
		"no host":                 with("Host: HOST\r\n", ""),
		"an empty host":           with("Host: HOST", "Host:"),
		"two hosts":               with("Host: HOST", "Host: HOST\r\nHost: HOST"),
		"a bad host":              with("Host: HOST", "Host: a b"),
		"a body":                  and("Content-Length: 0"),
		"a chunked body":          with("Host: HOST", "Host: HOST\r\nTransfer-Encoding: chunked") + "0\r\n\r\n",
		"expect":                  and("Expect: 100-continue"),
		"a folded line":           and("X-Long: a\r\n b"),
		"a space before a colon":  and("X-Space : a"),
		"a line without a colon":  and("X-Nothing"),
		"a name that is none":     and("X-(: a"),
		"a control character":     and("X-Bell: \a"),
		"a tab":                   and("X-Tab:\ta"),
		"more than ASCII":         and("X-Name: Åse"),
		"line feeds":              strings.ReplaceAll(goodShake+"\r\n", "\r\n", "\n"),
		"a call":                  "GET /v1/hunts/oslo HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n",
		"a call and another":      "GET /v1/hunts/oslo HTTP/1.1\r\nHost: HOST\r\n\r\nGET /v1/nowhere HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n",
		"nonsense":                "hello? is there anybody at all, here?\r\n\r\n",
		"a header that is larger": and("X-Large: " + strings.Repeat("a", 20<<10)),
	}
	return fast, other
}()

// ask sends a request, whole or a byte at a time, and returns what came back,
// without what differs from one answer to the next.
func ask(t *testing.T, addr, request string, bytewise bool) string {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(60 * time.Second))
	request = strings.ReplaceAll(request, "HOST", "a.example")
	sent := make(chan struct{})
	go func() { // may be cut short by the answer
		defer close(sent)
		b := []byte(request)
		for bytewise && len(b) > 0 {
			if _, err := c.Write(b[:1]); err != nil {
				return
			}
			b = b[1:]
		}
		c.Write(b)
	}()
	r := bufio.NewReader(c)
	var out strings.Builder
	for {
		res, err := http.ReadResponse(r, nil)
		if err != nil {
			fmt.Fprintf(&out, "then %v", noAddresses(err))
			return out.String()
		}
		res.Header.Del("Date")
		id := res.Header.Get(headerRequestID)
		if id != "" {
			res.Header.Set(headerRequestID, "ID")
			if n, err := strconv.Atoi(res.Header.Get("Content-Length")); err == nil && n > 0 && res.StatusCode >= 400 {
				res.Header.Set("Content-Length", strconv.Itoa(n-len(id)))
			}
		}
		fmt.Fprintf(&out, "%s %s\n", res.Proto, res.Status)
		for _, k := range slices.Sorted(maps.Keys(res.Header)) {
			fmt.Fprintf(&out, "%s: %q\n", k, res.Header[k])
		}
		if res.StatusCode == http.StatusSwitchingProtocols {
			if !strings.HasSuffix(request, pingFrame) {
				<-sent // or the ping may come into the middle of what is behind the header
				c.Write([]byte(pingFrame))
			}
			pong := make([]byte, len(pongFrame))
			_, err := io.ReadFull(r, pong)
			fmt.Fprintf(&out, "then %q, %v", pong, err)
			return out.String()
		}
		body, err := io.ReadAll(res.Body)
		fmt.Fprintf(&out, "\n%s %v\n", strings.ReplaceAll(string(body), `"request_id":"`+id+`"`, `"request_id":"ID"`), err)
		if res.Close || !strings.Contains(request, "Connection: close") {
			return out.String()
		}
	}
}

// noAddresses is an error's cause, without whose it is.
func noAddresses(err error) error {
	if errors.Is(err, syscall.ECONNRESET) {
		return io.ErrUnexpectedEOF // a matter of when it is looked at
	}
	return err
}

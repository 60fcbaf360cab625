package e2e_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// A conversation is what a browser's WebSocket saw of /v1/live, in the order of
// its events.
type conversation struct {
	Protocol, Extensions string
	Events               []string
}

// converse has the page talk with its server over a WebSocket of its own: once
// it is open it sends what says lists, which are expressions of JavaScript, and
// when it has heard a number of messages it closes with an expression of
// arguments, unless that is empty. It ends with the CloseEvent.
func (p *tab) converse(protocol string, says []string, messages int, bye string) conversation {
	p.t.Helper()
	list := ""
	for _, say := range says {
		list += say + ","
	}
	if bye == "" {
		messages = -1
	}
	source := fmt.Sprintf(`new Promise((done) => {
		const seen = {events: []}, says = [%s], ws = new WebSocket('/v1/live', %q);
		let left = %d;
		ws.binaryType = 'arraybuffer';
		ws.onopen = () => {
			seen.protocol = ws.protocol;
			seen.extensions = ws.extensions;
			for (const say of says) ws.send(say);
		};
		ws.onmessage = ({data}) => {
			if (typeof data === 'string') {
				const m = JSON.parse(data);
				seen.events.push(m.type + (m.code ? ' ' + m.code : ''));
			} else {
				seen.events.push('frame ' + (new Uint8Array(data)[0] >> 3)); // the field of ServerFrame
			}
			if (--left === 0) ws.close(%s);
		};
		ws.onclose = (e) => {
			seen.events.push('close ' + e.code + (e.wasClean ? '' : ' not clean'));
			done(seen);
		};
	})`, list, protocol, messages, bye)
	ctx, cancel := context.WithTimeout(p.ctx, patience+10*time.Second)
	defer cancel()
	got, err := chromedp.Run(ctx, chromedp.Evaluate[conversation](source, chromedp.EvalAwaitPromise))
	if err != nil {
		p.t.Fatal(err)
	}
	return got
}

// TestLiveInABrowser: what a browser's CloseEvent says of each end that the
// protocol has, and that all which was said before comes before it.
func TestLiveInABrowser(t *testing.T) {
	g := startGame(t, calmHunt("{tap: 1}"))
	p := g.open(chromium, desk)
	const (
		json  = "cairn.v1.json"
		proto = "cairn.v1.proto"

		hello      = `'{"type":"hello"}'`
		ping       = `'{"type":"ping"}'`
		protoHello = `new Uint8Array([0x0a, 0])`
		protoPing  = `new Uint8Array([0x22, 0])`
	)
	var often []string
	for range 16 {
		often = append(often, `'{'`)
	}
	for _, test := range []struct {
		name, protocol string
		says           []string
		messages       int
		bye            string
		want           []string
	}{
		{"goodbye", json, []string{hello, ping}, 2, "3001, 'bye'", []string{"welcome", "pong", "close 3001"}},
		{"goodbye without a code", json, []string{hello}, 1, " ", []string{"welcome", "close 1000"}},
		{"binary", json, []string{hello, ping, `new Uint8Array(8)`, ping}, 0, "", []string{"welcome", "pong", "error binary", "close 1003"}},
		{"one byte too large", json, []string{hello, `' '.repeat(4097)`, ping}, 0, "", []string{"welcome", "error too_large", "close 1009"}},
		{"4 KiB", json, []string{hello, `'{"type":"ping"}'.padEnd(4096)`}, 2, "1000", []string{"welcome", "pong", "close 1000"}},
		{"a megabyte", json, []string{hello, `' '.repeat(1 << 20)`}, 0, "", []string{"welcome", "error too_large", "close 1009"}},
		{"malformed", json, []string{hello, `'{'`, ping}, 3, "1000", []string{"welcome", "error malformed", "pong", "close 1000"}},
		{"half a character", json, []string{hello, `'\ud800'`}, 2, "1000", []string{"welcome", "error malformed", "close 1000"}},
		{"no hello", json, []string{ping}, 0, "", []string{"error unexpected", "close 1008"}},
		{"bad token", json, []string{`'{"type":"hello","token":"no"}'`}, 0, "", []string{"error unauthorized", "close 1008"}},
		{
			"often malformed", json, append([]string{hello}, often...), 0, "",
			slices.Concat([]string{"welcome"}, slices.Repeat([]string{"error malformed"}, len(often)), []string{"close 1008"}),
		},
		{"goodbye in proto", proto, []string{protoHello, protoPing}, 2, "4999, 'bye'", []string{"frame 1", "frame 8", "close 4999"}},
		{"text in proto", proto, []string{protoHello, ping}, 0, "", []string{"frame 1", "frame 7", "close 1003"}},
		{"too large in proto", proto, []string{protoHello, `new Uint8Array(1 << 17)`}, 0, "", []string{"frame 1", "frame 7", "close 1009"}},
	} {
		got := p.converse(test.protocol, test.says, test.messages, test.bye)
		if !slices.Equal(got.Events, test.want) {
			t.Errorf("%s: got %q, want %q", test.name, got.Events, test.want)
		}
		if got.Protocol != test.protocol || got.Extensions != "" {
			t.Errorf("%s: got protocol %q with extensions %q; want %s without any", test.name, got.Protocol, got.Extensions, test.protocol)
		}
	}
}

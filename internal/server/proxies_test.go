package server

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/veltrix/cairn"
)

func TestProxies(t *testing.T) {
	proxies := Proxies{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	for _, c := range []struct {
		from, header, want string
	}{
		{"192.0.2.1", "198.51.100.7", "192.0.2.1"}, // a player who would be another
		{"10.0.0.1", "", "10.0.0.1"},
		{"10.0.0.1", "198.51.100.7", "198.51.100.7"},
		{"::ffff:10.0.0.1", "198.51.100.7:4711", "198.51.100.7"},
		{"fd00::1", "2001:db8::7", "2001:db8::7"},
		{"fd00::1", "[2001:db8::7]:443", "2001:db8::7"},
		{"127.0.0.1", "203.0.113.9, 198.51.100.7, 10.0.0.2", "198.51.100.7"}, // the first is the player's own word
		{"10.0.0.1", "203.0.113.9,10.0.0.3", "203.0.113.9"},
		{"10.0.0.1", "10.0.0.9, 10.0.0.3", "10.0.0.9"},
		{"10.0.0.1", "198.51.100.7, unknown", "10.0.0.1"},
		{"10.0.0.1", "198.51.100.7, unknown, 10.0.0.4", "10.0.0.4"},
	} {
		h := http.Header{}
		for line := range strings.SplitSeq(c.header, " ") { // of several lines, too
			if c.header != "" {
				h.Add(headerForwarded, strings.TrimSuffix(line, ","))
			}
		}
		if got := proxies.client(netip.MustParseAddr(c.from), h); got != netip.MustParseAddr(c.want) {
			t.Errorf("from %s with %q: got %v, want %s", c.from, c.header, got, c.want)
		}
		if got := Proxies(nil).client(netip.MustParseAddr(c.from), h); got != netip.MustParseAddr(c.from) {
			t.Errorf("without proxies, from %s with %q: got %v", c.from, c.header, got)
		}
	}
}

// TestSocketsBehindProxy: claims on sockets count for whom the proxy says, by
// either way that a handshake takes.
func TestSocketsBehindProxy(t *testing.T) {
	g := newGame(t, func(o *Options) {
		o.Limits = Limits{AddressClaims: Rate{0.001, 1}, Proxies: Proxies{netip.MustParsePrefix("127.0.0.0/8")}}
	})
	g.withClaims(&scripted{verdict: cairn.Verdict{Outcome: cairn.UnknownTile}})
	plain, _ := g.serve(ServeOptions{})
	for i, addr := range []string{plain, g.serveFront(g.server.Front)} {
		const decided, throttled = "unknown_tile", "throttled"
		for _, c := range []struct{ says, want string }{
			{"198.51.100.1", decided}, {"198.51.100.1", throttled}, {"198.51.100.2", decided}, {"", decided}, {"", decided}, // loopback itself is exempt
		} {
			_, token := g.signIn("ana")
			header := http.Header{}
			if c.says != "" {
				header.Set(headerForwarded, strings.Replace(c.says, "100", []string{"100", "101"}[i], 1))
			}
			s, _, err := g.dialAt("http://"+addr, header)
			if err != nil {
				t.Fatal(err)
			}
			s.send(`{"type":"hello","token":%q}`, token)
			s.send(`{"type":"claim","id":"1","hunt":"oslo","map":1,"tile":1}`)
			if got := s.until("outcome")["outcome"]; got != c.want {
				t.Errorf("%s, for %q: got %v, want %s", addr, c.says, got, c.want)
			}
		}
	}
}

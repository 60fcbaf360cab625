package redissim

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/veltrix/cairn/internal/eventlog/redislog/redistest"
)

// A client is a connection to a real server, in RESP2, so that nothing comes
// between its replies and the comparison.
type client struct {
	c net.Conn
	r *bufio.Reader
}

func dial(t testing.TB, addr string) *client {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &client{c, bufio.NewReader(c)}
}

func (c *client) do(args ...string) (Reply, error) {
	b := fmt.Appendf(nil, "*%d\r\n", len(args))
	for _, a := range args {
		b = fmt.Appendf(b, "$%d\r\n%s\r\n", len(a), a)
	}
	c.c.SetDeadline(time.Now().Add(time.Minute))
	if _, err := c.c.Write(b); err != nil {
		return Reply{}, err
	}
	return c.read()
}

func (c *client) read() (Reply, error) {
	line, err := c.r.ReadString('\n')
	if err != nil {
		return Reply{}, err
	}
	text := line[1 : len(line)-2]
	n, _ := strconv.Atoi(text)
	switch line[0] {
	case '+':
		return status(text), nil
	case '-':
		return failure(text), nil
	case ':':
		return integer(n), nil
	case '$':
		if n < 0 {
			return Reply{}, nil
		}
		b := make([]byte, n+2)
		_, err := io.ReadFull(c.r, b)
		return bulk(string(b[:n])), err
	}
	if n < 0 {
		return Reply{}, nil
	}
	list := make([]Reply, n)
	for i := range list {
		if list[i], err = c.read(); err != nil {
			return Reply{}, err
		}
	}
	return array(list...), nil
}

// Ids that meet each other often, at the ends of what there is too.
var (
	numbers = rapid.SampledFrom([]string{"0", "1", "2", "3", "18446744073709551614", "18446744073709551615"})
	ids     = rapid.Custom(func(t *rapid.T) string {
		switch rapid.IntRange(0, 11).Draw(t, "form") {
		case 0:
			return numbers.Draw(t, "ms")
		case 1:
			return rapid.SampledFrom([]string{"", "-", "+", "x", "1-", "-1", "1-2-3", "18446744073709551616-0", "(1-1"}).Draw(t, "odd")
		}
		return numbers.Draw(t, "ms") + "-" + numbers.Draw(t, "seq")
	})
	ends = rapid.Custom(func(t *rapid.T) string {
		switch rapid.IntRange(0, 5).Draw(t, "form") {
		case 0:
			return "-"
		case 1:
			return "+"
		case 2:
			return "(" + ids.Draw(t, "open")
		}
		return ids.Draw(t, "id")
	})
	keys   = rapid.SampledFrom([]string{"a", "a", "a", "b"})
	counts = rapid.SampledFrom([]string{"1", "2", "3", "0", "-1", "x"})
)

// anyCommand draws one that a client may send.
func anyCommand(t *rapid.T) []string {
	key := keys.Draw(t, "key")
	switch rapid.IntRange(0, 23).Draw(t, "command") {
	case 0, 1, 2, 3, 4:
		return []string{"XADD", key, "NOMKSTREAM", ids.Draw(t, "id"), "f", "v"}
	case 5, 6, 7:
		return []string{"XADD", key, ids.Draw(t, "id"), "f", "v", "g", rapid.StringMatching("[a-z\r\n\x00]{0,3}").Draw(t, "v")}
	case 8:
		return append([]string{"XADD", key, ids.Draw(t, "id")}, make([]string, rapid.IntRange(0, 3).Draw(t, "fields"))...)
	case 9, 10, 11:
		return []string{"XRANGE", key, ends.Draw(t, "from"), ends.Draw(t, "to")}
	case 12:
		return []string{"XRANGE", key, ends.Draw(t, "from"), ends.Draw(t, "to"), "COUNT", counts.Draw(t, "count")}
	case 13, 14:
		return []string{"XREVRANGE", key, ends.Draw(t, "to"), ends.Draw(t, "from"), "COUNT", counts.Draw(t, "count")}
	case 15:
		return []string{"XLEN", key}
	case 16:
		return []string{"XTRIM", key, "MINID", "=", ids.Draw(t, "below")}
	case 17:
		return []string{"XTRIM", key, "MAXLEN", counts.Draw(t, "count")}
	case 18:
		return []string{"XDEL", key, ids.Draw(t, "id"), ids.Draw(t, "id")}
	case 19:
		return []string{rapid.SampledFrom([]string{"DEL", "EXISTS", "PTTL", "PERSIST"}).Draw(t, "name"), key}
	case 20:
		return []string{rapid.SampledFrom([]string{"MULTI", "EXEC", "DISCARD", "UNWATCH"}).Draw(t, "name")}
	case 21:
		return []string{"WATCH", key}
	case 22:
		return []string{"WAIT", "0", "0"}
	}
	return rapid.SampledFrom([][]string{
		{"SET", key, "x"},
		{"XADD", key},
		{"PEXPIRE", key, "0"},
		{"PEXPIRE", key, "x"},
		{"XRANGE", key, "-"},
		{"CONFIG", "GET", "maxmemory-policy"},
		{"SCAN", "0", "TYPE", "stream"},
	}).Draw(t, "other")
}

// TestLikeRedis: two clients send random commands to a Server and to a real
// one, whose memory fills up now and then; each reply is the same, errors word
// for word.
func TestLikeRedis(t *testing.T) {
	node := redistest.Start(t)
	operator := dial(t, node.Addr)
	clients := [2]*client{dial(t, node.Addr), dial(t, node.Addr)}
	rapid.Check(t, func(t *rapid.T) {
		sim := New(node.Addr)
		sim.Config["maxmemory-policy"] = "noeviction"
		conns := [2]*Conn{sim.Dial(), sim.Dial()}
		for _, c := range clients {
			must(t, c, "DISCARD")
			must(t, c, "UNWATCH")
		}
		memory := func(full bool) {
			sim.OOM = full
			must(t, operator, "CONFIG", "SET", "maxmemory", map[bool]string{false: "0", true: "1"}[full])
		}
		memory(false)
		must(t, operator, "FLUSHALL")
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			if rapid.IntRange(0, 19).Draw(t, "memory") == 0 {
				memory(!sim.OOM)
			}
			who := rapid.IntRange(0, 1).Draw(t, "client")
			args := anyCommand(t)
			want := must(t, clients[who], args...)
			got := conns[who].Do(args...)
			if args[0] == "SCAN" && want.Kind == Array { // in any order
				if len(want.List[1].List) != len(got.List[1].List) {
					t.Fatalf("SCAN: %v, want %v", got, want)
				}
				continue
			}
			if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
				t.Fatalf("%q: the reply differs from the real server's (-want +got):\n%s", args, diff)
			}
		}
	})
}

func must(t *rapid.T, c *client, args ...string) Reply {
	r, err := c.do(args...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

//go:build unix

package endtoend

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
)

// answerer is a server that answers claims and pings behind each. Of
// each tile the first claim wins.
func answerer(t *testing.T) string {
	var serving sync.WaitGroup
	var mu sync.Mutex
	taken := map[int]bool{}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, _, _, err := ws.UpgradeHTTP(r, w)
		if err != nil {
			t.Error(err)
			return
		}
		serving.Go(func() {
			defer conn.Close()
			var held []string
			for {
				b, err := wsutil.ReadClientText(conn)
				if err != nil {
					return
				}
				var f struct {
					Type, ID string
					Tile     int
				}
				if err := json.Unmarshal(b, &f); err != nil {
					t.Errorf("got %q: %v", b, err)
					return
				}
				if f.Type == "hello" {
					held = append(held, `{"type":"welcome"}`)
				} else {
					mu.Lock()
					word := map[bool]string{false: "won", true: "gone"}[taken[f.Tile]]
					taken[f.Tile] = true
					mu.Unlock()
					held = append(held, `{"type":"outcome","id":"`+f.ID+`","outcome":"`+word+`"}`)
				}
				var out bytes.Buffer
				for _, h := range held {
					_ = wsutil.WriteServerText(&out, []byte(h)) // to memory
				}
				_ = wsutil.WriteServerMessage(&out, ws.OpPing, nil)
				held = held[:0]
				if _, err := conn.Write(out.Bytes()); err != nil {
					return
				}
			}
		})
	}))
	t.Cleanup(func() { srv.Close(); serving.Wait() })
	return strings.TrimPrefix(srv.URL, "http://")
}

// TestSocket: every claim is heard of, and it is known what it was for.
func TestSocket(t *testing.T) {
	addr := answerer(t)
	var players []*socket
	for range 2 {
		s, err := dial(t.Context(), addr, hunt, "token", 3)
		if err != nil {
			t.Fatal(err)
		}
		defer s.conn.Close()
		players = append(players, s)
	}
	next := uint32(0)
	draw := func(time.Time) target { next++; return target{1, next} } // each tile once: all are won
	if err := players[0].flood(time.Now().Add(20*time.Millisecond), draw); err != nil {
		t.Fatal(err)
	}
	if err := players[0].pace(time.Now(), time.Now().Add(50*time.Millisecond), 50*time.Microsecond, draw); err != nil {
		t.Fatal(err)
	}
	p := players[0]
	if p.answered != int64(next) || p.won != p.answered || p.latency.count() != p.answered {
		t.Errorf("%d claims: %d answered, %d won, %d timed; want all of them", next, p.answered, p.won, p.latency.count())
	}
	if n, err := winners(players); err != nil || n != int(next) {
		t.Errorf("got %d winners, %v; want %d", n, err, next)
	}
	players[1].wins = append(players[1].wins, target{1, 1})
	if _, err := winners(players); err == nil || !strings.Contains(err.Error(), "two players") {
		t.Errorf("a tile that two have won: got %v", err)
	}
}

func TestReport(t *testing.T) {
	r := &Report{Players: 2, Window: 64, Tiles: 5000, Rate: 1000, MixRate: 100, MixPlayers: 10, RefreshMS: 1000}
	for i, name := range []string{OursRedis, Lua, OursRedis, Lua, OursRedis, Lua} {
		r.Sockets = append(r.Sockets, &Socketed{System: name, Rate: float64(100*(i%2) + 400*((i+1)%2) + i), P99: 1500})
	}
	r.Mixes = []*Mixed{{System: OursMix, Rate: 100, ReadP99: 2000}, {System: ViewMix, Rate: 100, ReplayP99: 7}}
	got := r.Markdown()
	for _, want := range []string{"| ours-redis | 402 (400–404) | 3.90× |", "| lua | 103 (101–105) | 1.00× |", "| ours | 100 |", "| 7.0 ms |"} {
		if !strings.Contains(got, want) {
			t.Errorf("want %q in:\n%s", want, got)
		}
	}
	if strings.Contains(got, OursFilelog) {
		t.Errorf("a system that was not measured is in:\n%s", got)
	}
}

func TestRunRefuses(t *testing.T) {
	o := Short()
	o.Sockets = []string{"theirs"}
	if _, err := Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), `"theirs"`) {
		t.Errorf("a system that there is not: got %v; want it named", err)
	}
}

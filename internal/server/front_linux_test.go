package server

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestFrontAnswersLikeHTTP sends every request that is special in some way
// through both paths, and wants the same answers on the wire.
func TestFrontAnswersLikeHTTP(t *testing.T) {
	g := newGame(t, func(o *Options) { o.Origins = []string{"https://play.example"} })
	plain, _ := g.serve(ServeOptions{HeaderTimeout: time.Minute, ReadTimeout: time.Minute})
	addr := g.serveFront(g.server.Front)
	count := func() float64 { return g.metric("cairn_edge_handshakes_total", "path", pathFast) }
	for _, shakes := range []map[string]string{fastShakes, otherShakes} {
		for what, request := range shakes {
			want := ask(t, plain, request, false)
			was := count()
			if got := ask(t, addr, request, false); got != want {
				t.Errorf("%s: got\n%s\nwant\n%s", what, got, want)
			}
			wantFast := 0.0
			if _, fast := fastShakes[what]; fast {
				wantFast = 1
				if !strings.HasPrefix(want, "HTTP/1.1 101 ") || !strings.HasSuffix(want, fmt.Sprintf("then %q, <nil>", pongFrame)) {
					t.Errorf("%s: got %s, want an upgrade and a pong", what, want)
				}
			}
			if got := count() - was; got != wantFast {
				t.Errorf("%s: %v were the front's own, want %v", what, got, wantFast)
			}
			// net/http hangs up on what is no HTTP in the middle of it, and what
			// comes then may cost the client the answer.
			if len(request) < 1000 && !strings.Contains(want, "text/plain") {
				if got := ask(t, addr, request, true); got != want {
					t.Errorf("%s, a byte at a time: got\n%s\nwant\n%s", what, got, want)
				}
			}
		}
	}
}

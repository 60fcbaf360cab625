package server

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/veltrix/cairn"
)

// An event is one of an event stream.
type event struct {
	id, name string
	data     map[string]any
}

// stream reads a stream's events until it ends.
func (g *game) stream(ctx context.Context, query, lastID string) (<-chan event, *http.Response) {
	g.t.Helper()
	req := request(g.t, "GET", g.public.URL+"/v1/events?"+query, "", "").WithContext(ctx)
	if lastID != "" {
		req.Header.Set("Last-Event-ID", lastID)
	}
	res, err := g.client.Do(req)
	if err != nil {
		g.t.Fatal(err)
	}
	events := make(chan event, 1024)
	go func() {
		defer close(events)
		defer res.Body.Close()
		var e event
		for sc := bufio.NewScanner(res.Body); sc.Scan(); {
			name, value, _ := strings.Cut(sc.Text(), ":")
			value = strings.TrimPrefix(value, " ")
			switch {
			case sc.Text() == "" && e.data != nil:
				events <- e
				e = event{}
			case name == "id":
				e.id = value
			case name == "event":
				e.name = value
			case name == "data":
				if json.Unmarshal([]byte(value), &e.data) != nil {
					e.data = map[string]any{"not JSON": value}
				}
			}
		}
	}()
	return events, res
}

// await returns the first event that is wanted.
func await(t testing.TB, events <-chan event, what string, want func(event) bool) event {
	t.Helper()
	timeout := time.After(20 * time.Second)
	for {
		select {
		case e, ok := <-events:
			if !ok {
				t.Fatalf("the stream ended before %s", what)
			}
			if want(e) {
				return e
			}
		case <-timeout:
			t.Fatalf("no %s came", what)
		}
	}
}

func TestEvents(t *testing.T) {
	g := newGame(t, nil)
	m := g.openMap(0, cairn.Tap, cairn.Tap)
	_, token := g.signIn("ana")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	events, res := g.stream(ctx, "hunt=oslo", "")
	if res.StatusCode != 200 || res.Header.Get("Content-Type") != "text/event-stream" || res.Header.Get("Cache-Control") != "no-store" {
		t.Fatalf("got %v", res)
	}
	first := await(t, events, "a snapshot", func(e event) bool { return e.data["type"] == "snapshot" })
	claimed := func(e event) bool {
		return e.data["type"] == "delta" && strings.Contains(fmt.Sprint(e.data["claimed"]), "ana")
	}
	g.win(m, token)
	seen := await(t, events, "the claim of tile 0", claimed)
	if seen.id == "" || first.data["hunt"] != "oslo" {
		t.Errorf("got %+v, then %+v", first, seen)
	}
	cancel()

	// Who comes back hears what it missed, and not what it had.
	if a := g.post(token, claimsPath(), fmt.Sprintf(`{"map":%d,"tile":1}`, m.Tick)); a.status != 200 {
		t.Fatal(a)
	}
	ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	events, _ = g.stream(ctx, "hunt=oslo", seen.id)
	e := await(t, events, "what was missed", func(e event) bool { return e.data["type"] == "delta" || e.data["type"] == "snapshot" })
	if e.data["type"] != "delta" || !claimed(e) {
		t.Errorf("got %+v, want the delta that was missed", e)
	}
}

func TestEventsEndWithTheServer(t *testing.T) {
	g := newGame(t, nil)
	g.openMap(0, cairn.Tap)
	ln := listen(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- Serve(ctx, []net.Listener{ln}, g.server.Public(), ServeOptions{OnDrain: func() {
			g.server.Drain()
			go g.rooms.Hub.Drain(time.Second)
		}})
	}()
	res, err := g.client.Get("http://" + ln.Addr().String() + "/v1/events?hunt=oslo")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	cancel()
	body, err := io.ReadAll(res.Body)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error(err)
	}
	if !strings.Contains(string(body), "drain") {
		t.Errorf("the stream ended without a goodbye: %.300s", body)
	}
	if err := <-done; err != nil {
		t.Errorf("Serve: %v", err)
	}
}

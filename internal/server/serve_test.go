package server

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/veltrix/cairn"
)

// serve runs Serve on a game's public handler until the test ends or stop is
// called, and returns where.
func (g *game) serve(opts ServeOptions) (addr string, stop func() error) {
	g.t.Helper()
	ln := listen(g.t)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, []net.Listener{ln}, g.server.Public(), opts) }()
	g.t.Cleanup(cancel)
	return ln.Addr().String(), func() error {
		cancel()
		return <-done
	}
}

// TestH2C calls with HTTP/2 without TLS, as api.md promises, on one connection.
func TestH2C(t *testing.T) {
	g := newGame(t, nil)
	m := g.openMap(0, cairn.Tap)
	_, ana := g.signIn("ana")
	addr, stop := g.serve(ServeOptions{})
	tr := &http.Transport{Protocols: new(http.Protocols)}
	tr.Protocols.SetUnencryptedHTTP2(true)
	defer tr.CloseIdleConnections()
	g.client = &http.Client{Transport: tr}
	call := func(method, path, body string) answer {
		t.Helper()
		req := request(t, method, "http://"+addr+path, ana, body)
		res, err := g.client.Do(req)
		if err != nil {
			t.Fatalf("%s %s: %v", method, path, err)
		}
		res.Body.Close()
		if res.ProtoMajor != 2 {
			t.Errorf("%s %s: answered with %s, want HTTP/2", method, path, res.Proto)
		}
		return g.do(request(t, method, "http://"+addr+path, ana, body))
	}
	if a := call("POST", claimsPath(), fmt.Sprintf(`{"map":%d,"tile":0}`, m.Tick)); a.text("outcome") != "won" {
		t.Errorf("a claim: got %v", a)
	}
	if a := call("GET", "/v1/hunts/oslo/maps/current", ""); a.number("tick") != float64(m.Tick) {
		t.Errorf("a map: got %v", a)
	}
	isProblem(t, call("GET", "/nowhere", ""), http.StatusNotFound, "not_found")
	isProblem(t, call("GET", "/v1/live", ""), http.StatusUpgradeRequired, "upgrade_required")
	tr.CloseIdleConnections()
	if err := stop(); err != nil {
		t.Error(err)
	}
}

// TestLinger: whoever sends a claim on a connection just when the server is told
// to end is answered, and told to send the next one elsewhere.
func TestLinger(t *testing.T) {
	g := newGame(t, nil)
	m := g.openMap(0, cairn.Tap)
	_, ana := g.signIn("ana")
	draining := make(chan struct{})
	addr, stop := g.serve(ServeOptions{LingerFor: time.Minute, OnDrain: func() { close(draining) }})
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	in := bufio.NewReader(c)
	body := fmt.Sprintf(`{"map":%d,"tile":0}`, m.Tick)
	claim := func() *http.Response {
		t.Helper()
		fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", claimsPath(), addr, ana, len(body), body)
		res, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, res.Body); err != nil || res.StatusCode != http.StatusOK {
			t.Fatalf("got %s, %v; want 200", res.Status, err)
		}
		return res
	}
	if claim().Close {
		t.Error("the connection ends after the first claim; want it to stay")
	}
	ended := make(chan error, 1)
	go func() { ended <- stop() }()
	<-draining
	// Told to end it takes nobody new; a moment may pass until it says so.
	for end := time.Now().Add(20 * time.Second); ; {
		d, err := net.Dial("tcp", addr)
		if err != nil {
			break
		}
		d.Close()
		if time.Now().After(end) {
			t.Fatal("the listener stays open")
		}
	}
	if !claim().Close {
		t.Error("the connection stays after a claim while draining; want Connection: close")
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestSlowBody sends half a body, and no more.
func TestSlowBody(t *testing.T) {
	g := newGame(t, nil)
	_, ana := g.signIn("ana")
	addr, _ := g.serve(ServeOptions{ReadTimeout: 50 * time.Millisecond})
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{", claimsPath(), addr, ana)
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusRequestTimeout || !bytes.Contains(text, []byte(`"code":"timeout"`)) ||
		res.Header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("got %s %s, %v; want a problem 408", res.Status, text, err)
	}
}

// TestTooLargeIsHeard sends far more than a call takes, and wants the answer
// rather than a connection that breaks.
func TestTooLargeIsHeard(t *testing.T) {
	g := newGame(t, nil)
	_, ana := g.signIn("ana")
	addr, _ := g.serve(ServeOptions{})
	for _, path := range []string{claimsPath(), "/v1/players"} {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(20 * time.Second))
		body := bytes.Repeat([]byte(" "), 200<<10)
		go func() {
			fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", path, addr, ana, len(body))
			c.Write(body) // breaks off once it is answered
		}()
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		if text, _ := io.ReadAll(res.Body); res.StatusCode != http.StatusRequestEntityTooLarge || !bytes.Contains(text, []byte(`"code":"too_large"`)) {
			t.Errorf("%s: got %s %s, want a problem 413", path, res.Status, text)
		}
	}
}

// TestDrainAnswers drains while a request is half sent: it is answered like
// any other, and nobody new is taken meanwhile.
func TestDrainAnswers(t *testing.T) {
	g := newGame(t, nil)
	m := g.openMap(0, cairn.Tap)
	_, ana := g.signIn("ana")
	draining := make(chan struct{})
	addr, stop := g.serve(ServeOptions{OnDrain: func() { close(draining) }})
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	body := fmt.Sprintf(`{"map":%d,"tile":0}`, m.Tick)
	fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		claimsPath(), addr, ana, len(body), body[:5])
	g.eventually("the request is being read", func() bool { return g.gauge("cairn_http_in_flight_requests") == 1 })
	done := make(chan error, 1)
	go func() { done <- stop() }()
	<-draining
	g.eventually("nobody new is taken", func() bool {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	if _, err := io.WriteString(c, body[5:]); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(res.Body); err != nil || res.StatusCode != http.StatusOK || !bytes.Contains(text, []byte(`"outcome":"won"`)) {
		t.Errorf("got %s %s, %v; want the claim won", res.Status, text, err)
	}
	if err := <-done; err != nil {
		t.Errorf("Serve: %v", err)
	}
}

// TestServeAllOrNone has one of several listeners break: the others end too.
func TestServeAllOrNone(t *testing.T) {
	lns := []net.Listener{listen(t), listen(t), listen(t)}
	done := make(chan error, 1)
	go func() { done <- Serve(t.Context(), lns, http.NotFoundHandler(), ServeOptions{}) }()
	for _, ln := range lns {
		res, err := http.Get("http://" + ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
	}
	lns[1].Close()
	if err := <-done; !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v, want what broke the listener", err)
	}
	for i, ln := range lns {
		if c, err := net.Dial("tcp", ln.Addr().String()); err == nil {
			c.Close()
			t.Errorf("listener %d still takes connections", i)
		}
	}
}

// gauge reads one of the game's metrics.
func (g *game) gauge(name string) float64 { return g.metric(name) }

// metric reads one of the game's gauges or counters, by its labels.
func (g *game) metric(name string, labels ...string) float64 {
	g.t.Helper()
	families, err := g.reg.Gather()
	if err != nil {
		g.t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			var pairs []string
			for _, l := range m.GetLabel() {
				pairs = append(pairs, l.GetName(), l.GetValue())
			}
			if f.GetName() == name && slices.Equal(pairs, labels) {
				return m.GetGauge().GetValue() + m.GetCounter().GetValue()
			}
		}
	}
	g.t.Fatalf("there is no metric %s %v", name, labels)
	return 0
}

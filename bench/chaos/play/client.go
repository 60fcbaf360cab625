// Package play is the clients of the fault harness: players who race for tiles
// through the public API at an even rate, over real sockets, do what a real
// client does when a gateway dies or an answer does not come, ask again for
// what they won, and write down all that they were told.
package play

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/bench/chaos/history"
	"github.com/veltrix/cairn/bench/program"
)

// answerWithin bounds one request. A gateway decides or gives up within 5s.
const answerWithin = 10 * time.Second

// bodyMax bounds what is read of an answer.
const bodyMax = 8 << 20

// A client speaks the public API with any of several gateways.
type client struct {
	http     *http.Client
	gateways func() []string

	mu    sync.Mutex
	next  int                  // whose turn it is
	avoid map[string]time.Time // gateways that did not answer, and until when they are avoided
}

func newClient(gateways func() []string, conns int) *client {
	return &client{
		gateways: gateways,
		avoid:    map[string]time.Time{},
		http: &http.Client{
			Timeout: answerWithin,
			Transport: &http.Transport{
				DialContext:         (&net.Dialer{Timeout: 2 * time.Second}).DialContext,
				MaxIdleConns:        conns,
				MaxIdleConnsPerHost: conns,
				IdleConnTimeout:     time.Minute,
				DisableCompression:  true,
			},
		},
	}
}

func (c *client) close() { c.http.CloseIdleConnections() }

// avoidFor is how long a gateway that did not answer is not asked, as long as
// there is another.
const avoidFor = time.Second

// gateway returns the base of the gateway to ask next: in turn, so that the
// load is even.
func (c *client) gateway() string {
	all := c.gateways()
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	for range all {
		c.next++
		if g := all[c.next%len(all)]; now.After(c.avoid[g]) {
			return g
		}
	}
	if len(all) == 0 {
		return "http://127.0.0.1:0" // nobody is there: refused
	}
	return all[c.next%len(all)]
}

// failed notes that a gateway did not answer.
func (c *client) failed(base string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.avoid[base] = time.Now().Add(avoidFor)
}

// send sends a request and returns the answer's status, headers and body.
func (c *client) send(ctx context.Context, method, base, path, token string, body []byte, header ...string) (int, http.Header, []byte, error) {
	var r io.Reader
	if body != nil {
		r = bytes.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, method, base+path, r)
	if err != nil {
		return 0, nil, nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := c.http.Do(req)
	if err != nil {
		c.failed(base)
		return 0, nil, nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, bodyMax))
	if err != nil {
		c.failed(base)
	}
	return resp.StatusCode, resp.Header, b, err
}

// errStatus says that an answer had a status that nothing can be made of.
type errStatus struct {
	status int
	body   string
}

func (e *errStatus) Error() string { return fmt.Sprintf("HTTP %d: %.200s", e.status, e.body) }

// A player is one who has signed in.
type player struct {
	ID    string `json:"player"`
	Token string `json:"token"`
}

// signIn signs a guest in, and tries until ctx ends: a fleet that has just
// started may not be ready.
func (c *client) signIn(ctx context.Context, name string) (player, error) {
	body, err := json.Marshal(map[string]string{"name": name})
	if err != nil {
		return player{}, err
	}
	for {
		var p player
		status, _, b, err := c.send(ctx, http.MethodPost, c.gateway(), "/v1/players", "", body)
		switch {
		case err == nil && status == http.StatusCreated:
			return p, json.Unmarshal(b, &p)
		case err == nil && status != http.StatusServiceUnavailable && status != http.StatusTooManyRequests:
			return p, fmt.Errorf("sign-in: %w", &errStatus{status, string(b)})
		}
		if program.Sleep(ctx, 200*time.Millisecond) != nil {
			return p, errors.Join(fmt.Errorf("sign-in: no gateway answers: %w", ctx.Err()), err)
		}
	}
}

// A chart is what a client needs to know of a map.
type chart struct {
	tick          cairn.Tick
	opens, closes time.Time
	shards, tiles int
	etag          string
}

// current returns the newest map, or ok = false if it is the one of etag. Its
// tiles are counted and not looked at: they are all alike to these players.
func (c *client) current(ctx context.Context, base string, hunt cairn.HuntID, etag string) (m chart, ok bool, err error) {
	status, h, b, err := c.send(ctx, http.MethodGet, base, "/v1/hunts/"+string(hunt)+"/maps/current", "", nil, "If-None-Match", etag)
	switch {
	case err != nil:
		return m, false, err
	case status == http.StatusNotModified:
		return m, false, nil
	case status != http.StatusOK:
		return m, false, &errStatus{status, string(b)}
	}
	head, list, cut := bytes.Cut(b, []byte(`,"tiles":[`))
	if !cut {
		return m, false, fmt.Errorf("a map without tiles: %.200s", b)
	}
	var j struct {
		Tick   cairn.Tick
		Shards int
		Opens  time.Time
		Closes time.Time
	}
	if err := json.Unmarshal(append(head, '}'), &j); err != nil {
		return m, false, fmt.Errorf("a map: %w", err)
	}
	return chart{j.Tick, j.Opens, j.Closes, j.Shards, bytes.Count(list, []byte(`{"index":`)), h.Get("ETag")}, true, nil
}

// appendBody appends the body of an attempt for a tile.
func appendBody(b []byte, tick cairn.Tick, tile uint32) []byte {
	b = strconv.AppendInt(append(b, `{"map":`...), int64(tick), 10)
	b = strconv.AppendUint(append(b, `,"tile":`...), uint64(tile), 10)
	return append(b, '}')
}

// An answer is what became of one attempt.
type answer struct {
	told   history.Told
	why    string // told nothing: pending, unavailable, throttled
	holder string // gone: the winner's id
	place  cairn.Place
}

// claim sends one array of attempts, and returns as many answers, or an error
// if nothing is known of any.
func (c *client) claim(ctx context.Context, base string, hunt cairn.HuntID, token string, body []byte, n int) ([]answer, error) {
	status, _, b, err := c.send(ctx, http.MethodPost, base, "/v1/hunts/"+string(hunt)+"/claims", token, body)
	if err != nil {
		return nil, err
	}
	if status != http.StatusOK {
		return nil, &errStatus{status, string(b)}
	}
	var outcomes []struct{ Outcome, Offset, Winner string }
	if err := json.Unmarshal(b, &outcomes); err != nil {
		return nil, fmt.Errorf("answers: %w", err)
	}
	if len(outcomes) != n {
		return nil, fmt.Errorf("%d answers for %d attempts: %.200s", len(outcomes), n, b)
	}
	answers := make([]answer, n)
	for i, o := range outcomes {
		a := &answers[i]
		switch o.Outcome {
		case "won":
			a.told = history.Won
			if a.place, err = cairn.ParsePlace(o.Offset); err != nil {
				return nil, err
			}
		case "gone":
			a.told, a.holder = history.Gone, o.Winner
		case "closed":
			a.told = history.Closed
		case "unknown_tile":
			a.told = history.Unknown
		default:
			a.why = o.Outcome
		}
	}
	return answers, nil
}

// Package load is the client side: a load of real clients, and bots that play
// like people. It knows the public API and nothing behind it.
package load

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/puzzle"
)

// A client speaks the public API over HTTP.
type client struct {
	base string // without a slash at its end
	http *http.Client
}

// newClient returns a client of the API at target, which keeps up to conns
// connections open.
func newClient(target string, conns int) (*client, error) {
	u, err := url.Parse(target)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, &cairn.FieldError{Field: "--target", Msg: fmt.Sprintf("is %q; want a URL such as http://127.0.0.1:8080", target)}
	}
	t := &http.Transport{
		DialContext:         (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
		MaxIdleConns:        conns,
		MaxIdleConnsPerHost: conns,
		MaxConnsPerHost:     conns,
		IdleConnTimeout:     time.Minute,
	}
	return &client{base: strings.TrimSuffix(target, "/"), http: &http.Client{Transport: t, Timeout: 30 * time.Second}}, nil
}

func (c *client) close() { c.http.CloseIdleConnections() }

// live returns the address of the WebSocket.
func (c *client) live() string { return "ws" + strings.TrimPrefix(c.base, "http") + "/v1/live" }

// A problem is an answer of the API that is not a success.
type problem struct {
	Status     int
	Code       string        `json:"code"`
	Detail     string        `json:"detail"`
	RetryAfter time.Duration `json:"-"`
}

func (p *problem) Error() string { return fmt.Sprintf("HTTP %d %s: %s", p.Status, p.Code, p.Detail) }

// call sends a request and decodes its answer into out. Answers of 400 and
// above are *problem errors.
func (c *client) call(ctx context.Context, method, path, token string, in, out any) error {
	status, body, header, err := c.send(ctx, method, path, token, in)
	if err != nil {
		return err
	}
	return decode(method, path, status, body, header, out)
}

func decode(method, path string, status int, body []byte, header http.Header, out any) error {
	if status >= 400 {
		p := &problem{Status: status}
		if json.Unmarshal(body, p) != nil {
			p.Detail = fmt.Sprintf("%.200s", body)
		}
		if s, err := time.ParseDuration(header.Get("Retry-After") + "s"); err == nil {
			p.RetryAfter = s
		}
		return p
	}
	if err := json.Unmarshal(body, out); err != nil {
		return fmt.Errorf("%s %s: answer: %w", method, path, err)
	}
	return nil
}

func (c *client) send(ctx context.Context, method, path, token string, in any) (int, []byte, http.Header, error) {
	req, err := c.request(ctx, method, path, token, in)
	if err != nil {
		return 0, nil, nil, err
	}
	return c.do(req)
}

func (c *client) request(ctx context.Context, method, path, token string, in any) (*http.Request, error) {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return nil, err
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	return req, nil
}

func (c *client) do(req *http.Request) (int, []byte, http.Header, error) {
	resp, err := c.http.Do(req)
	if err != nil {
		return 0, nil, nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, b, resp.Header, err
}

// A player is somebody who has signed in.
type player struct {
	ID    cairn.PlayerID `json:"player"`
	Token string         `json:"token"`
}

func (c *client) signIn(ctx context.Context, name string) (player, error) {
	var p player
	err := c.call(ctx, http.MethodPost, "/v1/players", "", map[string]string{"name": name}, &p)
	return p, err
}

// A hunt is what a player sees of one.
type hunt struct {
	ID    cairn.HuntID `json:"id"`
	State cairn.State  `json:"state"`
}

// liveHunt returns the hunt of that name, or the first live one for "".
func (c *client) liveHunt(ctx context.Context, name cairn.HuntID) (cairn.HuntID, error) {
	var list struct {
		Hunts []hunt `json:"hunts"`
	}
	if err := c.call(ctx, http.MethodGet, "/v1/hunts", "", nil, &list); err != nil {
		return "", err
	}
	for _, h := range list.Hunts {
		if h.ID == name || name == "" && h.State == cairn.Live {
			return h.ID, nil
		}
	}
	if name != "" {
		return "", &cairn.FieldError{Field: "--hunt", Msg: fmt.Sprintf("there is no hunt %q", name)}
	}
	return "", errors.New("no hunt is live: start one with cairn hunt create or cairn hunt resume")
}

// A treasureMap is a map as the API shows it.
type treasureMap struct {
	Tick   cairn.Tick    `json:"tick"`
	Opens  cairn.Instant `json:"opens"`
	Closes cairn.Instant `json:"closes"`
	Tiles  []struct {
		Index  uint32           `json:"index"`
		Cell   cairn.Cell       `json:"geohash"`
		Puzzle cairn.PuzzleKind `json:"puzzle"`
		Reward cairn.Micro      `json:"reward"`
	} `json:"tiles"`
}

// A mapWatch asks for a hunt's newest map again and again. Whoever asks often
// must not pay, nor have the server pay, for a map that it has.
type mapWatch struct {
	c    *client
	hunt cairn.HuntID
	etag string
}

// next returns the newest map, or nil if it is the one that next returned last.
func (w *mapWatch) next(ctx context.Context) (*treasureMap, error) {
	path := "/v1/hunts/" + string(w.hunt) + "/maps/current"
	req, err := w.c.request(ctx, http.MethodGet, path, "", nil)
	if err != nil {
		return nil, err
	}
	if w.etag != "" {
		req.Header.Set("If-None-Match", w.etag)
	}
	status, body, header, err := w.c.do(req)
	if err != nil || status == http.StatusNotModified {
		return nil, err
	}
	m := new(treasureMap)
	if err := decode(http.MethodGet, path, status, body, header, m); err != nil {
		return nil, err
	}
	w.etag = header.Get("ETag")
	return m, nil
}

// solve fetches a player's puzzle and returns its answer and token. what is
// solved is the real puzzle, by looking at the prompt as a player would.
func (c *client) solve(ctx context.Context, hunt cairn.HuntID, tick cairn.Tick, tile uint32, kind cairn.PuzzleKind, token string) (answer, puzzleToken string, err error) {
	if kind == cairn.Tap {
		return "", "", nil
	}
	var p struct {
		Kind   cairn.PuzzleKind `json:"kind"`
		Prompt json.RawMessage  `json:"prompt"`
		Token  string           `json:"token"`
	}
	path := fmt.Sprintf("/v1/hunts/%s/maps/%d/tiles/%d/puzzle", hunt, tick, tile)
	if err := c.call(ctx, http.MethodGet, path, token, nil, &p); err != nil {
		return "", "", err
	}
	answer, err = puzzle.Solve(p.Kind, p.Prompt)
	return answer, p.Token, err
}

// An attempt is the body of a claim.
type attempt struct {
	Map     cairn.Tick `json:"map"`
	Tile    uint32     `json:"tile"`
	ClaimID string     `json:"claim_id,omitempty"`
	Answer  string     `json:"answer,omitempty"`
	Token   string     `json:"token,omitempty"`
}

// An outcome is how a claim ended: the API's word, or its problem's code.
type outcome struct {
	Outcome string      `json:"outcome"`
	Offset  string      `json:"offset"`
	Reward  cairn.Micro `json:"reward"`
}

// claim sends a claim. What the API answers, be it a lost race, is an outcome;
// only what it did not answer is an error.
func (c *client) claim(ctx context.Context, hunt cairn.HuntID, token string, a attempt) (outcome, error) {
	var o outcome
	err := c.call(ctx, http.MethodPost, "/v1/hunts/"+string(hunt)+"/claims", token, a, &o)
	var p *problem
	if errors.As(err, &p) && p.Code != "" && p.Status < 500 {
		return outcome{Outcome: p.Code}, nil
	}
	return o, err
}

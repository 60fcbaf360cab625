//go:build unix

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/sync/errgroup"

	"github.com/veltrix/cairn/bench/program"
)

// framesEach is how many attempts one who claims on a WebSocket sends a second:
// below what a gateway takes of one player.
const framesEach = 5

// frames has players claim tiles on WebSockets, one attempt a frame, until ctx
// ends.
func frames(ctx context.Context, target string, rate float64, tiles int) error {
	var tick atomic.Int64
	all, ctx := errgroup.WithContext(ctx)
	all.Go(func() error { return followMaps(ctx, target, &tick) })
	for i := range max(1, int(rate/framesEach)) {
		all.Go(func() error { return player(ctx, target, fmt.Sprint("p", i), &tick, tiles) })
	}
	if err := all.Wait(); ctx.Err() == nil || !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// followMaps keeps tick the newest map's.
func followMaps(ctx context.Context, target string, tick *atomic.Int64) error {
	for {
		var m struct {
			Tick int64 `json:"tick"`
		}
		if err := call(ctx, http.MethodGet, target+"/v1/hunts/bench/maps/current", nil, &m); err == nil {
			tick.Store(m.Tick)
		}
		if err := program.Sleep(ctx, 200*time.Millisecond); err != nil {
			return err
		}
	}
}

// player signs in and claims tiles by chance.
func player(ctx context.Context, target, name string, tick *atomic.Int64, tiles int) error {
	var me struct {
		Token string `json:"token"`
	}
	if err := call(ctx, http.MethodPost, target+"/v1/players", map[string]string{"name": name}, &me); err != nil {
		return err
	}
	conn, _, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(target, "http")+"/v1/live", &websocket.DialOptions{Subprotocols: []string{"cairn.v1.json"}}) //nolint:bodyclose // of a handshake that was taken there is none to close
	if err != nil {
		return err
	}
	defer func() { _ = conn.CloseNow() }() // it is not read to its end
	if err := conn.Write(ctx, websocket.MessageText, fmt.Appendf(nil, `{"type":"hello","token":%q}`, me.Token)); err != nil {
		return err
	}
	both, ctx := errgroup.WithContext(ctx)
	both.Go(func() error {
		for {
			if _, _, err := conn.Read(ctx); err != nil {
				return err
			}
		}
	})
	both.Go(func() error {
		every := time.Second / framesEach
		if err := program.Sleep(ctx, rand.N(every)); err != nil {
			return err
		}
		for n, tock := 0, time.NewTicker(every); ; n++ {
			frame := fmt.Appendf(nil, `{"type":"claim","id":"%d","hunt":"bench","map":%d,"tile":%d}`, n, tick.Load(), rand.IntN(tiles))
			if err := conn.Write(ctx, websocket.MessageText, frame); err != nil {
				return err
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-tock.C:
			}
		}
	})
	return both.Wait()
}

// call makes one request of JSON, and decodes its answer.
func call(ctx context.Context, method, url string, body, into any) error {
	var b bytes.Buffer
	if body != nil {
		if err := json.NewEncoder(&b).Encode(body); err != nil {
			return err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, url, &b)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode >= 300 {
		return fmt.Errorf("%s: %s: %.200s", url, resp.Status, answer)
	}
	return json.Unmarshal(answer, into)
}

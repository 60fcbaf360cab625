//go:build unix

package endtoend

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

// A caller calls a system's HTTP API over connections that are kept.
type caller struct {
	base string
	http *http.Client
}

const connectionsMax = 256

func newCaller(addr string) *caller {
	return &caller{base: "http://" + addr, http: &http.Client{
		Timeout:   30 * time.Second,
		Transport: &http.Transport{MaxIdleConns: connectionsMax, MaxIdleConnsPerHost: connectionsMax, MaxConnsPerHost: connectionsMax},
	}}
}

func (c *caller) close() { c.http.CloseIdleConnections() }

// call returns the body of an answer. One that is neither a success nor says
// that a tile is taken is an error.
func (c *caller) call(ctx context.Context, method, path, token string, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode >= 300 && resp.StatusCode != http.StatusConflict {
		err = fmt.Errorf("%s %s: HTTP %d: %.300s", method, path, resp.StatusCode, b)
	}
	return b, err
}

// signIn makes n players and returns their tokens.
func (c *caller) signIn(ctx context.Context, n int) ([]string, error) {
	tokens := make([]string, n)
	err := each(n, 8, func(i int) error {
		b, err := c.call(ctx, http.MethodPost, "/v1/players", "", fmt.Appendf(nil, `{"name":"player %d"}`, i))
		if err != nil {
			return err
		}
		var p struct{ Token string }
		err = json.Unmarshal(b, &p)
		tokens[i] = p.Token
		return err
	})
	return tokens, err
}

// each calls f for 0 to n-1, some at a time, and returns the first error.
func each(n, width int, f func(i int) error) error {
	var wg sync.WaitGroup
	errs := make(chan error, width)
	next := make(chan int)
	for range width {
		wg.Go(func() {
			var first error
			for i := range next {
				if first == nil {
					first = f(i)
				}
			}
			errs <- first
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
	for range width {
		if err := <-errs; err != nil {
			return err
		}
	}
	return nil
}

package main

import (
	"io"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestReusePort has two processes share an address, which both ask for, and a
// third that does not ask turned away.
func TestReusePort(t *testing.T) {
	first := up(t, filepath.Join(t.TempDir(), "data"), "--reuse-port")
	addr := strings.TrimPrefix(first.public, "http://")
	second := up(t, filepath.Join(t.TempDir(), "data"), "--reuse-port", "--listen", addr)
	if second.public != first.public {
		t.Fatalf("the second is at %s, want %s", second.public, first.public)
	}
	get := func(url string) string {
		req, err := http.NewRequestWithContext(t.Context(), "GET", url, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Close = true // a connection each
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		if err != nil || res.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s %s, %v", url, res.Status, b, err)
		}
		return string(b)
	}
	for range 100 {
		get(first.public + "/v1/hunts")
	}
	answered := regexp.MustCompile(`cairn_http_requests_total\{class="2xx",route="GET /v1/hunts"\} [1-9]`)
	for i, p := range []*process{first, second} {
		if m := get(p.admin + "/metrics"); !answered.MatchString(m) {
			t.Errorf("process %d of 2 answered none of 100 calls", i+1)
		}
	}
	code, _, stderr := cairnCmd(t, "up", "--data", t.TempDir(), "--listen", addr, "--admin", "127.0.0.1:0")
	if code != exitFailed || !strings.Contains(stderr, "--listen") || !strings.Contains(stderr, addr+" is in use") {
		t.Errorf("one who does not share: exit code %d, said %q; want %d and that %s is in use", code, stderr, exitFailed, addr)
	}
}

package server

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/fstest"
)

func TestPage(t *testing.T) {
	script := strings.Repeat("console.log('cairn');\n", 200)
	p, err := newPage(fstest.MapFS{
		"index.html":         {Data: []byte("<!doctype html><title>page</title>")},
		"assets/app-1.js":    {Data: []byte(script)},
		"assets/app-1.js.br": {Data: []byte("brotli")},
		"assets/map-2.land":  {Data: []byte{1, 2, 3}},
	})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	p.register(mux)
	get := func(path string, header ...string) *httptest.ResponseRecorder {
		req := httptest.NewRequest("GET", path, nil)
		for i := 0; i < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, req)
		return w
	}
	index := get("/")
	if index.Code != 200 || index.Header().Get("Content-Type") != "text/html; charset=utf-8" || index.Header().Get("Cache-Control") != "no-cache" {
		t.Errorf("/: got %d %v", index.Code, index.Header())
	}
	csp := index.Header().Get("Content-Security-Policy")
	for _, want := range []string{"default-src 'none'", "script-src 'self';", "frame-ancestors 'none'", "base-uri 'none'"} {
		if !strings.Contains(csp, want) {
			t.Errorf("the policy %q lacks %q", csp, want)
		}
	}
	for name, want := range map[string]string{"Referrer-Policy": "no-referrer", "X-Frame-Options": "DENY", "Cross-Origin-Opener-Policy": "same-origin"} {
		if got := index.Header().Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if w := get("/", "If-None-Match", `"x", W/`+index.Header().Get("ETag")); w.Code != http.StatusNotModified || w.Body.Len() > 0 {
		t.Errorf("with its tag: got %d %q", w.Code, w.Body)
	}
	js := get("/assets/app-1.js")
	if js.Body.String() != script || js.Header().Get("Cache-Control") != "public, max-age=31536000, immutable" || js.Header().Get("Content-Encoding") != "" {
		t.Errorf("script: got %d %v", js.Code, js.Header())
	}
	zipped := get("/assets/app-1.js", "Accept-Encoding", "gzip")
	zr, err := gzip.NewReader(bytes.NewReader(zipped.Body.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(zr); err != nil || string(b) != script || zipped.Header().Get("Vary") != "Accept-Encoding" {
		t.Errorf("gzip: got %q, %v, %v", b, err, zipped.Header())
	}
	if w := get("/assets/app-1.js", "Accept-Encoding", "gzip, br"); w.Body.String() != "brotli" || w.Header().Get("Content-Encoding") != "br" {
		t.Errorf("brotli: got %q %v", w.Body, w.Header())
	}
	if w := get("/assets/map-2.land"); w.Header().Get("Content-Type") != "application/octet-stream" {
		t.Errorf("an unknown type: got %v", w.Header())
	}
	for _, path := range []string{"/assets/app-1.js.br", "/assets", "/other", "/index.htm"} {
		if w := get(path); w.Code != http.StatusNotFound {
			t.Errorf("%s: got %d, want 404", path, w.Code)
		}
	}
}

func TestAccepts(t *testing.T) {
	for header, want := range map[string]bool{
		"": false, "gzip": true, "br": false, "br, gzip": true, "gzip;q=0": false, "gzip; q=0.5": true, "*": true, "*;q=0": false,
		"GZIP": true, "*;q=1, gzip;q=0": false, "gzip;q=x": false, "identity": false,
	} {
		if got := accepts(header, "gzip"); got != want {
			t.Errorf("%q: got %v, want %v", header, got, want)
		}
	}
}

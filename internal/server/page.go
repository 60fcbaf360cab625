package server

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strconv"
	"strings"
)

// pagePolicy lets the page load from this host alone, and nothing inline: it is
// all that web/README.md says the page needs.
const pagePolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; worker-src 'self'; " +
	"manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// A page is the player page's files, ready to send. nil has none.
type page struct {
	files map[string]*pageFile // by path, without the leading slash
}

type pageFile struct {
	body, gzip, brotli []byte // gzip and brotli are nil where they don't pay
	contentType        string
	etag               string
	cache              string
}

// newPage reads all of files: they are few, and known before anyone asks.
func newPage(files fs.FS) (*page, error) {
	p := &page{files: map[string]*pageFile{}}
	if files == nil {
		return p, nil
	}
	err := fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		body, err := fs.ReadFile(files, name)
		if err != nil {
			return err
		}
		switch ext := path.Ext(name); ext {
		case ".gz", ".br":
			return nil // packed forms of another file, which reads them
		default:
			p.files[name] = newPageFile(files, name, ext, body)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("server: page: %w", err)
	}
	return p, nil
}

// Types that a machine's own table may lack or spell otherwise.
var pageTypes = map[string]string{
	".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".mjs": "text/javascript; charset=utf-8",
	".css": "text/css; charset=utf-8", ".json": "application/json", ".svg": "image/svg+xml", ".png": "image/png", ".ico": "image/x-icon",
	".webmanifest": "application/manifest+json", ".woff2": "font/woff2", ".txt": "text/plain; charset=utf-8",
}

func newPageFile(files fs.FS, name, ext string, body []byte) *pageFile {
	sum := sha256.Sum256(body)
	f := &pageFile{body: body, etag: `"` + hex.EncodeToString(sum[:12]) + `"`, cache: "no-cache"}
	if strings.HasPrefix(name, "assets/") {
		f.cache = "public, max-age=31536000, immutable" // its name has a digest of its content
	}
	if f.contentType = pageTypes[ext]; f.contentType == "" {
		if f.contentType = mime.TypeByExtension(ext); f.contentType == "" {
			f.contentType = "application/octet-stream"
		}
	}
	f.brotli, _ = fs.ReadFile(files, name+".br") // absent: nil
	if f.gzip, _ = fs.ReadFile(files, name+".gz"); f.gzip == nil {
		f.gzip = packed(body)
	}
	return f
}

// packed returns body gzipped, or nil where that saves less than a tenth.
func packed(body []byte) []byte {
	if len(body) < 1024 {
		return nil
	}
	var b bytes.Buffer
	zw := gzip.NewWriter(&b)
	_, _ = zw.Write(body) // to memory: can't fail
	zw.Close()
	if b.Len() > len(body)*9/10 {
		return nil
	}
	return b.Bytes()
}

// register adds a route for each file, so that the mux knows what there is and
// says 404 to the rest.
func (p *page) register(mux *http.ServeMux) {
	for name, f := range p.files {
		if strings.ContainsAny(name, "{}") {
			continue // would be a pattern
		}
		mux.Handle("GET /"+name, f)
		if name == "index.html" {
			mux.Handle("GET /{$}", f)
		}
	}
}

// ServeHTTP implements http.Handler.
func (f *pageFile) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Cache-Control", f.cache)
	h.Set("ETag", f.etag)
	h.Add("Vary", "Accept-Encoding")
	h.Set("Content-Security-Policy", pagePolicy)
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), microphone=(), payment=()")
	if matches(r.Header.Get("If-None-Match"), f.etag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	body, accept := f.body, r.Header.Get("Accept-Encoding")
	switch {
	case f.brotli != nil && accepts(accept, "br"):
		body = f.brotli
		h.Set("Content-Encoding", "br")
	case f.gzip != nil && accepts(accept, "gzip"):
		body = f.gzip
		h.Set("Content-Encoding", "gzip")
	}
	h.Set("Content-Type", f.contentType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.Write(body)
}

package server

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// ServeOptions tunes Serve. The zero value is ready for production.
type ServeOptions struct {
	HeaderTimeout time.Duration // for a request's header; 0 means 5s
	ReadTimeout   time.Duration // for a whole request; 0 means 15s
	WriteTimeout  time.Duration // for an answer, streams aside; 0 means 60s
	IdleTimeout   time.Duration // of a connection between requests; 0 means 2m
	DrainWithin   time.Duration // for requests in flight when ctx ends; 0 means 10s

	// LingerFor is how long, when ctx has ended, connections without a request in
	// flight stay open at most: whoever sends one on them is answered, and told
	// by Connection: close to send the next elsewhere. A connection that is closed
	// as a claim comes on it is a claim without an answer. 0 is not at all.
	LingerFor time.Duration

	// OnDrain is called once, when draining begins and before it waits: the
	// place to end streams ([Server.Drain]). It must not block. nil is nothing.
	OnDrain func()

	Log *slog.Logger // nil discards
}

const headerBytesMax = 16 << 10

// Serve serves h on listeners, at least one, with HTTP/1.1 and HTTP/2 without
// TLS (prior knowledge), until ctx ends; then it takes nobody new, lets what is
// in flight finish, and returns nil, or an error if that took too long. It owns
// the listeners.
func Serve(ctx context.Context, lns []net.Listener, h http.Handler, opts ServeOptions) error {
	or := func(d *time.Duration, def time.Duration) {
		if *d == 0 {
			*d = def
		}
	}
	or(&opts.HeaderTimeout, 5*time.Second)
	or(&opts.ReadTimeout, 15*time.Second)
	or(&opts.WriteTimeout, 60*time.Second)
	or(&opts.IdleTimeout, 2*time.Minute)
	or(&opts.DrainWithin, 10*time.Second)
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	g := &goodbye{gone: make(chan struct{}, 1)}
	srv := &http.Server{
		Handler:           g.handler(h),
		ConnState:         g.note,
		ReadHeaderTimeout: opts.HeaderTimeout,
		ReadTimeout:       opts.ReadTimeout,
		WriteTimeout:      opts.WriteTimeout,
		IdleTimeout:       opts.IdleTimeout,
		MaxHeaderBytes:    headerBytesMax,
		Protocols:         new(http.Protocols),
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: 250, SendPingTimeout: 30 * time.Second, PingTimeout: 15 * time.Second},
		ErrorLog:          slog.NewLogLogger(opts.Log.Handler(), slog.LevelDebug),
	}
	srv.Protocols.SetHTTP1(true)
	srv.Protocols.SetUnencryptedHTTP2(true)

	served := make(chan error, len(lns))
	for _, ln := range lns {
		go func() { served <- srv.Serve(ln) }()
	}
	left := len(lns) // that still serve
	var broke error
	select {
	case broke = <-served: // a listener broke: the others end as well
		left--
		broke = errors.Join(broke, srv.Close())
	case <-ctx.Done():
		if opts.OnDrain != nil {
			opts.OnDrain()
		}
		within, cancel := context.WithTimeout(context.WithoutCancel(ctx), opts.DrainWithin)
		defer cancel()
		if opts.LingerFor > 0 {
			g.begun.Store(true)
			for _, ln := range lns {
				broke = errors.Join(broke, ln.Close())
			}
			for ; left > 0; left-- { // before Shutdown, which would close them again
				if err := <-served; !errors.Is(err, net.ErrClosed) {
					broke = errors.Join(broke, err)
				}
			}
			g.linger(within, opts.LingerFor)
		}
		if err := srv.Shutdown(within); err != nil {
			broke = errors.Join(broke, err, srv.Close())
		}
	}
	for range left {
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			broke = errors.Join(broke, err)
		}
	}
	return broke
}

// A goodbye has those who have connections hear that they are to send what
// comes next elsewhere.
type goodbye struct {
	begun atomic.Bool
	open  atomic.Int64  // connections that are HTTP's
	gone  chan struct{} // has one when there may be none left
}

// handler wraps h.
func (g *goodbye) handler(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if g.begun.Load() && r.ProtoMajor == 1 {
			w.Header().Set("Connection", "close") // HTTP/2 has a frame for it, which Shutdown sends
		}
		h.ServeHTTP(w, r)
	})
}

// note follows how many connections there are.
func (g *goodbye) note(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		g.open.Add(1)
	case http.StateHijacked, http.StateClosed:
		if g.open.Add(-1) == 0 {
			select {
			case g.gone <- struct{}{}:
			default:
			}
		}
	}
}

// linger waits until no connection is left, or so long, or ctx ends.
func (g *goodbye) linger(ctx context.Context, most time.Duration) {
	over := time.NewTimer(most)
	defer over.Stop()
	for g.open.Load() > 0 {
		select {
		case <-g.gone:
		case <-over.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

package server

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// ServeOptions tunes Serve. The zero value is ready for production.
type ServeOptions struct {
	HeaderTimeout time.Duration // for a request's header; 0 means 5s
	ReadTimeout   time.Duration // for a whole request; 0 means 15s
	WriteTimeout  time.Duration // for an answer, streams aside; 0 means 60s
	IdleTimeout   time.Duration // of a connection between requests; 0 means 2m
	DrainWithin   time.Duration // for requests in flight when ctx ends; 0 means 10s

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
	srv := &http.Server{
		Handler:           h,
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
		if broke = srv.Shutdown(within); broke != nil {
			broke = errors.Join(broke, srv.Close())
		}
	}
	for range left {
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			broke = errors.Join(broke, err)
		}
	}
	return broke
}

package fleet

import (
	"context"
	"errors"
	"net"
	"net/http"
	"syscall"
	"time"

	"connectrpc.com/connect"

	"github.com/veltrix/cairn/internal/fleet/fleetpb"
	"github.com/veltrix/cairn/internal/fleet/fleetpb/fleetpbconnect"
)

// A DialFunc opens a connection to HOST:PORT.
type DialFunc func(ctx context.Context, network, addr string) (net.Conn, error)

const (
	// dialWithin bounds how long a connection takes to open: a process in the
	// same rack answers in a millisecond or is not there.
	dialWithin = 250 * time.Millisecond

	// pingAfter and pingWithin bound how long a connection whose other end
	// vanished without a word is believed in.
	pingAfter  = 500 * time.Millisecond
	pingWithin = 500 * time.Millisecond
)

// peers are the connections to processes of a role: one to each, over HTTP/2
// without TLS, however many calls and streams it carries.
type peers struct {
	dial   DialFunc
	client *http.Client
	base   *http.Transport
}

func newPeers(dial DialFunc) *peers {
	if dial == nil {
		dial = (&net.Dialer{Timeout: dialWithin, KeepAlive: 15 * time.Second}).DialContext
	}
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	base := &http.Transport{
		DialContext:        dial,
		Protocols:          protocols,
		DisableCompression: true,
		HTTP2:              &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingWithin},
	}
	return &peers{dial: dial, client: &http.Client{Transport: base}, base: base}
}

func (p *peers) close() { p.base.CloseIdleConnections() }

// plain has nothing compressed: it is small, and the machines stand side by
// side.
var plain = connect.WithAcceptCompression("gzip", nil, nil)

// to returns a client of the claims process at addr.
func (p *peers) to(addr string) fleetpbconnect.OwnerClient {
	return fleetpbconnect.NewOwnerClient(p.client, "http://"+addr, plain)
}

// boards returns a client of the leaderboard process at addr.
func (p *peers) boards(addr string) fleetpbconnect.BoardsClient {
	return fleetpbconnect.NewBoardsClient(p.client, "http://"+addr, plain)
}

// release asks a member for a shard, to be another's.
func (p *peers) release(ctx context.Context, m Member, shard int, to *Member) error {
	_, err := p.to(m.Addr).Release(ctx, &fleetpb.ReleaseRequest{Shard: uint32(shard), To: to.Name, Addr: to.Addr, Life: to.Life})
	return err
}

// watch holds a stream to a member open. It returns true if the stream broke
// and nobody listens at the member's address any more, and false when ctx ends
// or the member is not believed to be there any more.
func (p *peers) watch(ctx context.Context, m Member, there func(Member) bool) (ended bool) {
	for ctx.Err() == nil && there(m) {
		p.hold(ctx, m)
		if ctx.Err() == nil && p.refused(ctx, m.Addr) {
			return true
		}
		select {
		case <-ctx.Done():
		case <-time.After(dialWithin / 5):
		}
	}
	return false
}

// hold opens a stream without attempts and returns when it ends.
func (p *peers) hold(ctx context.Context, m Member) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := p.to(m.Addr).Decide(ctx)
	if err != nil {
		return
	}
	// net/http looks at ctx only once the request has been sent whole.
	defer context.AfterFunc(ctx, func() { _ = stream.CloseRequest() })()
	if err := stream.Send(nil); err == nil { // headers only
		for err == nil {
			_, err = stream.Receive() // the greeting, and then the end
		}
	}
	_ = stream.CloseRequest()
	_ = stream.CloseResponse()
}

// refused reports whether a connection to addr is refused.
func (p *peers) refused(ctx context.Context, addr string) bool {
	ctx, cancel := context.WithTimeout(ctx, dialWithin)
	defer cancel()
	c, err := p.dial(ctx, "tcp", addr)
	if err != nil {
		return errors.Is(err, syscall.ECONNREFUSED)
	}
	c.Close()
	return false
}

package server

import (
	"context"
	"errors"
	"net"
	"runtime"
)

// sendBufferBytes bounds what the kernel keeps for one client that stopped
// reading; Linux doubles it. Measured with frames of 260 bytes and of 64 KiB: a
// stalled client pins 40 to 113 KB, where it would pin 4.1 MB if the buffer grew
// as it likes (tcp_wmem), and is found to be stuck after 73 KB instead of after
// 4.1 MB, so minutes instead of hours later at a frame a second. At a round trip
// of 50 ms it lets 1.4 MB/s through, a snapshot of all tiles in two seconds.
const sendBufferBytes = 32 << 10

// ListenOptions tunes Listen. The zero value is for one process a port.
type ListenOptions struct {
	// N is how many listeners share the port, so that their loops of accepting
	// don't wait for each other. 0 means one a processor, at most 4. It is 1
	// where the system does not share connections out.
	N int

	// Shared lets other processes of the same user listen on the port as well,
	// if they ask for it too: the system shares connections out over all. 0 as
	// a port can't be shared.
	Shared bool
}

// Listen opens listeners on one address for players: tuned for many sockets
// that are written to rarely, where the system can be tuned ([Server.Front]
// makes use of it). An address that somebody listens on is
// syscall.EADDRINUSE, unless it is Shared there and here. Their owner closes
// all.
func Listen(ctx context.Context, addr string, opts ListenOptions) ([]net.Listener, error) {
	n := opts.N
	if n == 0 {
		n = min(runtime.GOMAXPROCS(0), 4)
	}
	if !sharesPorts {
		if opts.Shared {
			return nil, errors.New("sharing a port between processes is supported on Linux alone")
		}
		n = 1
	}
	// The first takes the port for itself, so that whoever has it already is
	// found out. Only then it is opened for the others.
	first, err := (&net.ListenConfig{Control: tuneListener(opts.Shared)}).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	lns := []net.Listener{first}
	if n == 1 {
		return lns, nil
	}
	if !opts.Shared {
		err = sharePort(first)
	}
	for len(lns) < n && err == nil {
		var ln net.Listener
		if ln, err = (&net.ListenConfig{Control: tuneListener(true)}).Listen(ctx, "tcp", first.Addr().String()); err == nil {
			lns = append(lns, ln)
		}
	}
	if err != nil {
		for _, ln := range lns {
			ln.Close()
		}
		return nil, err
	}
	return lns, nil
}

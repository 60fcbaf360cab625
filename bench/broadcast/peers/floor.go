package peers

import (
	"net"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/gobwas/ws"
)

// A floor writes one prebuilt frame to every socket. It is what any server in
// Go pays that makes a system call a delivery; what ours pays is held against
// it. A client that does not read stops the loop that it is in: there is
// nothing here to skip it.
type floor struct {
	next  atomic.Uint64 // deals connections out
	loops []*floorLoop
	done  sync.WaitGroup
}

// A floorLoop writes to its share of the connections.
type floorLoop struct {
	frames chan []byte // closed by close

	mu    sync.Mutex
	conns map[net.Conn]struct{}
}

// floorBacklog is how many frames may wait for a loop before who publishes
// waits.
const floorBacklog = 1024

func newFloor() *floor {
	f := &floor{}
	for range runtime.GOMAXPROCS(0) {
		l := &floorLoop{frames: make(chan []byte, floorBacklog), conns: map[net.Conn]struct{}{}}
		f.loops = append(f.loops, l)
		f.done.Go(l.run)
	}
	return f
}

// ServeHTTP upgrades a connection. The goroutine that reads from it is a new
// one: that of net/http has a deep stack by now.
func (f *floor) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c, _, _, err := ws.UpgradeHTTP(r, w)
	if err != nil {
		return // the client has been told
	}
	l := f.loops[f.next.Add(1)%uint64(len(f.loops))]
	l.add(c)
	go func() {
		discard(c)
		l.remove(c)
		c.Close()
	}()
}

// discard reads what a client sends, which means nothing here, until it is
// gone.
func discard(c net.Conn) {
	b := make([]byte, 64)
	for {
		if _, err := c.Read(b); err != nil {
			return
		}
	}
}

func (f *floor) publish(payload []byte) error {
	frame := ws.MustCompileFrame(ws.NewTextFrame(payload))
	for _, l := range f.loops {
		l.frames <- frame
	}
	return nil
}

func (f *floor) close() error {
	for _, l := range f.loops {
		close(l.frames)
		l.mu.Lock()
		for c := range l.conns {
			c.Close() // so that no write waits
		}
		l.mu.Unlock()
	}
	f.done.Wait()
	return nil
}

func (l *floorLoop) add(c net.Conn) {
	l.mu.Lock()
	l.conns[c] = struct{}{}
	l.mu.Unlock()
}

func (l *floorLoop) remove(c net.Conn) {
	l.mu.Lock()
	delete(l.conns, c)
	l.mu.Unlock()
}

// run writes every frame to everyone. Who comes meanwhile gets the next.
func (l *floorLoop) run() {
	var all []net.Conn // copied, so that nobody waits for a write
	for frame := range l.frames {
		all = l.copyTo(all[:0])
		for _, c := range all {
			_, _ = c.Write(frame) // whoever is gone shows at the read
		}
		clear(all)
	}
}

func (l *floorLoop) copyTo(all []net.Conn) []net.Conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.conns {
		all = append(all, c)
	}
	return all
}

package broadcast

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/veltrix/cairn"
)

const (
	movesOfGuest = 10
	claimsAtOnce = 6 // so that there are never too many in flight
)

// smallSegments is how a socket is made whose segments are small, if the system
// has such.
var smallSegments func(network, address string, c syscall.RawConn) error

// A guest is a client of a storm: what it knows, over all its visits.
type guest struct {
	s   *storm
	id  int
	rnd *rand.Rand // the actor's

	codec Codec
	v     *visit // the newest one; nil before the first

	mu    sync.Mutex // guards what follows
	epoch string
	looks map[cairn.HuntID]*look
}

// A look is what a guest watches of a hunt.
type look struct {
	regions []string
	model   *model // nil until its snapshot has come
}

// A visit is one connection of a guest.
type visit struct {
	g    *guest
	nc   net.Conn
	read *bufio.Reader
	done chan struct{} // closed when nothing more is read
	told chan error    // how it ended for the hub

	// Guarded by the guest's mu.
	wake     *sync.Cond
	paused   bool
	mayEnd   []string                  // how, beyond being too slow
	asked    map[cairn.HuntID][]string // what was watched since the newest snapshot that was waited for
	claims   int
	outcomes int
	left     time.Time // when it said goodbye
}

func newGuest(s *storm, id int) *guest {
	return &guest{s: s, id: id, rnd: rand.New(rand.NewPCG(s.seed, uint64(1000+id))), looks: map[cairn.HuntID]*look{}}
}

func (g *guest) nap(most time.Duration) { time.Sleep(time.Duration(g.rnd.Int64N(int64(most)))) }

// act is what a guest does in a storm.
func (g *guest) act() {
	g.nap(50 * time.Millisecond)
	for range movesOfGuest {
		if !g.there() {
			g.come()
		}
		g.nap(12 * time.Millisecond)
		switch g.rnd.IntN(14) {
		case 0, 1, 2:
			for range 1 + g.rnd.IntN(3) { // it may change its mind before it is answered
				g.lookElsewhere()
			}
		case 3:
			g.lookAway()
		case 4, 5:
			g.claim()
		case 6, 12, 13:
			g.pause(400 * time.Millisecond)
		case 7:
			g.leave()
			g.nap(350 * time.Millisecond)
		case 8:
			g.cut()
		case 9: // in the middle of a frame
			g.v.expect("lost")
			f := g.speech().frame("never")
			_, _ = g.v.nc.Write(f[:1+g.rnd.IntN(len(f)-1)])
			g.cut()
			g.nap(30 * time.Millisecond)
		case 10:
			g.v.expect("lost")
			_ = g.v.nc.(halfCloser).CloseWrite()
			g.nap(20 * time.Millisecond)
			g.cut()
		case 11:
			g.v.expect("lost")
			_ = g.v.nc.(halfCloser).CloseRead()
			g.nap(60 * time.Millisecond)
			g.cut()
		}
	}
	if g.rnd.IntN(4) == 0 {
		g.leave()
	}
}

type halfCloser interface {
	CloseRead() error
	CloseWrite() error
}

// there reports whether the guest is connected.
func (g *guest) there() bool {
	if g.v == nil {
		return false
	}
	select {
	case <-g.v.done:
		return false
	default:
		return true
	}
}

// stay connects if need be, and reads on.
func (g *guest) stay() {
	if !g.there() {
		g.come()
	}
	g.v.pause(false)
}

func (g *guest) speech() speech { return speech(g.codec) }

// say sends a message. Whether it went out does not matter: a connection that is
// gone shows elsewhere.
func (g *guest) say(text string) {
	_, _ = g.v.nc.Write(maskedFrame(g.speech().op(), true, g.speech().say(text)))
}

// come connects, says hello with what is known, and watches what was watched.
func (g *guest) come() {
	if g.rnd.IntN(3) == 0 {
		g.codec = Codec(g.rnd.IntN(int(codecs)))
	}
	g.mu.Lock()
	hello := fmt.Sprintf(`{"type":"hello","token":"token-guest%d"}`, g.id)
	var first cairn.HuntID
	for _, h := range g.s.hunts {
		if k := g.looks[h.id]; k != nil && k.model != nil && first == "" {
			first = h.id
			hello = fmt.Sprintf(`{"type":"hello","token":"token-guest%d","epoch":%q,"seq":%d}`, g.id, g.epoch, k.model.seq)
		} else if k != nil {
			k.model = nil
		}
	}
	var watches []string
	asked := map[cairn.HuntID][]string{}
	for _, h := range g.s.hunts {
		if k := g.looks[h.id]; k != nil && h.id == first {
			watches = slices.Insert(watches, 0, watchOf(h.id, k.regions))
		} else if k != nil {
			watches = append(watches, watchOf(h.id, k.regions))
		}
		if k := g.looks[h.id]; k != nil {
			asked[h.id] = []string{fmt.Sprint(k.regions)}
		}
	}
	g.mu.Unlock()

	b := maskedFrame(g.speech().op(), true, g.speech().say(hello))
	early := g.rnd.IntN(len(b) + 1)
	told := make(chan error, 1)
	nc := g.s.connect(g.rnd.IntN(2) == 0, g.rnd.IntN(2) == 0, g.codec, b[:early], func(err error) { told <- err })
	g.v = &visit{
		g: g, nc: nc, read: bufio.NewReader(nc), done: make(chan struct{}), told: told,
		wake: sync.NewCond(&g.mu), asked: asked,
	}
	go g.v.hear(g.codec)
	_, _ = nc.Write(b[early:])
	for _, w := range watches {
		g.say(w)
	}
	if len(watches) == 0 {
		g.lookElsewhere()
	}
}

func watchOf(hunt cairn.HuntID, regions []string) string {
	return strings.Replace(watchText(false, regions...), string(huntID), string(hunt), 1)
}

// lookElsewhere watches other regions of a hunt. They are none that were asked
// for since the newest snapshot, so that it is known which one answers.
func (g *guest) lookElsewhere() {
	h := g.s.hunts[g.rnd.IntN(len(g.s.hunts))]
	g.mu.Lock()
	var regions []string
	for {
		regions = someRegions(g.rnd)
		key := fmt.Sprint(regions)
		if k := g.looks[h.id]; (k == nil || fmt.Sprint(k.regions) != key) && !slices.Contains(g.v.asked[h.id], key) {
			g.v.asked[h.id] = append(g.v.asked[h.id], key)
			break
		}
	}
	g.looks[h.id] = &look{regions: regions}
	g.mu.Unlock()
	g.say(watchOf(h.id, regions))
}

// lookAway ends watching a hunt.
func (g *guest) lookAway() {
	h := g.s.hunts[g.rnd.IntN(len(g.s.hunts))]
	g.mu.Lock()
	if k := g.looks[h.id]; k != nil {
		g.v.asked[h.id] = append(g.v.asked[h.id], fmt.Sprint(k.regions))
	}
	delete(g.looks, h.id)
	g.mu.Unlock()
	g.say(watchOf(h.id, nil))
}

// claim claims a few times, unless there are claims in flight.
func (g *guest) claim() {
	g.mu.Lock()
	if g.v.claims > g.v.outcomes {
		g.mu.Unlock()
		return
	}
	g.v.claims += claimsAtOnce
	first := g.v.claims
	g.mu.Unlock()
	for i := range claimsAtOnce {
		g.say(fmt.Sprintf(`{"type":"claim","id":"guest%d-%d","hunt":"oslo","map":1,"tile":0}`, g.id, first+i))
	}
}

// pause has the guest read nothing for a while.
func (g *guest) pause(most time.Duration) {
	g.v.pause(true)
	g.nap(most)
	g.v.pause(false)
}

func (v *visit) pause(on bool) {
	v.g.mu.Lock()
	defer v.g.mu.Unlock()
	v.paused = on
	v.wake.Broadcast()
}

func (v *visit) expect(ends ...string) {
	v.g.mu.Lock()
	defer v.g.mu.Unlock()
	v.mayEnd = append(v.mayEnd, ends...)
}

func (g *guest) expect(ends ...string) {
	if g.v != nil {
		g.v.expect(ends...)
	}
}

// leave says goodbye, and waits for it to be said back.
func (g *guest) leave() {
	if g.v == nil {
		return
	}
	g.v.expect("closed 1000")
	g.mu.Lock()
	g.v.left = time.Now()
	g.mu.Unlock()
	_, _ = g.v.nc.Write(closing(1000, ""))
	g.v.pause(false)
	<-g.v.done
}

// cut closes the socket.
func (g *guest) cut() {
	if g.v == nil {
		return
	}
	g.v.expect("lost")
	if nc, ok := g.v.nc.(*net.TCPConn); ok && g.rnd.IntN(2) == 0 {
		_ = nc.SetLinger(0) // by a reset
	}
	g.v.nc.Close()
	g.v.pause(false)
	<-g.v.done
}

// hear reads until the connection ends.
func (v *visit) hear(codec Codec) {
	defer close(v.done)
	g := v.g
	how := "lost"
	for {
		g.mu.Lock()
		for v.paused {
			v.wake.Wait()
		}
		g.mu.Unlock()
		h, err := readHeard(v.read)
		if err == nil && h.op == opClose {
			how = fmt.Sprintf("closed %d", binary.BigEndian.Uint16(h.payload))
			if h, err := readHeard(v.read); err == nil {
				g.s.t.Errorf("guest %d: got a frame of opcode %d after the close", g.id, h.op)
			}
			break
		}
		if err == nil && h.op != opPing {
			err = v.take(h, codec)
		}
		var ne net.Error
		if err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.As(err, &ne) {
				g.s.t.Errorf("guest %d, in %v: %v", g.id, codec, err)
			}
			break
		}
	}
	v.nc.Close()
	g.s.ended(how)
	cause := <-v.told
	g.mu.Lock()
	defer g.mu.Unlock()
	// On a busy machine anyone may be too slow: for what there is to be read, and
	// for the answer to a goodbye.
	slow := errors.Is(cause, errTooSlow) || !v.left.IsZero() && time.Since(v.left) > closeWithin
	if !slow && !slices.Contains(v.mayEnd, how) {
		g.s.t.Errorf("guest %d: its connection ended: %s, for the hub: %v; want one of %q", g.id, how, cause, v.mayEnd)
	}
}

// take folds one frame.
func (v *visit) take(h heard, codec Codec) error {
	if h.op != speech(codec).op() {
		return fmt.Errorf("got a frame of opcode %d", h.op)
	}
	b := h.payload
	if codec == Proto {
		var err error
		if b, err = jsonOf(b, false); err != nil {
			return err
		}
	}
	m, err := parseMsg(b)
	if err != nil {
		return err
	}
	g := v.g
	g.mu.Lock()
	defer g.mu.Unlock()
	k := g.looks[cairn.HuntID(m.Hunt)]
	switch m.Type {
	case "welcome":
		g.epoch = m.Epoch
	case "drain":
	case "outcome":
		if v.outcomes++; !strings.HasPrefix(m.ID, fmt.Sprintf("guest%d-", g.id)) || v.outcomes > v.claims {
			return fmt.Errorf("got outcome %d of %d, of another: %s", v.outcomes, v.claims, b)
		}
	case "snapshot":
		if k == nil || !slices.Equal(sorted(m.Regions), k.regions) {
			return nil // of what was watched before
		}
		k.model = newModel(k.regions...)
		v.asked[cairn.HuntID(m.Hunt)] = nil
		return k.model.apply(m)
	case "delta":
		if k != nil && k.model != nil {
			return k.model.apply(m)
		}
	default:
		return fmt.Errorf("got %s", b)
	}
	return nil
}

func sorted(ss []string) []string {
	ss = slices.Clone(ss)
	slices.Sort(ss)
	return ss
}

// sees wants a guest that is there to have folded a hunt's last map, and all
// that came before it.
func (g *guest) sees(h *stormHunt, last *cairn.Map) {
	if g.v == nil {
		return
	}
	r := g.s.r
	slow := time.AfterFunc(15*time.Second, func() { // says what it waits for
		g.mu.Lock()
		defer g.mu.Unlock()
		g.s.t.Logf("guest %d waits, over %T in %v: asked for %v, %d of %d outcomes; the hub: %s",
			g.id, g.v.nc, g.codec, g.v.asked[h.id], g.v.outcomes, g.v.claims, r.hub.leftover())
		if k := g.looks[h.id]; k != nil && k.model != nil {
			g.s.t.Logf("it knows %v: got\n%vwant\n%s", k.model.at, k.model, h.seen(r.instant(), k.regions))
		}
	})
	defer slow.Stop()
	r.until(fmt.Sprintf("guest %d sees the last map of %s", g.id, h.id), func() bool {
		if !g.there() && !slices.Contains(g.v.mayEnd, "closed 1000") {
			g.come() // it was too slow, and is still one of those who stay
		}
		g.mu.Lock()
		defer g.mu.Unlock()
		k := g.looks[h.id]
		if k == nil || !g.there() {
			return true
		}
		// Not all regions need be known up to the same sweep: one that nobody
		// watched for a while has its delta later.
		return k.model != nil && k.model.maps[int64(last.Tick)] != nil && g.v.outcomes == g.v.claims &&
			k.model.String() == h.seen(r.instant(), k.regions)
	})
}

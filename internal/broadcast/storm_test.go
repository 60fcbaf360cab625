package broadcast

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/wire"
)

var (
	stormSeed   = flag.Uint64("storm-seed", 0, "what TestStorm does; 0 draws it")
	stormGuests = flag.Int("storm-guests", 60, "clients of TestStorm")
)

// A storm is many clients that come, watch, look elsewhere, stop reading and
// leave in every way, while claims and maps go on.
type storm struct {
	t     *testing.T
	r     *rig
	seed  uint64
	hunts []*stormHunt

	dialing sync.Mutex // held from dial to accept
	lns     map[string]net.Listener

	mu   sync.Mutex
	ends map[string]int // connections by how they ended, as clients saw it
}

// A stormHunt is one hunt, and what is true in it.
type stormHunt struct {
	id   cairn.HuntID
	prev cairn.Digest
	truth
}

// TestStorm: whatever all the others do, a client that is there sees what is
// true, one that comes back learns all that it missed, and of those who left
// nothing is kept.
func TestStorm(t *testing.T) { eachWay(t, testStorm) }

func testStorm(t *testing.T) {
	s := &storm{t: t, seed: *stormSeed, ends: map[string]int{}}
	if s.seed == 0 {
		s.seed = rand.Uint64()
	}
	t.Logf("-storm-seed %d", s.seed)
	s.r = newRig(t, Options{Ring: 40, StuckFor: 300 * time.Millisecond, CatchUp: 5, PingEvery: time.Second, DeadAfter: time.Hour})
	for _, id := range []cairn.HuntID{huntID, "bergen", "narvik"} {
		if id != huntID {
			s.r.change(changeCreate(id))
			s.r.change(cairn.Change{Hunt: id, State: cairn.Live})
		}
		s.hunts = append(s.hunts, &stormHunt{id: id, truth: truth{winner: map[cairn.TileRef]string{}}})
		s.r.until("the hunt is known", func() bool { return s.r.hub.Hunt(id) != nil })
	}
	s.listen()
	files, before := openFiles(), goleak.IgnoreCurrent()

	ctx, over := context.WithCancel(t.Context())
	defer over()
	var guests []*guest
	var acting, claiming sync.WaitGroup
	claiming.Go(func() { s.goOn(ctx) })
	for i := range *stormGuests {
		g := newGuest(s, i)
		guests = append(guests, g)
		acting.Go(g.act)
	}
	acting.Wait()
	over()
	claiming.Wait()
	if !t.Failed() {
		s.settle(guests)
	}
	s.clear(guests)
	s.r.until("all are gone", func() bool { return s.r.hub.Connections() == 0 && s.r.metric("cairn_broadcast_connections") == 0 })
	s.r.until("no view is left", func() bool { return s.r.metric("cairn_broadcast_views") == 0 })
	s.r.until("nobody is stalled", func() bool { return s.r.metric("cairn_broadcast_stalled_connections") == 0 })
	s.r.until("nothing is kept of those who left", func() bool { return s.r.hub.leftover() == "" })
	s.r.until("all files are closed", func() bool { return openFiles() <= files })
	storeWorkers := goleak.IgnoreAnyFunction("github.com/veltrix/cairn/internal/eventlog/filelog.(*Store).work") // there are more of them when it is busy
	var leak error
	for range 20 { // each time it waits a moment
		if leak = goleak.Find(before, storeWorkers); leak == nil {
			break
		}
	}
	if leak != nil {
		t.Error(leak)
	}
	t.Logf("%d connections ended: %v; %v snapshots in place of what was missed", int(s.r.metric("cairn_broadcast_closes_total")), s.ends, s.r.metric("cairn_broadcast_skips_total"))
}

// listen makes the sockets that guests come by.
func (s *storm) listen() {
	dir, err := os.MkdirTemp("", "storm") // a short name: a socket's may not be long
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { os.RemoveAll(dir) })
	s.lns = map[string]net.Listener{}
	for network, addr := range map[string]string{"tcp": "127.0.0.1:0", "unix": filepath.Join(dir, "s")} {
		ln, err := net.Listen(network, addr)
		if err != nil {
			s.t.Fatal(err)
		}
		s.t.Cleanup(func() { ln.Close() })
		s.lns[network] = ln
	}
}

// connect returns a connection that the hub serves: one of either kind, and of
// one that holds little if small.
func (s *storm) connect(tcp, small bool, codec Codec, early []byte, ended func(error)) net.Conn {
	network := "unix"
	d := net.Dialer{}
	if tcp {
		network = "tcp"
		if small {
			d.Control = smallSegments
		}
	}
	s.dialing.Lock()
	defer s.dialing.Unlock()
	nc, err := d.Dial(network, s.lns[network].Addr().String())
	if err != nil {
		panic(err)
	}
	server, err := s.lns[network].Accept()
	if err != nil {
		panic(err)
	}
	if small {
		_ = nc.(buffered).SetReadBuffer(4 << 10)
		_ = server.(buffered).SetWriteBuffer(4 << 10)
	}
	s.r.hub.Serve(server, early, codec, s.r.edge, ended)
	return nc
}

type buffered interface {
	SetReadBuffer(n int) error
	SetWriteBuffer(n int) error
}

// openFiles returns how many files this process has open, or 0 where the system
// does not say.
func openFiles() int {
	es, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0
	}
	return len(es)
}

// leftover says what the hub's deliverers still have of connections, if
// anything.
func (h *Hub) leftover() string {
	for _, d := range h.deliverers {
		d.mu.Lock()
		peers, members := len(d.peers), len(d.members)
		d.mu.Unlock()
		if peers+members > 0 {
			return fmt.Sprintf("a deliverer has %d peers, and members of %d views", peers, members)
		}
	}
	return h.loops.Load().leftover()
}

// goOn opens maps and has tiles won until ctx ends.
func (s *storm) goOn(ctx context.Context) {
	rnd := rand.New(rand.NewPCG(s.seed, 1))
	for _, h := range s.hunts {
		s.openMap(h, rnd)
	}
	for ctx.Err() == nil {
		h := s.hunts[rnd.IntN(len(s.hunts))]
		switch rnd.IntN(25) {
		case 0:
			s.openMap(h, rnd)
		case 1:
			s.r.pass(time.Duration(rnd.IntN(3000)) * time.Millisecond)
		default:
			s.win(h, rnd)
		}
		time.Sleep(time.Duration(rnd.IntN(4000)) * time.Microsecond)
	}
}

func (s *storm) openMap(h *stormHunt, rnd *rand.Rand) *cairn.Map {
	r := s.r
	r.next++
	m := &cairn.Map{MapHeader: cairn.MapHeader{Hunt: h.id, Tick: r.next, Opens: r.instant(), Shards: shardsIn, Tiles: 1 + rnd.IntN(300), Prev: h.prev}}
	m.Closes = m.Opens.Add(10 * time.Second)
	for range m.MapHeader.Tiles {
		c, err := cairn.ParseCell(cellsIn[rnd.IntN(len(cellsIn))])
		if err != nil {
			panic(err)
		}
		m.Tiles = append(m.Tiles, cairn.Tile{Cell: c, Puzzle: cairn.Tap, Reward: 100})
	}
	m.Digest = wire.MapDigest(m)
	h.prev = m.Digest
	for first := 0; first < len(m.Tiles); first += wire.TilesPerChunk {
		r.append(r.maps, wire.AppendMapChunk(nil, m, first))
	}
	r.append(r.maps, wire.AppendMapHeader(nil, &m.MapHeader))
	h.maps = append(h.maps, m)
	return m
}

// win has a tile won, if there is an open map.
func (s *storm) win(h *stormHunt, rnd *rand.Rand) {
	m := h.maps[len(h.maps)-1-rnd.IntN(min(3, len(h.maps)))]
	if m.Closes <= s.r.instant() {
		return
	}
	c := s.r.claimOf(m, rnd.IntN(len(m.Tiles)), fmt.Sprintf("p%d", rnd.IntN(50)))
	s.r.claim(c)
	if h.winner[c.TileRef] == "" {
		h.winner[c.TileRef] = string(c.Player)
	}
}

// settle has those who left come back, and everyone see what is true.
func (s *storm) settle(guests []*guest) {
	var back sync.WaitGroup
	for _, g := range guests {
		back.Go(func() {
			if g.there() || g.rnd.IntN(3) > 0 {
				g.stay()
			}
		})
	}
	back.Wait()
	r := s.r
	r.until("all claims are folded", func() bool {
		r.hub.mu.RLock()
		defer r.hub.mu.RUnlock()
		for _, h := range s.hunts {
			for ref := range h.winner {
				if m := r.hub.life.state.find(ref.Hunt, ref.Tick); m != nil && m.Closes > r.instant() && (m.holders == nil || m.holders[ref.Tile].who == nil) {
					return false
				}
			}
		}
		return true
	})
	rnd := rand.New(rand.NewPCG(s.seed, 2))
	for _, h := range s.hunts {
		last := s.openMap(h, rnd)
		for _, g := range guests {
			g.sees(h, last)
		}
	}
}

// clear ends all connections that there are, in one of the ways that there are.
func (s *storm) clear(guests []*guest) {
	how := rand.New(rand.NewPCG(s.seed, 3)).IntN(3)
	if how == 0 {
		for _, g := range guests {
			g.expect("drained", "closed 1001")
		}
		s.r.hub.Drain(200 * time.Millisecond)
	}
	var all sync.WaitGroup
	for _, g := range guests {
		all.Go(func() {
			if how == 1 {
				g.cut()
			} else {
				g.leave()
			}
		})
	}
	all.Wait()
}

// ended counts how a connection ended.
func (s *storm) ended(how string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ends[how]++
}

// someRegions returns some regions to watch, none of them twice.
func someRegions(rnd *rand.Rand) []string {
	var rs []string
	for _, c := range rnd.Perm(len(cellsIn))[:1+rnd.IntN(4)] {
		rs = append(rs, cellsIn[c][:rnd.IntN(4)])
	}
	slices.Sort(rs)
	return slices.Compact(rs)
}

package broadcast

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// An insider is a connection of a loop that the test drives by hand.
type insider struct {
	c      handle
	fd     int
	region string
	model  *model // nil until the region's snapshot has come
}

func (m *insider) watch(region string) {
	if m.region != region || m.model == nil { // else nothing changes, and no snapshot comes
		m.region, m.model = region, nil
	}
	m.c.watched(watchText(false, region))
}

// fold takes what has come.
func (m *insider) fold(t *testing.T) {
	t.Helper()
	for r := bytes.NewReader(drainFD(t, m.fd)); r.Len() > 0; {
		h, err := readHeard(r)
		if err != nil {
			t.Fatal(err)
		}
		if h.op == opPing {
			continue
		}
		got, err := parseMsg(h.payload)
		switch {
		case err != nil || got.Type == "welcome":
		case got.Type == "snapshot" && !slices.Equal(got.Regions, []string{m.region}):
			// of what it watched before
		case got.Type == "snapshot":
			m.model = newModel(m.region)
			err = m.model.apply(got)
		case m.model != nil:
			err = m.model.apply(got)
		}
		if err != nil {
			t.Fatalf("watching %q: %v", m.region, err)
		}
	}
}

// TestMembersChangeDuringAPass: whoever comes, goes or looks elsewhere while a
// pass is under way, and so takes the place of another in its order, nobody is
// left out and nobody hears of what it does not watch.
func TestMembersChangeDuringAPass(t *testing.T) {
	for _, alone := range []bool{true, false} {
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		rnd := rand.New(rand.NewPCG(seed, 0))
		x := newBenchHub(t, 1, 64)
		x.opts.oneByOne = alone
		l := newLoopIn(t, x.Hub)
		tiles := x.maps[0].Tiles
		regions := []string{"", tiles[0].Cell.String()[:1], tiles[0].Cell.String()[:3], tiles[40].Cell.String()[:3], "9"}
		var members []*insider
		enter := func() {
			c, fd := adoptPair(t, l, nil)
			l.turn()
			c.greeted()
			m := &insider{c: c, fd: fd}
			m.watch(regions[rnd.IntN(len(regions))])
			members = append(members, m)
		}
		for range 150 {
			enter()
		}
		for round := range 40 {
			for len(l.behind) > 0 {
				c := l.behind[0]
				l.behind = l.behind[1:]
				l.catchUp(c)
			}
			x.claim(1)
			x.sweep()
			var views []*view
			for _, v := range x.views {
				views = append(views, v)
			}
			l.sweep(views, 0)
			for l.takeUp() {
				l.deliver()
				for range rnd.IntN(8) {
					switch i := rnd.IntN(len(members)); rnd.IntN(3) {
					case 0:
						l.lost(members[i].c, errLost)
						members = slices.Delete(members, i, i+1)
						enter()
					case 1:
						members[i].watch(regions[rnd.IntN(len(regions))])
					default:
						members[i].c.send(pingBytes)
					}
				}
				// In a round's middle a client may have to catch up, too.
				if n := len(l.behind); n > 0 && rnd.IntN(2) == 0 {
					c := l.behind[n-1]
					l.behind = l.behind[:n-1]
					l.catchUp(c)
				}
			}
			for len(l.behind) > 0 {
				c := l.behind[0]
				l.behind = l.behind[1:]
				l.catchUp(c)
			}
			for _, m := range members {
				m.fold(t)
				want := 0
				for i := range round + 1 {
					if strings.HasPrefix(tiles[i].Cell.String(), m.region) {
						want++
					}
				}
				if m.model == nil || m.model.won() != want {
					t.Fatalf("round %d: one who watches %q knows %+v, want %d tiles that are won", round, m.region, m.model, want)
				}
			}
		}
	}
}

// won counts the tiles that someone holds.
func (f *model) won() (n int) {
	for _, m := range f.maps {
		for _, player := range m.holders {
			if player != "" {
				n++
			}
		}
	}
	return n
}

// TestStaleHandles: what is meant for a connection that is gone does not reach
// the one that has its place.
func TestStaleHandles(t *testing.T) {
	l := newLoopIn(t, newBenchHub(t, 1, 1).Hub)
	old, _ := adoptPair(t, l, nil)
	l.lost(old, errLost)
	c, fd := adoptPair(t, l, nil)
	if c.slot != old.slot || c.gen == old.gen {
		t.Fatalf("got slot %d, generation %d after %d, %d; want the same slot again, of another", c.slot, c.gen, old.slot, old.gen)
	}
	k := &link{handle: old}
	old.send(pingBytes)
	old.say(1000, "", endClient, nil)
	old.drain(0)
	old.end(true)
	k.greet()
	l.readable(old)
	l.hear(old, pingBytes)
	l.lost(old, errLost)
	l.catchUp(old)
	if got := drainFD(t, fd); len(got) > 0 {
		t.Errorf("got % x, meant for another", got)
	}
	c.with(func(_ *loop, r *record) {
		if r.flags&^flagEarly != 0 {
			t.Errorf("got flags %b of another", r.flags)
		}
	})
	c.send(pingBytes)
	if got := drainFD(t, fd); !bytes.Equal(got, pingBytes) {
		t.Errorf("got % x, want the ping", got)
	}
}

// TestEndWhileOthersWrite: a connection ends, and its descriptor and its slot
// become another's, while many still write to it.
func TestEndWhileOthersWrite(t *testing.T) {
	l := newLoopIn(t, newBenchHub(t, 1, 1).Hub)
	ctx, cancel := context.WithCancel(t.Context())
	var running, writing sync.WaitGroup
	running.Go(func() { l.run(ctx) })
	defer running.Wait()
	defer cancel()
	for i := range 300 {
		ended := make(chan error, 1)
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.hub.admit(); err != nil {
			t.Fatal(err)
		}
		c, err := l.adopt(fds[0], nil, JSON, nil, func(err error) { ended <- err })
		if err != nil {
			t.Fatal(err)
		}
		mine := ownFrame(opText, fmt.Appendf(nil, "%06d", i))
		for range 3 {
			writing.Go(func() {
				for range 50 {
					c.send(mine)
				}
				c.say(1000, "", endClient, nil)
			})
		}
		for r := bytes.NewReader(drainFD(t, fds[1])); r.Len() > 0; {
			h, err := readHeard(r)
			if err == nil && h.op == opText && !bytes.Equal(h.raw, mine) {
				t.Errorf("connection %d: got %q, of another", i, h.payload)
			}
			if err != nil {
				break // the rest is on its way
			}
		}
		unix.Close(fds[1])
		<-ended
	}
	writing.Wait()
}

// TestIdleKeepsNothing: of one who watches, and said something in pieces, only
// the record is kept.
func TestIdleKeepsNothing(t *testing.T) {
	l := newLoopIn(t, newBenchHub(t, 1, 1).Hub)
	c, fd := adoptPair(t, l, nil)
	kept := func() bool { return l.slabs[0].sessions[c.slot] != nil }
	hear := func(b []byte) {
		t.Helper()
		if _, err := unix.Write(fd, b); err != nil {
			t.Fatal(err)
		}
		l.turn()
		drainFD(t, fd)
	}
	say := speech(JSON)
	hello := maskedFrame(opText, true, say.say(`{"type":"hello"}`))
	hear(hello)
	hear(maskedFrame(opText, true, say.say(watchText(false, "u4"))))
	l.catchUp(c)
	if kept() {
		t.Error("the session of one who only watches is kept")
	}
	whole := glue(say.fragments(say.claim("1"), 20), ping("p"))
	for _, b := range whole[:len(whole)-1] {
		hear([]byte{b})
	}
	if !kept() {
		t.Error("a part of a frame is forgotten")
	}
	hear(whole[len(whole)-1:])
	if kept() {
		t.Error("the session of one who said all is kept")
	}
	hear(maskedFrame(opText, true, say.say(watchText(false))))
	hear(maskedFrame(opText, true, say.say(watchText(false, "9q"))))
	if len(l.audiences) != 2 || len(l.unused) != 0 || len(l.byView) != 1 || len(l.more) != 0 {
		t.Errorf("got %d audiences, %d of them unused, %d views; want one view's", len(l.audiences)-1, len(l.unused), len(l.byView))
	}
}

package redissim

import "testing"

func idsOf(t *testing.T, s *Server) string {
	t.Helper()
	out := ""
	entries, _ := s.Stream("a")
	for _, e := range entries {
		out += e.ID.String() + " "
	}
	return out
}

func wantIDs(t *testing.T, s *Server, want string) {
	t.Helper()
	if got := idsOf(t, s); got != want {
		t.Errorf("%s has %q, want %q", s.Addr, got, want)
	}
}

// TestFailover: a replica that lags is promoted, the old primary goes on and
// then follows, and loses what only it had.
func TestFailover(t *testing.T) {
	p, r := New("p"), New("r")
	r.Follow(p)
	c := p.Dial()
	for _, id := range []string{"1-1", "1-2", "1-3"} {
		c.Do("XADD", "a", id, "f", "v")
	}
	if got := c.Do("WAIT", "1", "0"); got.Int != 0 {
		t.Errorf("WAIT: %d replicas, want 0", got.Int)
	}
	r.Replicate(2)
	wantIDs(t, r, "1-1 1-2 ")
	if got := r.Dial().Do("XADD", "a", "9-9", "f", "v"); got.Code() != "READONLY" {
		t.Errorf("XADD on a replica: %v", got)
	}
	r.Promote()
	c.Do("XADD", "a", "1-4", "f", "v")
	r.Dial().Do("XADD", "a", "2-0", "f", "v")
	wantIDs(t, p, "1-1 1-2 1-3 1-4 ")
	p.Follow(r)
	wantIDs(t, p, "1-1 1-2 2-0 ")
	d := r.Dial()
	d.Do("XADD", "a", "2-1", "f", "v")
	p.Replicate(1)
	if got := d.Do("WAIT", "1", "0"); got.Int != 1 {
		t.Errorf("WAIT: %d replicas, want 1", got.Int)
	}
	if got := r.Dial().Do("WAIT", "1", "0"); got.Int != 1 {
		t.Errorf("WAIT as a connection's first command: %d replicas, want 1", got.Int)
	}
}

// TestChain: a replica of a server that gets another history gets it too.
func TestChain(t *testing.T) {
	a, b, c := New("a"), New("b"), New("c")
	b.Follow(a)
	c.Follow(b)
	a.Dial().Do("XADD", "a", "1-1", "f", "v")
	b.Replicate(1)
	c.Replicate(1)
	b.Promote()
	b.Dial().Do("XADD", "a", "1-2", "f", "v")
	c.Replicate(1)
	a.Dial().Do("XADD", "a", "1-3", "f", "v")
	b.Follow(a)
	wantIDs(t, c, "1-1 1-3 ")
}

// TestRestart: a server comes back with what its append-only file has, and
// its replicas follow it there.
func TestRestart(t *testing.T) {
	p, r := New("p"), New("r")
	r.Follow(p)
	c := p.Dial()
	for _, id := range []string{"1-1", "1-2", "1-3"} {
		c.Do("XADD", "a", id, "f", "v")
	}
	c.Do("XTRIM", "a", "MINID", "=", "1-2")
	r.Replicate(9)
	p.Restart(2)
	wantIDs(t, p, "1-1 1-2 ")
	wantIDs(t, r, "1-1 1-2 ")
	p.Restart(9)
	if _, ok := p.Stream("a"); ok {
		t.Error("a stream without its writes")
	}
	if got := p.Dial().Do("XADD", "a", "NOMKSTREAM", "9-9", "f", "v"); got.Kind != Nil {
		t.Errorf("XADD NOMKSTREAM: %v", got)
	}
}

// TestExpiry: a key whose time is over is gone, on replicas by their primary's
// word, and a transaction that watched it does not happen.
func TestExpiry(t *testing.T) {
	p, r := New("p"), New("r")
	r.Follow(p)
	c := p.Dial()
	c.Do("XADD", "a", "1-1", "f", "v")
	c.Do("PEXPIRE", "a", "10")
	r.Replicate(2)
	c.Do("WATCH", "a")
	c.Do("MULTI")
	c.Do("XLEN", "a")
	p.Now += 10e6
	if got := c.Do("EXEC"); got.Kind != Nil {
		t.Errorf("EXEC: %v, want nil", got)
	}
	if got := c.Do("PTTL", "a"); got.Int != -2 {
		t.Errorf("PTTL: %v, want -2", got.Int)
	}
	r.Replicate(1)
	wantIDs(t, r, "")
}

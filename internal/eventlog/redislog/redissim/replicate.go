package redissim

import (
	"maps"
	"slices"
	"strconv"
	"time"
)

// opExpireAt is PEXPIRE with the time by the server's clock, so that it means
// the same on a replica later.
const opExpireAt = "expire-at"

// Primary returns the server that s is a replica of, or nil.
func (s *Server) Primary() *Server { return s.primary }

// Replicas returns the replicas of s.
func (s *Server) Replicas() []*Server { return s.replicas }

// Written returns how many writes s has had.
func (s *Server) Written() int { return len(s.ops) }

// Follow makes s a replica of p. If what s has is not a beginning of what p
// has, it gets all of it anew, and loses its own.
func (s *Server) Follow(p *Server) {
	s.leave()
	s.primary = p
	p.replicas = append(p.replicas, s)
	s.sync()
}

// sync gets s all of its primary anew, if it does not have a beginning of it.
func (s *Server) sync() {
	n, p := len(s.ops), s.primary
	if n > len(p.ops) || n > 0 && s.ops[n-1] != p.ops[n-1] || n == 0 && len(s.keys) > 0 {
		s.copyOf(p)
	}
}

func (s *Server) leave() {
	if s.primary == nil {
		return
	}
	i := slices.Index(s.primary.replicas, s)
	s.primary.replicas = slices.Delete(s.primary.replicas, i, i+1)
	s.primary = nil
}

func (s *Server) copyOf(p *Server) {
	s.ops = slices.Clip(p.ops)
	s.keys = maps.Clone(p.keys)
	for key, v := range s.keys {
		if v.stream != nil {
			v.stream = v.stream.clone()
			s.keys[key] = v
		}
	}
	for _, c := range s.watchers {
		c.dirty = true
	}
	for _, r := range s.replicas {
		r.sync()
	}
}

// Lag returns how many writes s, a replica, has yet to get.
func (s *Server) Lag() int { return len(s.primary.ops) - len(s.ops) }

// Replicate lets s, a replica, get n more writes.
func (s *Server) Replicate(n int) {
	for range min(n, s.Lag()) {
		s.apply(s.primary.ops[len(s.ops)])
	}
}

// Promote makes s a primary with what it has. Its old primary goes on as it
// was, and knows nothing of it, until it is told to Follow.
func (s *Server) Promote() { s.leave() }

// Restart loses the newest writes, as a server does that had not yet written
// them to its append-only file; or all, as one without a file does. Replicas
// get all of it anew.
func (s *Server) Restart(lost int) {
	keep := max(0, len(s.ops)-lost)
	ops := s.ops[:keep]
	s.ops, s.keys = nil, make(map[string]value)
	for _, o := range ops {
		s.apply(o)
	}
	for _, c := range slices.Clone(s.watchers) {
		c.discard()
	}
	for _, r := range s.replicas {
		r.sync()
	}
}

// apply does a write again, as it was done first.
func (s *Server) apply(o *op) {
	had := len(s.ops)
	args := o.args
	switch args[0] {
	case "DEL":
		delete(s.keys, args[1])
	case opExpireAt:
		ns, _ := strconv.ParseInt(args[2], 10, 64)
		v := s.keys[args[1]]
		v.expires = time.Duration(ns)
		s.keys[args[1]] = v
	default:
		was := s.primary
		s.primary = nil // it may write now
		now := s.Now
		s.Now = 0 // expiry is its primary's word
		commands[args[0]].do(s, args)
		s.primary, s.Now = was, now
	}
	s.ops = append(s.ops[:had], o) // the very one: see Follow
	s.touch(args[1])
}

// wait is WAIT n timeout.
func (c *Conn) wait(args []string) Reply {
	if c.s.primary != nil {
		return errWait
	}
	if _, err := strconv.ParseInt(args[1], 10, 64); err != nil {
		return errNumber
	}
	n := 0
	for _, r := range c.s.replicas {
		if len(r.ops) >= c.seen {
			n++
		}
	}
	return integer(n)
}

// Short reports whether a WAIT that came next on c would have to wait.
func (c *Conn) Short(n int) bool {
	have := 0
	for _, r := range c.s.replicas {
		if len(r.ops) >= c.seen {
			have++
		}
	}
	return have < n
}

// Stream returns the entries of the stream at key, to look at, and whether
// there is one.
func (s *Server) Stream(key string) ([]Entry, bool) {
	v, ok := s.keys[key]
	if !ok || v.stream == nil || s.expired(v) {
		return nil, false
	}
	return v.stream.entries, true
}

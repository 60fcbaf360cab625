// Package redissim is a Redis that a test holds in its hand: a plain value,
// without a goroutine, a socket or a clock, that does what it is told when it
// is told. It knows the commands of redislog, as Redis 7.0 does them, and what
// goes wrong with servers: memory that is full, replicas that lag, failovers
// that lose what the replica had not yet, restarts without data, slots that
// move. Its answers are compared with a real server's on random commands.
package redissim

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Server is one redis-server process. Its exported fields are the test's to
// change at any time.
type Server struct {
	Addr   string
	Now    time.Duration // what its clock says
	OOM    bool          // its memory is full
	Refuse string        // if not empty, the error that keys are answered with, such as "LOADING …"

	// Slot returns the error that a key is answered with because its slot is
	// elsewhere ("MOVED …", "ASK …"), or "". here tells that the key is here.
	Slot func(key string, here bool) string

	MinReplicas int               // min-replicas-to-write
	Config      map[string]string // what CONFIG GET tells
	Info        map[string]string // what INFO tells, but for the replicas
	ClusterInfo func() string     // CLUSTER NODES

	keys     map[string]value
	ops      []*op // all that was written, in order: what replicas get
	primary  *Server
	replicas []*Server
	watchers []*Conn
}

// A value is a stream, or something else.
type value struct {
	stream  *stream // nil for a string
	text    string
	expires time.Duration // by the server's clock; zero for never
}

// An op is a write, as replicas and the append-only file get it.
type op struct{ args []string }

// A Conn is one client's connection.
type Conn struct {
	s      *Server
	seen   int // what had been written when its last command was done
	multi  bool
	queue  [][]string
	broken bool // a command could not be queued
	watch  []string
	dirty  bool // a watched key was written to
}

// New returns a server without data, a primary.
func New(addr string) *Server {
	return &Server{Addr: addr, keys: make(map[string]value), Config: make(map[string]string), Info: make(map[string]string)}
}

// Dial returns a new connection.
func (s *Server) Dial() *Conn { return &Conn{s: s} }

// Close ends the connection.
func (c *Conn) Close() { c.unwatch() }

// A command is what the server knows of one.
type command struct {
	min   int // arguments, the name included
	key   bool
	write bool
	grows bool // refused when memory is full
	do    func(s *Server, args []string) Reply
}

var commands = map[string]command{
	"XADD":      {5, true, true, true, (*Server).xadd},
	"XRANGE":    {4, true, false, false, func(s *Server, a []string) Reply { return s.xrange(a, false) }},
	"XREVRANGE": {4, true, false, false, func(s *Server, a []string) Reply { return s.xrange(a, true) }},
	"XLEN":      {2, true, false, false, (*Server).xlen},
	"XTRIM":     {4, true, true, false, (*Server).xtrim},
	"XDEL":      {3, true, true, false, (*Server).xdel},
	"SET":       {3, true, true, true, (*Server).set},
	"DEL":       {2, true, true, false, (*Server).del},
	"EXISTS":    {2, true, false, false, (*Server).exists},
	"PTTL":      {2, true, false, false, (*Server).pttl},
	"PEXPIRE":   {3, true, true, false, (*Server).pexpire},
	"PERSIST":   {2, true, true, false, (*Server).persist},
	"SCAN":      {2, false, false, false, (*Server).scan},
	"PING":      {1, false, false, false, func(*Server, []string) Reply { return status("PONG") }},
	"INFO":      {1, false, false, false, (*Server).info},
	"CONFIG":    {3, false, false, false, (*Server).config},
	"CLIENT":    {3, false, false, false, func(*Server, []string) Reply { return status("OK") }}, // it never tells
	"CLUSTER":   {2, false, false, false, func(s *Server, _ []string) Reply { return bulk(s.ClusterInfo()) }},
	"MULTI":     {min: 1},
	"EXEC":      {min: 1},
	"DISCARD":   {min: 1},
	"WATCH":     {min: 2},
	"UNWATCH":   {min: 1},
	"WAIT":      {min: 3},
}

// Do does a command and returns the reply. WAIT does not wait: it counts the
// replicas that have by now what it would wait for, so a test lets them catch
// up before, or the time-out pass.
func (c *Conn) Do(args ...string) Reply {
	name := strings.ToUpper(args[0])
	cmd, known := commands[name]
	var err Reply
	switch {
	case !known:
		err = failure("ERR unknown command '" + args[0] + "', with args beginning with: ")
	case len(args) < cmd.min:
		err = errArgs(strings.ToLower(name))
	default:
		err = c.s.refuses(cmd, args)
		if c.multi && c.s.OOM && name != "EXEC" && name != "DISCARD" && err.Kind != Error {
			err = errOOM // a queue takes memory whatever is in it
		}
	}
	if err.Kind == Error {
		if c.multi && name != "EXEC" {
			c.broken = true
		}
		return err
	}
	switch name {
	case "EXEC":
		return c.exec()
	case "DISCARD":
		if !c.multi {
			return failure("ERR DISCARD without MULTI")
		}
		c.discard()
		return status("OK")
	case "MULTI":
		if c.multi {
			return failure("ERR MULTI calls can not be nested")
		}
		c.multi = true
		return status("OK")
	case "WATCH":
		if c.multi {
			return failure("ERR WATCH inside MULTI is not allowed")
		}
		c.watchKeys(args[1:])
		return status("OK")
	}
	if c.multi {
		if !c.broken && !c.dirty { // it will not be done
			c.queue = append(c.queue, args)
		}
		return status("QUEUED")
	}
	return c.run(name, cmd, args)
}

func (c *Conn) run(name string, cmd command, args []string) Reply {
	defer func() { c.seen = len(c.s.ops) }() // what was refused before leaves it
	switch name {
	case "UNWATCH":
		c.unwatch()
		return status("OK")
	case "WAIT":
		return c.wait(args)
	}
	return cmd.do(c.s, args)
}

// refuses returns the error that a command meets before it is looked at.
func (s *Server) refuses(cmd command, args []string) Reply {
	if cmd.key {
		if s.Slot != nil {
			v, here := s.keys[args[1]]
			if text := s.Slot(args[1], here && !s.expired(v)); text != "" {
				return failure(text)
			}
		}
		if s.Refuse != "" {
			return failure(s.Refuse)
		}
	}
	switch {
	case cmd.grows && s.OOM:
		return errOOM
	case cmd.write && s.primary != nil:
		return errReadOnly
	case cmd.write && len(s.replicas) < s.MinReplicas:
		return errReplicas
	}
	return Reply{}
}

func (c *Conn) watchKeys(keys []string) {
	for _, key := range keys {
		c.s.expire(key)
		if !slices.Contains(c.watch, key) {
			c.watch = append(c.watch, key)
		}
	}
	if !slices.Contains(c.s.watchers, c) {
		c.s.watchers = append(c.s.watchers, c)
	}
}

func (c *Conn) unwatch() {
	c.watch, c.dirty = nil, false
	if i := slices.Index(c.s.watchers, c); i >= 0 {
		c.s.watchers = slices.Delete(c.s.watchers, i, i+1)
	}
}

func (c *Conn) discard() {
	c.multi, c.queue, c.broken = false, nil, false
	c.unwatch()
}

func (c *Conn) exec() Reply {
	if !c.multi {
		return failure("ERR EXEC without MULTI")
	}
	defer c.discard()
	for _, args := range c.queue {
		err := c.s.refuses(commands[strings.ToUpper(args[0])], args)
		switch {
		case err.Code() == "MOVED", err.Code() == "ASK":
			return err
		case err.Kind == Error:
			return failure("EXECABORT Transaction discarded because of: " + err.Text)
		}
	}
	if c.broken {
		return errAborted
	}
	for _, key := range c.watch {
		if c.s.expired(c.s.keys[key]) {
			c.dirty = true
		}
	}
	if c.dirty {
		return Reply{}
	}
	list := make([]Reply, 0, len(c.queue))
	for _, args := range c.queue {
		name := strings.ToUpper(args[0])
		list = append(list, c.run(name, commands[name], args))
	}
	return array(list...)
}

// stream returns the stream at key, or nil if there is nothing; wrong tells
// that there is something else.
func (s *Server) stream(key string) (st *stream, wrong bool) {
	s.expire(key)
	v, ok := s.keys[key]
	if s.expired(v) {
		return nil, false // a replica waits for its primary's word
	}
	return v.stream, ok && v.stream == nil
}

func (s *Server) expired(v value) bool { return v.expires != 0 && v.expires <= s.Now }

// expire deletes key if its time is over.
func (s *Server) expire(key string) {
	if v, ok := s.keys[key]; ok && s.expired(v) && s.primary == nil {
		s.Evict(key)
	}
}

// Evict deletes key, as a server does that runs out of memory.
func (s *Server) Evict(key string) {
	delete(s.keys, key)
	s.wrote(key, "DEL", key, "")
}

// wrote notes a write to key for replicas and for those who watch it. Each is
// kept such that it means the same whenever it is done again.
func (s *Server) wrote(key, name, first, second string, rest ...string) {
	args := []string{name, first}
	if second != "" {
		args = append(args, second)
	}
	s.ops = append(s.ops, &op{append(args, rest...)})
	s.touch(key)
}

func (s *Server) touch(key string) {
	for _, c := range s.watchers {
		if slices.Contains(c.watch, key) {
			c.dirty = true
		}
	}
}

func (s *Server) set(args []string) Reply {
	s.keys[args[1]] = value{text: args[2]}
	s.wrote(args[1], args[0], args[1], args[2])
	return status("OK")
}

func (s *Server) del(args []string) Reply {
	n := 0
	for _, key := range args[1:] {
		s.expire(key)
		if _, ok := s.keys[key]; ok {
			s.Evict(key)
			n++
		}
	}
	return integer(n)
}

func (s *Server) exists(args []string) Reply {
	n := 0
	for _, key := range args[1:] {
		s.expire(key)
		if v, ok := s.keys[key]; ok && !s.expired(v) {
			n++
		}
	}
	return integer(n)
}

func (s *Server) pttl(args []string) Reply {
	s.expire(args[1])
	v, ok := s.keys[args[1]]
	switch {
	case !ok || s.expired(v):
		return integer(-2)
	case v.expires == 0:
		return integer(-1)
	}
	return integer(int((v.expires - s.Now).Milliseconds()))
}

func (s *Server) pexpire(args []string) Reply {
	ms, err := strconv.ParseInt(args[2], 10, 64)
	if err != nil {
		return errNumber
	}
	s.expire(args[1])
	v, ok := s.keys[args[1]]
	if !ok {
		return integer(0)
	}
	if ms <= 0 {
		s.Evict(args[1])
		return integer(1)
	}
	v.expires = s.Now + time.Duration(ms)*time.Millisecond
	s.keys[args[1]] = v
	s.wrote(args[1], opExpireAt, args[1], strconv.FormatInt(int64(v.expires), 10))
	return integer(1)
}

func (s *Server) persist(args []string) Reply {
	s.expire(args[1])
	v, ok := s.keys[args[1]]
	if !ok || v.expires == 0 {
		return integer(0)
	}
	v.expires = 0
	s.keys[args[1]] = v
	s.wrote(args[1], args[0], args[1], "")
	return integer(1)
}

func (s *Server) scan([]string) Reply {
	var keys []Reply
	for _, key := range slices.Sorted(maps.Keys(s.keys)) {
		if v := s.keys[key]; v.stream != nil && !s.expired(v) {
			keys = append(keys, bulk(key))
		}
	}
	return array(bulk("0"), array(keys...))
}

func (s *Server) info([]string) Reply {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(s.Info)) {
		b.WriteString(name + ":" + s.Info[name] + "\r\n")
	}
	b.WriteString("connected_slaves:" + strconv.Itoa(len(s.replicas)) + "\r\n")
	return bulk(b.String())
}

func (s *Server) config(args []string) Reply {
	if v, ok := s.Config[args[2]]; ok {
		return array(bulk(args[2]), bulk(v))
	}
	return array()
}

package redislog

import (
	"sync"

	"github.com/redis/rueidis"
)

// A bell is what rings when a quiet log has something new: Redis remembers the
// key that was read behind CLIENT CACHING YES, and says once that it was
// written (client tracking). Nothing rests on it but how soon a record is read:
// the log is still polled, less often, and a poll is what a ring leads to.
type bell struct {
	mu   sync.Mutex
	keys []string // that rang
	all  bool     // a connection has ended: what was armed on it never rings
}

// hear is told which keys were written, by the connection that armed them; nil
// means any. It must not wait: the connection does.
func (b *bell) hear(keys []rueidis.RedisMessage) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.all = b.all || keys == nil
	for i := range keys {
		if key, err := keys[i].ToString(); err == nil {
			b.keys = append(b.keys, key)
		}
	}
}

// take returns what rang since it was called last.
func (b *bell) take() (keys []string, all bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	keys, all = b.keys, b.all
	b.keys, b.all = nil, false
	return keys, all
}

// heard marks the feeds that rang. Called with s.mu.
func (s *Store) heard() {
	keys, all := s.bell.take()
	for _, key := range keys {
		if log, ok := s.logOf(key); ok && s.feeds[log] != nil {
			s.feeds[log].rang()
		}
	}
	if !all {
		return
	}
	for _, f := range s.feeds {
		f.rang()
	}
}

// rouse wakes the poll, to look at who rang and who is new.
func (s *Store) rouse() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (f *feed) rang() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rung = true
}

// arms reports whether a poll shall arm f's bell: when the one before found
// nothing, so that a busy log, which is polled anyway, never rings.
func (f *feed) arms() bool { return f.s.opts.Bell && f.quiet > 0 }

// tells reports whether Redis has taken a command that arms bells, by its
// error. That it does not is said once.
func (s *Store) tells(where string, err error) bool {
	if _, refused := rueidis.IsRedisErr(err); refused {
		s.untold.Do(func() {
			s.opts.Log.Warn("quiet logs are polled more often, for Redis won't say that they were written: let this user do CLIENT TRACKING and CLIENT CACHING, as the file of cairn log acl does", "at", where, "err", err)
		})
	}
	return err == nil
}

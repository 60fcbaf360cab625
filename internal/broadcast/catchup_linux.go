package broadcast

import (
	"context"
	"slices"

	"github.com/veltrix/cairn"
)

// lagging has catchUps bring a connection up to date.
func (l *loop) lagging(c handle, r *record) {
	r.flags |= flagBehind
	l.behind = append(l.behind, c)
	select {
	case l.lag <- struct{}{}:
	default:
	}
}

// catchUps brings connections up to date that need more than a batch, one
// after the other, until ctx ends.
func (l *loop) catchUps(ctx context.Context) {
	pace := l.hub.Pace()
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.lag:
		}
		for ctx.Err() == nil {
			l.mu.Lock()
			if len(l.behind) == 0 {
				l.mu.Unlock()
				break
			}
			c := l.behind[0]
			if l.behind = l.behind[1:]; len(l.behind) == 0 {
				l.behind = nil
			}
			l.mu.Unlock()
			pace.Step()
			l.catchUp(c)
		}
	}
}

// A lack is what one of a connection's spots wants.
type lack struct {
	was    spot
	cursor cursor
}

// same reports whether a lack is that of the same spot as before, untouched. The
// number of an audience does not tell: another view may have it by now.
func (k lack) same(o lack) bool { return k.was == o.was && k.cursor.view == o.cursor.view }

// catchUp brings a connection up to date: what it lacks is put together
// without l.mu, and written if the connection still lacks just that then. All
// the while flagBehind keeps passes from it.
func (l *loop) catchUp(c handle) {
	l.mu.Lock()
	r := l.record(c)
	if r == nil {
		l.mu.Unlock()
		return
	}
	if r.flags&(flagStalled|flagBye|flagEnded) != 0 {
		r.flags &^= flagBehind
		l.mu.Unlock()
		return
	}
	told, codec, player := r.told, r.codec, cairn.PlayerID("")
	lacks := l.lacks(c, r)
	if s := *l.sessionAt(c.slot); s != nil {
		player = s.player
	}
	l.mu.Unlock()

	var bufs [][]byte
	var fs []*frame
	for i := range lacks {
		fs, _ = l.hub.collect(&lacks[i].cursor, fs, false)
		if life := lacks[i].cursor.life; life != nil && life.number != told {
			bufs = append(bufs, l.hub.welcome(codec, player, life))
			told = life.number
		}
	}
	bufs = buffers(bufs, fs)
	l.mu.Lock()
	defer l.mu.Unlock()
	if r = l.record(c); r == nil {
		return
	}
	r.flags &^= flagBehind
	if r.flags&(flagStalled|flagBye|flagEnded) != 0 {
		return
	}
	if !slices.EqualFunc(lacks, l.lacks(c, r), lack.same) {
		l.lagging(c, r) // it watches something else by now
		return
	}
	if len(bufs) > 0 {
		var o out
		o.set(bufs)
		if !l.write(c, r, &o) {
			return // once it can be written to, what it lacks then
		}
		l.hub.metrics.deliveries.Add(float64(len(fs)))
		l.hub.metrics.bytes.Add(float64(o.size))
	}
	r.told = told
	for i, s := range l.spots(c, r) {
		if k := &lacks[i].cursor; k.life != nil {
			s.life, s.n, s.seq, s.resume = k.life.number, uint32(k.n), k.seq, k.resume
		}
	}
	for _, s := range l.spots(c, r) {
		l.bring(c, r, s, l.audiences[s.view]) // what came meanwhile
	}
}

// lacks returns where a connection is, as collect wants to know. l.mu is held.
func (l *loop) lacks(c handle, r *record) []lack {
	var all []lack
	for _, s := range l.spots(c, r) {
		v := l.audiences[s.view].view
		all = append(all, lack{*s, cursor{view: v, life: lifeOf(s.life, v), n: uint64(s.n), seq: s.seq, resume: s.resume}})
	}
	return all
}

// lifeOf returns the life of a number, as far as a cursor of v wants to know.
func lifeOf(number uint32, v *view) *life {
	if number == 0 {
		return nil
	}
	if l := v.head.Load().life; l.number == number {
		return l
	}
	return anotherLife
}

// anotherLife stands for any that is over.
var anotherLife = &life{}

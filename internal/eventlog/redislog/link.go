package redislog

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/rueidis"

	"github.com/veltrix/cairn/internal/eventlog"
)

// A link is a connection that one writer leases, so that what it sends is done
// in its order and WAIT speaks of its own writes.
type link struct {
	s       *Store
	n       *node
	c       rueidis.DedicatedClient
	release func()
}

// lease returns a connection to the node that has a log.
func (s *Store) lease(ctx context.Context, log eventlog.Name) (*link, error) {
	n, err := s.checkedNode(ctx, log)
	if err != nil {
		return nil, err
	}
	c, release := n.client.Dedicate()
	return &link{s, n, c, release}, nil
}

// end gives the connection back, or closes it where err leaves open what is
// still under way on it.
func (l *link) end(err error) {
	if fateOf(err) == unheard {
		l.c.Close()
	}
	l.release()
}

// do sends commands in one go and waits for all replies, for ReplyMax at most.
// It does not end with the caller's context, for then nobody would know what
// came of them.
func (l *link) do(cmds ...rueidis.Completed) []rueidis.RedisResult {
	ctx, cancel := l.s.world.within(context.Background(), l.s.opts.ReplyMax)
	defer cancel()
	return l.c.DoMulti(ctx, cmds...)
}

// waits reports whether an append is acknowledged by WAIT.
func (l *link) waits(volatile bool) bool { return l.s.ack == AckReplicas && !volatile }

// wanted returns how many replicas are to have what is appended.
func (l *link) wanted() int {
	if n := l.s.replicasOf(l.n); l.s.keeps(ruleWaitAll) {
		return n
	}
	return 1
}

// watch returns the command that makes the next EXEC do nothing if the stream
// is touched before.
func (l *link) watch(key string) rueidis.Completed {
	if !l.s.keeps(ruleWatch) {
		return l.c.B().Unwatch().Build()
	}
	return l.c.B().Watch().Key(key).Build()
}

// waitFor returns the WAIT that goes behind an XADD. Its own time-out is short
// of ReplyMax, so that its count is heard.
func (l *link) waitFor() rueidis.Completed {
	ms := max(l.s.opts.ReplyMax.Milliseconds()*3/4, 1)
	return l.c.B().Arbitrary("WAIT", strconv.Itoa(l.wanted()), strconv.FormatInt(ms, 10)).Build()
}

// askMax is how long replicas are waited for that are only asked.
const askMax = 20 * time.Millisecond

// ask returns the WAIT that asks how many replicas have all.
func (l *link) ask() rueidis.Completed {
	ms := min(askMax, l.s.opts.ReplyMax/2).Milliseconds()
	return l.c.B().Arbitrary("WAIT", strconv.Itoa(l.wanted()), strconv.FormatInt(max(ms, 1), 10)).Build()
}

// errShort: fewer replicas have a record than are to have it.
var errShort = errors.New("too few replicas have it")

// waited returns nil if WAIT counted every replica that may be promoted. One
// that counted fewer promises nothing.
func (l *link) waited(r rueidis.RedisResult) error {
	got, err := r.AsInt64()
	if err != nil {
		return fmt.Errorf("WAIT: %w", err)
	}
	if want := max(l.wanted(), 1); got < int64(want) && l.s.keeps(ruleWaitShort) {
		return fmt.Errorf("%w: WAIT counted %d, want %d", errShort, got, want)
	}
	return nil
}

// wait returns once all that is in the log is acknowledged as the mode says.
// On a connection that has not written, WAIT as its first command would return
// at once: the caller has sent another before.
func (l *link) wait(volatile bool) error {
	if !l.waits(volatile) {
		return nil
	}
	return l.waited(l.do(l.waitFor())[0])
}

// xadd returns the command that appends e. Only a genesis may create a stream.
func (s *Store) xadd(l *link, log eventlog.Name, e *entry, noCreate bool) rueidis.Completed {
	head := rueidis.BinaryString(e.appendHeader(make([]byte, 0, 128)))
	body := rueidis.BinaryString(e.Body)
	key := l.c.B().Xadd().Key(s.key(log))
	if noCreate && s.keeps(ruleNoCreate) {
		return key.Nomkstream().Id(e.Offset.String()).FieldValue().FieldValue(fieldHeader, head).FieldValue(fieldBody, body).Build()
	}
	return key.Id(e.Offset.String()).FieldValue().FieldValue(fieldHeader, head).FieldValue(fieldBody, body).Build()
}

package redislog

import (
	"errors"
	"fmt"
	"strings"

	"github.com/redis/rueidis"

	"github.com/veltrix/cairn/internal/eventlog"
)

// A fate is what an error says of the command that it answers.
type fate int

const (
	landed    fate = iota // done
	missing               // the key does not exist, so nothing was done (NOMKSTREAM)
	below                 // refused: the id is not above the stream's last
	elsewhere             // not done here and now: another node has the slot, or will have, or this one starts
	later                 // not done: Redis can't now
	refused               // not done, and trying again will not help
	changed               // not done: the stream is not as it was when it was watched
	unheard               // it may be done, now or later, or not
)

// errChanged: EXEC did nothing, for the stream was touched since WATCH.
var errChanged = errors.New("the stream changed in between")

// An unfitError says what is wrong with a server, or a log, that an operator
// must mend.
type unfitError struct{ error }

// fateOf tells what came of a command that was answered with err.
func fateOf(err error) fate {
	if err == nil {
		return landed
	}
	if rueidis.IsRedisNil(err) {
		return missing
	}
	if errors.Is(err, errChanged) {
		return changed
	}
	if _, ok := errors.AsType[unfitError](err); ok {
		return refused
	}
	re, ok := rueidis.IsRedisErr(err)
	if !ok {
		return unheard
	}
	msg := re.Error()
	code, _, _ := strings.Cut(msg, " ")
	switch code {
	case "MOVED", "ASK", "READONLY", "CLUSTERDOWN", "MASTERDOWN", "TRYAGAIN", "LOADING":
		return elsewhere
	case "OOM", "NOREPLICAS", "MISCONF", "BUSY":
		return later
	case "UNBLOCKED": // a WAIT that ended with the primary's role
		return unheard
	}
	if strings.Contains(msg, "equal or smaller") { // has no code of its own
		return below
	}
	return refused
}

// pushback returns the error of an append that came to nothing.
func pushback(o eventlog.Offset, err error) error {
	return fmt.Errorf("%w: record %v: %w", eventlog.ErrPushback, o, err)
}

// unknown returns the error of an append whose outcome could not be learnt.
func unknown(o eventlog.Offset, err error) error {
	return fmt.Errorf("%w: record %v: %w", eventlog.ErrUnknown, o, err)
}

// Package cairn is the vocabulary of the treasure hunt: hunts, maps, tiles,
// attempts, claims and rewards, and how tiles fall onto shards.
//
// It is pure: no storage, no clock, no network, and it imports nothing of
// ours. Every other package speaks in these words.
package cairn

import (
	"fmt"
	"strconv"
	"time"
)

// An Instant is a point in time in microseconds since the Unix epoch. It is
// what an owner's clock stamps on a claim, and what a rank's tie is broken by.
type Instant int64

// InstantOf returns the instant of t, rounded down to a microsecond.
func InstantOf(t time.Time) Instant { return Instant(t.UnixMicro()) }

// Time returns i in UTC.
func (i Instant) Time() time.Time { return time.UnixMicro(int64(i)).UTC() }

// Add returns the instant d later.
func (i Instant) Add(d time.Duration) Instant { return i + Instant(d/time.Microsecond) }

// Sub returns i − j.
func (i Instant) Sub(j Instant) time.Duration { return time.Duration(i-j) * time.Microsecond }

// instantLayout is RFC 3339 with milliseconds, the form of the public API.
const instantLayout = "2006-01-02T15:04:05.000Z07:00"

// String returns i as RFC 3339 with milliseconds, in UTC.
func (i Instant) String() string { return i.Time().Format(instantLayout) }

// AppendText implements encoding.TextAppender. Years of four digits are put
// together here, at a third of what [time.Time.AppendFormat] takes: an outcome
// of a claim has one.
func (i Instant) AppendText(b []byte) ([]byte, error) {
	t := i.Time()
	year, month, day := t.Date()
	if year < 1000 || year > 9999 {
		return t.AppendFormat(b, instantLayout), nil
	}
	hour, minute, second := t.Clock()
	b = append2(append2(b, year/100), year%100)
	b = append2(append(b, '-'), int(month))
	b = append2(append(b, '-'), day)
	b = append2(append(b, 'T'), hour)
	b = append2(append(b, ':'), minute)
	b = append2(append(b, ':'), second)
	ms := t.Nanosecond() / int(time.Millisecond)
	b = append2(append(b, '.', byte('0'+ms/100)), ms%100)
	return append(b, 'Z'), nil
}

// append2 appends a number of two digits.
func append2(b []byte, n int) []byte { return append(b, byte('0'+n/10), byte('0'+n%10)) }

// MarshalText implements encoding.TextMarshaler.
func (i Instant) MarshalText() ([]byte, error) { return i.AppendText(nil) }

// UnmarshalText implements encoding.TextUnmarshaler. What it takes,
// MarshalText can write again.
func (i *Instant) UnmarshalText(b []byte) error {
	t, err := time.Parse(time.RFC3339Nano, string(b))
	if y := t.UTC().Year(); err != nil || y < 0 || y > 9999 { // a zone can move the year out of RFC 3339
		return fmt.Errorf("time %.40q: want RFC 3339, such as 2026-01-02T15:04:05.000Z", b)
	}
	*i = InstantOf(t)
	return nil
}

// A Micro is an amount of money in micro-units, a millionth of the currency.
// Money is never a float.
type Micro int64

// A HuntID names a hunt: its name, unique for ever ([ValidHuntID]).
type HuntID string

// A PlayerID names a player: 1 to 64 bytes of printable UTF-8, chosen by
// whoever signs the player's token.
type PlayerID string

// A Tick numbers the maps of a hunt: tick n opens n tick periods after the
// Unix epoch, so that the number needs no state and survives every restart.
type Tick int64

// String returns t in decimal.
func (t Tick) String() string { return strconv.FormatInt(int64(t), 10) }

// A Digest is the SHA-256 of a map's canonical bytes.
type Digest [32]byte

// String returns d in hexadecimal.
func (d Digest) String() string { return fmt.Sprintf("%x", d[:]) }

// MarshalText implements encoding.TextMarshaler.
func (d Digest) MarshalText() ([]byte, error) { return fmt.Appendf(nil, "%x", d[:]), nil }

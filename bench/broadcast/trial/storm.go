//go:build linux

package trial

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/veltrix/cairn/bench/broadcast/system"
	"github.com/veltrix/cairn/bench/program"
	"github.com/veltrix/cairn/internal/load/crowd"
)

// Surge publishes as Load does, and after a third of the time has n more
// connections come, all at once. Those who were there before are most of whom
// latencies are of.
func (t *Trial) Surge(ctx context.Context, perSecond float64, d time.Duration, n int) (*Load, error) {
	var l *Load
	both, ctx := errgroup.WithContext(ctx)
	both.Go(func() (err error) {
		l, err = t.Load(ctx, perSecond, d)
		return err
	})
	both.Go(func() error {
		if err := program.Sleep(ctx, d/3); err != nil {
			return err
		}
		return t.Crowd.Grow(ctx, n, 0)
	})
	return l, both.Wait()
}

// stallBytes is more than the buffers of both ends hold of a connection that
// does not read: 32 KiB at the client, and at the server what the kernel gives
// a socket on whose way segments are of the usual size.
const stallBytes = 120 << 10

// Stalled has n connections stop reading and fills their buffers, so that
// writes to them fail from the start; then it publishes as Load does, and has
// them read again afterwards.
func (t *Trial) Stalled(ctx context.Context, perSecond float64, d time.Duration, n int) (*Load, error) {
	if got, err := t.Crowd.Stall(ctx, n); err != nil || got < n {
		return nil, fmt.Errorf("trial: %d of %d connections stalled: %w", got, n, err)
	}
	for range (stallBytes + system.FillBytes - 1) / system.FillBytes {
		if err := t.System.Fill(ctx); err != nil {
			return nil, err
		}
		if err := t.awaitDelivery(ctx); err != nil {
			return nil, err
		}
	}
	l, err := t.Load(ctx, perSecond, d)
	if err != nil {
		return nil, err
	}
	return l, t.Crowd.Resume(ctx)
}

// awaitDelivery waits until everyone who reads has got something, or long
// enough.
func (t *Trial) awaitDelivery(ctx context.Context) error {
	got := int64(0)
	for until := time.Now().Add(drainMax); time.Now().Before(until); {
		if err := program.Sleep(ctx, 200*time.Millisecond); err != nil {
			return err
		}
		w, err := t.Crowd.Window(ctx)
		if err != nil {
			return err
		}
		if got += w.Deliveries; got >= int64(w.Ready-w.Stalled) {
			break
		}
	}
	return nil
}

// A Comeback is how a crowd came back that was cut off, all at once, while
// deltas went on.
type Comeback struct {
	Connections int      `json:"connections"`
	Half        float64  `json:"half_s"` // until half of them were back and knew what they watch
	Most        float64  `json:"most_s"` // until 99% were
	All         float64  `json:"all_s"`
	Reconnects  int64    `json:"reconnects"`
	Resumed     int64    `json:"resumed"`   // were told what they missed
	Restarted   int64    `json:"restarted"` // got a snapshot instead
	Refused     int64    `json:"refused"`   // handshakes refused for now
	Gaps        int64    `json:"gaps"`
	Behind      int      `json:"behind"` // did not know in the end what most did
	States      int      `json:"states"` // distinct ones in the end: 1 if all know the same
	P50         float64  `json:"connect_p50_ms"`
	P99         float64  `json:"connect_p99_ms"`
	Faults      []string `json:"faults,omitempty"`
}

// DropAll cuts every connection, goes on publishing, and waits until all are
// back and know the same.
func (t *Trial) DropAll(ctx context.Context, perSecond float64, within time.Duration) (*Comeback, error) {
	t.System.Pace(perSecond)
	sum, err := t.Crowd.Window(ctx)
	if err != nil {
		return nil, err
	}
	c := &Comeback{Connections: sum.Connections}
	if err := t.Crowd.DropAll(ctx); err != nil {
		return nil, err
	}
	sum, err = t.back(ctx, c, perSecond, within)
	if err != nil {
		return nil, err
	}
	end, err := t.agree(ctx)
	if err != nil {
		return nil, err
	}
	sum.Add(end)
	c.Reconnects, c.Resumed, c.Restarted, c.Refused, c.Gaps = sum.Reconnects, sum.Resumed, sum.Restarted, sum.Refused, sum.Gaps
	c.Behind, c.States, c.Faults = end.Behind(), len(end.States), sum.Faults()
	c.P50, c.P99 = ms(sum.Connect.Quantile(0.5)), ms(sum.Connect.Quantile(0.99))
	return c, nil
}

// back publishes until all connections are back, and returns what was seen.
func (t *Trial) back(ctx context.Context, c *Comeback, perSecond float64, within time.Duration) (*crowd.Stats, error) {
	from := time.Now()
	var sum *crowd.Stats
	asking := time.Duration(0) // how long a large crowd takes to say what it saw, which costs those whom it asks
	for published := 0; ; {
		if time.Since(from).Seconds()*perSecond >= float64(published) {
			published++ // one that is late is made up for at the next
			if err := t.System.Publish(ctx); err != nil {
				return nil, err
			}
		}
		if err := program.Sleep(ctx, max(100*time.Millisecond, 4*asking)); err != nil {
			return nil, err
		}
		asked := time.Now()
		w, err := t.Crowd.Window(ctx)
		if err != nil {
			return nil, err
		}
		asking = time.Since(asked)
		if sum == nil {
			sum = w
		} else {
			sum.Add(w)
		}
		took := time.Since(from).Seconds()
		if sum.Reconnects < int64(c.Connections/2) {
			continue // whoever was not yet noticed to be gone still counts as ready
		}
		if c.Half == 0 && w.Ready >= c.Connections/2 {
			c.Half = took
		}
		if c.Most == 0 && w.Ready >= c.Connections*99/100 {
			c.Most = took
		}
		switch {
		case w.Ready >= c.Connections && sum.Reconnects >= int64(c.Connections):
			c.All = took
			return sum, nil
		case time.Since(from) > within:
			return nil, fmt.Errorf("trial: %d of %d connections are back after %v; errors %v, closes %v, refused %d", w.Ready, c.Connections, within, sum.Errors, sum.Closes, sum.Refused)
		}
	}
}

// agreeWithin is how long, when nothing is published any more, it may take
// until all know the same.
const agreeWithin = 20 * time.Second

// agree waits until all connections know the same, or for long enough.
func (t *Trial) agree(ctx context.Context) (*crowd.Stats, error) {
	var sum *crowd.Stats
	for until := time.Now().Add(agreeWithin); ; {
		if err := program.Sleep(ctx, 500*time.Millisecond); err != nil {
			return nil, err
		}
		w, err := t.Crowd.Window(ctx)
		if err != nil {
			return nil, err
		}
		if sum == nil {
			sum = w
		} else {
			sum.Add(w)
		}
		if len(w.States) <= 1 && w.Deliveries == 0 || time.Now().After(until) {
			return sum, nil
		}
	}
}

package redislog

import (
	"context"
	"time"

	"github.com/redis/rueidis"
)

// A world is what a store has around it: time, and servers. The simulation
// puts one of its own in the place of the real one (sim_test.go).
type world interface {
	now() time.Time
	within(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc)
	sleep(ctx context.Context, d time.Duration) error
	after(d time.Duration, f func()) timer
	client(o rueidis.ClientOption) (rueidis.Client, error)
}

// A timer is a [time.Timer] that calls a function.
type timer interface {
	Stop() bool
	Reset(d time.Duration) bool
}

type realWorld struct{}

func (realWorld) now() time.Time { return time.Now() }

func (realWorld) within(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, d)
}

// sleep returns nil after d, or ctx's error.
func (realWorld) sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (realWorld) after(d time.Duration, f func()) timer { return time.AfterFunc(d, f) }

func (realWorld) client(o rueidis.ClientOption) (rueidis.Client, error) { return rueidis.NewClient(o) }

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
)

// parts are what runs in a process. They end all together: at a signal, or
// when one of them fails.
type parts struct {
	log  *slog.Logger
	ctx  context.Context // ends when the process is to end
	fail context.CancelCauseFunc
}

// newParts returns no parts yet, which end with ctx.
func newParts(ctx context.Context, log *slog.Logger) *parts {
	p := &parts{log: log}
	p.ctx, p.fail = context.WithCancelCause(ctx)
	return p
}

// err returns which part failed, or nil if none did.
func (p *parts) err() error {
	if err := context.Cause(p.ctx); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// A stage is parts that are stopped together, by its owner: it outlives the
// signal, so that a process ends in the order that loses nothing.
type stage struct {
	parts *parts
	ctx   context.Context
	end   context.CancelFunc
	wg    sync.WaitGroup
}

func (p *parts) stage() *stage {
	s := &stage{parts: p}
	s.ctx, s.end = context.WithCancel(context.WithoutCancel(p.ctx))
	return s
}

// start runs f until the stage stops. If f returns an error before, the
// process ends with it.
func (s *stage) start(what string, f func(context.Context) error) {
	s.wg.Go(func() {
		if err := f(s.ctx); err != nil && s.ctx.Err() == nil {
			s.parts.log.Error(what+" failed", "err", err)
			s.parts.fail(fmt.Errorf("%s: %w", what, err))
		}
	})
}

// stop ends the stage and waits for its parts.
func (s *stage) stop() {
	s.end()
	s.wg.Wait()
}

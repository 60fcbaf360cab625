package fleet

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestInquirer: an answer is never older than the question, and many questions
// cost few.
func TestInquirer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := inquirer{turn: make(chan struct{}, 1)}
		var mu sync.Mutex
		asked := 0
		f := func() error {
			mu.Lock()
			asked++
			mu.Unlock()
			time.Sleep(10 * time.Millisecond)
			return nil
		}
		var wg sync.WaitGroup
		for n := range 1000 {
			wg.Go(func() {
				time.Sleep(time.Duration(n) * 100 * time.Microsecond)
				began := time.Now()
				var at time.Time
				must(t, i.ask(t.Context(), func() error { at = time.Now(); return f() }))
				if !at.IsZero() && at.Before(began) {
					t.Error("an answer is older than the question")
				}
				if took := time.Since(began); took > 25*time.Millisecond {
					t.Errorf("an answer took %v, want at most two questions' time", took)
				}
			})
		}
		wg.Wait()
		if asked > 15 {
			t.Errorf("asked %d times in 110ms, want about 11", asked)
		}
		want := errors.New("no")
		if err := i.ask(t.Context(), func() error { return want }); !errors.Is(err, want) {
			t.Errorf("got %v, want %v", err, want)
		}
		ctx, cancel := context.WithCancel(t.Context())
		slow := make(chan struct{})
		wg.Go(func() { must(t, i.ask(t.Context(), func() error { <-slow; return nil })) })
		synctest.Wait()
		cancel()
		if err := i.ask(ctx, f); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want the context's end", err)
		}
		close(slow)
		wg.Wait()
		must(t, i.ask(t.Context(), f))
	})
}

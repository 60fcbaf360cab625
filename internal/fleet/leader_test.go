package fleet

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/veltrix/cairn/internal/eventlog"
)

// takeoverMax is how long nobody may work after whoever did has gone.
const takeoverMax = time.Second

// A solo is one run of a process of a role of which one works. Its work is to
// write its name into the maps log, every 10ms.
type solo struct {
	name   string
	host   *fakeHost
	leader *Leader
	stop   context.CancelFunc // in good order
	ended  sync.WaitGroup
	late   atomic.Bool // not ready
}

// solo runs a process of that name.
func (w *world) solo(name string) *solo {
	s := &solo{name: name, host: w.net.host(name + ":2")}
	ctx, cancel := context.WithCancel(context.Background())
	s.stop = func() { cancel(); s.ended.Wait() }
	var err error
	s.leader, err = NewLeader(&gatedRegistry{w.reg, s.host}, RoleGenerator, MemberOptions{Name: name, Ready: func() error {
		if s.late.Load() {
			return errors.New("catching up")
		}
		return nil
	}})
	must(w.t, err)
	store := &gatedStore{w.store, s.host}
	s.ended.Go(func() {
		err := s.leader.Run(ctx, func(ctx context.Context) error {
			wr, err := store.Open(ctx, eventlog.Maps)
			if err != nil {
				return err
			}
			defer wr.Close()
			for ctx.Err() == nil {
				if _, err := wr.Append(ctx, []byte(name), eventlog.Offset{}); err != nil {
					return err
				}
				sleep(ctx, 10*time.Millisecond)
			}
			return ctx.Err()
		})
		if err != nil && s.host.alive(context.Background()) == nil {
			w.t.Errorf("%s: %v", name, err)
		}
	})
	return s
}

func (s *solo) kill() {
	s.host.kill()
	s.stop()
}

// A work is a time without a break in which one process wrote the maps log.
type work struct {
	name     string
	from, to time.Time
}

// watchWork notes who writes the maps log, until ctx ends.
func (w *world) watchWork(ctx context.Context) func() []work {
	f, err := w.store.Follow(ctx, eventlog.Maps, eventlog.Offset{})
	must(w.t, err)
	var all []work
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer f.Close()
		for {
			recs, _, err := f.Next(ctx)
			if err != nil {
				return
			}
			for _, r := range recs {
				if r.Kind != eventlog.Data {
					continue
				}
				if n := len(all); n == 0 || all[n-1].name != string(r.Body) {
					all = append(all, work{string(r.Body), time.Now(), time.Now()})
				}
				all[len(all)-1].to = time.Now()
			}
		}
	}()
	return func() []work { <-done; return all }
}

// solos runs f in a world with processes of which one works, and returns who
// worked when. At the end all stop in good order.
func solos(t *testing.T, names string, f func(w *world, ps map[string]*solo)) (works []work) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		ctx, cancel := context.WithCancel(context.Background())
		watched := w.watchWork(ctx)
		ps := map[string]*solo{}
		for _, c := range names {
			ps[string(c)] = w.solo(string(c))
		}
		time.Sleep(2 * time.Second)
		f(w, ps)
		for _, p := range ps {
			p.stop()
		}
		cancel()
		works = watched()
		w.end()
	})
	return works
}

// leading returns the one who leads.
func leading(t testing.TB, ps map[string]*solo) *solo {
	t.Helper()
	var found []*solo
	for _, p := range ps {
		if p.leader.Leads() && p.host.alive(context.Background()) == nil {
			found = append(found, p)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d processes lead, want 1", len(found))
	}
	return found[0]
}

// checkGaps fails if nobody worked for longer than most.
func checkGaps(t *testing.T, works []work, most time.Duration) {
	t.Helper()
	for i := 1; i < len(works); i++ {
		if gap := works[i].from.Sub(works[i-1].to); gap > most {
			t.Errorf("nobody worked for %v between %s and %s, want at most %v", gap, works[i-1].name, works[i].name, most)
		}
	}
}

func (w work) String() string { return fmt.Sprintf("%s for %v", w.name, w.to.Sub(w.from)) }

// TestLeaderKilled kills whoever leads. Another leads soon, and goes on to do
// so when the first one is back.
func TestLeaderKilled(t *testing.T) {
	works := solos(t, "abc", func(w *world, ps map[string]*solo) {
		first := leading(w.t, ps)
		first.kill()
		delete(ps, first.name)
		time.Sleep(takeoverMax)
		second := leading(w.t, ps)
		ps[first.name] = w.solo(first.name)
		time.Sleep(3 * time.Second)
		if now := leading(w.t, ps); now != second {
			w.t.Errorf("%s is back: now %s leads, want still %s", first.name, now.name, second.name)
		}
	})
	checkGaps(t, works[len(works)-2:], takeoverMax)
}

// TestLeaderLeaves ends whoever leads in good order: nearly no time is lost,
// and nobody is fenced out.
func TestLeaderLeaves(t *testing.T) {
	works := solos(t, "abc", func(w *world, ps map[string]*solo) {
		first := leading(w.t, ps)
		before, err := w.store.Status(w.t.Context(), eventlog.Maps)
		must(w.t, err)
		first.stop()
		delete(ps, first.name)
		time.Sleep(time.Second)
		leading(w.t, ps)
		after, err := w.store.Status(w.t.Context(), eventlog.Maps)
		must(w.t, err)
		if after.Last.Epoch != before.Last.Epoch+1 {
			w.t.Errorf("epoch: got %d, want %d: one takes over, and once", after.Last.Epoch, before.Last.Epoch+1)
		}
	})
	checkGaps(t, works[len(works)-2:], 150*time.Millisecond)
}

// TestLeaderPaused pauses whoever leads for 10s. When it wakes it does not
// work on, and the other is not disturbed.
func TestLeaderPaused(t *testing.T) {
	works := solos(t, "ab", func(w *world, ps map[string]*solo) {
		first := leading(w.t, ps)
		first.host.pause()
		time.Sleep(takeoverMax)
		other := ps["a"]
		if first == other {
			other = ps["b"]
		}
		if !other.leader.Leads() {
			w.t.Fatal("the other does not lead")
		}
		time.Sleep(9 * time.Second)
		before, err := w.store.Status(w.t.Context(), eventlog.Maps)
		must(w.t, err)
		first.host.resume()
		time.Sleep(3 * time.Second)
		if now := leading(w.t, ps); now != other {
			w.t.Errorf("%s leads, want %s", now.name, other.name)
		}
		after, err := w.store.Status(w.t.Context(), eventlog.Maps)
		must(w.t, err)
		if after.Last.Epoch != before.Last.Epoch {
			w.t.Errorf("epoch: got %d, want %d: nobody is fenced out", after.Last.Epoch, before.Last.Epoch)
		}
	})
	checkGaps(t, works[len(works)-2:], takeoverMax)
}

// TestLeaderCutOff takes the registry from whoever leads, and not the log: the
// other takes over, and the first does not fence it out again.
func TestLeaderCutOff(t *testing.T) {
	solos(t, "ab", func(w *world, ps map[string]*solo) {
		first := leading(w.t, ps)
		first.host.setCut(true)
		time.Sleep(2 * time.Second)
		before, err := w.store.Status(w.t.Context(), eventlog.Maps)
		must(w.t, err)
		time.Sleep(10 * time.Second)
		after, err := w.store.Status(w.t.Context(), eventlog.Maps)
		must(w.t, err)
		if after.Last.Epoch != before.Last.Epoch {
			w.t.Errorf("epoch: got %d, want %d: they fight", after.Last.Epoch, before.Last.Epoch)
		}
		first.host.setCut(false)
		time.Sleep(2 * time.Second)
		if now := leading(w.t, ps); now == first {
			w.t.Error("the first leads again, want the other to go on")
		}
	})
}

// TestLeaderRegistryAway takes the registry from all: whoever leads goes on.
func TestLeaderRegistryAway(t *testing.T) {
	works := solos(t, "abc", func(w *world, ps map[string]*solo) {
		first := leading(w.t, ps)
		before, err := w.store.Status(w.t.Context(), eventlog.Maps)
		must(w.t, err)
		w.reg.set(true, 0)
		time.Sleep(5 * time.Second)
		w.reg.set(false, 0)
		time.Sleep(3 * time.Second)
		if now := leading(w.t, ps); now != first {
			w.t.Errorf("%s leads, want still %s", now.name, first.name)
		}
		after, err := w.store.Status(w.t.Context(), eventlog.Maps)
		must(w.t, err)
		if after.Last.Epoch != before.Last.Epoch {
			w.t.Errorf("epoch: got %d, want %d: nothing moves", after.Last.Epoch, before.Last.Epoch)
		}
	})
	checkGaps(t, works, takeoverMax)
}

// TestLeaderUnready has whoever leads be unready: one that is ready leads.
func TestLeaderUnready(t *testing.T) {
	solos(t, "ab", func(w *world, ps map[string]*solo) {
		first := leading(w.t, ps)
		first.late.Store(true)
		time.Sleep(time.Second)
		if now := leading(w.t, ps); now == first {
			w.t.Error("one that is not ready leads")
		}
		if first.leader.Ready() == nil {
			w.t.Error("one that is not ready is said to be")
		}
		first.late.Store(false)
	})
}

// TestLeaderEnds returns what ends work for good.
func TestLeaderEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, err := NewLeader(new(Local), RoleGenerator, MemberOptions{Name: "a"})
		must(t, err)
		want := errors.New("the disk is full")
		if err := l.Run(t.Context(), func(context.Context) error { return want }); !errors.Is(err, want) {
			t.Errorf("got %v, want %v", err, want)
		}
		if l.Leads() {
			t.Error("it leads still")
		}
	})
}

// TestPartition has shards follow those who come, are killed, are paused and
// leave. Each is somebody's within a second, and in peace nobody else's.
func TestPartition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const shards = 24
		w := &world{t: t, net: newFakeNet(), reg: &flakyRegistry{}}
		type proc struct {
			host *fakeHost
			part *Partition
			stop func()
		}
		procs := map[string]*proc{}
		start := func(name string) {
			p := &proc{host: w.net.host(name)}
			var err error
			p.part, err = NewPartition(&gatedRegistry{w.reg, p.host}, RoleRewards, shards, MemberOptions{Name: name})
			must(t, err)
			ctx, cancel := context.WithCancel(context.Background())
			var wg sync.WaitGroup
			wg.Go(func() { _ = p.part.Run(ctx) })
			p.stop = func() { cancel(); wg.Wait() }
			procs[name] = p
		}
		shared := func() error {
			for shard := range shards {
				n := 0
				for _, p := range procs {
					if p.part.Owns(shard) {
						n++
					}
				}
				if n != 1 {
					return fmt.Errorf("shard %d is %d processes', want one's", shard, n)
				}
			}
			return nil
		}
		start("a")
		w.until(time.Second, "one has all", shared)
		before := procs["a"].part.Shards()
		changed := procs["a"].part.Changed()
		start("b")
		start("c")
		<-changed
		w.until(time.Second, "three share", shared)
		if after := procs["a"].part.Shards(); len(after) == 0 || len(after) >= len(before) {
			t.Errorf("a owns %v, want some", after)
		}
		time.Sleep(2 * time.Second)

		a := procs["a"]
		a.host.pause()
		delete(procs, "a")
		t.Logf("paused: shared again after %v", w.until(takeoverMax, "two share", shared))
		time.Sleep(10 * time.Second)
		procs["a"] = a
		a.host.resume()
		w.until(time.Second, "three share again", shared)
		time.Sleep(2 * time.Second)

		b := procs["b"]
		b.host.kill()
		delete(procs, "b")
		t.Logf("killed: shared again after %v", w.until(takeoverMax, "two share", shared))
		b.stop()

		c := procs["c"]
		c.part.Leave()
		w.until(takeoverMax, "one has all", func() error {
			if n, left := len(a.part.Shards()), len(c.part.Shards()); n != shards || left > 0 {
				return fmt.Errorf("a has %d and c %d, want %d and 0", n, left, shards)
			}
			return nil
		})
		c.stop()
		held := a.part.Shards()
		w.reg.set(true, 0)
		time.Sleep(5 * time.Second)
		w.reg.set(false, 0)
		if got := a.part.Shards(); !slices.Equal(got, held) {
			t.Errorf("the registry was away: a owns %v, want %v", got, held)
		}
		a.stop()
		if got := a.part.Shards(); len(got) > 0 {
			t.Errorf("one that has ended owns %v, want none", got)
		}
	})
}

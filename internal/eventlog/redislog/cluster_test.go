package redislog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/veltrix/cairn/internal/eventlog"
	"github.com/veltrix/cairn/internal/eventlog/redislog/redistest"
)

// A fleet is writers at work on a real Cluster, one a shard.
type fleet struct {
	t     *testing.T
	ctx   context.Context
	nodes []*redistest.Server
	s     *Store
	logs  []eventlog.Name
	stop  chan struct{}
	wg    sync.WaitGroup

	mu      sync.Mutex
	fates   map[string]string // what came of each body
	acked   map[eventlog.Name]int
	reopens map[eventlog.Name]int
}

// startFleet begins with 6 shards, two a primary or so.
func startFleet(t *testing.T, nodes []*redistest.Server, opts Options) *fleet {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	opts.Prefix = newPrefix()
	f := &fleet{
		t: t, ctx: ctx, nodes: nodes, s: mustOpen(t, clusterURL(nodes), opts), stop: make(chan struct{}),
		fates: make(map[string]string), acked: make(map[eventlog.Name]int), reopens: make(map[eventlog.Name]int),
	}
	t.Cleanup(func() { f.s.Close() })
	for i := range 6 {
		log := eventlog.Shard(i)
		f.logs = append(f.logs, log)
		if err := f.s.Provision(ctx, eventlog.Spec{Name: log}); err != nil {
			t.Fatal(err)
		}
	}
	for _, log := range f.logs {
		f.wg.Go(func() { f.write(log) })
	}
	f.progress(10)
	return f
}

const (
	fateAcked   = "acknowledged"
	fateRefused = "refused"
	fateUnknown = "unknown"
)

// write appends to a log until the fleet stops, and opens it anew whenever its
// writer has ended.
func (f *fleet) write(log eventlog.Name) {
	var w eventlog.Writer
	for i := 0; ; i++ {
		select {
		case <-f.stop:
			if w != nil {
				w.Close()
			}
			return
		case <-f.ctx.Done():
			return
		case <-time.After(time.Millisecond):
		}
		if w == nil {
			var err error
			if w, err = f.s.Open(f.ctx, log); err != nil {
				continue // a failover is under way
			}
		}
		body := fmt.Sprintf("%s/%d", log, i)
		_, err := w.Append(f.ctx, []byte(body), eventlog.Offset{})
		f.mu.Lock()
		switch {
		case err == nil:
			f.fates[body] = fateAcked
			f.acked[log]++
		case errors.Is(err, eventlog.ErrPushback):
			f.fates[body] = fateRefused
		case errors.Is(err, eventlog.ErrUnknown):
			f.fates[body] = fateUnknown
		case errors.Is(err, eventlog.ErrFenced):
			f.fates[body] = fateRefused
		default:
			f.t.Errorf("Append %s: %v", body, err)
		}
		if err != nil && !errors.Is(err, eventlog.ErrPushback) {
			f.reopens[log]++
			w = nil
		}
		f.mu.Unlock()
	}
}

// progress waits until n more records of every log are acknowledged.
func (f *fleet) progress(n int) {
	f.t.Helper()
	f.mu.Lock()
	want := make(map[eventlog.Name]int)
	for _, log := range f.logs {
		want[log] = f.acked[log] + n
	}
	f.mu.Unlock()
	f.until("records are acknowledged of every log", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return !slices.ContainsFunc(f.logs, func(log eventlog.Name) bool { return f.acked[log] < want[log] })
	})
}

func (f *fleet) until(what string, ok func() bool) {
	f.t.Helper()
	for !ok() {
		select {
		case <-f.ctx.Done():
			f.t.Fatalf("timed out before %s", what)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// primary returns the node that has a log.
func (f *fleet) primary(log eventlog.Name) *redistest.Server {
	f.t.Helper()
	addr := f.s.topo.Load().addr(log)
	i := slices.IndexFunc(f.nodes, func(n *redistest.Server) bool { return n.Addr == addr })
	if i < 0 {
		f.t.Fatalf("no node has %s", log)
	}
	return f.nodes[i]
}

// replica returns the replica of a primary.
func (f *fleet) replica(primary *redistest.Server) *redistest.Server {
	f.t.Helper()
	list, err := primary.Do(f.t, "CLUSTER", "REPLICAS", nodeID(f.t, primary)).AsStrSlice()
	if err != nil || len(list) == 0 {
		f.t.Fatalf("CLUSTER REPLICAS: %q, %v", list, err)
	}
	for _, n := range f.nodes {
		if strings.Contains(list[0], n.Addr+"@") {
			return n
		}
	}
	f.t.Fatalf("replica %q is no node", list[0])
	return nil
}

func nodeID(t testing.TB, n *redistest.Server) string {
	t.Helper()
	id, err := n.Do(t, "CLUSTER", "MYID").ToString()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// check ends the writers and compares the logs with what they were told. It
// returns how many of the acknowledged records are lost.
func (f *fleet) check() (lost int) {
	f.t.Helper()
	close(f.stop)
	f.wg.Wait()
	s := mustOpen(f.t, clusterURL(f.nodes), f.s.opts)
	defer s.Close()
	seen := make(map[string]bool)
	for _, log := range f.logs {
		st, err := s.Status(f.ctx, log)
		if err != nil {
			f.t.Fatal(err)
		}
		r, err := s.Follow(f.ctx, log, eventlog.Offset{})
		if err != nil {
			f.t.Fatal(err)
		}
		last := -1
		for at := (eventlog.Offset{}); at.Less(st.Last); {
			recs, _, err := r.Next(f.ctx) // which checks offsets and chain
			if err != nil {
				f.t.Fatalf("Next of %s behind %v: %v", log, at, err)
			}
			for _, rec := range recs {
				if at = rec.Offset; rec.Kind != eventlog.Data {
					continue
				}
				_, number, _ := strings.Cut(string(rec.Body), "/")
				n, _ := strconv.Atoi(number)
				if n <= last || f.fates[string(rec.Body)] == fateRefused {
					f.t.Errorf("%v: %s is behind %d, and was %s", rec.Offset, rec.Body, last, f.fates[string(rec.Body)])
				}
				last, seen[string(rec.Body)] = n, true
			}
		}
	}
	counts := make(map[string]int)
	for body, fate := range f.fates {
		counts[fate]++
		if fate == fateAcked && !seen[body] {
			lost++
		}
	}
	f.t.Logf("%v, lost %d, opened anew %v", counts, lost, f.reopens)
	return lost
}

// replicated is what a Cluster needs for ack mode replicas.
var replicated = []string{"--min-replicas-to-write", "1"}

// TestPrimaryKilled: kill -9 of a primary under load, twice: nothing that was
// acknowledged by the replica too is lost.
func TestPrimaryKilled(t *testing.T) {
	t.Parallel()
	nodes := redistest.StartCluster(t, 3, 1, replicated...)
	f := startFleet(t, nodes, Options{})
	if f.s.Ack() != AckReplicas {
		t.Fatalf("ack mode %q, want replicas", f.s.Ack())
	}
	for range rounds(2) {
		victim := f.primary("s00")
		victim.Kill()
		f.until("the replica has taken over", func() bool { return f.s.topo.Load().addr("s00") != victim.Addr })
		// Who starts now must not take the mode for a weaker one.
		s := mustOpen(t, clusterURL(nodes), f.s.opts)
		if s.Ack() != AckReplicas {
			t.Errorf("ack mode %q while a replica is away, want replicas", s.Ack())
		}
		s.Close()
		victim.Restart(t) // as a replica: only then is anything acknowledged again
		f.progress(20)
	}
	if lost := f.check(); lost > 0 {
		t.Errorf("%d acknowledged records are lost", lost)
	}
}

// rounds returns n, or 1 where tests are to be short.
func rounds(n int) int {
	if testing.Short() {
		return 1
	}
	return n
}

// TestPrimaryPaused: SIGSTOP of a primary until its replica has taken over.
// What it does when it goes on, nobody takes for granted; and what it has
// acknowledged that the replica lacks, the writers put back.
func TestPrimaryPaused(t *testing.T) {
	t.Parallel()
	modes := []Ack{AckReplicas, AckPrimary}
	if testing.Short() {
		modes = modes[:0] // a primary that is killed is the shorter test
	}
	for _, ack := range modes {
		t.Run(string(ack), func(t *testing.T) {
			t.Parallel()
			nodes := redistest.StartCluster(t, 3, 1, replicated...)
			f := startFleet(t, nodes, Options{Ack: ack, ReplyMax: time.Second})
			victim := f.primary("s01")
			victim.Pause()
			f.until("the replica has taken over", func() bool { return f.s.topo.Load().addr("s01") != victim.Addr })
			victim.Continue()
			f.progress(20)
			if lost := f.check(); lost > 0 {
				t.Errorf("%d acknowledged records are lost", lost)
			}
		})
	}
}

// TestTwoReplicas: a primary is gone for good, and appends go on, for its heir
// has a replica left.
func TestTwoReplicas(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		return // nine servers
	}
	nodes := redistest.StartCluster(t, 3, 2, replicated...)
	f := startFleet(t, nodes, Options{})
	victim := f.primary("s00")
	victim.Kill()
	f.until("a replica has taken over", func() bool { return f.s.topo.Load().addr("s00") != victim.Addr })
	f.progress(20)
	if lost := f.check(); lost > 0 {
		t.Errorf("%d acknowledged records are lost", lost)
	}
}

// TestLostSuffix: in ack mode primary the promoted replica lacks what the
// primary had acknowledged last, and the writers put it back (R5).
func TestLostSuffix(t *testing.T) {
	t.Parallel()
	nodes := redistest.StartCluster(t, 3, 1)
	f := startFleet(t, nodes, Options{Ack: AckPrimary, ResolveMax: 30 * time.Second})
	victim := f.primary("s00")
	heir := f.replica(victim)
	heir.Pause()
	victim.Do(t, "CLIENT", "KILL", "TYPE", "replica") // nothing waits in a buffer for it
	f.progress(20)
	victim.Kill()
	heir.Continue()
	f.until("the replica has taken over", func() bool { return f.s.topo.Load().addr("s00") == heir.Addr })
	f.progress(20)
	victim.Restart(t)
	f.progress(20)
	if lost := f.check(); lost > 0 {
		t.Errorf("R5: %d acknowledged records are lost, though their writers live", lost)
	}
	if n := metricValue(t, f.s.metrics.repaired); n < 20 {
		t.Errorf("%v records were put back, want at least 20: the test shows nothing", n)
	}
}

// TestMigration: a slot moves from one primary to another under load, there
// and back, and nobody notices.
func TestMigration(t *testing.T) {
	t.Parallel()
	nodes := redistest.StartCluster(t, 3, 1, replicated...)
	f := startFleet(t, nodes, Options{})
	var follower atomic.Int64 // records seen by a follower that goes on all the while
	r, err := f.s.Follow(f.ctx, "s02", eventlog.Offset{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(f.ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			recs, _, err := r.Next(ctx)
			if ctx.Err() != nil {
				return
			}
			if err != nil {
				t.Errorf("Next: %v", err)
				return
			}
			follower.Add(int64(len(recs)))
		}
	})
	from := f.primary("s02")
	to := f.primary("s00")
	if from == to {
		t.Fatal("s00 and s02 are on one node")
	}
	for range rounds(4) {
		migrate(f, "s02", from, to)
		f.progress(20)
		from, to = to, from
	}
	before := follower.Load()
	f.progress(20)
	f.until("the follower goes on", func() bool { return follower.Load() > before })
	cancel()
	wg.Wait()
	if lost := f.check(); lost > 0 {
		t.Errorf("%d acknowledged records are lost", lost)
	}
	for body, fate := range f.fates {
		if fate != fateAcked {
			t.Errorf("append %s was %s, want all acknowledged", body, fate)
		}
	}
}

// migrate moves the slot of a log, as redis-cli --cluster reshard does.
func migrate(f *fleet, log eventlog.Name, from, to *redistest.Server) {
	f.t.Helper()
	slot := strconv.Itoa(slotOf(tagOf(log)))
	host, port, _ := strings.Cut(to.Addr, ":")
	to.Do(f.t, "CLUSTER", "SETSLOT", slot, "IMPORTING", nodeID(f.t, from))
	from.Do(f.t, "CLUSTER", "SETSLOT", slot, "MIGRATING", nodeID(f.t, to))
	from.Do(f.t, "MIGRATE", host, port, f.s.key(log), "0", "5000")
	<-time.After(20 * time.Millisecond) // while the slot is neither here nor there, an append comes by
	id := nodeID(f.t, to)
	to.Do(f.t, "CLUSTER", "SETSLOT", slot, "NODE", id)
	from.Do(f.t, "CLUSTER", "SETSLOT", slot, "NODE", id)
}
